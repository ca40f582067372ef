"""Index of a replay buffer: origin, state, scores and history of each clip, in SQLite."""

import base64
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError, LeakError
from kws.data.manifest import Source, Split
from kws.data.transcripts import Match, contains_phrase
from kws.replay.database_schema import connect, one_line_errors
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
    as_standing,
    matrix,
    plain,
)

Record = dict[str, Any]  # a clip with its rows of all tables, as JSON can hold it


class Index:
    """The index file of a replay buffer. Changes need `writing()`. Arguments and errors are those of `connect`."""

    def __init__(self, file: Path, sample_rate: int | None) -> None:
        self._file = file
        self._db, self.sample_rate = connect(file, sample_rate)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """One transaction, all or nothing. Other writers wait from its start on."""
        with one_line_errors(self._file):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read from one moment, while others may write."""
        with one_line_errors(self._file):
            self._db.execute("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

    def read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All rows of a query, from one moment."""
        with one_line_errors(self._file):
            return self._db.execute(sql, values).fetchall()

    def rows(self, state: str | None) -> list[BufferClip]:
        """The clips in this state, or in any for None, oldest first."""
        sql = "SELECT * FROM clips WHERE state = ?1 OR ?1 IS NULL ORDER BY id"
        return [as_row(dict(line), self._file) for line in self.read(sql, state)]

    def standing(self, clips: Iterable[str] | None = None) -> dict[str, tuple[State, Decision]]:
        """State and decision of those of these clips that are known; of every clip for None."""
        sql = "SELECT hash, state, decision FROM clips"
        among = " WHERE hash IN (SELECT value FROM json_each(?))"
        lines = self.read(sql) if clips is None else self.read(sql + among, json.dumps(list(clips)))
        return {clip: as_standing(clip, state, decision, self._file) for clip, state, decision in lines}

    def clips_from(self, recordings: Mapping[str, Collection[str]]) -> set[str]:
        """The clips in which one of these recordings is audible, and none of the stretches of it that are allowed.

        Args:
            recordings: by hash, with the hashes of such stretches.
        """
        found = self._audible(one for one, allowed in recordings.items() if not allowed)
        for file in (one for one, allowed in recordings.items() if allowed):
            found |= self._audible([file]) - self._audible(recordings[file])
        return found

    def _audible(self, recordings: Iterable[str]) -> set[str]:
        sql = "SELECT hash FROM origins WHERE recording IN (SELECT value FROM json_each(?))"
        return {clip for (clip,) in self.read(sql, json.dumps(list(recordings)))}

    def clips_saying(self, keywords: Collection[str], match: Match = Match.word) -> set[str]:
        """The active clips whose text contains one of these keywords, without confusables and released clips."""
        if not keywords:
            return set()
        sql = "SELECT hash, text FROM clips WHERE state = ? AND text != '' AND decision != ? AND kind != ?"
        lines = self.read(sql, State.active, Decision.released, Kind.confusable)
        spoken = {text: any(contains_phrase(text, word, match) for word in keywords) for _, text in lines}
        return {clip for clip, text in lines if spoken[text]}

    def table(self, states: Sequence[State], rejected: bool = False, checkpoint: str | None = None) -> ClipTable:
        """The clips in these states as columns, oldest first.

        Args:
            states: of the clips.
            rejected: include clips that a user rejected.
            checkpoint: whose embeddings to read, which takes long; None for no embeddings.
        """
        vector, join = "NULL", ""
        if checkpoint is not None:
            vector, join = "vector", "LEFT JOIN embeddings e ON e.hash = c.hash AND e.checkpoint = ?3"
        sql = f"""SELECT c.hash, kind, recording, offset_s, n_samples, coalesce(score_now, score), priority,
            times_drawn, {vector} FROM clips c {join}
            WHERE state IN (SELECT value FROM json_each(?1)) OR decision = ?2 ORDER BY id"""
        values = [json.dumps(list(states)), Decision.rejected if rejected else None, checkpoint]
        lines = self.read(sql, *(values if checkpoint is not None else values[:2]))
        clip, kind, recording, offset_s, n_samples, score, priority, times_drawn, vectors = (
            [line[i] for line in lines] for i in range(9)
        )
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
        """The checkpoint of most embeddings of clips in this state; empty without any."""
        sql = """SELECT e.checkpoint FROM embeddings e JOIN clips c USING (hash) WHERE c.state = ?
            GROUP BY e.checkpoint ORDER BY count(*) DESC, e.checkpoint LIMIT 1"""
        return next((str(checkpoint) for (checkpoint,) in self.read(sql, state)), "")

    def top_priority(self) -> float:
        """The highest priority of an active clip; 1 without any."""
        ((top,),) = self.read("SELECT max(priority) FROM clips WHERE state = ?", State.active)
        return 1.0 if top is None else float(top)

    def hold_out(self, recordings: Iterable[Source]) -> None:
        """Register held-out recordings. Raises LeakError if a clip comes from one of them."""
        for one in recordings:
            if one.split == Split.TRAIN:
                raise KwsError(f"{one.name!r}: a train recording cannot be held out")
            line = (one.hash, plain(one.name), one.split)
            self._db.execute("INSERT OR IGNORE INTO held_out VALUES (?, ?, ?)", line)
        if leaks := self.leaks():
            raise LeakError(leaks[0])

    def held_out(self) -> list[Source]:
        """The held-out recordings, in the order of registration."""
        lines = self.read("SELECT recording, name, part FROM held_out ORDER BY rowid")
        return [Source(recording, name, Split(split)) for recording, name, split in lines]

    def leaks(self) -> list[str]:
        """A line for each clip that comes from a held-out recording."""
        sql = "SELECT h.name, h.part, o.hash FROM origins o JOIN held_out h USING (recording) ORDER BY o.rowid"
        return [f"{n!r}: a {split} recording, but clip {clip} comes from it" for n, split, clip in self.read(sql)]

    def refuse_held_out(self, sources: Iterable[Source]) -> None:
        """Raise LeakError if one of these recordings is not for training."""
        for one in dict.fromkeys(sources):
            if one.split != Split.TRAIN:
                raise LeakError(f"{one.name!r}: a {one.split} recording must not enter the replay buffer")
            for name, split in self.read("SELECT name, part FROM held_out WHERE recording = ?", one.hash):
                raise LeakError(
                    f"{one.name!r}: held out as the {split} recording {name!r}, must not enter the replay buffer"
                )

    def find(self, clip: str, found: NewClip, priority: float | None) -> None:
        """Record that a clip was found. With a priority, insert or reactivate it; with None, only log the event."""
        before, run, round_ = None, found.run, int(found.round)
        if priority is not None:
            if known := self.read("SELECT priority FROM clips WHERE hash = ?", clip):
                ((before,),) = known
                self._db.execute("UPDATE clips SET priority = ? WHERE hash = ?", (priority, clip))
                if found.score is not None:
                    self.score(run, round_, {clip: found.score})
            else:
                now = datetime.now(UTC).isoformat(timespec="seconds")
                self._insert("clips", clip, [as_columns(found, priority, now)])
            if found.embedding is not None:
                self.embed(found.checkpoint, {clip: found.embedding})
        self.event(clip, None if priority is None else State.active, "", run, round_, 1, before)
        origins = [{"recording": s.hash, "name": plain(s.name)} for s in (found.source, *found.mixed_with)]
        self._insert("origins", clip, origins)

    def event(
        self,
        clip: str,
        state: State | None,
        reason: str,
        run: str,
        round_: int,
        found: int = 0,
        before: float | None = None,
    ) -> None:
        """Change the state of a clip, unless it is None, and add the event to its history.

        Args:
            found: 1 if the clip was found.
            before: priority before the event, if the event changed it.
        """
        if state is not None:
            self._place(clip, state, reason)
        line = {"run": run, "round": round_, "found": found, "state": state, "reason": plain(reason)}
        self._insert("history", clip, [line | {"priority": before}])

    def decide(self, clip: str, decision: Decision) -> bool:
        """Store the decision of a user about a clip, and its state by it. Returns whether the state changed."""
        state = State.active if decision is Decision.released else State.retired
        before = self.standing([clip])[clip]
        self._db.execute("UPDATE clips SET decision = ? WHERE hash = ?", (decision, clip))
        if before != (state, decision):  # an event of no run, so that no rollback undoes it
            self.event(clip, state, f"{decision} by a user", "kws buffer", 0)
        return before[0] is not state

    def embed(self, checkpoint: str, vectors: Mapping[str, NDArray[np.float32]]) -> None:
        """Store embeddings by the model of a checkpoint. Shape: each vector [D]."""
        lines = [(clip, checkpoint, as_blob(vector)) for clip, vector in vectors.items()]
        self._db.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?)", lines)

    def score(self, run: str, round_: int, scores: Mapping[str, float]) -> None:
        """Store the scores of a round, beside those of other rounds and as the latest ones."""
        lines = [(clip, run, round_, score) for clip, score in scores.items()]
        self._db.executemany("INSERT INTO scores (hash, run, round, score) VALUES (?, ?, ?, ?)", lines)
        self._db.executemany("UPDATE clips SET score_now = ? WHERE hash = ?", [(s, c) for c, s in scores.items()])

    def update(self, hashes: Sequence[str], priority: Sequence[float], times_drawn: Sequence[int]) -> int:
        """Set priority, last loss and times sampled of clips; returns how many of the clips are known."""
        sql = "UPDATE clips SET priority = ?, last_loss = ?, times_drawn = ? WHERE hash = ?"
        lines = [(float(p), float(p), int(n), clip) for p, n, clip in zip(priority, times_drawn, hashes, strict=True)]
        return self._db.executemany(sql, lines).rowcount

    def record(self, clip: str) -> Record:
        """A clip with its rows of all tables, as JSON can hold it."""

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

    def restore(self, record: Record, has_sound: bool) -> bool:
        """Insert a clip exported from another buffer, and return True; a known one gains origins and a decision there.

        A decision of this buffer stays. A clip is released if it is active there and its sound is at hand.
        """
        columns = dict(record)
        clip = columns.pop("hash")
        origins, history, scores, embedding = (columns.pop(n) for n in ("origins", "history", "scores", "embedding"))
        new = not self.read("SELECT 1 FROM clips WHERE hash = ?", clip)
        if new:
            self._insert("clips", clip, [columns | {name: json.dumps(columns[name]) for name in ("mixed_with", "mix")}])
            self._insert("history", clip, history)
            self._insert("scores", clip, scores)
            if embedding:
                self._insert("embeddings", clip, [embedding | {"vector": base64.b64decode(embedding["vector"])}])
        elif not self.standing([clip])[clip][1]:
            decision = Decision(record["decision"])
            active = decision is Decision.released and record["state"] == State.active
            if decision is Decision.rejected or (active and has_sound):
                self.decide(clip, decision)
        self._insert("origins", clip, origins)
        return new

    def _insert(self, table: str, clip: str, lines: Iterable[dict[str, Any]]) -> None:
        how = "INSERT OR IGNORE" if table == "origins" else "INSERT"
        for line in lines:
            columns = {"hash": clip, **line}
            marks = ", ".join(f":{name}" for name in columns)
            self._db.execute(f"{how} INTO {table} ({', '.join(columns)}) VALUES ({marks})", columns)

    def undo(self, run: str, round_: int, has_file: Callable[[str], bool]) -> int:
        """Undo the events and scores of a run in the rounds after `round_`; returns how many clips changed."""
        sql = "SELECT DISTINCT hash FROM scores WHERE run = ? AND round > ?"
        scored = [(clip,) for (clip,) in self.read(sql, run, round_)]
        self._db.execute("DELETE FROM scores WHERE run = ? AND round > ?", (run, round_))
        latest = "(SELECT score FROM scores s WHERE s.hash = clips.hash ORDER BY s.id DESC LIMIT 1)"
        self._db.executemany(f"UPDATE clips SET score_now = {latest} WHERE hash = ?", scored)
        sql = "SELECT DISTINCT hash FROM history WHERE run = ? AND round > ? ORDER BY hash"
        touched = self.read(sql, run, round_)
        return sum(self._undo_clip(clip, run, round_, has_file) for (clip,) in touched)

    def _undo_clip(self, clip: str, run: str, round_: int, has_file: Callable[[str], bool]) -> bool:
        events = self.read("SELECT * FROM history WHERE hash = ? ORDER BY id", clip)
        gone = [e for e in events if e["run"] == run and e["round"] > round_]
        kept = [e for e in events if e["run"] != run or e["round"] <= round_]
        ((state, decision),) = self.read("SELECT state, decision FROM clips WHERE hash = ?", clip)
        if not decision and not any(e["found"] for e in kept):
            # SQLite deletes its history and origins too.
            self._db.execute("DELETE FROM clips WHERE hash = ?", (clip,))
            return True
        out, back, reason = (State.evicted, State.retired), None, ""
        for e in kept:
            if e["state"] is None and (back is None or back in out):
                # The clip was in only because of an event that is undone. This find would have brought it in.
                there = [p for p in events if p["id"] < e["id"] and p["state"] is not None][-1]
                back, reason = State(there["state"]), there["reason"]
                self._db.execute("UPDATE history SET state = ?, reason = ? WHERE id = ?", (back, reason, e["id"]))
            elif e["state"] is not None:
                back, reason = State(e["state"]), e["reason"]
        assert back is not None
        if back not in out and state in out and not has_file(clip):
            return False  # purged: the clip stays out, and its history unchanged
        before = [e["priority"] for e in gone if e["priority"] is not None]
        if before:
            self._db.execute("UPDATE clips SET priority = ? WHERE hash = ?", (before[0], clip))
        self._place(clip, back, reason)
        self._db.executemany("DELETE FROM history WHERE id = ?", [(e["id"],) for e in gone])
        return bool(back != state)

    def problems(self) -> list[str]:
        """A line for each contradiction within the index."""
        broken = [line[0] for line in self.read("PRAGMA integrity_check") if line[0] != "ok"]
        broken += [f"{table}: row {row} belongs to no clip" for table, row, *_ in self.read("PRAGMA foreign_key_check")]
        last_state = "SELECT state FROM history h WHERE h.hash = c.hash AND h.state NOT NULL ORDER BY h.id DESC LIMIT 1"
        last_score = "SELECT score FROM scores s WHERE s.hash = c.hash ORDER BY s.id DESC LIMIT 1"
        for column, last in ("state", last_state), ("score_now", last_score):
            sql = f"SELECT hash, {column}, ({last}) AS last FROM clips c WHERE {column} IS NOT last ORDER BY id"
            broken += [f"clip {c}: {column}={now}: must be {was} by its history" for c, now, was in self.read(sql)]
        return [f"{self._file}: {one}" for one in broken]

    def _place(self, clip: str, state: State, reason: str) -> None:
        self._db.execute("UPDATE clips SET state = ?, reason = ? WHERE hash = ?", (state, plain(reason), clip))
