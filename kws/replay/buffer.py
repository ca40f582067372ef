"""The replay buffer on disk: FLAC files named by their content, and one index of where each came from and became of it."""

import json
import math
import os
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from kws.audio import content_hash, load, save_flac, to_int16
from kws.errors import KwsError, LeakError
from kws.manifest import Part
from kws.replay.clip import Found, Kind, Row, Source, State
from kws.replay.index import as_row, connect, read, writing

__all__ = ["Added", "Buffer", "Found", "Kind", "Row", "Source", "State", "Stats"]

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"([0-9a-f]{64})\.flac(\..+\.tmp)?")  # a clip, or its draft


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a batch: clips that came in (again), how many were there already, clips put out for them."""

    new: list[str]
    known: int
    evicted: list[str]


class Stats(TypedDict):
    """The active clips in figures; `by_source` holds the ten recordings with the most."""

    clips: int
    hours: float
    by_kind: dict[str, int]
    by_source: list[tuple[str, int]]


class Buffer:
    """Clips to replay, on disk: `clips/<hash[:2]>/<hash>.flac` and `index.sqlite`.

    A file is whole on disk before its row is seen, so a process killed at any moment leaves a good buffer. Processes
    may share it: one writes at a time, the others wait for up to a minute; readers never wait.

    Args:
        folder: where it lies; made where it is not there.
        capacity: most active clips after an `add`, at least 1.
        sample_rate: Hz of the clips.

    Raises:
        KwsError: capacity below 1, or a folder whose index has another sample rate or an unknown version.
    """

    def __init__(self, folder: Path, capacity: int = 2000, sample_rate: int = 16000) -> None:
        if capacity < 1:
            raise KwsError(f"replay.capacity={capacity}: at least 1 expected")
        self.folder, self.capacity, self.sample_rate = folder, capacity, sample_rate
        self._clips, self._index = folder / "clips", folder / "index.sqlite"
        try:
            self._clips.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KwsError(f"{folder}: cannot hold a replay buffer ({error.strerror})") from error
        self._db = connect(self._index, sample_rate)

    def close(self) -> None:
        """Let go of the index; what was added is on disk already."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._read("SELECT count(*) FROM clips WHERE state = ?", State.ACTIVE)[0][0])

    def rows(self, state: str | None = State.ACTIVE) -> list[Row]:
        """The clips in this state, in the order they came in; None: in any."""
        return [as_row(r) for r in self._read("SELECT * FROM clips WHERE state = ?1 OR ?1 IS NULL ORDER BY id", state)]

    def path(self, clip: str) -> Path:
        """Where the file of a clip lies.

        Raises:
            KwsError: `clip` is no hash: nothing else becomes a path.
        """
        if not _HASH.fullmatch(clip):
            raise KwsError(f"clip {clip!r}: 64 hexadecimal digits expected")
        return self._clips / clip[:2] / f"{clip}.flac"

    def audio(self, clip: str) -> NDArray[np.int16]:
        """The sound of a clip, checked against its hash.

        Shape: int16 [T].

        Raises:
            KwsError: its file is missing or damaged.
        """
        pcm = to_int16(load(self.path(clip), self.sample_rate))
        if content_hash(pcm) != clip:
            raise KwsError(f"{self.path(clip)}: damaged, its sound is not the one that it is named by")
        return pcm

    def hold_out(self, recordings: Iterable[Source]) -> None:
        """Bar validation and test recordings for good, whatever name or part they come under later.

        Raises:
            LeakError: a clip of the buffer, active or not, comes from one of them; none is registered then.
            KwsError: one of them is a train recording.
        """
        lines = [(one.hash, _plain(one.name), Part(one.part).value) for one in recordings]
        for _, name, part in lines:
            if part == Part.TRAIN:
                raise KwsError(f"{name!r}: a train recording is not held out")
        with self._writing():
            self._db.executemany("INSERT OR IGNORE INTO held_out VALUES (?, ?, ?)", lines)
            if leaks := self._leaks():
                raise LeakError(leaks[0])

    def add(self, found: Sequence[Found]) -> Added:
        """Take in the clips of one round, all or none; new ones get the top priority (Schaul et al., 2016).

        Over capacity the lowest priorities go, the oldest first among equals; of the batch itself only what exceeds
        the capacity alone, the lowest scores first. An evicted clip that is found again is active again, and new.

        Args:
            found: clips of one run and round.

        Raises:
            LeakError: a clip comes from, or is mixed with, a recording that is not for training.
            KwsError: malformed sound or values, or clips of several rounds.
            OSError: the disk is full or fails.
        """
        for one in found:
            _check(one)
        if not found:
            return Added([], 0, [])
        if len({(one.run, one.round) for one in found}) > 1:
            raise KwsError("replay: the clips of a batch must be of one run and round")
        hashes = [content_hash(one.pcm) for one in found]
        with self._writing():
            self._refuse_held_out(found)
            states = {r["hash"]: r["state"] for r in self._read("SELECT hash, state FROM clips")}
            fresh: dict[str, Found] = {}
            for clip, one in zip(hashes, found, strict=True):
                if states.get(clip) != State.ACTIVE:
                    fresh.setdefault(clip, one)
            self._save(fresh)
            (top,) = self._read("SELECT max(priority) FROM clips WHERE state = ?", State.ACTIVE)[0]
            for clip, one in zip(hashes, found, strict=True):
                before = self._admit(clip, one, 1.0 if top is None else top) if fresh.get(clip) is one else None
                self._remember(clip, one.run, one.round, "found", before)
                self._db.executemany(
                    "INSERT OR IGNORE INTO origins VALUES (?, ?, ?)",
                    [(clip, s.hash, _plain(s.name)) for s in (one.source, *one.mixed_with)],
                )
            evicted = self._evict_surplus(found[0].run, found[0].round, set(fresh))
        return Added(list(fresh), len(found) - len(fresh), evicted)

    def update(
        self,
        hashes: Sequence[str],
        *,
        priority: Iterable[float] | None = None,
        last_loss: Iterable[float] | None = None,
        score_now: Iterable[float] | None = None,
        times_drawn: Iterable[int] | None = None,
        drawn: Iterable[int] | None = None,
    ) -> int:
        """Write back what was learned about clips, each value in the order of `hashes`; all or nothing.

        Args:
            hashes: the clips; those that are no longer there are passed over.
            priority: at least 0.
            last_loss, score_now: finite.
            times_drawn: in all.
            drawn: since the last update, added to what stands there; instead of `times_drawn`.

        Returns:
            How many of the clips are there.
        """
        given = {"priority": priority, "last_loss": last_loss, "score_now": score_now}
        columns = {name: [float(v) for v in values] for name, values in given.items() if values is not None}
        for name, counts in (("times_drawn", times_drawn), ("drawn", drawn)):
            if counts is not None:
                columns[name] = [int(v) for v in counts]
        for name, values in columns.items():
            if len(values) != len(hashes):
                raise KwsError(f"{name}: {len(values)} values for {len(hashes)} clips")
            if not all(math.isfinite(v) and (v >= 0 or name in {"last_loss", "score_now"}) for v in values):
                raise KwsError(f"{name}: finite values expected, and of priorities and counts none below 0")
        if "drawn" in columns and "times_drawn" in columns:
            raise KwsError("times_drawn, drawn: only one of the two expected")
        if not columns:
            return 0
        terms = ["times_drawn = times_drawn + ?" if name == "drawn" else f"{name} = ?" for name in columns]
        with self._writing():
            sql = f"UPDATE clips SET {', '.join(terms)} WHERE hash = ?"
            return self._db.executemany(sql, list(zip(*columns.values(), hashes, strict=True))).rowcount

    def rollback(self, run: str, round: int) -> int:
        """Undo what a run added and evicted in the rounds after `round`, before it goes on from its checkpoint.

        What another run has found as well stays, and what another run evicted stays evicted. An eviction is final
        once `purge` has taken the file. What `update` wrote is not undone: the run writes its checkpoint's values.

        Returns:
            How many clips were removed, came back, or were evicted again.
        """
        changed = 0
        with self._writing():
            later = "SELECT DISTINCT hash FROM history WHERE run = ? AND round > ? ORDER BY id"
            for (clip,) in self._read(later, run, round):
                changed += self._undo(clip, run, round)
            changed += len(self._evict_surplus(run, round, set()))  # another run may have taken the places
        return changed

    def purge(self, min_age_s: float = 3600) -> int:
        """Delete the files of evicted clips, and files without a row or unfinished that are older than `min_age_s`.

        Returns:
            How many files were deleted.
        """
        n, now = 0, time.time()
        with self._writing():
            states = {r["hash"]: r["state"] for r in self._read("SELECT hash, state FROM clips")}
            for path in sorted(self._clips.glob("*/*")):
                if not (name := _FILE.fullmatch(path.name)):
                    continue  # not ours
                clip, draft = name.groups()
                evicted = not draft and states.get(clip) == State.EVICTED
                orphan = draft or clip not in states
                if evicted or (orphan and now - path.stat().st_mtime >= min_age_s):
                    path.unlink()
                    n += 1
        return n

    def check(self) -> list[str]:
        """What is wrong, a line each: files missing or damaged, clips of held-out recordings. Reads every file."""
        problems = self._leaks()
        for row in self.rows(None):
            try:
                if row.state == State.EVICTED and not self.path(row.hash).exists():
                    continue  # purged
                if (n := len(self.audio(row.hash))) != row.n_samples:
                    problems.append(f"{self.path(row.hash)}: {n} samples, the index says {row.n_samples}")
            except KwsError as error:
                problems.append(str(error))
        return problems

    def stats(self) -> Stats:
        """The active clips in figures."""
        ((clips, n),) = self._read("SELECT count(*), total(n_samples) FROM clips WHERE state = ?", State.ACTIVE)
        kinds = "SELECT kind, count(*) FROM clips WHERE state = ? GROUP BY kind ORDER BY kind"
        sources = (
            "SELECT min(recording_name), count(*) AS n FROM clips WHERE state = ?"
            " GROUP BY recording ORDER BY n DESC, recording LIMIT 10"
        )
        return Stats(
            clips=clips,
            hours=n / self.sample_rate / 3600,
            by_kind={kind: k for kind, k in self._read(kinds, State.ACTIVE)},
            by_source=[(name, k) for name, k in self._read(sources, State.ACTIVE)],
        )
