"""Decoded audio on disk: for each sample rate one file of samples, and an SQLite index of the recordings in it.

A recording is known by its path, size and time of change, so that one more recording costs one decoding. Recordings
that are gone, changed or long unused are dropped when others are added.
"""

import json
import os
import re
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.files import replacing

_VERSION = 1  # of the samples; a store of another version is dropped
_WASTE = 0.2  # share of the file that recordings which were dropped may fill
_UNUSED_S = 30 * 24 * 3600.0
_WAIT_S = 24 * 3600.0  # for another process that decodes
# Names of files, after the sample rate. The folder may hold files of a user, which no other pattern may match.
_SAMPLES = r"-[0-9a-f]{32}\.i16(\.[0-9a-f]{32}\.tmp)?"
_INDEX = r"\.sqlite(-journal|-wal|-shm)?"
_OLD = r"[0-9a-f]{64}\.(i16|json)"  # files of earlier versions
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY, size INTEGER, changed INTEGER, hash TEXT, start INTEGER, n INTEGER, faults TEXT, used REAL
);
CREATE TABLE IF NOT EXISTS samples (name TEXT);
"""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded file: content hash, place in the samples and faults; or the reason why it is unusable."""

    hash: str = ""
    start: int = 0
    n_samples: int = 0
    faults: tuple[str, ...] = ()
    bad: str = ""


class _DamagedError(Exception):
    """The store is of another version, or has lost sound."""


DecodeAll = Callable[[Sequence[Path]], Iterable[tuple[Decoded, NDArray[np.int16]]]]


def stored(
    paths: Sequence[Path], folder: Path, sample_rate: int, decode_all: DecodeAll, progress: Callable[[int], None]
) -> tuple[list[Decoded], NDArray[np.int16]]:
    """Decode the files that the store in `folder` does not hold; return all of them, and the samples of the store.

    Args:
        paths: files, each once.
        folder: created if it does not exist. Processes that share it take turns.
        sample_rate: Hz.
        decode_all: decodes files, in order. Unusable ones are tried again at each call.
        progress: called after each decoded file with the number of files done.

    Shape: samples int16 [total], mapped.

    Raises:
        KwsError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for _ in range(2):  # a damaged store is dropped
            try:
                with _opened(folder, sample_rate) as index:
                    return _stored(paths, folder, sample_rate, index, decode_all, progress)
            except (sqlite3.DatabaseError, _DamagedError) as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise OSError(str(error)) from error
                for path in _files(folder, f"{sample_rate}({_SAMPLES}|{_INDEX})"):
                    path.unlink(missing_ok=True)
    except OSError as error:
        raise KwsError(
            f"data.cache={folder}: must be a folder that can be written ({error.strerror or error})"
        ) from error
    raise KwsError(f"data.cache={folder}: cannot be repaired; delete it")


@contextmanager
def _opened(folder: Path, sample_rate: int) -> Iterator[sqlite3.Connection]:
    """The index in a transaction that other processes wait for."""
    connection = sqlite3.connect(folder / f"{sample_rate}.sqlite", timeout=_WAIT_S, isolation_level=None)
    with closing(connection) as index:
        index.execute("BEGIN IMMEDIATE")
        version = index.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise _DamagedError
        for statement in _SCHEMA.split(";"):
            index.execute(statement)
        index.execute(f"PRAGMA user_version = {_VERSION}")
        yield index
        if index.in_transaction:
            index.execute("COMMIT")


def _stored(
    paths: Sequence[Path],
    folder: Path,
    sample_rate: int,
    index: sqlite3.Connection,
    decode_all: DecodeAll,
    progress: Callable[[int], None],
) -> tuple[list[Decoded], NDArray[np.int16]]:
    states = {path: _state(path) for path in paths}
    found = {path: one for path in paths if (one := _known(index, path, states[path])) is not None}
    missing = [path for path in paths if path not in found]
    name, end = _samples(index, folder, sample_rate)
    old, added = name, False
    if missing:
        with (folder / name).open("r+b") as file:
            file.truncate(2 * end)  # what a killed process wrote is in no index
            file.seek(2 * end)
            for path, (one, pcm) in zip(missing, decode_all(missing), strict=True):
                found[path] = replace(one, start=end)
                if not one.bad:
                    file.write(pcm.data)
                    _insert(index, path, states[path], found[path])
                    end, added = end + len(pcm), True
                progress(len(found))
            file.flush()
            os.fsync(file.fileno())
    now = time.time()
    for path in paths:
        index.execute("UPDATE files SET used = ? WHERE path = ? AND used < ?", (now, os.fsencode(path), now - 86400))
    if added and _drop(index, {os.fsencode(path) for path in paths}, now, end):
        name = _compacted(index, folder, sample_rate, name)
        found = {path: _known(index, path, states[path]) or one for path, one in found.items()}
    pcm = _mapped(folder / name)
    for path in _files(folder, f"{sample_rate}{_SAMPLES}|{_OLD}") if added else ():
        if path.name not in (name, old):
            path.unlink(missing_ok=True)
    index.execute("COMMIT")
    if name != old:
        (folder / old).unlink(missing_ok=True)
    return [found[path] for path in paths], pcm


def _files(folder: Path, pattern: str) -> list[Path]:
    """The files in a folder whose whole name matches a pattern."""
    return [path for path in folder.iterdir() if re.fullmatch(pattern, path.name) and path.is_file()]


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of the last change; None for a file that cannot be read."""
    if not os.access(path, os.R_OK):
        return None
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _known(index: sqlite3.Connection, path: Path, state: tuple[int, int] | None) -> Decoded | None:
    query = "SELECT size, changed, hash, start, n, faults FROM files WHERE path = ?"
    row = index.execute(query, (os.fsencode(path),)).fetchone()
    if row is None or (row[0], row[1]) != state:
        return None
    return Decoded(row[2], row[3], row[4], tuple(json.loads(row[5])))


def _insert(index: sqlite3.Connection, path: Path, state: tuple[int, int] | None, one: Decoded) -> None:
    size, changed = state or (-1, -1)
    row = (os.fsencode(path), size, changed, one.hash, one.start, one.n_samples, json.dumps(one.faults), time.time())
    index.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)


def _samples(index: sqlite3.Connection, folder: Path, sample_rate: int) -> tuple[str, int]:
    """Name of the file of samples, and where its last recording ends. Raises if sound is lost."""
    row = index.execute("SELECT name FROM samples").fetchone()
    if row is None:
        row = (f"{sample_rate}-{uuid.uuid4().hex}.i16",)
        index.execute("INSERT INTO samples VALUES (?)", row)
        (folder / row[0]).touch()
    end = index.execute("SELECT coalesce(max(start + n), 0) FROM files").fetchone()[0]
    path = folder / row[0]
    if not path.is_file() or path.stat().st_size < 2 * end:
        raise _DamagedError
    return row[0], end


def _drop(index: sqlite3.Connection, wanted: set[bytes], now: float, end: int) -> bool:
    """Drop recordings that are gone, changed or long unused. Returns whether too much of the samples is waste then."""
    for path, size, changed, used in index.execute("SELECT path, size, changed, used FROM files").fetchall():
        if path not in wanted and (used < now - _UNUSED_S or _state(Path(os.fsdecode(path))) != (size, changed)):
            index.execute("DELETE FROM files WHERE path = ?", (path,))
    held = index.execute("SELECT coalesce(sum(n), 0) FROM files").fetchone()[0]
    return bool(end - held > _WASTE * end)


def _compacted(index: sqlite3.Connection, folder: Path, sample_rate: int, old: str) -> str:
    """Copy the samples that the index holds to a new file; others may have mapped the old one. Returns its name."""
    name, at, pcm = f"{sample_rate}-{uuid.uuid4().hex}.i16", 0, _mapped(folder / old)
    with replacing(folder / name) as file:
        for path, start, n in index.execute("SELECT path, start, n FROM files ORDER BY start").fetchall():
            file.write(pcm[start : start + n].data)
            index.execute("UPDATE files SET start = ? WHERE path = ?", (at, path))
            at += n
    index.execute("UPDATE samples SET name = ?", (name,))
    return name


def _mapped(path: Path) -> NDArray[np.int16]:
    if path.stat().st_size < 2:  # an empty file cannot be mapped
        return np.zeros(0, np.int16)
    # Copy on write protects the file, and torch does not warn about read-only memory.
    return np.memmap(path, dtype=np.int16, mode="c")
