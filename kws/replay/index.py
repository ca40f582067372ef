"""What a replay buffer knows of each clip: where it came from, if it is active, and which run made it so."""

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from kws.errors import LeakError
from kws.manifest import Part
from kws.replay.clip import Found, Row, Source, State, as_columns, as_row, plain, train_only
from kws.replay.schema import connect, one_line_errors, writing


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

    def read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """All lines of a query, as they stood at one moment."""
        with one_line_errors(self._file):
            return self._db.execute(sql, values).fetchall()

    def rows(self, state: str | None) -> list[Row]:
        """The clips in this state, or all, in the order they came in."""
        sql = "SELECT * FROM clips WHERE state = ?1 OR ?1 IS NULL ORDER BY id"
        return [as_row(dict(line)) for line in self.read(sql, state)]

    def states(self) -> dict[str, State]:
        """The state of every clip."""
        return {clip: State(state) for clip, state in self.read("SELECT hash, state FROM clips")}

    def top_priority(self) -> float:
        """The highest priority of an active clip, 1 where there is none."""
        ((top,),) = self.read("SELECT max(priority) FROM clips WHERE state = ?", State.ACTIVE)
        return 1.0 if top is None else float(top)

    def hold_out(self, recordings: Iterable[Source]) -> None:
        """Register recordings that nothing may come from."""
        lines = [(one.hash, plain(one.name), Part(one.part).value) for one in recordings]
        self._db.executemany("INSERT OR IGNORE INTO held_out VALUES (?, ?, ?)", lines)

    def leaks(self) -> list[str]:
        """Each clip that comes from a held-out recording, a line each."""
        sql = "SELECT h.name, h.part, o.hash FROM origins o JOIN held_out h USING (recording) ORDER BY o.rowid"
        return [f"{n!r}: a {part} recording, but clip {clip} comes from it" for n, part, clip in self.read(sql)]

    def refuse_held_out(self, sources: Iterable[Source]) -> None:
        """Raise LeakError where one of them is not for training."""
        for one in dict.fromkeys(sources):
            train_only(one)
            for name, part in self.read("SELECT name, part FROM held_out WHERE recording = ?", one.hash):
                raise LeakError(f"{one.name!r}: held out as the {part} recording {name!r}, may not enter the buffer")

    def find(self, clip: str, found: Found, priority: float | None) -> None:
        """A clip was found: it comes in, or back, at `priority`; None: it is there already."""
        before = None
        if priority is not None:
            columns = as_columns(clip, found, priority, datetime.now(UTC).isoformat(timespec="seconds"))
            for (old,) in self.read("SELECT priority FROM clips WHERE hash = ?", clip):
                before = old
                self._db.execute("UPDATE clips SET priority = ? WHERE hash = ?", (priority, clip))
                self._place(clip, None)
            if before is None:
                marks = ", ".join(f":{name}" for name in columns)
                self._db.execute(f"INSERT INTO clips ({', '.join(columns)}) VALUES ({marks})", columns)
        self._remember(clip, found.run, int(found.round), "found", before)
        origins = [(clip, s.hash, plain(s.name)) for s in (found.source, *found.mixed_with)]
        self._db.executemany("INSERT OR IGNORE INTO origins VALUES (?, ?, ?)", origins)

    def evict_surplus(self, capacity: int, run: str, round_: int, fresh: Iterable[str] = ()) -> list[str]:
        """Evict what exceeds capacity: lowest priority, then oldest; `fresh` ones last, by lowest score."""
        clips = self.read("SELECT hash, priority, score FROM clips WHERE state = ? ORDER BY id", State.ACTIVE)
        new = set(fresh)
        clips.sort(key=lambda c: (c["hash"] in new, c["priority"], c["score"] if c["hash"] in new else 0))
        evicted = [c["hash"] for c in clips[: max(0, len(clips) - capacity)]]
        for clip in evicted:
            self._place(clip, (run, round_))
            self._remember(clip, run, round_, "evicted", None)
        return evicted

    def update(self, columns: Mapping[str, Sequence[float]], hashes: Sequence[str]) -> int:
        """Set columns of clips, `drawn` adds to `times_drawn`; returns how many of the clips are there."""
        terms = ["times_drawn = times_drawn + ?" if name == "drawn" else f"{name} = ?" for name in columns]
        sql = f"UPDATE clips SET {', '.join(terms)} WHERE hash = ?"
        return self._db.executemany(sql, list(zip(*columns.values(), hashes, strict=True))).rowcount

    def undo(self, run: str, round_: int, has_file: Callable[[str], bool]) -> int:
        """Take away what a run did in the rounds after `round_`; returns how many clips changed for it."""
        sql = "SELECT DISTINCT hash FROM history WHERE run = ? AND round > ? ORDER BY hash"
        touched = self.read(sql, run, round_)
        return sum(self._undo_clip(clip, run, round_, has_file) for (clip,) in touched)

    def _undo_clip(self, clip: str, run: str, round_: int, has_file: Callable[[str], bool]) -> bool:
        events = self.read("SELECT * FROM history WHERE hash = ? ORDER BY id", clip)
        gone = [e for e in events if e["run"] == run and e["round"] > round_]
        kept = [e for e in events if e["run"] != run or e["round"] <= round_]
        if not any(e["event"] == "found" for e in kept):
            # Its history and origins go with it.
            self._db.execute("DELETE FROM clips WHERE hash = ?", (clip,))
            return True
        ((state,),) = self.read("SELECT state FROM clips WHERE hash = ?", clip)
        back = State.ACTIVE if kept[-1]["event"] == "found" else State.EVICTED
        if back == State.ACTIVE and state == State.EVICTED and not has_file(clip):
            return False  # purged: it stays evicted, and its history as it is
        before = [e["priority"] for e in gone if e["priority"] is not None]
        if before:
            self._db.execute("UPDATE clips SET priority = ? WHERE hash = ?", (before[0], clip))
        self._place(clip, None if back == State.ACTIVE else (kept[-1]["run"], kept[-1]["round"]))
        self._db.executemany("DELETE FROM history WHERE id = ?", [(e["id"],) for e in gone])
        return bool(back.value != state)

    def _place(self, clip: str, evicted_by: tuple[str, int] | None) -> None:
        """Make a clip active, or evicted by a run and round."""
        state, (run, round_) = (State.EVICTED, evicted_by) if evicted_by else (State.ACTIVE, (None, None))
        sql = "UPDATE clips SET state = ?, evicted_run = ?, evicted_round = ? WHERE hash = ?"
        self._db.execute(sql, (state, run, round_, clip))

    def _remember(self, clip: str, run: str, round_: int, event: str, before: float | None) -> None:
        sql = "INSERT INTO history (hash, run, round, event, priority) VALUES (?, ?, ?, ?, ?)"
        self._db.execute(sql, (clip, run, round_, event, before))
