"""Errors that the user can correct: printed as one line, with exit code 2 and no traceback."""

import os
import sys
from typing import NoReturn


def printable(text: str) -> str:
    """Replace control characters: the name of a recording must not drive the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class KwsError(Exception):
    """Bad input: the message names the key or file, its value and the allowed values."""


class LeakError(KwsError):
    """A validation or test recording was about to enter training or the replay buffer."""


def missing_extra(what: str, extra: str) -> KwsError:
    """The error where something needs an optional package of kws."""
    return KwsError(f"{what} needs the extra {extra}: in the checkout, pip install -c constraints.txt '.[{extra}]'")


def first_line(error: Exception) -> str:
    """First line of an error's text, or the name of its type if it has no text."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def one_line(error: KwsError | OSError) -> str:
    """Message of an error, in one line. An OSError names its file."""
    text = str(error)
    if isinstance(error, OSError) and (where := error.filename2 or error.filename):
        text = f"{where}: {error.strerror}"
    return printable(" ".join(text.split()))


def fail(message: str) -> NoReturn:
    """Print an error in one line and exit with code 2; under torchrun rank 0 alone prints it."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK") == "0":
        print(f"kws: {printable(' '.join(message.split()))}", file=sys.stderr)
    sys.exit(2)
