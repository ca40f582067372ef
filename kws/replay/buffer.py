"""The replay buffer on disk: hard negatives with their origins, states and priorities."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import content_hash
from kws.data.manifest import Source, Split
from kws.data.transcripts import Match
from kws.replay import storage
from kws.replay.database import Index, Record
from kws.replay.dedup import DuplicatesConfig, repeats
from kws.replay.eviction import EMBEDDING_RULES, EvictionConfig, no_limits, surplus
from kws.replay.quarantine import suspicion
from kws.replay.records import LIVE, Added, BufferClip, ClipTable, Decision, Kind, NewClip, State

__all__ = ["Added", "Buffer", "BufferClip", "Decision", "Kind", "NewClip", "Source", "State"]

INDEX = "index.sqlite"


class Buffer:
    """Clips on disk: `clips/<hash[:2]>/<hash>.flac` and `index.sqlite`.

    A file is complete on disk before its row is visible, so a process killed at any moment leaves a good buffer.
    Processes may share a buffer. One writes at a time, others wait for up to a minute, and readers never wait.

    Args:
        folder: of the buffer; created if it is missing.
        eviction: limits of the active clips, and of the quarantined ones on their own; None for no limits.
        sample_rate: Hz of the clips; None: that of an existing buffer, and 16000 for a new one.
        duplicates: which clips are near-duplicates; None for none.
        match: forms of a keyword that count in the text of a clip.

    Raises:
        KwsError: a folder whose index has another sample rate or an unknown version.
    """

    def __init__(
        self,
        folder: Path,
        eviction: EvictionConfig | None = None,
        sample_rate: int | None = None,
        duplicates: DuplicatesConfig | None = None,
        match: Match = Match.word,
    ) -> None:
        self.folder, self.match, self._clips = folder, match, folder / storage.CLIPS
        self.eviction, self.duplicates = eviction or no_limits(), duplicates or DuplicatesConfig(2.0, 2.0)
        try:
            self._clips.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KwsError(f"{folder}: cannot hold a replay buffer ({error.strerror})") from error
        self._index = Index(folder / INDEX, sample_rate)
        self.sample_rate = self._index.sample_rate

    def close(self) -> None:
        """Close the index. All clips are on disk already."""
        self._index.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._index.read("SELECT count(*) FROM clips WHERE state = ?", State.active)[0][0])

    def rows(self, state: str | None = State.active) -> list[BufferClip]:
        """The clips in this state, or in any state for None, oldest first."""
        return self._index.rows(state)

    def samplable(self, but: Mapping[str, Collection[str]] | None = None, saying: Collection[str] = ()) -> ClipTable:
        """The active clips that a run may sample, oldest first.

        Args:
            but: recordings whose clips are left out, as in `Index.clips_from`.
            saying: keywords. Clips whose text contains one are left out, unless they are confusables or released.
        """
        clips = self._index.table([State.active])
        left_out = self._index.clips_from(but or {}) | self._index.clips_saying(saying, self.match)
        return clips.select(np.array([i for i, clip in enumerate(clips.hash) if clip not in left_out], np.int64))

    def held_out(self) -> list[Source]:
        """The validation and test recordings that no clip may come from."""
        return self._index.held_out()

    def score_history(self) -> list[tuple[str, str, int, float]]:
        """Scores of all rounds, in order: hash, run, round and score."""
        return [(*line,) for line in self._index.read("SELECT hash, run, round, score FROM scores ORDER BY id")]

    def records(self, wanted: Callable[[BufferClip], bool] = lambda _: True) -> Generator[tuple[BufferClip, Record]]:
        """Clips that are `wanted` with their records, oldest first, all from one moment.

        This object must not write until the generator is exhausted or closed. Other processes may write.
        """
        with self._index.reading():
            for row in self._index.rows(None):
                if wanted(row):
                    yield row, self._index.record(row.hash)

    def restore(
        self, held_out: Iterable[Source], clips: Iterable[tuple[Record, NDArray[np.int16] | None]]
    ) -> tuple[int, int]:
        """Insert clips exported from another buffer, all or none, and evict nothing.

        A known clip gains origins, and the decision of a user where it has none.

        Args:
            held_out: validation and test recordings to register.
            clips: records and samples int16 [T], checked by the caller; None for a clip without a file.

        Returns:
            Number of new clips, and of known ones.

        Raises:
            LeakError: a clip comes from a recording that this buffer or the other one holds out.
            OSError: the disk is full or fails.
        """
        n = Counter[bool]()

        def new_files() -> Iterator[tuple[str, NDArray[np.int16]]]:
            for record, pcm in clips:
                origins = [Source(one["recording"], one["name"], Split.TRAIN) for one in record["origins"]]
                self._index.refuse_held_out(origins)
                clip, there = record["hash"], self.path(record["hash"]).exists()
                new = self._index.restore(record, there or pcm is not None)
                n[new] += 1
                if pcm is not None and (new or (not there and self._index.standing([clip])[clip][0] in LIVE)):
                    yield clip, pcm

        with self._index.writing():
            self._index.hold_out(held_out)
            storage.save(self._clips, new_files(), self.sample_rate)
        return n[True], n[False]

    def path(self, clip: str) -> Path:
        """The file of a clip."""
        return storage.path_of(self._clips, clip)

    def audio(self, clip: str) -> NDArray[np.int16]:
        """The samples of a clip, checked against its hash.

        Shape: int16 [T].

        Raises:
            KwsError: its file is missing or damaged.
        """
        return storage.read(self._clips, clip)

    def hold_out(self, recordings: Iterable[Source]) -> None:
        """Register validation and test recordings. No clip may come from them, under any later name.

        Raises:
            LeakError: a clip of the buffer, in any state, comes from one of them; none is registered then.
            KwsError: one of them is a train recording.
        """
        with self._index.writing():
            self._index.hold_out(recordings)

    def admit(self, sources: Iterable[Source]) -> None:
        """Raise LeakError, as `add` would, if one of these recordings is not for training."""
        self._index.refuse_held_out(sources)

    def add(
        self,
        found: Sequence[NewClip],
        suspect_from: Mapping[str, float] = MappingProxyType({}),
        keywords: Collection[str] = (),
    ) -> Added:
        """Add the clips of one round, all or none. New clips get the top priority (Schaul et al., 2016).

        Of near-duplicates the harder clip is added, and clips of the buffer stay. Quarantined and rejected clips keep
        their near-duplicates out too. An evicted or retired clip that is found again comes back at the top priority.

        Args:
            found: clips of one run and round.
            suspect_from: score from which a clip of a keyword is quarantined; see `suspicion`.
            keywords: of the run; clips whose text contains one are quarantined.

        Raises:
            LeakError: a clip comes from, or is mixed with, a recording that is not for training.
            KwsError: malformed samples or values, or clips of several rounds.
            OSError: the disk is full or fails.
        """
        for one in found:
            one.check()
        if not found:
            return Added([], 0, [])
        if len({(one.run, one.round) for one in found}) > 1:
            raise KwsError("replay: clips that are added together must be of one run and round")
        run, round_ = found[0].run, int(found[0].round)
        hashes = [content_hash(one.pcm) for one in found]
        with self._index.writing():
            self._index.refuse_held_out(s for one in found for s in (one.source, *one.mixed_with))
            standing, top = self._index.standing(hashes), self._index.top_priority()
            fresh: dict[str, NewClip] = {}
            for clip, one in zip(hashes, found, strict=True):
                state, decision = standing.get(clip, (State.evicted, Decision.none))
                if state in (State.evicted, State.retired) and decision is not Decision.rejected:
                    fresh.setdefault(clip, one)
            known = len(found) - len(fresh)
            repeated = repeats(fresh, lambda c: self._index.table(LIVE, True, c), self.duplicates, self.sample_rate)
            fresh = {clip: one for clip, one in fresh.items() if clip not in repeated}
            storage.save(self._clips, ((clip, one.pcm) for clip, one in fresh.items()), self.sample_rate)
            quarantined = []
            for clip, one in zip(hashes, found, strict=True):
                if clip in repeated:
                    continue
                is_new = fresh.get(clip) is one
                self._index.find(clip, one, top if is_new else None)
                why = suspicion(one.kind, one.keyword, one.text, one.score, suspect_from, keywords, self.match)
                if is_new and why and standing.get(clip, (None, None))[1] is not Decision.released:
                    self._index.event(clip, State.quarantined, why, run, round_)
                    quarantined.append(clip)
            evicted = self._hold(run, round_)
        return Added(list(fresh), known, evicted, len(repeated), quarantined)

    def _hold(self, run: str, round_: int) -> list[str]:
        """Evict active and quarantined clips beyond the limits; returns the evicted clips."""
        evicted = []
        for state in LIVE:
            checkpoint = self._index.usual_checkpoint(state) if self.eviction.eviction in EMBEDDING_RULES else None
            clips = self._index.table([state], False, checkpoint)
            for i in surplus(clips, self.eviction, self.sample_rate):
                self._index.event(clips.hash[i], State.evicted, "", run, round_)
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
        """Record new scores and embeddings of clips, change states, and hold the limits; all or nothing.

        A clip that another process evicted or deleted, or a user decided on, keeps its state.

        Args:
            run, round, checkpoint: of the scores; the checkpoint as the hash of its weights.
            scores, embeddings: by clip.
            moves: new state and reason, by clip.
        """
        with self._index.writing():
            standing = self._index.standing([*scores, *moves])
            self._index.score(run, round, {clip: score for clip, score in scores.items() if clip in standing})
            self._index.embed(checkpoint, {clip: vector for clip, vector in embeddings.items() if clip in standing})
            for clip, (state, why) in moves.items():
                now, decision = standing.get(clip, (State.evicted, Decision.none))
                gone = now is State.evicted or (now is State.retired and not self.path(clip).exists())
                barred = decision is Decision.released and state is State.quarantined
                if not (gone or barred or decision is Decision.rejected):
                    self._index.event(clip, state, why, run, round)
            self._hold(run, round)

    def decide(self, clips: Iterable[str], decision: Decision) -> int:
        """Record the decision of a user: released clips become active, rejected clips retire.

        Returns the number of clips whose state changed. Raises KwsError for an unknown clip, or one to release whose
        file was deleted.
        """
        changed = 0
        with self._index.writing():
            known = self._index.standing()
            for clip in clips:
                if clip not in known:
                    raise KwsError(f"{self.folder}: no clip {clip}")
                if decision is Decision.released and not self.path(clip).exists():
                    raise KwsError(f"{self.folder}: clip {clip} cannot be released, since its file was deleted")
                changed += self._index.decide(clip, decision)
        return changed

    def update(self, hashes: Sequence[str], priority: Sequence[float], times_drawn: Sequence[int]) -> int:
        """Write back priorities after training, all or nothing. Returns the number of clips that are known.

        Args:
            hashes: the clips; unknown ones are skipped.
            priority: latest loss of each clip, at least 0.
            times_drawn: how often training sampled each clip so far.
        """
        for clip, value in zip(hashes, priority, strict=True):
            if not 0 <= value < math.inf:
                raise KwsError(f"priority={value} for clip {clip}: must be finite and at least 0")
        with self._index.writing():
            return self._index.update(hashes, priority, times_drawn)

    def rollback(self, run: str, round: int) -> int:
        """Undo what a run did in the rounds after `round`, then hold the limits, before it begins or resumes.

        A clip that another run found too stays, and a clip that another run evicted stays evicted. An eviction is final
        once `purge` deleted the file. `update` is not undone, since the run writes its checkpoint's values again.
        Returns the number of clips that were removed, came back, or were evicted again.
        """
        with self._index.writing():
            changed = self._index.undo(run, round, lambda clip: self.path(clip).exists())
            # A buffer may come without limits, or another run may have filled the places of clips that come back.
            return changed + len(self._hold(run, round))

    def leftovers(self) -> list[Path]:
        """Unfinished files and files of unknown clips, left by killed processes or being written right now."""
        return storage.needless(self._clips, self._index.standing().keys(), (), 0)

    def purge(
        self, min_age_s: float = 3600, retired: bool = False, on_delete: Callable[[Path], None] = lambda _: None
    ) -> int:
        """Delete the files of evicted clips, and unfinished or unknown files; returns how many. Rows stay.

        Args:
            min_age_s: seconds since the last change of an unfinished or unknown file before it is deleted.
            retired: delete the files of retired clips too.
            on_delete: called with each file before its deletion.
        """
        out = {State.evicted, State.retired} if retired else {State.evicted}
        with self._index.writing():  # so that no process brings such a clip back meanwhile
            standing = self._index.standing()
            unwanted = {clip for clip, (state, _) in standing.items() if state in out}
            needless = storage.needless(self._clips, standing.keys(), unwanted, min_age_s)
            for path in needless:
                on_delete(path)
                path.unlink()
        return len(needless)

    def check(self, progress: Callable[[int], None] = lambda _: None) -> list[str]:
        """Problems, a line each: a broken index, clips of held-out recordings, missing or damaged files.

        `progress` is called before each clip with the number of clips checked.
        """
        problems = self._index.problems() + self._index.leaks()
        for number, row in enumerate(self.rows(None)):
            progress(number)
            try:
                if row.state in (State.evicted, State.retired) and not self.path(row.hash).exists():
                    continue  # purged
                if (n := len(self.audio(row.hash))) != row.n_samples:
                    problems.append(f"{self.path(row.hash)}: {n} samples, must be {row.n_samples} by the index")
            except KwsError as error:
                problems.append(str(error))
        return problems
