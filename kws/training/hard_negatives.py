"""What a run brings into its buffer, round by round, and what it looks at on the validation streams meanwhile."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kws.common.console import Console
from kws.data.audio import to_int16
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.manifest import Source, Split
from kws.detector import checkpoint
from kws.detector.checkpoint import Checkpoint, ModelSpec
from kws.detector.clip_scores import score_clips
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.validation import ValidationCounts, ValidationScores, ValidationStreams
from kws.replay.buffer import Added, Buffer, Kind, NewClip
from kws.replay.mining import Nearness, embedded, mine, nearness
from kws.replay.mining_streams import MiningConfig, no_nearness, pool_streams, source_of
from kws.replay.refresh import Ageing, age
from kws.replay.snapshot import Drawing, Snapshot
from kws.training.trainer import Hard, Trainer


@dataclass(frozen=True)
class Policy:
    """The numbers of a harvest; see conf/replay and conf/mining for what each does."""

    mining: MiningConfig
    seed: int
    gap_s: float  # of noise after each recording of the pool
    ageing: Ageing
    drawing: Drawing
    quarantine: float | None  # share of the held-out positives' median score from which a clip is suspect
    at_score: float  # from which a score counts as an alarm, or a keyword as heard, when the share is steered
    at_fa_per_hour: float  # for which the validation streams are counted


class HardNegativeMiner:
    """Fills the buffer of a run; what a `Trainer` asks for.

    Args:
        policy: the numbers.
        recipe: the net.
        store, chosen: the sound and the roles of the recordings.
        bank_entries: which entry of the store each clip of the training bank is.
        buffer: what is filled.
        held_out: makes the validation streams when they are first needed.
        console: where the run speaks.
        out: the run folder.
        run: its id.
        device: where replayed sound goes.
    """

    def __init__(
        self,
        policy: Policy,
        recipe: ModelSpec,
        store: AudioCache,
        chosen: Selection,
        bank_entries: Sequence[int],
        buffer: Buffer,
        held_out: Callable[[], ValidationStreams],
        console: Console,
        out: Path,
        run: str,
        device: torch.device,
    ) -> None:
        self.policy, self.recipe, self.store, self.chosen = policy, recipe, store, chosen
        self.bank_entries, self.buffer, self._make_held_out = bank_entries, buffer, held_out
        self.console, self.out, self.run, self.device = console, out, run, device
        self.min_score = policy.mining.min_score
        self._last: tuple[int, ValidationScores] | None = None  # last scores, and their step

    @cached_property
    def held_out(self) -> ValidationStreams:
        """The validation streams."""
        return self._make_held_out()

    def snapshot(self, state: Mapping[str, Any] | None = None) -> Snapshot:
        """The buffer as this run may replay it: without clips of recordings that are keywords here."""
        entries, chosen = self.store.entries, self.chosen
        spoken = {entries[i].hash for lists in chosen.positives.values() for one in lists for i in one}
        spoken |= {entries[i].hash for i in chosen.spoken}
        made = Snapshot(
            self.buffer, self.recipe.clip_n, self.device, self.policy.drawing, state, spoken, self.recipe.labels
        )
        if made.gone:
            self.console.warn(
                f"{self.buffer.folder}: {made.gone} clips are no longer active since the run stopped: on without"
            )
        return made

    def observe(self, trainer: Trainer) -> ValidationCounts:
        """What the averaged weights do on the validation streams at `policy.at_score`."""
        return self.held_out.count(self._heard(trainer), self.policy.at_score)

    def validate(self, trainer: Trainer) -> Mapping[str, OperatingPoint]:
        """What they do there for each keyword at `policy.at_fa_per_hour`."""
        return self.held_out.operating_points(self._heard(trainer), self.policy.at_fa_per_hour)

    def _heard(self, trainer: Trainer) -> ValidationScores:
        """The validation streams as the averaged weights hear them: once a step, whoever asks."""
        if self._last is None or self._last[0] != trainer.step:
            detector = self.recipe.detector({k: v.cpu() for k, v in trainer.average.items()})
            self._last = trainer.step, self.held_out.score(detector)
        return self._last[1]

    def fill(self, trainer: Trainer, round_: int, pool: bool, hard: Sequence[Hard]) -> Snapshot:
        """One round: the buffer heard again, the pool mined, if `pool`, then what was hard in the batches."""
        trainer.replay.write_back(self.buffer)
        model = self._model(trainer, round_)
        suspect = self._suspect_from(model)
        aged = age(self.buffer, model.detector, model.hash, self.policy.ageing, suspect, self.run, round_)
        if aged.heard:
            self.console.say(
                f"round {round_}: {aged.heard} clips heard again, {aged.retired} solved and retired, "
                f"{aged.returned} forgotten and back, {aged.quarantined} to quarantine, {aged.released} out of it"
            )
        found = [*(self._mined(trainer, model, round_) if pool else ()), *self._hard(model, round_, hard)]
        added = self.buffer.add(embedded(found, model.detector), suspect, self.recipe.labels)
        self._say(round_, found, added)
        return self.snapshot()

    def _model(self, trainer: Trainer, round_: int) -> Checkpoint:
        """The averaged weights as a checkpoint, kept so that a clip can be heard again by the model that found it."""
        weights = {k: v.cpu() for k, v in trainer.average.items()}
        file = self.out / "checkpoints" / f"round-{round_}.pt"
        held = held_out_sources(self.store)
        thresholds = [0.5] * len(self.recipe.labels)
        checkpoint.write_model(file, self.recipe, weights, thresholds, {"round": round_}, held)
        return checkpoint.read_model(file)

    def _suspect_from(self, model: Checkpoint) -> dict[str, float]:
        share = self.policy.quarantine
        if share is None:
            return {}
        return {keyword: share * score for keyword, score in self.held_out.median_peaks(model.detector).items()}

    def _mined(self, trainer: Trainer, model: Checkpoint, round_: int) -> list[NewClip]:
        config, clip_n = self.policy.mining, self.recipe.clip_n
        near = self._near(trainer, model) if config.neighbours_per_hour else no_nearness
        with self.console.progress(f"Mining, round {round_}", config.passes) as tick:
            streams = pool_streams(
                model.detector,
                self.store,
                self.chosen.pool,
                self.chosen.noise[Split.TRAIN],
                config,
                self.policy.seed,
                self.policy.gap_s,
                clip_n,
                round_,
                near,
                tick,
            )
            found = mine(streams, model.detector, config, clip_n, model.hash, self.run, round_)
            return [clip for some in found for clip in some]

    def _near(self, trainer: Trainer, model: Checkpoint) -> Nearness:
        keywords = [to_int16(one.cpu().numpy()) for one in trainer.drawer.plain_keywords()]
        return nearness(model.detector, keywords)

    def _hard(self, model: Checkpoint, round_: int, hard: Sequence[Hard]) -> list[NewClip]:
        """What was hard in the batches and is so for the averaged weights, with where it came from."""
        pcm = [one.pcm.numpy() for one in hard]
        scores, _ = score_clips(model.detector, pcm)
        found = []
        for one, sound, line in zip(hard, pcm, scores, strict=True):
            entry = self.store.entries[self.bank_entries[one.index]]
            score = float(line[one.column])
            if score < self.min_score:
                continue
            beneath = [] if one.noise < 0 else [source_of(self.store.entries[self.bank_entries[one.noise]])]
            found.append(
                NewClip(
                    pcm=sound,
                    kind=Kind.BATCH_HARD,
                    keyword=self.recipe.labels[one.column],
                    source=source_of(entry),
                    offset_s=one.offset / self.store.sample_rate,
                    score=score,
                    checkpoint=model.hash,
                    run=self.run,
                    round=round_,
                    text=entry.recording.text,
                    mixed_with=tuple(s for s in beneath if s.hash != entry.hash),
                    mix={"speed": one.speed},
                )
            )
        return found

    def _say(self, round_: int, found: Sequence[NewClip], added: Added) -> None:
        kinds: dict[str, int] = {}
        for one in found:
            kinds[one.kind] = kinds.get(one.kind, 0) + 1
        listed = ", ".join(f"{n} {kind}" for kind, n in kinds.items()) or "nothing"
        self.console.say(
            f"round {round_}: {listed} found, {len(added.new)} new in the buffer, {added.near} repeat others, "
            f"{len(added.quarantined)} to quarantine, {len(added.evicted)} evicted"
        )


def held_out_sources(store: AudioCache) -> list[Source]:
    """The recordings that may never train."""
    return [source_of(e) for e in store.entries if e.recording.split is not Split.TRAIN]
