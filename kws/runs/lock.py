"""One session at a time in a run folder: a lock of the operating system, and a file that names its holder.

The operating system frees the lock when its process ends, however it ends. The file remains after a kill and then
names a session that is over.
"""

import os
import platform
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from filelock import FileLock, Timeout
from pydantic import Field, TypeAdapter

from kws.common.errors import KwsError
from kws.common.files import replacing

LOCK, HOLDER = "run.lock", "run.lock.json"
_WAIT_S = 2.0  # the processes of a killed session need a moment to end
_BEAT_S = 10.0  # between two touches of the file: a lock of another machine may be invisible here
_LOST_S = 30.0  # without a touch, a session on another machine is over
_OLD_S = 3600.0  # clocks of machines may differ by less


@dataclass(frozen=True)
class Holder:
    """The session at work in a run folder: process, machine, and start in seconds since 1970."""

    pid: Annotated[int, Field(ge=1)]
    host: Annotated[str, Field(max_length=300)]
    since: Annotated[float, Field(ge=0, lt=1e11)]

    def __str__(self) -> str:
        date = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        return f"process {self.pid} on {self.host}, since {date}"


_HOLDER = TypeAdapter(Holder)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made if it does not exist.

    Raises:
        KwsError: another session works in the folder. The message names it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=_WAIT_S)
    except Timeout:
        raise KwsError(_busy(folder, _read(folder))) from None
    try:
        before = _read(folder)
        if before is not None and before.host != platform.node() and _beats(folder):
            raise KwsError(_busy(folder, before))
        me = Holder(os.getpid(), platform.node(), round(time.time(), 3))
        with replacing(folder / HOLDER) as file:
            file.write(_HOLDER.dump_json(me))
        ended = threading.Event()
        threading.Thread(target=_beat, args=(folder / HOLDER, ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()
            (folder / HOLDER).unlink(missing_ok=True)
    finally:
        lock.release()


def refuse_busy(folder: Path) -> None:
    """Raise KwsError if a session works in a run folder. Writes nothing."""
    if (holder := working(folder)) is not None:
        raise KwsError(_busy(folder, holder))


def working(folder: Path) -> Holder | None:
    """The session that holds the lock of a run folder; None where there is none. Writes nothing."""
    if (holder := _read(folder)) is None:
        return None
    try:
        with FileLock(folder / LOCK, timeout=0):
            return None
    except Timeout:
        return holder
    except OSError:  # such as a folder that may only be read
        return None


def _busy(folder: Path, holder: Holder | None) -> str:
    who = "another process" if holder is None else str(holder)
    return f"out={folder}: must be another folder: a session works in this one ({who}); wait for it or stop it"


def _read(folder: Path) -> Holder | None:
    """Content of the file; None if it is missing or damaged."""
    try:
        return _HOLDER.validate_json((folder / HOLDER).read_bytes(), strict=True)
    except (OSError, ValueError):
        return None


def _beat(file: Path, ended: threading.Event) -> None:
    """Touch the file until the session ends."""
    while not ended.wait(_BEAT_S):
        try:
            os.utime(file)
        except OSError:  # such as a network that is down
            continue


def _beats(folder: Path) -> bool:
    """Whether a session on another machine touches its file. A file that was not touched for long needs no wait."""
    first, until = _changed(folder), time.monotonic() + _LOST_S
    while time.time() - first < _OLD_S and time.monotonic() < until:
        if _changed(folder) != first:
            return True
        time.sleep(_LOST_S / 100)
    return False


def _changed(folder: Path) -> float:
    """Time of the last touch. Opening the file makes a network file system ask its server."""
    try:
        with (folder / HOLDER).open("rb") as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return 0.0
