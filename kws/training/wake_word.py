"""Training of a wake word: max-pooling loss, replayed hard negatives, validation on streams."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kws.common.errors import KwsError
from kws.common.seeding import generator
from kws.data.batch import Batch, BatchConfig, BatchSampler
from kws.data.batch_plan import BatchPlan
from kws.data.features import LogMel
from kws.data.manifest import Source
from kws.detector import checkpoint
from kws.detector.checkpoint import Checkpoint, ModelSpec, weights_hash
from kws.models.registry import KeywordNet
from kws.replay.config import ReplayConfig
from kws.replay.mining_streams import MiningConfig
from kws.replay.quarantine import limits
from kws.replay.sampler import importance_exponent_at
from kws.replay.schedule import Schedule, share_at, steered, stochastic_round
from kws.replay.snapshot import Contents, Snapshot
from kws.training.distributed import Distributed
from kws.training.hard_negatives import HardExample, HardNegativeMiner
from kws.training.loss import max_pooling_loss, plain_loss
from kws.training.metrics import MetricsLog, ShareMetrics, StepMetrics, ValidationMetrics, summary
from kws.training.optim import Average, OptimConfig, ValidatedWeights, keep_best
from kws.training.trainer import Task
from kws.training.validation import Validator


@dataclass(frozen=True)
class WakeWordConfig:
    """Settings of the task.

    Args:
        seed: of the run.
        optim, batch, replay, mining: groups of the settings.
        validate_every: steps between two validations; None: none.
        at_fa_per_hour: false-alarm rate at which the misses of the validation are counted.
    """

    seed: int
    optim: OptimConfig
    batch: BatchConfig
    replay: ReplayConfig
    mining: MiningConfig
    validate_every: int | None
    at_fa_per_hour: float

    @property
    def mining_steps(self) -> list[int]:
        """Steps before which the pool is mined."""
        return self.mining.at_steps(self.optim.steps)

    @property
    def replay_from(self) -> int:
        """Step from which the buffer is replayed."""
        return round(self.mining.first_at * self.optim.steps)


@dataclass(frozen=True)
class WakeWordPlan:
    """One batch as numbers: keywords, then fresh negatives, then replayed clips.

    Args:
        step: of the run.
        batch: see `BatchPlan`.
        importance: weights of the replayed clips in the objective. Shape: [R].
        share: scheduled share of the replayed clips.
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


@dataclass(eq=False)
class WakeWordTask(Task):
    """Detection of keywords in a stream; a `Task` for any number of ranks.

    Args:
        config: settings.
        spec, front_end: of the net; the front end is on the device.
        sampler: samples and renders training batches.
        validator: used on rank 0.
        rank0_miner: None on the other ranks.
        receive: builds the snapshot of another rank from its contents.
        checkpoints: folder for the model of each mining round.
        held_out: recordings that no buffer may take in with these models.
    """

    max_grad_norm = 5.0

    config: WakeWordConfig
    spec: ModelSpec
    front_end: LogMel
    sampler: BatchSampler
    validator: Validator
    rank0_miner: HardNegativeMiner | None
    receive: Callable[[Contents], Snapshot]
    checkpoints: Path
    held_out: list[Source]

    def __post_init__(self) -> None:
        self.rooms = None if self.sampler.rooms is None else weights_hash({"rooms": self.sampler.rooms})
        self.rounds, self.share, self.replay_from = 0, self.config.replay.share, self.config.replay_from
        self.batch_mining_every = self.config.replay.batch_mining_every if self.config.replay.batch_mining else 0
        self.best: list[ValidatedWeights] = []
        self.hard: list[HardExample] = []

    @property
    def miner(self) -> HardNegativeMiner:
        """The miner of rank 0."""
        assert self.rank0_miner is not None
        return self.rank0_miner

    def setup(self, net: KeywordNet, dist: Distributed, compile: bool) -> nn.Module:
        """See `Task`."""
        self.net, self.dist = net, dist
        return dist.setup(net, compile)

    def start(self, state: Mapping[str, Any] | None) -> None:
        """See `Task`. What a killed run did to the buffer after its state is rolled back.

        Raises:
            KwsError: the impulse responses of rooms have changed.
        """
        if state is None:
            self.replay = self._replicate(lambda: self._snapshot(None))
            if len(self.replay):  # clips of earlier runs are replayed from the first step
                self.replay_from = 0
            return
        if state.get("rooms") != self.rooms:
            raise KwsError("augment.rooms: the rooms changed since this run began; give another out")
        self.rounds, self.replay_from, self.share = state["rounds"], state["replay_from"], state["share"]
        self.best = [ValidatedWeights(**one) for one in state["best"]]
        self.hard = [HardExample(**one) for one in state["hard"]]
        self.replay = self._replicate(lambda: self._snapshot(state["replay"]))

    def _snapshot(self, state: Mapping[str, Any] | None) -> Snapshot:
        """The clips to replay from the first step of a run, or as it resumes; a run that mines holds its limits."""
        if self.config.mining.rounds or self.batch_mining_every:
            self.miner.buffer.rollback(self.miner.run, self.rounds)
        return self.miner.snapshot(state)

    def state(self) -> dict[str, Any]:
        """See `Task`."""
        return {
            "rounds": self.rounds,
            "replay_from": self.replay_from,
            "share": self.share,
            "best": [vars(one) for one in self.best],
            "hard": [asdict(one) for one in self.hard],
            "replay": self.replay.state(),
            "rooms": self.rooms,
        }

    def _replicate(self, take: Callable[[], Snapshot]) -> Snapshot:
        """Take a snapshot of the buffer on rank 0; the other ranks build the same from its contents."""
        taken: list[Snapshot] = []

        def contents() -> Contents:
            taken.append(take())
            return taken[0].contents()

        received = self.dist.on_main(contents)
        return taken[0] if taken else self.receive(received)

    def _due(self, step: int) -> list[bool]:
        """Rounds up to a step in their order: True mines the pool, False keeps hard negatives of the batches alone."""
        every = self.batch_mining_every
        begun = range(self.replay_from + every, step + 1, every) if every else ()
        steps = [(s, True) for s in self.config.mining_steps if s <= step] + [(s, False) for s in begun]
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
            share = self.config.replay.quarantine_above
            above = {} if share is None else limits(self.validator.median_peaks(weights, step), share)
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
        c, size = self.config, self.config.batch.size
        share = share_at(step, self.replay_from, self.share, c.replay)
        n_positive = stochastic_round(c.batch.positive_share * size, generator(c.seed, "positives", step))
        n_positive = max(1, n_positive)
        n_replayed = stochastic_round(share * size, generator(c.seed, "share", step))
        exponent = c.replay.importance_exponent
        if exponent is not None:
            exponent = importance_exponent_at(step, self.replay_from, c.optim.steps - 1, exponent)
        replayed, importance = self.replay.sample(n_replayed, exponent, generator(c.seed, "replay", step))
        n_fresh = max(0, size - n_positive - len(replayed))
        rng = generator(c.seed, "batch", step)
        return WakeWordPlan(
            step, self.sampler.sample(n_positive, n_fresh, self.replay.bank, replayed, rng), importance, share
        )

    def render(self, plan: WakeWordPlan, rows: Tensor) -> Rendered:
        """See `Task`."""
        n, fresh = len(plan), plan.negatives
        weight = torch.full((n,), self.config.optim.negative_weight)
        weight[: fresh.start] = 1.0
        weight[fresh.stop :] *= plan.importance
        audio = self.sampler.render(plan.batch.rows(rows), self.replay.bank)
        x = self.front_end.clips(audio.pcm, self.front_end.hop_n * self.net.stride)
        x = self.sampler.augment_features(x, rows, n, generator(self.config.seed, "masks", plan.step))
        return Rendered(rows, weight, audio, x)

    def loss(self, model: nn.Module, batch: Rendered) -> tuple[Tensor, Tensor]:
        """See `Task`. Losses of each row: the objective, its gradient, plain losses by keyword. Shape: [B, 2 + K]."""
        o, spec, audio = self.config.optim, self.spec, batch.audio
        logits, _ = model(batch.x, self.net.initial_cache(len(batch.x)))
        row_n, row_s = self.front_end.hop_n * self.net.stride, spec.hop_s * self.net.stride
        begin, end = (audio.start / row_n).floor().long(), (audio.end / row_n).floor().long()
        early_n, late_n = (round(peak_s / row_s) for peak_s in (o.peak_early_s, o.peak_late_s))
        members = len(logits) // len(batch.x)  # of an ensemble, each with the loss of its own logits
        found = max_pooling_loss(
            logits, audio.target.repeat(members, 1), begin.repeat(members), end.repeat(members), early_n, late_n,
            spec.smooth_n, spec.smooth_k, o.focal_gamma, o.label_smoothing,
        )  # fmt: skip
        loss, other, gradient = (one.unflatten(0, (members, -1)).mean(0) for one in found)
        own, weight = loss.sum(1), batch.weight[batch.rows].to(loss.device)
        # Replay priorities and hard-example mining use the plain loss, not the training objective.
        losses = torch.cat([own[:, None], (gradient.sum(1) * weight)[:, None], plain_loss(other)], 1)
        return (own * weight).sum() / len(batch.weight), losses

    def after_step(self, plan: WakeWordPlan, batch: Rendered, losses: Tensor, lr: float) -> StepMetrics:
        """See `Task`. Updates the priorities of the replayed clips."""
        own, plain, fresh = losses[:, 0].contiguous(), losses[:, 2:].contiguous(), plan.negatives
        gradient = losses[:, 1] / losses[:, 1].sum().clamp_min(1e-12)
        self.replay.set_priorities(plan.batch.replayed.index, plain.sum(1)[fresh.stop :])
        if self.batch_mining_every and plan.step >= self.replay_from:
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
            float(gradient[: fresh.start].sum()),
            float(gradient[fresh].sum()),
            float(gradient[fresh.stop :].sum()),
        )

    def _keep_hardest(self, plan: WakeWordPlan, batch: Rendered, plain: Tensor) -> None:
        """Keep the hardest fresh negatives since the last round, one of each recording.

        Online hard example mining (Shrivastava et al., 2016), kept for later batches.
        """
        audio, fresh, rows = batch.audio, plan.negatives, batch.rows
        local = ((rows >= fresh.start) & (rows < fresh.stop)).nonzero().flatten()
        worst, column = plain[rows[local]].max(1)
        limit = self.config.replay.batch_mining_clips
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

    def validate(self, weights: Mapping[str, Tensor], step: int, log: MetricsLog) -> None:
        """See `Task`. Steers an adaptive share, reports misses, keeps the best weights."""
        self._steer(weights, step, log)
        c, done = self.config, step + 1
        if c.validate_every is None or (done % c.validate_every and done != c.optim.steps):
            return
        points = self.dist.on_main(lambda: self.validator.points(weights, done, c.at_fa_per_hour))
        rows = [ValidationMetrics.of(step, keyword, point) for keyword, point in points.items()]
        log.validation(rows, summary(rows))
        if c.optim.average is Average.best:
            self.best = keep_best(self.best, ValidatedWeights.of(step, points, weights), c.optim.best_n)

    def _steer(self, weights: Mapping[str, Tensor], step: int, log: MetricsLog) -> None:
        """Steer an adaptive share where that is due."""
        r, before = self.config.replay, self.share
        # The first decision follows the first mining round, in a buffer of earlier runs too: a net that has just begun
        # misses everything.
        since = step + 1 - max(self.replay_from, self.config.replay_from)
        if r.schedule is not Schedule.adaptive or not r.share or since <= 0 or since % r.steer_every:
            return
        seen = self.dist.on_main(lambda: self.validator.counts(weights, step + 1, r.steer_at_score))
        self.share, reason = steered(before, seen, r)
        counts = seen.false_alarms, seen.hours, seen.misses, seen.events
        log.share(ShareMetrics(step, before, self.share, *counts, reason))


def mean(x: Tensor) -> float:
    """The mean; 0 of nothing."""
    return float(x.detach().mean()) if len(x) else 0.0
