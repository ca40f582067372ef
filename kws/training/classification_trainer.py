"""The loop that teaches a net to tell classes apart: draw, step, look at the validation part; go on after a kill."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.data.features import LogMel
from kws.detector import checkpoint
from kws.evaluation.classification import ValidationAccuracy
from kws.models.registry import KeywordNet
from kws.training.classification_batches import Drawer
from kws.training.distributed import compiled
from kws.training.metrics import Learned
from kws.training.optim import follow, learning_rate, make_optimizer


@dataclass(frozen=True)
class Plan:
    """The numbers of a run; see conf/optim for what each does."""

    steps: int
    warmup: int
    optimizer: str
    momentum: float
    lr: float
    weight_decay: float
    ema: float
    label_smoothing: float
    save_every: int
    validate_every: int | None
    compile: bool = False  # the net, by torch.compile


class Log(Protocol):
    """Whom a trainer tells how it goes."""

    def step(self, told: Learned) -> None:
        """A step is done."""

    def validation(self, told: ValidationAccuracy) -> None:
        """The validation part was heard."""


class Trainer:
    """Trains a net with cross-entropy on what it says at the end of each clip.

    Args:
        net, front_end: what is trained, and what it hears; on the device.
        drawer: makes the batches.
        plan: the numbers.
        validate: tells what weights do on the validation part, given the step; nothing else comes of it.
        state_file: where the state is kept for a resume; written whole or not at all.
    """

    def __init__(
        self,
        net: KeywordNet,
        front_end: LogMel,
        drawer: Drawer,
        plan: Plan,
        validate: Callable[[dict[str, torch.Tensor], int], ValidationAccuracy],
        state_file: Path,
    ) -> None:
        self.net, self.front_end, self.drawer, self.plan = net, front_end, drawer, plan
        self.validate, self.state_file, self.step = validate, state_file, 0
        self.judge = compiled(net.judge, next(net.parameters()).device) if plan.compile else net.judge
        self.optimizer = make_optimizer(net, plan.optimizer, plan.lr, plan.weight_decay, plan.momentum)
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}

    def run(self, log: Log) -> None:
        """Train to the end of the plan, telling `log` how it goes."""
        every, last = self.plan.validate_every, self.plan.steps
        while self.step < last:
            told = self._step()
            self.step += 1
            log.step(told)  # before saving: a kill between the two leaves a row too many, which a resume drops
            if every is not None and (self.step % every == 0 or self.step == last):
                log.validation(self.validate(self.average, self.step - 1))
            if self.step % self.plan.save_every == 0:
                self.save()
        self.save()

    def _step(self) -> Learned:
        p, step = self.plan, self.step
        torch.manual_seed(seed_of(self.drawer.seed, "dropout", step))  # it takes no generator of its own
        pcm, target = self.drawer.draw(step)
        x = self.front_end.clips(pcm, self.front_end.hop_n * self.net.stride)
        x = self.drawer.vary_features(x, step)
        self.net.train()
        torch.manual_seed(seed_of(self.drawer.seed, "dropout", step))  # it takes no generator of its own
        logits = self.judge(x)
        loss = torch.nn.functional.cross_entropy(logits, target, label_smoothing=p.label_smoothing)
        lr = learning_rate(step, p.steps, p.lr, p.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        follow(self.average, self.net, p.ema, step)
        right = int((logits.detach().argmax(1) == target).sum())
        return Learned(step, step // self.drawer.steps_per_epoch, float(loss.detach()), right, len(target), lr)

    def save(self) -> None:
        """Keep all that a resume needs: weights, average, optimizer, step."""
        content = {"format": checkpoint.FORMAT, "step": self.step, "net": self.net.state_dict()}
        checkpoint.write(self.state_file, content | {"average": self.average, "optimizer": self.optimizer.state_dict()})

    def load(self) -> None:
        """Go on from what `save` kept; raises KwsError where that cannot be read."""
        state = checkpoint.read(self.state_file)
        if missing := sorted({"step", "net", "average", "optimizer"} - state.keys()):
            raise KwsError(f"{self.state_file}: no {missing[0]} in it; another version of kws wrote it")
        self.step = state["step"]
        self.net.load_state_dict(state["net"])
        for name, value in state["average"].items():
            self.average[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
