"""Atomic file writes."""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO

from kws.common.errors import KwsError

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")
DRAFT = re.compile(r".+\.[0-9a-f]{32}\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `path` on success. On an error `path` stays unchanged.

    Raises:
        OSError: it names `path`, not the temporary file.
    """
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(draft)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    finally:
        with suppress(OSError):  # such as a folder that cannot be read; the first error counts
            draft.unlink(missing_ok=True)


def remove_drafts(folder: Path) -> None:
    """Remove the temporary files of killed processes in a folder in which no other process writes."""
    for path in folder.glob("*.tmp"):
        if DRAFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


def refuse_overwriting(outputs: Mapping[str, str | None], inputs: Iterable[str | Path]) -> None:
    """Raise KwsError if a command would write over a file that it reads, or twice to one file.

    Args:
        outputs: files to write by the setting that names each; None where none is written.
        inputs: files and folders that are read. In a folder, only files that may be recordings or tables are kept.
    """
    read, written = [Path(one).resolve() for one in inputs], dict[Path, str]()
    for key, given in outputs.items():
        if given is None:
            continue
        path = Path(given).resolve()
        within = path.exists() and path.suffix.lower() not in ("", ".html", ".htm", ".json")
        if any(path == one or (within and path.is_relative_to(one)) for one in read):
            raise KwsError(f"{key}={given}: must be another file, since the command reads this one or its folder")
        if path in written:
            raise KwsError(f"{key}={given}: must be another file than {written[path]}")
        written[path] = key


def did_you_mean(path: Path) -> str:
    """A path that exists and is nearly this one, as a question in brackets; empty if there is none, or this exists."""
    if path.exists():
        return ""
    missing = path
    while missing.parent != missing and not missing.parent.exists():
        missing = missing.parent
    try:
        near = get_close_matches(missing.name, [one.name for one in missing.parent.iterdir()], 1)
    except OSError:  # such as a folder that cannot be read
        near = []
    return f" (did you mean {missing.parent / near[0] / path.relative_to(missing)}?)" if near else ""


def plain_name(text: str) -> str:
    """`text` where it is a plain name, else its plain characters and a hash. The result is never a path."""
    plain = "".join(char if char in _PLAIN else "-" for char in text.lower())[:40]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def unwritable(path: Path) -> str:
    """Why a file or a folder cannot be made or replaced at a path; empty if it can."""
    folder = path if path.is_dir() else path.parent
    while folder.parent != folder and not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no folder"
    return "" if os.access(folder, os.W_OK | os.X_OK) else f"no right to write in {folder.absolute()}"
