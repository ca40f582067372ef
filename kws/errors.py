"""The errors a person can mend: each is shown as one line, with exit code 2 and no traceback."""


class KwsError(Exception):
    """Bad input: the message names the key or file, the value and what was allowed."""


class LeakError(KwsError):
    """A validation or test recording was about to enter training or the replay buffer."""
