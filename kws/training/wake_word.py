"""Training of a wake word: max-pooling loss, replayed hard negatives, validation on streams."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kws.common.seeding import generator
from kws.data.batch import Batch, BatchSampler
from kws.data.batch_plan import BatchPlan
from kws.data.features import LogMel
from kws.data.manifest import Source
from kws.detector import checkpoint
from kws.detector.checkpoint import Checkpoint, ModelSpec
from kws.detector.streaming import ScoreTrack
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.validation import ValidationCounts, ValidationScores, ValidationStreams
from kws.models.registry import KeywordNet
from kws.replay.sampler import importance_exponent_at
from kws.replay.schedule import Schedule, ScheduleConfig, share_at, steered, stochastic_round
from kws.replay.snapshot import Contents, Snapshot
from kws.training.distributed import Distributed
from kws.training.hard_negatives import HardExample, HardNegativeMiner
from kws.training.loss import max_pooling_loss, plain_loss
from kws.training.metrics import Log, ShareMetrics, StepMetrics, ValidationMetrics, summary
from kws.training.optim import ValidatedWeights, keep_best


@dataclass(frozen=True)
class WakeWordConfig:
    """Settings of the task; see conf/optim, conf/batch, conf/replay and conf/mining."""

    seed: int
    steps: int
    batch_size: int
    positive_share: float
    focal_gamma: float
    label_smoothing: float
    negative_weight: float
    best_n: int  # validated weights that are averaged in the end; 0: the moving average is kept
    early_n: int  # rows
    late_n: int  # rows
    schedule: ScheduleConfig
    importance_exponent: float | None
    mining_steps: tuple[int, ...]
    replay_from: int  # step from which the buffer is replayed
    validate_every: int | None  # steps
    batch_mining_every: int  # steps between two rounds that keep hard negatives of the batches; 0: none
    batch_mining_clips: int  # a round
    quarantine_above: float | None  # share of the median score of the validation positives
    at_fa_per_hour: float  # of the validation


@dataclass(frozen=True)
class WakeWordPlan:
    """One batch as numbers: keywords, then fresh negatives, then replayed clips.

    Args:
        step: of the run.
        batch: see `BatchPlan`.
        importance: weights of the replayed clips in the objective. Shape: [R].
        share: of the replayed clips, as scheduled.
    """

    step: int
    batch: BatchPlan
    importance: Tensor
    share: float

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def negatives(self) -> slice:
        """Rows of the fresh negatives."""
        n = len(self.batch.keywords)
        return slice(n, n + len(self.batch.fresh))


@dataclass(frozen=True)
class Rendered:
    """Some rows of a batch.

    Args:
        rows: their places in the batch. Shape: [B].
        weight: of each in the objective, divided by the rows of the whole batch. Shape: [B].
        audio: see `Batch`.
        x: features. Shape: [B, M, N].
    """

    rows: Tensor
    weight: Tensor
    audio: Batch
    x: Tensor


class Validator:
    """Scores of the averaged model on the validation streams, computed at most once per step.

    Args:
        spec: of the net.
        make_streams: composes the streams; called when they are first needed.
    """

    def __init__(self, spec: ModelSpec, make_streams: Callable[[], ValidationStreams]) -> None:
        self.spec, self._make_streams = spec, make_streams
        self._streams: ValidationStreams | None = None
        self._step = -1
        self._positives: dict[str, ScoreTrack] | None = None
        self._tracks: ValidationScores | None = None

    @property
    def streams(self) -> ValidationStreams:
        """The validation streams."""
        if self._streams is None:
            self._streams = self._make_streams()
        return self._streams

    def counts(self, weights: Mapping[str, Tensor], step: int, at_score: float) -> ValidationCounts:
        """False alarms and misses at a score, over all keywords; `step` names the weights."""
        return self.streams.count(self._scores(weights, step), at_score)

    def points(self, weights: Mapping[str, Tensor], step: int, fa_per_hour: float) -> dict[str, OperatingPoint]:
        """The operating point of each keyword at a rate of false alarms."""
        return self.streams.operating_points(self._scores(weights, step), fa_per_hour)

    def median_peaks(self, weights: Mapping[str, Tensor], step: int) -> dict[str, float]:
        """Median score of the positives of each keyword."""
        return self.streams.median_peaks(self._positive_scores(weights, step))

    def _positive_scores(self, weights: Mapping[str, Tensor], step: int) -> dict[str, ScoreTrack]:
        if self._step != step:
            self._step, self._positives, self._tracks = step, None, None
        if self._positives is None:
            self._positives = self.streams.score_positives(self._detector(weights))
        return self._positives

    def _scores(self, weights: Mapping[str, Tensor], step: int) -> ValidationScores:
        positives = self._positive_scores(weights, step)
        if self._tracks is None:
            self._tracks = self.streams.score(self._detector(weights), positives)
        return self._tracks

    def _detector(self, weights: Mapping[str, Tensor]) -> Any:
        return self.spec.detector({k: v.cpu() for k, v in weights.items()})


class WakeWordTask:
    """Detection of keywords in a stream; a `Task` for any number of ranks.

    Args:
        config: settings.
        spec, front_end: of the net; the front end is on the device.
        sampler: fresh training batches.
        dist: the processes that train together.
        validator: used on rank 0.
        miner: of rank 0; None on the others.
        receive: builds the snapshot of another rank from its contents.
        checkpoints: folder for the model of each mining round.
        held_out: recordings that nobody may mine with these models.
    """

    max_grad_norm: float | None = 5.0

    def __init__(
        self,
        config: WakeWordConfig,
        spec: ModelSpec,
        front_end: LogMel,
        sampler: BatchSampler,
        dist: Distributed,
        validator: Validator,
        miner: HardNegativeMiner | None,
        receive: Callable[[Contents], Snapshot],
        checkpoints: Path,
        held_out: list[Source],
    ) -> None:
        self.config, self.spec, self.front_end, self.sampler = config, spec, front_end, sampler
        self.dist, self.validator, self._miner, self._receive = dist, validator, miner, receive
        self.checkpoints, self.held_out = checkpoints, held_out
        self.rounds, self.share, self.replay_from = 0, config.schedule.share, config.replay_from
        self.best: list[ValidatedWeights] = []
        self.hard: list[HardExample] = []

    @property
    def miner(self) -> HardNegativeMiner:
        """The miner of rank 0."""
        assert self._miner is not None
        return self._miner

    def setup(self, net: KeywordNet, dist: Distributed, compile: bool) -> nn.Module:
        """See `Task`."""
        self.net = net
        return dist.setup(net, compile)

    def start(self, state: Mapping[str, Any] | None) -> None:
        """See `Task`. What a killed run did to the buffer after its state is rolled back."""
        if state is None:
            self.replay = self._replicate(lambda: self.miner.snapshot(None))
            if len(self.replay):  # clips of earlier runs are replayed from the first step
                self.replay_from = 0
            return
        self.rounds, self.replay_from, self.share = state["rounds"], state["replay_from"], state["share"]
        self.best = [ValidatedWeights(**one) for one in state["best"]]
        self.hard = [HardExample(**one) for one in state["hard"]]

        def resumed() -> Snapshot:
            if self.config.mining_steps or self.config.batch_mining_every:
                self.miner.buffer.rollback(self.miner.run, self.rounds)
            return self.miner.snapshot(state["replay"])

        self.replay = self._replicate(resumed)

    def state(self) -> dict[str, Any]:
        """See `Task`."""
        return {
            "rounds": self.rounds,
            "replay_from": self.replay_from,
            "share": self.share,
            "best": [vars(one) for one in self.best],
            "hard": [asdict(one) for one in self.hard],
            "replay": self.replay.state(),
        }

    def _replicate(self, take: Callable[[], Snapshot]) -> Snapshot:
        """Take a snapshot of the buffer on rank 0; the other ranks build the same from its contents."""
        taken: list[Snapshot] = []

        def contents() -> Contents:
            taken.append(take())
            return taken[0].contents()

        received = self.dist.on_main(contents)
        return taken[0] if taken else self._receive(received)

    def _due(self, step: int) -> list[bool]:
        """Rounds up to a step in their order: True mines the pool, False keeps hard negatives of the batches alone."""
        c, every = self.config, self.config.batch_mining_every
        begun = range(self.replay_from + every, step + 1, every) if every else ()
        steps = [(s, True) for s in c.mining_steps if s <= step] + [(s, False) for s in begun]
        return [pool for _, pool in sorted(steps, key=lambda at: (at[0], not at[1]))]

    def mining_due(self, step: int) -> bool:
        """See `Task`."""
        return self.rounds < len(self._due(step))

    def mine(self, weights: Mapping[str, Tensor], step: int) -> None:
        """See `Task`."""
        from_pool, round_ = self._due(step)[self.rounds], self.rounds + 1

        def fill() -> Snapshot:
            self.replay.write_back(self.miner.buffer)
            model = self._round_model(weights, round_)
            above: dict[str, float] = {}
            if (share := self.config.quarantine_above) is not None:
                above = {k: share * score for k, score in self.validator.median_peaks(weights, step).items()}
            return self.miner.fill(model, round_, from_pool, self.hard, above)

        self.replay = self._replicate(fill)
        self.rounds, self.hard = round_, []

    def _round_model(self, weights: Mapping[str, Tensor], round_: int) -> Checkpoint:
        """The averaged weights, kept so that each clip can be scored again by the model that found it."""
        file = self.checkpoints / f"round-{round_}.pt"
        state, thresholds = {k: v.cpu() for k, v in weights.items()}, [0.5] * len(self.spec.labels)
        checkpoint.write_model(file, self.spec, state, thresholds, {"round": round_}, self.held_out)
        return checkpoint.read_model(file)

    def sample(self, step: int) -> WakeWordPlan:
        """See `Task`."""
        c = self.config
        share = share_at(step, self.replay_from, self.share, c.schedule)
        n_positive = stochastic_round(c.positive_share * c.batch_size, generator(c.seed, "positives", step))
        n_positive = max(1, n_positive)
        n_replayed = stochastic_round(share * c.batch_size, generator(c.seed, "share", step))
        exponent = c.importance_exponent
        if exponent is not None:
            exponent = importance_exponent_at(step, self.replay_from, c.steps - 1, exponent)
        replayed, importance = self.replay.sample(n_replayed, exponent or 0.0, generator(c.seed, "replay", step))
        n_fresh = max(0, c.batch_size - n_positive - len(replayed))
        rng = generator(c.seed, "batch", step)
        return WakeWordPlan(
            step, self.sampler.sample(n_positive, n_fresh, self.replay.bank, replayed, rng), importance, share
        )

    def render(self, plan: WakeWordPlan, rows: Tensor) -> Rendered:
        """See `Task`."""
        n, fresh = len(plan), plan.negatives
        weight = torch.full((n,), self.config.negative_weight)
        weight[: fresh.start] = 1.0
        weight[fresh.stop :] *= plan.importance
        audio = self.sampler.render(plan.batch.rows(rows), self.replay.bank)
        x = self.front_end.clips(audio.pcm, self.front_end.hop_n * self.net.stride)
        x = self.sampler.augment_features(x, rows, n, generator(self.config.seed, "masks", plan.step))
        return Rendered(rows, weight, audio, x)

    def loss(self, model: nn.Module, batch: Rendered) -> tuple[Tensor, Tensor]:
        """See `Task`. Losses are the objective of each row, and its plain loss by keyword. Shape: [B, 1 + K]."""
        c, spec, audio = self.config, self.spec, batch.audio
        logits, _ = model(batch.x, self.net.initial_cache(len(batch.x)))
        row_n = self.front_end.hop_n * self.net.stride
        begin, end = (audio.start / row_n).floor().long(), (audio.end / row_n).floor().long()
        loss, other = max_pooling_loss(
            logits, audio.target, begin, end, c.early_n, c.late_n, spec.smooth_n, spec.smooth_k, c.focal_gamma,
            c.label_smoothing,
        )  # fmt: skip
        own, weight = loss.sum(1), batch.weight[batch.rows].to(loss.device)
        # Replay priorities and hard-example mining use the plain loss, not the training objective.
        return (own * weight).sum() / len(batch.weight), torch.cat([own[:, None], plain_loss(other)], 1)

    def after_step(self, plan: WakeWordPlan, batch: Rendered, losses: Tensor, lr: float) -> StepMetrics:
        """See `Task`. Updates the priorities of the replayed clips."""
        own, plain, fresh = losses[:, 0].contiguous(), losses[:, 1:].contiguous(), plan.negatives
        self.replay.set_priorities(plan.batch.replayed.index, plain.sum(1)[fresh.stop :])
        if self.config.batch_mining_every and plan.step >= self.replay_from:
            self._keep_hardest(plan, batch, plain)
        return StepMetrics(
            plan.step,
            float((own * batch.weight).sum() / len(plan)),
            mean(own[: fresh.start]),
            mean(own[fresh]),
            mean(own[fresh.stop :]),
            plan.share,
            len(plan.importance),
            len(plan),
            len(self.replay),
            lr,
        )

    def _keep_hardest(self, plan: WakeWordPlan, batch: Rendered, plain: Tensor) -> None:
        """Keep the hardest fresh negatives since the last round, one of each recording.

        Online hard example mining (Shrivastava et al., 2016), kept for later batches.
        """
        audio, fresh, rows = batch.audio, plan.negatives, batch.rows
        local = ((rows >= fresh.start) & (rows < fresh.stop)).nonzero().flatten()
        worst, column = plain[rows[local]].max(1)
        limit = self.config.batch_mining_clips
        floor = self.hard[-1].loss if len(self.hard) >= limit else 0.0
        found = []
        for i in (worst > floor).nonzero().flatten().tolist():
            pcm = (audio.pcm[local[i]] * 32768.0).round().clamp(-32768, 32767).to(torch.int16).cpu()
            of = int(audio.index[i]), int(audio.offset[i]), float(audio.speed[i]), int(audio.noise[local[i]])
            found.append((int(rows[local[i]]), HardExample(pcm, int(column[i]), *of, float(worst[i]))))
        self.hard += [one for _, one in sorted(self.dist.all_gather(found), key=lambda at: at[0])]
        self.hard.sort(key=lambda one: -one.loss)
        best = {one.index: one for one in reversed(self.hard)}
        self.hard = sorted(best.values(), key=lambda one: -one.loss)[:limit]

    def validate(self, weights: Mapping[str, Tensor], step: int, log: Log) -> None:
        """See `Task`. Steers an adaptive share, reports misses, keeps the best weights."""
        self._steer(weights, step, log)
        c, done = self.config, step + 1
        if c.validate_every is None or (done % c.validate_every and done != c.steps):
            return
        points = self.dist.on_main(lambda: self.validator.points(weights, done, c.at_fa_per_hour))
        rows = [ValidationMetrics.of(step, keyword, point) for keyword, point in points.items()]
        log.validation(rows, summary(rows))
        if c.best_n:
            self.best = keep_best(self.best, ValidatedWeights.of(step, points, weights), c.best_n)

    def _steer(self, weights: Mapping[str, Tensor], step: int, log: Log) -> None:
        """Steer an adaptive share where that is due."""
        c = self.config
        # The first decision follows the first mining round, in a buffer of earlier runs too: a net that has just begun
        # misses everything.
        since = step + 1 - max(self.replay_from, c.replay_from)
        if c.schedule.schedule is not Schedule.adaptive or not c.schedule.share or since <= 0:
            return
        if since % c.schedule.steer_every:
            return
        seen = self.dist.on_main(lambda: self.validator.counts(weights, step + 1, c.schedule.steer_at_score))
        before = self.share
        self.share, reason = steered(before, seen, c.schedule)
        log.share(
            ShareMetrics(step, before, self.share, seen.false_alarms, seen.hours, seen.misses, seen.events, reason)
        )


def mean(x: Tensor) -> float:
    """The mean; 0 of nothing."""
    return float(x.detach().mean()) if len(x) else 0.0
