"""The training loop: draw, augment, step, learn priorities; fill the buffer when it is due; go on after a kill."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from kws.common.errors import KwsError
from kws.common.seeding import generator, seed_of
from kws.data.batch import Batch, BatchSampler
from kws.data.features import LogMel
from kws.detector import checkpoint
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.validation import ValidationCounts
from kws.models.registry import KeywordNet
from kws.replay.sampler import beta_at
from kws.replay.schedule import Guard, adapted, share_at, stochastic_round
from kws.replay.snapshot import Snapshot
from kws.training.distributed import Distributed
from kws.training.loss import hardness, max_pooling_loss
from kws.training.metrics import Shared, Step, Validated
from kws.training.optim import Kept, Look, averaged, follow, keep_best, learning_rate, look, make_optimizer


@dataclass(frozen=True)
class Plan:
    """The numbers of a run; see conf/optim, conf/batch and conf/replay for what each does."""

    seed: int
    steps: int
    batch_size: int
    positive_share: float
    lr: float
    warmup: int
    optimizer: str
    momentum: float
    weight_decay: float
    ema: float
    focal_gamma: float
    label_smoothing: float
    negative_weight: float
    best_n: int  # looks at the validation streams that are averaged in the end; 0: the moving average is kept
    early_n: int  # rows
    late_n: int  # rows
    smooth_n: int  # rows
    smooth_k: int
    save_every: int
    share: float
    schedule: str
    ramp_steps: int
    beta: float | None
    mining_steps: tuple[int, ...]
    replay_from: int  # step from which the buffer is replayed
    validate_every: int | None  # steps between two rows of validation; None: none are written
    check_every: int  # steps between two looks at an adaptive share
    guard: Guard
    online_every: int  # steps between two rounds that take in what was hard in the batches; 0: none do
    online_n: int  # clips a round, at most
    compile: bool = False  # the net, by torch.compile

    @property
    def fills(self) -> bool:
        """Does anything come into the buffer?"""
        return bool(self.mining_steps or self.online_every)


@dataclass(frozen=True)
class Hard:
    """A fresh negative that the model took for a keyword as it trained.

    Args:
        pcm: as it was heard, int16 [T].
        column: of the keyword.
        index, offset, speed, noise: see `Batch`.
        loss: what it cost.
    """

    pcm: Tensor
    column: int
    index: int
    offset: int
    speed: float
    noise: int
    loss: float


class Rounds(Protocol):
    """What a trainer asks of whoever knows the recordings."""

    def fill(self, trainer: "Trainer", round_: int, pool: bool, hard: Sequence[Hard]) -> Snapshot:
        """Fill the buffer in this round (from 1), from the pool if so and from what was hard; the new snapshot."""

    def observe(self, trainer: "Trainer") -> ValidationCounts:
        """What the averaged weights do on the validation streams, at a score."""

    def validate(self, trainer: "Trainer") -> Mapping[str, OperatingPoint]:
        """What they do there for each keyword, at a rate of false alarms."""


class Log(Protocol):
    """Whom a trainer tells how it goes."""

    def step(self, told: Step) -> None:
        """A step is done."""

    def share(self, told: Shared) -> None:
        """An adaptive share was looked at."""

    def validation(self, told: Sequence[Validated]) -> None:
        """The validation streams were heard: one of these a keyword."""


class Trainer:
    """The training loop; each process that trains has one, and all of them are the same at every step.

    Args:
        net, front_end: what is trained, and what it hears; on the device.
        drawer: makes the batches.
        replay: the buffer as it stands at the start.
        plan: the numbers.
        rounds: fills the buffer when that is due, and looks at the validation streams.
        ranks: the processes that train together.
        state_file: where the state is kept for a resume; written whole or not at all.
    """

    def __init__(
        self,
        net: KeywordNet,
        front_end: LogMel,
        drawer: BatchSampler,
        replay: Snapshot,
        plan: Plan,
        rounds: Rounds,
        ranks: Distributed,
        state_file: Path,
    ) -> None:
        # The net is called as `heard`; its weights stay in `net`.
        self.ranks, self.heard = ranks, ranks.join(net, plan.compile)
        self.net, self.front_end, self.drawer, self.replay = net, front_end, drawer, replay
        self.plan, self.asked, self.state_file = plan, rounds, state_file
        self.step, self.rounds, self.share = 0, 0, plan.share
        self.best: list[Look] = []
        self.hard: list[Hard] = []
        # Clips that lie in the buffer from earlier runs are replayed from the start.
        self.replay_from = 0 if len(replay) else plan.replay_from
        self.optimizer = make_optimizer(net, plan.optimizer, plan.lr, plan.weight_decay, plan.momentum)
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}

    def run(self, log: Log, stop_at: int | None = None) -> None:
        """Train to the end of the plan (or to `stop_at`), telling `log` how it goes."""
        last = self.plan.steps if stop_at is None else min(stop_at, self.plan.steps)
        while self.step < last:
            for pool in self._due()[self.rounds :]:
                self.save()  # a kill while the buffer is filled comes back to here
                self.replay = self.asked.fill(self, self.rounds + 1, pool, self.hard)
                self.rounds, self.hard = self.rounds + 1, []
                self.save()
            told = self._step()
            self.step += 1
            log.step(told)  # before saving: a kill between the two leaves a row too many, which a resume drops
            self._adapt(log)
            self._validate(log)
            if self.step % self.plan.save_every == 0:
                self.save()
        self.save()

    def _due(self) -> list[bool]:
        """The rounds up to this step in their order: True for one that mines the pool, False for a batch's own."""
        p = self.plan
        begun = range(self.replay_from + p.online_every, self.step + 1, p.online_every) if p.online_every else ()
        steps = [(s, True) for s in p.mining_steps if s <= self.step] + [(s, False) for s in begun]
        return [pool for _, pool in sorted(steps, key=lambda at: (at[0], not at[1]))]

    def _adapt(self, log: Log) -> None:
        """Where it is time, look at the validation streams and steer an adaptive share."""
        p = self.plan
        # Not before the first mining round, also where a buffer lies there already: an untrained net misses everything.
        since = self.step - max(self.replay_from, p.replay_from)
        if p.schedule != "adaptive" or not p.share or since <= 0 or since % p.check_every:
            return
        seen, before = self.asked.observe(self), self.share
        self.share, reason = adapted(before, seen, p.guard)
        log.share(
            Shared(self.step - 1, before, self.share, seen.false_alarms, seen.hours, seen.misses, seen.events, reason)
        )

    def _validate(self, log: Log) -> None:
        """Where it is time, and at the end, tell what is missed on the validation streams, and keep the best."""
        every = self.plan.validate_every
        if every is not None and (self.step % every == 0 or self.step == self.plan.steps):
            points = self.asked.validate(self)
            log.validation([Validated.of(self.step - 1, k, point) for k, point in points.items()])
            if self.plan.best_n:
                self.best = keep_best(self.best, look(self.step - 1, points, self.average), self.plan.best_n)

    def kept(self) -> Kept:
        """What a run ends with: the best looks averaged, or the moving average as it stands."""
        return Kept(averaged(self.best), self.best) if self.best else Kept(self.average)

    def _step(self) -> Step:
        p, step = self.plan, self.step
        share = share_at(step, self.replay_from, self.share, p.schedule, p.ramp_steps)
        n_positive = stochastic_round(p.positive_share * p.batch_size, generator(p.seed, "positives", step))
        n_positive = max(1, n_positive)
        wanted = stochastic_round(share * p.batch_size, generator(p.seed, "share", step))
        beta = 0.0 if p.beta is None else beta_at(step, self.replay_from, p.steps - 1, p.beta)
        chosen, importance = self.replay.draw(wanted, beta, generator(p.seed, "replay", step))
        n_fresh = max(0, p.batch_size - n_positive - len(chosen))
        drawn = self.drawer.draw(n_positive, n_fresh, self.replay.bank, chosen, generator(p.seed, "batch", step))
        n, mine = len(drawn), self.ranks.rows(len(drawn))
        batch = self.drawer.make(drawn.part(mine), self.replay.bank)

        hop = self.front_end.hop_n * self.net.stride
        x = self.front_end.clips(batch.pcm, hop)
        x = self.drawer.vary_features(x, mine, n, generator(p.seed, "masks", step))
        self.net.train()
        torch.manual_seed(seed_of(p.seed, "dropout", step, self.ranks.rank))  # it takes no generator of its own
        logits, _ = self.heard(x, self.net.initial_cache(len(x)))
        rows = (batch.start / hop).floor().long(), (batch.end / hop).floor().long()
        loss, other = max_pooling_loss(
            logits, batch.target, *rows, p.early_n, p.late_n, p.smooth_n, p.smooth_k, p.focal_gamma, p.label_smoothing
        )
        own = loss.sum(1)
        weight = torch.full((n,), p.negative_weight)
        weight[:n_positive] = 1.0
        weight[n_positive + n_fresh :] *= importance

        lr = learning_rate(step, p.steps, p.lr, p.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        self.ranks.backward((own * weight[mine].to(x.device)).sum() / n)
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        follow(self.average, self.net, p.ema, step)

        plain = hardness(other)  # by this, not by the objective, clips are drawn and found
        # All that a step tells comes off the device at once: the next draw needs it, nothing else waits for the step.
        each, hard = torch.stack([self.ranks.whole(one, n) for one in (own.detach(), plain.sum(1))]).cpu()
        self.replay.learn(chosen, hard[n_positive + n_fresh :])
        if p.online_every and step >= self.replay_from:
            self._keep_hard(batch, plain.cpu(), mine, n_positive, n_positive + n_fresh)
        return Step(
            step,
            float((each * weight).sum() / n),
            mean_of(each[:n_positive]),
            mean_of(each[n_positive : n_positive + n_fresh]),
            mean_of(each[n_positive + n_fresh :]),
            share,
            len(chosen),
            n,
            len(self.replay),
            lr,
        )

    def _keep_hard(self, batch: Batch, loss: Tensor, mine: Tensor, begin: int, end: int) -> None:
        """Remember the hardest fresh negatives since the last round, one of each recording.

        Online hard example mining (Shrivastava et al., 2016), kept for later batches. This process has the rows `mine`
        of the batch; fresh are those from `begin` to `end`.
        """
        place = mine[(mine >= begin) & (mine < end)]
        fresh = slice(int((mine < begin).sum()), int((mine < end).sum()))
        worst, column = loss[fresh].max(1)
        noise = batch.noise[fresh]
        floor = self.hard[-1].loss if len(self.hard) >= self.plan.online_n else 0.0
        found = []
        for i in (worst > floor).nonzero().flatten().tolist():
            pcm = (batch.pcm[fresh][i] * 32768.0).round().clamp(-32768, 32767).to(torch.int16).cpu()
            one = Hard(
                pcm, int(column[i]), int(batch.index[i]), int(batch.offset[i]), float(batch.speed[i]), int(noise[i]),
                float(worst[i]),
            )  # fmt: skip
            found.append((int(place[i]), one))
        self.hard += [one for _, one in sorted(self.ranks.gathered(found), key=lambda at: at[0])]
        self.hard.sort(key=lambda one: -one.loss)
        best = {one.index: one for one in reversed(self.hard)}
        self.hard = sorted(best.values(), key=lambda one: -one.loss)[: self.plan.online_n]

    def save(self) -> None:
        """Keep all that a resume needs, by any number of processes."""
        if self.ranks.leads:
            checkpoint.write(self.state_file, self.state())

    def state(self) -> dict[str, Any]:
        """Weights, averages, optimizer, step, round, share, and the buffer as it is replayed."""
        return {
            "format": checkpoint.FORMAT,
            "step": self.step,
            "rounds": self.rounds,
            "replay_from": self.replay_from,
            "share": self.share,
            "best": [vars(one) for one in self.best],
            "hard": [asdict(one) for one in self.hard],
            "net": self.net.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "replay": self.replay.state(),
        }

    def load(self, state: dict[str, Any], replay: Snapshot) -> None:
        """Go on from `state`; `replay` is the snapshot made of its "replay" entry."""
        self.step, self.rounds, self.replay_from = state["step"], state["rounds"], state["replay_from"]
        if self.plan.schedule == "adaptive":
            self.share = state["share"]
        if self.plan.best_n:
            self.best = [Look(**one) for one in state["best"]]
        self.hard = [Hard(**one) for one in state["hard"]]
        self.net.load_state_dict(state["net"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay = replay


def read_state(file: Path) -> dict[str, Any]:
    """What `Trainer.save` kept.

    Raises:
        KwsError: no such file, damaged, or of another version of kws.
    """
    state = checkpoint.read(file)
    wanted = {"share", "best", "hard", "replay"}
    if missing := sorted(wanted - state.keys()) or sorted({"given"} - state["replay"].keys()):
        raise KwsError(f"{file}: no {missing[0]} in it; another version of kws wrote it")
    return state


def mean_of(x: Tensor) -> float:
    """The mean, 0 of nothing."""
    return float(x.detach().mean()) if len(x) else 0.0
