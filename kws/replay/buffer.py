"""The replay buffer on disk: hard clips, where each came from, and how much it asks to be drawn."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from kws.audio import content_hash
from kws.errors import KwsError, LeakError
from kws.manifest import Part
from kws.replay import files
from kws.replay.clip import Found, Kind, Row, Source, State, check_found
from kws.replay.index import Index

__all__ = ["Added", "Buffer", "Found", "Kind", "Row", "Source", "State", "Stats"]


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a batch.

    Args:
        new: clips that are in now and were not, also where they came back or had to go again at once.
        known: how many others there were, in the buffer already or twice in the batch.
        evicted: clips that are out now.
    """

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

    A file is whole on disk before its row is seen, so a process killed at any moment leaves a good buffer.
    Processes may share it: one writes at a time, others wait for up to a minute; readers never wait.

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
        self._clips = folder / "clips"
        try:
            self._clips.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KwsError(f"{folder}: cannot hold a replay buffer ({error.strerror})") from error
        self._index = Index(folder / "index.sqlite", sample_rate)

    def close(self) -> None:
        """Let go of the index; what was added is on disk already."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._index.read("SELECT count(*) FROM clips WHERE state = ?", State.ACTIVE)[0][0])

    def rows(self, state: str | None = State.ACTIVE) -> list[Row]:
        """The clips in this state, in the order they came in; None: in any."""
        return self._index.rows(state)

    def path(self, clip: str) -> Path:
        """Where the file of a clip lies."""
        return files.path_of(self._clips, clip)

    def audio(self, clip: str) -> NDArray[np.int16]:
        """The sound of a clip, checked against its hash.

        Shape: int16 [T].

        Raises:
            KwsError: its file is missing or damaged.
        """
        return files.read(self._clips, clip, self.sample_rate)

    def hold_out(self, recordings: Iterable[Source]) -> None:
        """Bar validation and test recordings for good, whatever name or part they come under later.

        Raises:
            LeakError: a clip of the buffer, active or not, comes from one of them; none is registered then.
            KwsError: one of them is a train recording.
        """
        held = list(recordings)
        for one in held:
            if one.part == Part.TRAIN:
                raise KwsError(f"{one.name!r}: a train recording is not held out")
        with self._index.writing():
            self._index.hold_out(held)
            if leaks := self._index.leaks():
                raise LeakError(leaks[0])

    def admit(self, sources: Iterable[Source]) -> None:
        """Raise LeakError, as `add` would, where one of these recordings is not for training; adds nothing."""
        self._index.refuse_held_out(sources)

    def add(self, found: Sequence[Found]) -> Added:
        """Take in the clips of one round, all or none; new ones get the top priority (Schaul et al., 2016).

        Over capacity the lowest priorities go, the oldest first among equals; of the batch itself only what
        exceeds the capacity alone, the lowest scores first. An evicted clip that is found again is new again.

        Args:
            found: clips of one run and round.

        Raises:
            LeakError: a clip comes from, or is mixed with, a recording that is not for training.
            KwsError: malformed sound or values, or clips of several rounds.
            OSError: the disk is full or fails.
        """
        for one in found:
            check_found(one)
        if not found:
            return Added([], 0, [])
        if len({(one.run, one.round) for one in found}) > 1:
            raise KwsError("replay: the clips of a batch must be of one run and round")
        hashes = [content_hash(one.pcm) for one in found]
        with self._index.writing():
            self._index.refuse_held_out(s for one in found for s in (one.source, *one.mixed_with))
            states, top = self._index.states(), self._index.top_priority()
            fresh: dict[str, Found] = {}
            for clip, one in zip(hashes, found, strict=True):
                if states.get(clip) != State.ACTIVE:
                    fresh.setdefault(clip, one)
            files.save(self._clips, {clip: one.pcm for clip, one in fresh.items()}, self.sample_rate)
            for clip, one in zip(hashes, found, strict=True):
                self._index.find(clip, one, top if fresh.get(clip) is one else None)
            evicted = self._index.evict_surplus(self.capacity, found[0].run, int(found[0].round), fresh)
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
        counts = {"times_drawn": times_drawn, "drawn": drawn}
        columns: dict[str, list[float]] = {k: [float(v) for v in x] for k, x in given.items() if x is not None}
        columns |= {k: [int(v) for v in x] for k, x in counts.items() if x is not None}
        for name, values in columns.items():
            if len(values) != len(hashes):
                raise KwsError(f"{name}: {len(values)} values for {len(hashes)} clips")
            signed = name in {"last_loss", "score_now"}
            for clip, value in zip(hashes, values, strict=True):
                if not math.isfinite(value) or (value < 0 and not signed):
                    allowed = "finite" if signed else "finite and at least 0"
                    raise KwsError(f"{name}={value} for clip {clip}: {allowed} expected")
        if len(columns.keys() & counts.keys()) > 1:
            raise KwsError("times_drawn, drawn: only one of the two expected")
        if not columns:
            return 0
        with self._index.writing():
            return self._index.update(columns, hashes)

    def rollback(self, run: str, round: int) -> int:
        """Undo what a run added and evicted in the rounds after `round`, before it goes on from a checkpoint.

        What another run found too stays, and what another run evicted stays evicted. An eviction is final
        once `purge` took the file. `update` is not undone: the run writes its checkpoint's values again.

        Returns:
            How many clips were removed, came back, or were evicted again.
        """
        with self._index.writing():
            changed = self._index.undo(run, round, lambda clip: self.path(clip).exists())
            # Another run may have taken the places of what comes back.
            return changed + len(self._index.evict_surplus(self.capacity, run, round))

    def purge(self, min_age_s: float = 3600) -> int:
        """Delete the files of evicted clips, and unfinished or unknown ones; their rows stay, as provenance.

        Args:
            min_age_s: an unfinished or unknown file is left alone until it is so old, in seconds.

        Returns:
            How many files were deleted.
        """
        with self._index.writing():  # nobody brings an evicted clip back meanwhile
            states = self._index.states()
            evicted = {clip for clip, state in states.items() if state == State.EVICTED}
            return files.purge(self._clips, states.keys(), evicted, min_age_s)

    def check(self) -> list[str]:
        """What is wrong, a line each: files missing or damaged, clips of held-out recordings."""
        problems = self._index.leaks()
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
        rows = self.rows()
        return Stats(
            clips=len(rows),
            hours=sum(row.n_samples for row in rows) / self.sample_rate / 3600,
            by_kind=dict(Counter(row.kind.value for row in rows)),
            by_source=Counter(row.source.name for row in rows).most_common(10),
        )
