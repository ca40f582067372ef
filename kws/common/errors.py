"""The errors a person can mend: each is shown as one line, with exit code 2 and no traceback."""


def printable(text: str) -> str:
    """Text that drives no terminal: a recording's name may hold anything."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class KwsError(Exception):
    """Bad input: the message names the key or file, the value and what was allowed."""


class LeakError(KwsError):
    """A validation or test recording was about to enter training or the replay buffer."""


def one_line(error: KwsError | OSError) -> str:
    """What is shown of an error that a person can mend; with the file, where the system refused to touch one."""
    text = str(error)
    if isinstance(error, OSError) and (where := error.filename2 or error.filename):
        text = f"{where}: {error.strerror}"
    return printable(" ".join(text.split()))
