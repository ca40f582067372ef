"""The replay buffer on disk: hard clips, where each came from, and how much it asks to be drawn."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError, LeakError
from kws.data.audio import content_hash
from kws.data.manifest import Source, Split, contains_phrase
from kws.replay import storage
from kws.replay.database import Index, Record, as_blob, matrix
from kws.replay.dedup import DuplicatesConfig, near_duplicates
from kws.replay.eviction import EvictionConfig, no_limits, surplus
from kws.replay.quarantine import suspicion
from kws.replay.records import BufferClip, ClipTable, Decision, Kind, NewClip, State, check_found

__all__ = ["Added", "Buffer", "BufferClip", "Decision", "Kind", "NewClip", "Source", "State", "Stats"]


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a batch.

    Args:
        new: clips that are in now and were not, also where they came back or had to go again at once.
        known: how many others were in the buffer already, twice in the batch, or rejected by a person before.
        evicted: clips that are out now.
        near: how many repeat another clip nearly, and are not kept.
        quarantined: those of `new` that are suspected to hold the keyword.
    """

    new: list[str]
    known: int
    evicted: list[str]
    near: int = 0
    quarantined: list[str] = field(default_factory=list)


class Stats(TypedDict):
    """The active clips in figures; `by_source` holds the ten recordings with the most, `by_state` counts all."""

    clips: int
    hours: float
    by_kind: dict[str, int]
    by_source: list[tuple[str, int]]
    by_state: dict[str, int]


class Buffer:
    """Clips to replay, on disk: `clips/<hash[:2]>/<hash>.flac` and `index.sqlite`.

    A file is whole on disk before its row is seen, so a process killed at any moment leaves a good buffer.
    Processes may share it: one writes at a time, others wait for up to a minute; readers never wait.

    Args:
        folder: where it lies; made where it is not there.
        eviction: limits of the active clips, and of the quarantined ones on their own; None for no limits.
        sample_rate: Hz of the clips.
        duplicates: which clips are near-duplicates; None for none.

    Raises:
        KwsError: a folder whose index has another sample rate or an unknown version.
    """

    def __init__(
        self,
        folder: Path,
        eviction: EvictionConfig | None = None,
        sample_rate: int = 16000,
        duplicates: DuplicatesConfig | None = None,
    ) -> None:
        self.folder, self.sample_rate = folder, sample_rate
        self.eviction, self.duplicates = eviction or no_limits(), duplicates or DuplicatesConfig(2.0, 2.0)
        self._clips = folder / storage.CLIPS
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

    def rows(self, state: str | None = State.ACTIVE) -> list[BufferClip]:
        """The clips in this state, in the order they came in; None: in any."""
        return self._index.rows(state)

    def samplable(self, but: Collection[str] = (), saying: Collection[str] = ()) -> ClipTable:
        """The active clips that a run may sample, in the order they came in.

        Args:
            but: hashes of recordings. Clips in which one of them is audible are left out.
            saying: keywords. Clips whose text says one are left out, unless they are confusables or released.
        """
        clips = self._index.table([State.ACTIVE])
        left_out = self._index.clips_from(but) | self._saying(saying)
        if not left_out:
            return clips
        return clips.select(np.array([i for i, clip in enumerate(clips.hash) if clip not in left_out], np.int64))

    def _saying(self, keywords: Collection[str]) -> set[str]:
        if not keywords:
            return set()
        sql = "SELECT hash, kind, text FROM clips WHERE state = ? AND text != '' AND decision != ?"
        lines = self._index.read(sql, State.ACTIVE, Decision.RELEASED)
        spoken = {text: any(contains_phrase(text, word) for word in keywords) for _, _, text in lines}
        return {clip for clip, kind, text in lines if kind != Kind.CONFUSABLE and spoken[text]}

    def held_out(self) -> list[Source]:
        """The recordings that nothing may come from."""
        return self._index.held_out()

    def score_history(self) -> list[tuple[str, str, int, float]]:
        """Each time a checkpoint heard a clip again, in that order: hash, run, round and score."""
        return [(*line,) for line in self._index.read("SELECT hash, run, round, score FROM scores ORDER BY id")]

    def records(self, wanted: Callable[[BufferClip], bool] = lambda _: True) -> Generator[tuple[BufferClip, Record]]:
        """Clips that are `wanted` with their records, in the order they came in, all from one moment.

        This object must not write until the generator is exhausted or closed. Other processes may write.
        """
        with self._index.reading():
            for row in self._index.rows(None):
                if wanted(row):
                    yield row, self._index.record(row.hash)

    def restore(
        self,
        held_out: Iterable[Source],
        records: Iterable[Record],
        sound: Callable[[str], NDArray[np.int16] | None],
    ) -> tuple[int, int]:
        """Insert clips exported from another buffer, all or none. Nothing is evicted for them.

        A clip that is already known stays as it is, and gains the origins of the record.

        Args:
            held_out: validation and test recordings to register.
            records: the clips, checked by the caller.
            sound: checked samples of a clip by its hash; None for a clip without sound.

        Returns:
            How many clips are new, and how many were known.

        Raises:
            LeakError: a clip comes from a recording that this buffer or the other one holds out.
            OSError: the disk is full or fails.
        """
        with self._index.writing():
            self._index.hold_out(held_out)
            clips = [(record["hash"], self._index.restore(record)) for record in records]
            if leaks := self._index.leaks():
                raise LeakError(leaks[0])
            new = [clip for clip, is_new in clips if is_new]
            storage.save(
                self._clips, ((clip, pcm) for clip in new if (pcm := sound(clip)) is not None), self.sample_rate
            )
        return len(new), len(clips) - len(new)

    def path(self, clip: str) -> Path:
        """Where the file of a clip lies."""
        return storage.path_of(self._clips, clip)

    def audio(self, clip: str) -> NDArray[np.int16]:
        """The sound of a clip, checked against its hash.

        Shape: int16 [T].

        Raises:
            KwsError: its file is missing or damaged.
        """
        return storage.read(self._clips, clip, self.sample_rate)

    def hold_out(self, recordings: Iterable[Source]) -> None:
        """Bar validation and test recordings for good, whatever name or part they come under later.

        Raises:
            LeakError: a clip of the buffer, active or not, comes from one of them; none is registered then.
            KwsError: one of them is a train recording.
        """
        held = list(recordings)
        for one in held:
            if one.split == Split.TRAIN:
                raise KwsError(f"{one.name!r}: a train recording is not held out")
        with self._index.writing():
            self._index.hold_out(held)
            if leaks := self._index.leaks():
                raise LeakError(leaks[0])

    def admit(self, sources: Iterable[Source]) -> None:
        """Raise LeakError, as `add` would, where one of these recordings is not for training; adds nothing."""
        self._index.refuse_held_out(sources)

    def add(
        self,
        found: Sequence[NewClip],
        suspect_from: Mapping[str, float] = MappingProxyType({}),
        keywords: Collection[str] = (),
    ) -> Added:
        """Take in the clips of one round, all or none; new ones get the top priority (Schaul et al., 2016).

        Of clips that repeat each other the harder stays, and what is in already stays before what comes. What is in
        quarantine, or was rejected by a person, keeps its repetitions out too. A clip that was evicted or retired and
        is found again comes back at the top priority.

        Args:
            found: clips of one run and round.
            suspect_from: by keyword, the score from which a clip goes to quarantine; see `suspicion`.
            keywords: of the run: whose text says one of them goes to quarantine.

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
        run, round_ = found[0].run, int(found[0].round)
        hashes = [content_hash(one.pcm) for one in found]
        with self._index.writing():
            self._index.refuse_held_out(s for one in found for s in (one.source, *one.mixed_with))
            standing, top = self._index.standing(hashes), self._index.top_priority()
            fresh: dict[str, NewClip] = {}
            for clip, one in zip(hashes, found, strict=True):
                state, decision = standing.get(clip, (State.EVICTED, Decision.NONE))
                if state in (State.EVICTED, State.RETIRED) and decision is not Decision.REJECTED:
                    fresh.setdefault(clip, one)
            known = len(found) - len(fresh)
            repeated = self._repeated(fresh)
            fresh = {clip: one for clip, one in fresh.items() if clip not in repeated}
            storage.save(self._clips, ((clip, one.pcm) for clip, one in fresh.items()), self.sample_rate)
            quarantined = []
            for clip, one in zip(hashes, found, strict=True):
                if clip in repeated:
                    continue
                self._index.find(clip, one, top if fresh.get(clip) is one else None)
                released = standing.get(clip, (None, Decision.NONE))[1] is Decision.RELEASED
                why = "" if released else suspicion(one.kind, one.keyword, one.text, one.score, suspect_from, keywords)
                if fresh.get(clip) is one and why:
                    self._index.move(clip, State.QUARANTINED, why, run, round_)
                    quarantined.append(clip)
            evicted = self._hold(run, round_)
        return Added(list(fresh), known, evicted, len(repeated), quarantined)

    def _repeated(self, fresh: Mapping[str, NewClip]) -> set[str]:
        """Those of the clips that nearly repeat another one of them, or one that is here."""
        if min(self.duplicates.duplicate_overlap, self.duplicates.duplicate_cosine) > 1 or not fresh:
            return set()
        order = sorted(fresh, key=lambda clip: -math.inf if (score := fresh[clip].score) is None else -score)
        new = [fresh[clip] for clip in order]
        # Only embeddings of one model can be compared.
        checkpoint = next((one.checkpoint for one in new if one.embedding is not None), "")
        known = [one.embedding if one.checkpoint == checkpoint else None for one in new]
        nothing = np.zeros(len(new))
        table = ClipTable(
            hash=order,
            kind=[one.kind for one in new],
            recording=[one.source.hash for one in new],
            start_s=np.array([one.offset_s for one in new]),
            n_samples=np.array([len(one.pcm) for one in new]),
            score=nothing,
            priority=nothing,
            times_drawn=nothing.astype(np.int64),
            embedding=matrix([None if vector is None else as_blob(vector) for vector in known]),
        )
        here = self._index.table(
            [State.ACTIVE, State.QUARANTINED], True, checkpoint if self.duplicates.duplicate_cosine <= 1 else None
        )
        return {order[i] for i in near_duplicates(table, here, self.duplicates, self.sample_rate)}

    def _hold(self, run: str, round_: int) -> list[str]:
        """Evict what exceeds the limits, of the active clips and of those in quarantine; returns what went."""
        evicted = []
        for state in (State.ACTIVE, State.QUARANTINED):
            embedded = self.eviction.eviction not in ("hardest", "oldest", "reservoir")  # which read no embeddings
            clips = self._index.table([state], False, self._index.usual_checkpoint(state) if embedded else None)
            for i in surplus(clips, self.eviction, self.sample_rate):
                self._index.move(clips.hash[i], State.EVICTED, "", run, round_)
                evicted.append(clips.hash[i])
        return evicted

    def rescored(
        self,
        run: str,
        round: int,
        checkpoint: str,
        scores: Mapping[str, float],
        embeddings: Mapping[str, NDArray[np.float32]],
        moves: Mapping[str, tuple[State, str]],
    ) -> None:
        """A checkpoint heard clips again: keep what it made of them, change states, hold the limits; all or nothing.

        What others did to a clip meanwhile stands: one that is gone, or out for another reason, or that a person
        decided on is not moved against that.

        Args:
            run, round: who heard, and when.
            checkpoint: hash of the weights.
            scores, embeddings: of each clip.
            moves: the new state of a clip, and why.
        """
        with self._index.writing():
            standing = self._index.standing([*scores, *moves])
            self._index.score(run, round, {clip: score for clip, score in scores.items() if clip in standing})
            self._index.embed(checkpoint, {clip: vector for clip, vector in embeddings.items() if clip in standing})
            for clip, (state, why) in moves.items():
                now, decision = standing.get(clip, (State.EVICTED, Decision.NONE))
                gone = now is State.EVICTED or (now is State.RETIRED and not self.path(clip).exists())
                barred = decision is Decision.RELEASED and state is State.QUARANTINED
                if not (gone or barred or decision is Decision.REJECTED):
                    self._index.move(clip, state, why, run, round)
            self._hold(run, round)

    def decide(self, clips: Iterable[str], decision: Decision) -> int:
        """Keep what a person said of clips: released ones are active from now on, rejected ones retired.

        Returns:
            How many of the clips changed their state.

        Raises:
            KwsError: no such clip, or the file of one to release is gone.
        """
        state = State.ACTIVE if decision is Decision.RELEASED else State.RETIRED
        changed = 0
        with self._index.writing():
            standing = self._index.standing()
            for clip in clips:
                if clip not in standing:
                    raise KwsError(f"{self.folder}: no clip {clip}")
                if state is State.ACTIVE and not self.path(clip).exists():
                    raise KwsError(f"{self.folder}: clip {clip} cannot be released, its file was deleted")
                self._index.decide(clip, decision)
                if standing[clip] != (state, decision):  # an event of its own: no rollback of a run undoes it
                    self._index.move(clip, state, f"{decision} by a person", "kws buffer", 0)
                changed += standing[clip][0] is not state
        return changed

    def update(
        self,
        hashes: Sequence[str],
        *,
        priority: Iterable[float] | None = None,
        last_loss: Iterable[float] | None = None,
        times_drawn: Iterable[int] | None = None,
        drawn: Iterable[int] | None = None,
    ) -> int:
        """Write back what was learned about clips, each value in the order of `hashes`; all or nothing.

        Args:
            hashes: the clips; those that are no longer there are passed over.
            priority: at least 0.
            last_loss: finite.
            times_drawn: in all.
            drawn: since the last update, added to what stands there; instead of `times_drawn`.

        Returns:
            How many of the clips are there.
        """
        given = {"priority": priority, "last_loss": last_loss}
        counts = {"times_drawn": times_drawn, "drawn": drawn}
        columns: dict[str, list[float]] = {k: [float(v) for v in x] for k, x in given.items() if x is not None}
        columns |= {k: [int(v) for v in x] for k, x in counts.items() if x is not None}
        for name, values in columns.items():
            if len(values) != len(hashes):
                raise KwsError(f"{name}: {len(values)} values for {len(hashes)} clips")
            signed = name == "last_loss"
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
            return changed + len(self._hold(run, round))

    def leftovers(self) -> list[Path]:
        """Unfinished files and those of unknown clips: what killed writers leave, and one at work may just write."""
        return storage.needless(self._clips, self._index.standing().keys(), (), 0)

    def purge(
        self, min_age_s: float = 3600, retired: bool = False, tell: Callable[[Path], None] = lambda _: None
    ) -> int:
        """Delete the files of evicted clips, and unfinished or unknown ones; their rows stay, as provenance.

        Args:
            min_age_s: an unfinished or unknown file is left alone until it is so old, in seconds.
            retired: delete the files of retired clips too.
            tell: called with each file before it goes.

        Returns:
            How many files were deleted.
        """
        out = {State.EVICTED, State.RETIRED} if retired else {State.EVICTED}
        with self._index.writing():  # nobody brings such a clip back meanwhile
            standing = self._index.standing()
            unwanted = {clip for clip, (state, _) in standing.items() if state in out}
            needless = storage.needless(self._clips, standing.keys(), unwanted, min_age_s)
            for path in needless:
                tell(path)
                path.unlink()
            return len(needless)

    def check(self, progress: Callable[[int], None] = lambda _: None) -> list[str]:
        """What is wrong, a line each: a broken index, clips of held-out recordings, files missing or damaged.

        `progress` is called before each clip with how many were looked at.
        """
        problems = self._index.problems() + self._index.leaks()
        for number, row in enumerate(self.rows(None)):
            progress(number)
            try:
                if row.state in (State.EVICTED, State.RETIRED) and not self.path(row.hash).exists():
                    continue  # purged
                if (n := len(self.audio(row.hash))) != row.n_samples:
                    problems.append(f"{self.path(row.hash)}: {n} samples, the index says {row.n_samples}")
            except KwsError as error:
                problems.append(str(error))
        return problems

    def stats(self) -> Stats:
        """The clips in figures."""
        rows = self.rows()
        states = self._index.read("SELECT state, count(*) FROM clips GROUP BY state ORDER BY state")
        return Stats(
            clips=len(rows),
            hours=sum(row.n_samples for row in rows) / self.sample_rate / 3600,
            by_kind=dict(Counter(row.kind.value for row in rows)),
            by_source=Counter(row.source.name for row in rows).most_common(10),
            by_state={str(line[0]): int(line[1]) for line in states},
        )
