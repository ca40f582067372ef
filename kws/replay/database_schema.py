"""The SQLite index of a replay buffer: its tables, and how it is opened or created."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kws.common.errors import KwsError

BUSY_S = 60.0  # wait for another writer, which writes the files of a mining round under the lock
DEFAULT_RATE = 16000
VERSION = 2
_APPLICATION = 0x6B777362  # "kwsb" in the header of the file; a database of another program is never changed

_SCHEMA = """
CREATE TABLE settings (sample_rate INTEGER NOT NULL);
CREATE TABLE clips (
    id INTEGER PRIMARY KEY,  -- order of insertion
    hash TEXT NOT NULL UNIQUE,  -- of the samples; names the file
    n_samples INTEGER NOT NULL,
    kind TEXT NOT NULL,
    keyword TEXT NOT NULL,
    recording TEXT NOT NULL,  -- hash of the recording that it was cut from
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
-- Every recording in which a clip was found or is audible. Two recordings may contain the same audio.
CREATE TABLE origins (
    hash TEXT NOT NULL REFERENCES clips (hash) ON DELETE CASCADE,
    recording TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (hash, recording)
);
CREATE TABLE held_out (recording TEXT PRIMARY KEY, name TEXT NOT NULL, part TEXT NOT NULL);
-- The state of a clip is that of its last event with a state. A rollback removes events.
CREATE TABLE history (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL REFERENCES clips (hash) ON DELETE CASCADE,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    found INTEGER NOT NULL,  -- 1: the clip was found; 0: its state changed
    state TEXT,  -- after the event; NULL if unchanged
    reason TEXT NOT NULL DEFAULT '',
    priority REAL  -- before the event, if the event changed it
);
-- Scores of clips by later checkpoints.
CREATE TABLE scores (
    id INTEGER PRIMARY KEY,
    hash TEXT NOT NULL REFERENCES clips (hash) ON DELETE CASCADE,
    run TEXT NOT NULL,
    round INTEGER NOT NULL,
    score REAL NOT NULL
);
CREATE INDEX scores_of ON scores (hash);
-- Embeddings, float32. Only those of one checkpoint can be compared.
CREATE TABLE embeddings (
    hash TEXT PRIMARY KEY REFERENCES clips (hash) ON DELETE CASCADE,
    checkpoint TEXT NOT NULL,
    vector BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX history_of ON history (hash);
CREATE INDEX origins_in ON origins (recording);
CREATE INDEX state_of ON clips (state);
"""


def connect(file: Path, sample_rate: int | None) -> tuple[sqlite3.Connection, int]:
    """Open an index, or create one.

    Args:
        file: the index; its folder exists.
        sample_rate: Hz of the clips; None: that of an existing index, and 16000 for a new one.

    Returns:
        The connection, and the sample rate of the index.

    Raises:
        KwsError: not an index of this version, of another sample rate, or locked for more than a minute.
    """
    with one_line_errors(file):
        db = sqlite3.connect(file, timeout=BUSY_S, isolation_level=None)
        try:
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA foreign_keys = ON")
            if _is_blank(db):
                _use_write_ahead_log(db)
                db.execute("BEGIN IMMEDIATE")
                if _is_blank(db):  # no other process created it meanwhile
                    for statement in _SCHEMA.split(";\n"):  # executescript() would commit first
                        db.execute(statement)
                    db.execute("INSERT INTO settings (sample_rate) VALUES (?)", (sample_rate or DEFAULT_RATE,))
                    db.execute(f"PRAGMA application_id = {_APPLICATION}")
                    db.execute(f"PRAGMA user_version = {VERSION}")
                db.execute("COMMIT")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -65536")  # KiB: most of an index of 100,000 clips
            if _pragma(db, "application_id") != _APPLICATION:
                raise KwsError(f"{file}: not the index of a replay buffer")
            if (version := _pragma(db, "user_version")) != VERSION:
                raise KwsError(f"{file}: schema version {version}, must be {VERSION}")
            ((rate,),) = db.execute("SELECT sample_rate FROM settings").fetchall()
            if sample_rate not in (None, rate):
                raise KwsError(f"{file}: sample_rate={sample_rate}: must be {rate} Hz, that of its clips")
            return db, int(rate)
        except BaseException:
            db.close()
            raise


@contextmanager
def one_line_errors(file: Path) -> Iterator[None]:
    """Turn errors of SQLite into a KwsError that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise KwsError(f"{file}: the index cannot be used ({error})") from error


def _pragma(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute(f"PRAGMA {name}").fetchone()[0])


def _is_blank(db: sqlite3.Connection) -> bool:
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return not (tables or _pragma(db, "user_version") or _pragma(db, "application_id"))


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    """Let readers see whole rounds while another process writes."""
    deadline = time.monotonic() + BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:  # SQLite does not wait for other processes with this statement
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
