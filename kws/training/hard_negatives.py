"""Hard-negative mining in a run: refresh the replay buffer, mine the pool, add the hardest negatives of the batches."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kws.common.console import Console
from kws.common.text import plural
from kws.data.audio import to_int16
from kws.data.audio_cache import AudioCache, Entry
from kws.data.dataset import Selection
from kws.data.manifest import Source, Split
from kws.detector.checkpoint import Checkpoint, ModelSpec
from kws.detector.clip_scores import score_clips
from kws.replay.buffer import Buffer, Kind, NewClip
from kws.replay.config import ReplayConfig
from kws.replay.mining import Nearness, embedded, mine, nearness
from kws.replay.mining_streams import MiningConfig, no_nearness, pool_streams
from kws.replay.refresh import refresh
from kws.replay.snapshot import Snapshot
from kws.replay.sources import others_of, source_of


@dataclass(frozen=True)
class HardExample:
    """A fresh negative of a training batch with a high loss.

    Args:
        pcm: augmented audio, int16 [T].
        column: of the keyword with the highest loss.
        index, offset, speed, noise: see `Batch`.
        loss: plain cross-entropy of that keyword.
    """

    pcm: Tensor
    column: int
    index: int
    offset: int
    speed: float
    noise: int
    loss: float


@dataclass(eq=False)
class HardNegativeMiner:
    """Fills the replay buffer of a run; works on rank 0.

    Args:
        mining, replay: settings.
        seed: of the run.
        gap_s: seconds of noise after each recording of the pool.
        spec: of the net.
        store, chosen: audio and roles of the recordings.
        bank_entries: entry of the store of each clip of the training bank.
        keywords: returns a clip of each training keyword, for the nearest neighbours. Shape: [P, T].
        buffer: to fill.
        console: for messages.
        run: id of the run.
        device: of the replayed audio.
    """

    mining: MiningConfig
    replay: ReplayConfig
    seed: int
    gap_s: float
    spec: ModelSpec
    store: AudioCache
    chosen: Selection
    bank_entries: Sequence[int]
    keywords: Callable[[], Tensor]
    buffer: Buffer
    console: Console
    run: str
    device: torch.device

    def snapshot(self, state: Mapping[str, Any] | None = None) -> Snapshot:
        """The clips that this run may replay: none of a recording that is a keyword here. See `Snapshot`."""
        spoken = with_keyword(self.store.entries, self.chosen)
        made = Snapshot.of(self.buffer, self.spec.clip_n, self.device, self.replay, state, spoken, self.spec.labels)
        if made.gone:
            self.console.warn(
                f"{self.buffer.folder}: resumes without {plural(made.gone, 'clip')} that left the buffer meanwhile"
            )
        return made

    def fill(
        self,
        model: Checkpoint,
        round_: int,
        from_pool: bool,
        hard: Sequence[HardExample],
        quarantine_above: Mapping[str, float],
    ) -> Snapshot:
        """One mining round.

        Args:
            model: the detector that mines; its hash is recorded with each clip.
            round_: number of the round, from 1.
            from_pool: mine the pool as well.
            hard: negatives of the batches with the highest losses.
            quarantine_above: score of each keyword from which a clip is quarantined; a missing keyword has no limit.
        """
        model.detector.to(self.device)
        aged = refresh(
            self.buffer, model.detector, model.hash, self.replay, self.mining.min_score, self.seed, quarantine_above,
            self.run, round_,
        )  # fmt: skip
        if aged.scored:
            self.console.say(
                f"round {round_}: {plural(aged.scored, 'clip')} of the buffer scored by the new weights: "
                f"{aged.retired} retired, {aged.returned} active again, "
                f"{aged.quarantined} to quarantine, {aged.released} released"
            )
        found = self._mine_pool(model, round_) if from_pool else []
        found += self._hard_clips(model, round_, hard)
        added = self.buffer.add(embedded(found, model.detector), quarantine_above, self.spec.labels)
        kinds = Counter(str(one.kind) for one in found)
        listed = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "nothing"
        self.console.say(
            f"round {round_}: {listed} found, {len(added.new)} new in the buffer, {added.near} near-duplicates, "
            f"{len(added.quarantined)} to quarantine, {len(added.evicted)} evicted"
        )
        return self.snapshot()

    def _mine_pool(self, model: Checkpoint, round_: int) -> list[NewClip]:
        config, clip_n = self.mining, self.spec.clip_n
        near: Nearness = no_nearness
        if config.neighbours_per_hour:
            near = nearness(model.detector, [to_int16(one.cpu().numpy()) for one in self.keywords()])
        with self.console.progress(f"Mining, round {round_}", config.passes, "passes") as tick:
            streams = pool_streams(
                model.detector, self.store, self.chosen.pool, self.chosen.noise[Split.TRAIN], config, self.seed,
                self.gap_s, clip_n, round_, near, tick,
            )  # fmt: skip
            found = mine(streams, model.detector, config, clip_n, model.hash, self.run, round_)
            return [clip for some in found for clip in some]

    def _hard_clips(self, model: Checkpoint, round_: int, hard: Sequence[HardExample]) -> list[NewClip]:
        """The hard examples that score above mining.min_score with the averaged weights, with their sources."""
        pcm = [one.pcm.numpy() for one in hard]
        scores, _ = score_clips(model.detector, pcm)
        found = []
        for one, clip, line in zip(hard, pcm, scores, strict=True):
            entry = self.store.entries[self.bank_entries[one.index]]
            score = float(line[one.column])
            if score < self.mining.min_score:
                continue
            beneath = [] if one.noise < 0 else [self.store.entries[self.bank_entries[one.noise]]]
            found.append(
                NewClip(
                    pcm=clip,
                    kind=Kind.batch_hard,
                    keyword=self.spec.labels[one.column],
                    source=source_of(entry),
                    offset_s=one.offset / self.store.sample_rate,
                    score=score,
                    checkpoint=model.hash,
                    run=self.run,
                    round=round_,
                    text=entry.recording.text,
                    mixed_with=others_of([entry, *beneath], entry),
                    mix={"speed": one.speed},
                )
            )
        return found


def with_keyword(entries: Sequence[Entry], chosen: Selection) -> dict[str, set[str]]:
    """Hashes of the recordings that contain a keyword, or may: no clip of them is replayed.

    So is a file of which a stretch contains one, since `kws mine` may have found clips in the whole file. With it come
    the hashes of its stretches that are negatives, whose clips are replayed.
    """
    kept_out = [i for lists in chosen.positives.values() for one in lists for i in one]
    kept_out += [*chosen.spoken, *chosen.ambiguous, *(one.index for one in chosen.doubtful)]
    found = {hash_: set[str]() for i in kept_out for hash_ in (entries[i].hash, entries[i].whole) if hash_}
    for i in [*chosen.pool, *chosen.speech[Split.TRAIN]]:
        if entries[i].whole in found:
            found[entries[i].whole].add(entries[i].hash)
    return found


def held_out_sources(store: AudioCache) -> list[Source]:
    """The validation and test recordings, which must never be trained on.

    A recording that is cut in time is held out as a whole too: another run, or `kws mine`, may read the whole file.
    """
    held_out = [e for e in store.entries if e.recording.split is not Split.TRAIN]
    return [source_of(e) for e in held_out] + [source_of(replace(e, hash=e.whole)) for e in held_out if e.whole]
