"""The SQLite file behind a replay buffer: its tables, opening and making it, one transaction."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kws.common.errors import KwsError

BUSY_S = 60.0  # how long a writer waits for another one: a mining round's files are written under the lock
VERSION = 2
_APPLICATION = 0x6B777362  # "kwsb", in the file's header: another program's database is never written to

_SCHEMA = """
CREATE TABLE settings (sample_rate INTEGER NOT NULL);
CREATE TABLE clips (
    id INTEGER PRIMARY KEY,  -- order of insertion
    hash TEXT NOT NULL UNIQUE,  -- of the samples; names the file
    n_samples INTEGER NOT NULL,
    kind TEXT NOT NULL,
    keyword TEXT NOT NULL,
    recording TEXT NOT NULL,  -- hash of the recording it was cut from
    recording_name TEXT NOT NULL,
    offset_s REAL NOT NULL,
    text TEXT NOT NULL,
    mixed_with TEXT NOT NULL,  -- JSON [{"hash", "name"}]
    mix TEXT NOT NULL,  -- JSON {"snr_db": ...}
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    checkpoint TEXT NOT NULL,
    score REAL,
    score_now REAL,
    priority REAL NOT NULL,
    last_loss REAL,
    times_drawn INTEGER NOT NULL DEFAULT 0,
    added_at TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    decision TEXT NOT NULL DEFAULT ''
);
-- Every recording that a clip was ever found in: the same sound may lie in two of them.
CREATE TABLE origins (
    hash TEXT NOT NULL REFERENCES clips (hash) ON DELETE CASCADE,
    recording TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (hash, recording)
);
CREATE TABLE held_out (recording TEXT PRIMARY KEY, name TEXT NOT NULL, part TEXT NOT NULL);
-- A clip is in the state of its last event that has one: a rollback removes events.
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL REFERENCES clips (hash) ON DELETE CASCADE,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    found INTEGER NOT NULL,  -- 1: it was found; 0: it changed its state
    state TEXT,  -- after the event; NULL where it stayed as it was
    reason TEXT NOT NULL DEFAULT '',
    priority REAL  -- what the clip had before, where the event changed it
);
-- Each time a checkpoint heard a clip again.
CREATE TABLE scores (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL REFERENCES clips (hash) ON DELETE CASCADE,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    score REAL NOT NULL
);
CREATE INDEX scores_of ON scores (hash);
-- What the model of a checkpoint made of a clip: float32, comparable within one checkpoint only.
CREATE TABLE embeddings (
    hash TEXT PRIMARY KEY REFERENCES clips (hash) ON DELETE CASCADE,
    checkpoint TEXT NOT NULL,
    vector BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX history_of ON history (hash);
CREATE INDEX origins_in ON origins (recording);
CREATE INDEX state_of ON clips (state);
"""


def connect(file: Path, sample_rate: int) -> sqlite3.Connection:
    """Open an index, or make one where there is none.

    Args:
        file: the index; its folder exists.
        sample_rate: Hz of the clips; an index keeps the rate that it was made with.

    Raises:
        KwsError: not an index of this version, of another sample rate, or locked for more than a minute.
    """
    with one_line_errors(file):
        db = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA foreign_keys = ON")
            if _is_blank(db):
                _share(db)
                with writing(db, file):
                    if _is_blank(db):  # else another process was faster
                        _create(db, sample_rate)
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -65536")  # KiB: most of an index of 100,000 clips
            _check(db, file, sample_rate)
        except BaseException:
            db.close()
            raise
        return db


def sample_rate_of(file: Path) -> int:
    """Sample rate, in Hz, of the clips of an index that is there; makes none.

    Raises:
        KwsError: no such file, or not an index of this version.
    """
    if not file.is_file():
        raise KwsError(f"{file}: no such file, the index of a replay buffer expected")
    with one_line_errors(file):
        db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S)  # never made
        try:
            return _rate(db, file)
        finally:
            db.close()


@contextmanager
def reading(db: sqlite3.Connection, file: Path) -> Iterator[None]:
    """All that is read meanwhile is as it stood at one moment; writers need not wait."""
    with one_line_errors(file):
        db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


@contextmanager
def writing(db: sqlite3.Connection, file: Path) -> Iterator[None]:
    """One transaction, with the writer's lock from its start: all of it happens, or nothing."""
    with one_line_errors(file):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise


@contextmanager
def one_line_errors(file: Path) -> Iterator[None]:
    """What SQLite complains about, as a KwsError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise KwsError(f"{file}: the index cannot be used ({error})") from error


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _is_blank(db: sqlite3.Connection) -> bool:
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not (tables or _pragma(db, "user_version") or _pragma(db, "application_id"))


def _share(db: sqlite3.Connection) -> None:
    """Write-ahead log: readers see whole rounds while a writer is at work."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:  # for this switch SQLite does not wait for others itself
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _create(db: sqlite3.Connection, sample_rate: int) -> None:
    for statement in _SCHEMA.split(";\n"):  # executescript() would commit first
        db.execute(statement)
    db.execute("INSERT INTO settings (sample_rate) VALUES (?)", (sample_rate,))
    db.execute(f"PRAGMA application_id = {_APPLICATION}")
    db.execute(f"PRAGMA user_version = {VERSION}")


def _check(db: sqlite3.Connection, file: Path, sample_rate: int) -> None:
    if (rate := _rate(db, file)) != sample_rate:
        raise KwsError(f"{file}: clips of {rate} Hz, not of sample_rate={sample_rate}")


def _rate(db: sqlite3.Connection, file: Path) -> int:
    if _pragma(db, "application_id") != _APPLICATION:
        raise KwsError(f"{file}: not the index of a replay buffer")
    if (version := _pragma(db, "user_version")) != VERSION:
        raise KwsError(f"{file}: schema version {version}, this program knows {VERSION}")
    (rate,) = db.execute("SELECT sample_rate FROM settings").fetchone()
    return int(rate)
