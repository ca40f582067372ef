"""What a replay buffer knows of each clip: where it came from, what state it is in, and which run made it so."""

import base64
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import LeakError
from kws.data.manifest import Source, Split, contains_phrase
from kws.replay.database_schema import connect, one_line_errors, reading, writing
from kws.replay.records import (
    BufferClip,
    ClipTable,
    Decision,
    Kind,
    NewClip,
    State,
    as_blob,
    as_columns,
    as_row,
    matrix,
    plain,
    train_only,
)

Record = dict[str, Any]  # all that the index knows about a clip: its columns, and its lines of the other tables


class Index:
    """The index file of a replay buffer; what changes it is called within `writing()`.

    Args:
        file: where it lies; made where it is not there.
        sample_rate: Hz of the clips.

    Raises:
        KwsError: not an index of this version and rate.
    """

    def __init__(self, file: Path, sample_rate: int) -> None:
        self._file, self._db = file, connect(file, sample_rate)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def writing(self) -> AbstractContextManager[None]:
        """One transaction, all or nothing; other writers wait."""
        return writing(self._db, self._file)

    def reading(self) -> AbstractContextManager[None]:
        """What is read meanwhile stands still; others write on."""
        return reading(self._db, self._file)

    def read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All lines of a query, as they stood at one moment."""
        with one_line_errors(self._file):
            return self._db.execute(sql, values).fetchall()

    def rows(self, state: str | None) -> list[BufferClip]:
        """The clips in this state, or all, in the order they came in."""
        sql = "SELECT * FROM clips WHERE state = ?1 OR ?1 IS NULL ORDER BY id"
        return [as_row(dict(line)) for line in self.read(sql, state)]

    def standing(self, clips: Iterable[str] | None = None) -> dict[str, tuple[State, Decision]]:
        """The state of those of these clips that are here, and what a person said of them; None: of every clip."""
        sql = "SELECT hash, state, decision FROM clips"
        among = " WHERE hash IN (SELECT value FROM json_each(?))"
        lines = self.read(sql) if clips is None else self.read(sql + among, json.dumps(list(clips)))
        return {clip: (State(state), Decision(decision)) for clip, state, decision in lines}

    def clips_from(self, recordings: Iterable[str]) -> set[str]:
        """The clips in which one of these recordings, by hash, can be heard."""
        wanted = set(recordings)
        return (
            {clip for clip, one in self.read("SELECT hash, recording FROM origins") if one in wanted}
            if wanted
            else set()
        )

    def clips_saying(self, keywords: Collection[str]) -> set[str]:
        """The active clips whose text contains one of these keywords, without confusables and released clips."""
        if not keywords:
            return set()
        sql = "SELECT hash, kind, text FROM clips WHERE state = ? AND text != '' AND decision != ?"
        lines = self.read(sql, State.active, Decision.released)
        spoken = {text: any(contains_phrase(text, word) for word in keywords) for _, _, text in lines}
        return {clip for clip, kind, text in lines if kind != Kind.confusable and spoken[text]}

    def table(self, states: Sequence[State], rejected: bool = False, checkpoint: str | None = None) -> ClipTable:
        """The clips in these states, column by column, in the order they came in.

        Args:
            states: of the clips.
            rejected: include clips that a person rejected.
            checkpoint: whose embeddings to read, which takes long; only those of one model can be compared. None: none.
        """
        vector, join = ("NULL", "") if checkpoint is None else ("vector", "LEFT JOIN embeddings e ON e.hash = c.hash")
        join += "" if checkpoint is None else " AND e.checkpoint = :checkpoint"
        values = {f"state{i}": state for i, state in enumerate(states)} | {"checkpoint": checkpoint}
        where = f"state IN ({', '.join(f':state{i}' for i in range(len(states)))})"
        where += f" OR decision = '{Decision.rejected}'" if rejected else ""
        sql = f"""SELECT c.hash, kind, recording, offset_s, n_samples, coalesce(score_now, score), priority,
            times_drawn, {vector} FROM clips c {join} WHERE {where} ORDER BY id"""
        with one_line_errors(self._file):
            lines = self._db.execute(sql, values).fetchall()
        clip, kind, recording, offset_s, n_samples, score, priority, times_drawn, vectors = columns(lines, 9)
        return ClipTable(
            clip,
            kind,
            recording,
            np.array(offset_s, np.float64),
            np.array(n_samples, np.int64),
            np.array(score, np.float64),  # None: NaN
            np.array(priority, np.float64),
            np.array(times_drawn, np.int64),
            matrix(vectors),
        )

    def usual_checkpoint(self, state: State) -> str:
        """The checkpoint that most clips in this state have embeddings of; empty where none has one."""
        sql = """SELECT e.checkpoint FROM embeddings e JOIN clips c USING (hash) WHERE c.state = ?
            GROUP BY e.checkpoint ORDER BY count(*) DESC, e.checkpoint LIMIT 1"""
        return next((str(checkpoint) for (checkpoint,) in self.read(sql, state)), "")

    def top_priority(self) -> float:
        """The highest priority of an active clip, 1 where there is none."""
        ((top,),) = self.read("SELECT max(priority) FROM clips WHERE state = ?", State.active)
        return 1.0 if top is None else float(top)

    def hold_out(self, recordings: Iterable[Source]) -> None:
        """Register recordings that nothing may come from."""
        lines = [(one.hash, plain(one.name), Split(one.split).value) for one in recordings]
        self._db.executemany("INSERT OR IGNORE INTO held_out VALUES (?, ?, ?)", lines)

    def held_out(self) -> list[Source]:
        """The recordings that nothing may come from, in the order they were registered."""
        lines = self.read("SELECT recording, name, part FROM held_out ORDER BY rowid")
        return [Source(recording, name, Split(split)) for recording, name, split in lines]

    def leaks(self) -> list[str]:
        """Each clip that comes from a held-out recording, a line each."""
        sql = "SELECT h.name, h.part, o.hash FROM origins o JOIN held_out h USING (recording) ORDER BY o.rowid"
        return [f"{n!r}: a {split} recording, but clip {clip} comes from it" for n, split, clip in self.read(sql)]

    def refuse_held_out(self, sources: Iterable[Source]) -> None:
        """Raise LeakError where one of them is not for training."""
        for one in dict.fromkeys(sources):
            train_only(one)
            for name, split in self.read("SELECT name, part FROM held_out WHERE recording = ?", one.hash):
                raise LeakError(f"{one.name!r}: held out as the {split} recording {name!r}, may not enter the buffer")

    def find(self, clip: str, found: NewClip, priority: float | None) -> None:
        """A clip was found: it comes in, or back, as active at `priority`; None: it stays as it is."""
        before = None
        if priority is not None:
            columns = as_columns(clip, found, priority, datetime.now(UTC).isoformat(timespec="seconds"))
            for (old,) in self.read("SELECT priority FROM clips WHERE hash = ?", clip):
                before = old
                self._db.execute("UPDATE clips SET priority = ? WHERE hash = ?", (priority, clip))
                self._place(clip, State.active, "")
                if found.score is not None:
                    self.score(found.run, int(found.round), {clip: found.score})
            if before is None:
                marks = ", ".join(f":{name}" for name in columns)
                self._db.execute(f"INSERT INTO clips ({', '.join(columns)}) VALUES ({marks})", columns)
            if found.embedding is not None:
                self.embed(found.checkpoint, {clip: found.embedding})
        state = None if priority is None else State.active
        self._remember(clip, found.run, int(found.round), 1, state, "", before)
        origins = [(clip, s.hash, plain(s.name)) for s in (found.source, *found.mixed_with)]
        self._db.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?, ?)", origins)

    def move(self, clip: str, state: State, reason: str, run: str, round_: int) -> None:
        """Change the state of a clip, and remember who did and why."""
        self._place(clip, state, reason)
        self._remember(clip, run, round_, 0, state, reason, None)

    def decide(self, clip: str, decision: Decision) -> None:
        """Keep what a person said of a clip."""
        self._db.execute("UPDATE clips SET decision = ? WHERE hash = ?", (decision, clip))

    def embed(self, checkpoint: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Keep what the model of a checkpoint makes of clips. Shape: each vector [D]."""
        lines = [(clip, checkpoint, as_blob(vector)) for clip, vector in vectors.items()]
        self._db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", lines)

    def score(self, run: str, round_: int, scores: Mapping[str, float]) -> None:
        """Keep the scores of a round: as the latest ones, and beside those of other rounds."""
        lines = [(clip, run, round_, score) for clip, score in scores.items()]
        self._db.executemany("INSERT INTO scores (hash, run, round, score) VALUES (?, ?, ?, ?)", lines)
        self._db.executemany("UPDATE clips SET score_now = ? WHERE hash = ?", [(s, c) for c, s in scores.items()])

    def update(self, hashes: Sequence[str], priority: Sequence[float], times_drawn: Sequence[int]) -> int:
        """Set priority, last loss and times sampled of clips; returns how many of the clips are there."""
        sql = "UPDATE clips SET priority = ?, last_loss = ?, times_drawn = ? WHERE hash = ?"
        lines = [(float(p), float(p), int(n), clip) for p, n, clip in zip(priority, times_drawn, hashes, strict=True)]
        return self._db.executemany(sql, lines).rowcount

    def record(self, clip: str) -> Record:
        """All that the index knows about a clip, as JSON can hold it."""

        def lines(table: str, order: str) -> list[dict[str, Any]]:
            found = [dict(line) for line in self.read(f"SELECT * FROM {table} WHERE hash = ? ORDER BY {order}", clip)]
            return [{name: line[name] for name in line if name not in ("id", "hash")} for line in found]

        (first,) = lines("clips", "id")
        embedding = next(iter(lines("embeddings", "hash")), None)
        return {
            "hash": clip,
            **first,
            **{name: json.loads(first[name]) for name in ("mixed_with", "mix")},
            "origins": lines("origins", "rowid"),
            "history": lines("history", "id"),
            "scores": lines("scores", "id"),
            "embedding": embedding and embedding | {"vector": base64.b64encode(embedding["vector"]).decode()},
        }

    def restore(self, record: Record) -> bool:
        """Insert a clip exported from another buffer. If it is already known, only add its origins.

        Returns:
            Whether it was new.
        """
        clip = dict(record)
        tables = {name: clip.pop(name) for name in ("origins", "history", "scores", "embedding")}
        new = not self.read("SELECT 1 FROM clips WHERE hash = ?", clip["hash"])
        if new:
            clip |= {name: json.dumps(clip[name]) for name in ("mixed_with", "mix")}
            self._insert("INSERT", "clips", clip["hash"], [clip])
            self._insert("INSERT", "history", clip["hash"], tables["history"])
            self._insert("INSERT", "scores", clip["hash"], tables["scores"])
            if embedding := tables["embedding"]:
                vector = base64.b64decode(embedding["vector"])
                self._insert("INSERT", "embeddings", clip["hash"], [embedding | {"vector": vector}])
        self._insert("INSERT OR IGNORE", "origins", clip["hash"], tables["origins"])
        return new

    def _insert(self, how: str, table: str, clip: str, lines: Iterable[dict[str, Any]]) -> None:
        for line in lines:
            columns = line | {"hash": clip}
            marks = ", ".join(f":{name}" for name in columns)
            self._db.execute(f"{how} INTO {table} ({', '.join(columns)}) VALUES ({marks})", columns)

    def undo(self, run: str, round_: int, has_file: Callable[[str], bool]) -> int:
        """Take away what a run did in the rounds after `round_`; returns how many clips changed for it."""
        sql = "SELECT DISTINCT hash FROM scores WHERE run = ? AND round > ?"
        heard = [(clip,) for (clip,) in self.read(sql, run, round_)]
        self._db.execute("DELETE FROM scores WHERE run = ? AND round > ?", (run, round_))
        latest = "(SELECT score FROM scores s WHERE s.hash = clips.hash ORDER BY s.id DESC LIMIT 1)"
        self._db.executemany(f"UPDATE clips SET score_now = {latest} WHERE hash = ?", heard)
        sql = "SELECT DISTINCT hash FROM history WHERE run = ? AND round > ? ORDER BY hash"
        touched = self.read(sql, run, round_)
        return sum(self._undo_clip(clip, run, round_, has_file) for (clip,) in touched)

    def _undo_clip(self, clip: str, run: str, round_: int, has_file: Callable[[str], bool]) -> bool:
        events = self.read("SELECT * FROM history WHERE hash = ? ORDER BY id", clip)
        gone = [e for e in events if e["run"] == run and e["round"] > round_]
        kept = [e for e in events if e["run"] != run or e["round"] <= round_]
        ((state, decision),) = self.read("SELECT state, decision FROM clips WHERE hash = ?", clip)
        if not decision and not any(e["found"] for e in kept):
            # Its history and origins go with it.
            self._db.execute("DELETE FROM clips WHERE hash = ?", (clip,))
            return True
        out, back, reason = (State.evicted, State.retired), None, ""
        for e in kept:
            if e["state"] is None and (back is None or back in out):
                # It was found where it stood only thanks to what is undone: now this is what brought it there.
                there = [p for p in events if p["id"] < e["id"] and p["state"] is not None][-1]
                back, reason = State(there["state"]), there["reason"]
                self._db.execute("UPDATE history SET state = ?, reason = ? WHERE id = ?", (back, reason, e["id"]))
            elif e["state"] is not None:
                back, reason = State(e["state"]), e["reason"]
        assert back is not None
        if back not in out and state in out and not has_file(clip):
            return False  # purged: it stays out, and its history as it is
        before = [e["priority"] for e in gone if e["priority"] is not None]
        if before:
            self._db.execute("UPDATE clips SET priority = ? WHERE hash = ?", (before[0], clip))
        self._place(clip, back, reason)
        self._db.executemany("DELETE FROM history WHERE id = ?", [(e["id"],) for e in gone])
        return bool(back != state)

    def problems(self) -> list[str]:
        """What is wrong within the index, a line each."""
        broken = [line[0] for line in self.read("PRAGMA integrity_check") if line[0] != "ok"]
        broken += [f"{table}: line {row} is of no clip" for table, row, *_ in self.read("PRAGMA foreign_key_check")]
        placed = "SELECT state FROM history h WHERE h.hash = c.hash AND h.state IS NOT NULL ORDER BY h.id DESC LIMIT 1"
        heard = "SELECT score FROM scores s WHERE s.hash = c.hash ORDER BY s.id DESC LIMIT 1"
        for column, last in ("state", placed), ("score_now", heard):
            sql = f"SELECT hash, {column}, ({last}) AS last FROM clips c WHERE {column} IS NOT last ORDER BY id"
            broken += [f"clip {clip}: {column} {now}, but {was} by its history" for clip, now, was in self.read(sql)]
        return [f"{self._file}: {one}" for one in broken]

    def _place(self, clip: str, state: State, reason: str) -> None:
        self._db.execute("UPDATE clips SET state = ?, reason = ? WHERE hash = ?", (state, plain(reason), clip))

    def _remember(
        self, clip: str, run: str, round_: int, found: int, state: State | None, reason: str, before: float | None
    ) -> None:
        sql = "INSERT INTO history (hash, run, round, found, state, reason, priority) VALUES (?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(sql, (clip, run, round_, found, state, plain(reason), before))


def columns(lines: Sequence[sqlite3.Row], n: int) -> list[list[Any]]:
    """The `n` columns of these lines."""
    return [list(column) for column in zip(*lines, strict=True)] or [[] for _ in range(n)]
