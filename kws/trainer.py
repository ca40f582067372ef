"""The training loop: draw, augment, step, learn priorities; mine when the time has come; go on after a kill."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kws import checkpoint
from kws.batch import Drawer
from kws.features import LogMel
from kws.loss import max_pooling_loss
from kws.models import DSTCN
from kws.replay.share import share_at, stochastic_round
from kws.replay.snapshot import Snapshot
from kws.seeding import generator


@dataclass(frozen=True)
class Plan:
    """The numbers of a run; see conf/optim, conf/batch and conf/replay for what each does."""

    seed: int
    steps: int
    batch_size: int
    positive_share: float
    lr: float
    warmup: int
    weight_decay: float
    ema: float
    negative_weight: float
    early_n: int  # rows
    late_n: int  # rows
    smooth_n: int  # rows
    save_every: int
    share: float
    schedule: str
    ramp_steps: int
    alpha: float
    mining_steps: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """What one step had to say."""

    step: int
    loss: float
    loss_positive: float
    loss_fresh: float
    loss_replayed: float
    share: float
    replayed: int
    buffer: int
    lr: float


class Trainer:
    """One arm of a run.

    Args:
        net, front_end: what is trained, and what it hears; on the device.
        drawer: makes the batches.
        replay: the buffer as it stands at the start.
        plan: the numbers.
        mine: called with the round (from 1) when its step has come; fills the buffer, returns the new snapshot.
        state_file: where the state is kept for a resume; written whole or not at all.
    """

    def __init__(
        self,
        net: DSTCN,
        front_end: LogMel,
        drawer: Drawer,
        replay: Snapshot,
        plan: Plan,
        mine: Callable[["Trainer", int], Snapshot],
        state_file: Path,
    ) -> None:
        self.net, self.front_end, self.drawer, self.replay = net, front_end, drawer, replay
        self.plan, self.mine, self.state_file = plan, mine, state_file
        self.step, self.rounds = 0, 0
        # Clips that lie in the buffer from earlier runs are replayed from the start, else from the first round on.
        self.replay_from = 0 if len(replay) else (plan.mining_steps[0] if plan.mining_steps else plan.steps)
        decayed = [p for p in net.parameters() if p.ndim > 1]
        plain = [p for p in net.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": plan.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=plan.lr,
        )
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}

    def run(self, tell: Callable[[Step], None], stop_at: int | None = None) -> None:
        """Train to the end of the plan (or to `stop_at`), telling of each step."""
        last = self.plan.steps if stop_at is None else min(stop_at, self.plan.steps)
        while self.step < last:
            due = sum(s <= self.step for s in self.plan.mining_steps)
            while self.rounds < due:
                self.save()  # a kill while mining comes back to here
                self.replay = self.mine(self, self.rounds + 1)
                self.rounds += 1
                self.save()
            told = self._step()
            self.step += 1
            tell(told)  # before saving: a kill between the two leaves a row too many, which a resume drops
            if self.step % self.plan.save_every == 0:
                self.save()
        self.save()

    def learning_rate(self) -> float:
        """Linear warm-up, then a cosine to zero."""
        p = self.plan
        if self.step < p.warmup:
            return p.lr * (self.step + 1) / p.warmup
        return p.lr * (1 + math.cos(math.pi * (self.step - p.warmup) / max(1, p.steps - p.warmup))) / 2

    def _step(self) -> Step:
        p, step = self.plan, self.step
        share = share_at(step, self.replay_from, p.share, p.schedule, p.ramp_steps)
        n_positive = stochastic_round(p.positive_share * p.batch_size, generator(p.seed, "positives", step))
        n_positive = max(1, n_positive)
        wanted = stochastic_round(share * p.batch_size, generator(p.seed, "share", step))
        chosen = self.replay.draw(wanted, p.alpha, generator(p.seed, "replay", step))
        n_fresh = max(0, p.batch_size - n_positive - len(chosen))
        batch = self.drawer.draw(n_positive, n_fresh, self.replay.bank, chosen, generator(p.seed, "batch", step))

        hop = self.front_end.hop_n * self.net.stride
        x = clip_features(self.front_end, batch.pcm, hop)
        x = self.drawer.vary_features(x, generator(p.seed, "masks", step))
        self.net.train()
        logits, _ = self.net(x, self.net.initial_cache(len(x)))
        rows = (batch.start / hop).floor().long(), (batch.end / hop).floor().long()
        loss, _ = max_pooling_loss(logits, batch.target, *rows, p.early_n, p.late_n, p.smooth_n)
        each = loss.sum(1)
        weight = torch.full((len(x),), p.negative_weight, device=x.device)
        weight[:n_positive] = 1.0
        mean = (each * weight).sum() / len(x)

        lr = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        mean.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self._follow()

        replayed = each[n_positive + n_fresh :]
        self.replay.learn(chosen, replayed)
        return Step(
            step,
            float(mean.detach()),
            mean_of(each[:n_positive]),
            mean_of(each[n_positive : n_positive + n_fresh]),
            mean_of(replayed),
            share,
            len(chosen),
            len(self.replay),
            lr,
        )

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the averaged weights towards the trained ones (Polyak & Juditsky, 1992), faster at the start."""
        keep = min(self.plan.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.net.state_dict().items():
            if value.dtype.is_floating_point:
                self.average[name].lerp_(value, 1 - keep)
            else:
                self.average[name].copy_(value)

    def save(self) -> None:
        """Keep all that a resume needs."""
        checkpoint.write(self.state_file, self.state())

    def state(self) -> dict[str, Any]:
        """Weights, averages, optimizer, step, round, and the buffer as it is replayed."""
        return {
            "format": checkpoint.FORMAT,
            "step": self.step,
            "rounds": self.rounds,
            "replay_from": self.replay_from,
            "net": self.net.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "replay": self.replay.state(),
        }

    def load(self, state: dict[str, Any], replay: Snapshot) -> None:
        """Go on from `state`; `replay` is the snapshot made of its "replay" entry."""
        self.step, self.rounds, self.replay_from = state["step"], state["rounds"], state["replay_from"]
        self.net.load_state_dict(state["net"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.replay = replay


def clip_features(front_end: LogMel, pcm: Tensor, multiple: int) -> Tensor:
    """Features of clips as the detector hears them from silence.

    Shape: pcm [B, T], T a multiple of `multiple` samples; returns [B, M, T / hop].
    """
    usable = pcm.shape[1] // multiple * multiple
    padded = torch.nn.functional.pad(pcm[:, :usable], (front_end.context_n, 0))
    # A few clips at a time stay in a CPU's cache: three times as fast as the whole batch at once.
    at_once = 4 if pcm.device.type == "cpu" else len(pcm)
    return torch.cat([front_end(some) for some in torch.split(padded, at_once)])


def mean_of(x: Tensor) -> float:
    """The mean, 0 of nothing."""
    return float(x.detach().mean()) if len(x) else 0.0
