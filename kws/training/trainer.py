"""The training loop: mine, sample, step, average the weights, validate; a killed run resumes to the same weights."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn, Protocol

import torch
from torch import Tensor

from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.detector import checkpoint
from kws.models.registry import KeywordNet
from kws.training.distributed import Distributed, MainFailed
from kws.training.metrics import MetricsLog
from kws.training.optim import OptimConfig, learning_rate, make_optimizer, update_average


class DivergedError(KwsError):
    """A loss or a weight is not finite at a step. The state file holds the last good step."""

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step


class Task(Protocol):
    """A wake word, a classification or a base net. Every rank calls each method, in the same order.

    The defaults are those of a task that mines nothing, and whose state is the step and the weights.
    `max_grad_norm` is the norm to which gradients are clipped; None: not clipped.
    """

    max_grad_norm: ClassVar[float | None] = None

    def setup(self, net: KeywordNet, dist: Distributed, compile: bool) -> Any:
        """Return the callable for `loss`: the net, its gradients shared between the ranks, or compiled."""

    def start(self, state: Mapping[str, Any] | None) -> None:
        """Begin a run, or resume it from a value of `state`."""

    def state(self) -> dict[str, Any]:
        """State for a resume, beside net, average, optimizer and step."""
        return {}

    def mining_due(self, step: int) -> bool:
        """Whether a mining round is due before this step."""
        return False

    def mine(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Refill the replay buffer with the averaged weights."""
        raise AssertionError("this task mines nothing")

    def sample(self, step: int) -> Any:
        """The batch of a step as numbers, the same on every rank; its length is its number of rows."""

    def render(self, plan: Any, rows: Tensor) -> Any:
        """Render audio and features of some rows of a batch."""

    def loss(self, model: Any, batch: Any) -> tuple[Tensor, Tensor]:
        """Objective of these rows, and figures of each row. The sum over the ranks is the objective of the batch.

        Shape: returns [] and [rows, F].
        """

    def after_step(self, plan: Any, batch: Any, losses: Tensor, lr: float) -> Any:
        """Update priorities from the figures of all rows; return the metrics of the step. Shape: losses [B, F]."""

    def validate(self, weights: Mapping[str, Tensor], step: int, log: MetricsLog) -> None:
        """Validate the averaged weights if a validation is due after step `step`."""


class Trainer:
    """Trains a net for a task. Every rank has a trainer; weights and state are the same on all of them.

    Args:
        net: on the device.
        task: samples, renders and validates.
        config: steps, learning rate, optimizer, averaging, checkpoints.
        seed: of the run.
        dist: the processes that train together.
        state_file: checkpoint for a resume; the trainer resumes from it if it exists.
        compile: compile the net.

    Raises:
        KwsError: the state file is damaged, or of another version of kws.
    """

    def __init__(
        self,
        net: KeywordNet,
        task: Task,
        config: OptimConfig,
        seed: int,
        dist: Distributed,
        state_file: Path,
        compile: bool = False,
    ) -> None:
        self.net, self.task, self.config, self.seed, self.dist = net, task, config, seed, dist
        self.state_file, self.step = state_file, 0
        self.model = task.setup(net, dist, compile)
        self.optimizer = make_optimizer(net, config)
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        state = dist.on_main(lambda: read_state(state_file))
        task.start(None if state is None else state["task"])
        if state is not None:
            self.step = state["step"]
            net.load_state_dict(state["net"])
            for name, value in state["average"].items():
                self.average[name].copy_(value)
            self.optimizer.load_state_dict(state["optimizer"])

    def run(self, log: MetricsLog) -> None:
        """Train to the last step.

        Raises:
            DivergedError: a loss or a weight is not finite; neither is saved.
        """
        while self.step < self.config.steps:
            while self.task.mining_due(self.step):  # once in a while: refill the replay buffer
                self.save()  # a run that is killed while it mines resumes here
                self.task.mine(self.average, self.step)
                self.save()
            metrics = self.train_step()
            self.step += 1
            log.step(metrics)  # before `save`: a kill between the two leaves a row too many, which a resume drops
            self.task.validate(self.average, self.step - 1, log)
            if self.step % self.config.save_every == 0:
                self.save()
        self.save()

    def train_step(self) -> Any:
        """Sample a batch, take one step, update the average; return the metrics of the step."""
        config, step = self.config, self.step
        plan = self.task.sample(step)
        batch = self.task.render(plan, self.dist.local_rows(len(plan)))
        self.net.train()
        torch.manual_seed(seed_of(self.seed, "dropout", step, self.dist.rank))  # dropout takes no generator
        objective, losses = self.task.loss(self.model, batch)

        lr = learning_rate(step, config.steps, config.lr, config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        self.dist.backward(objective)
        norm: Tensor | float = 0.0
        if self.task.max_grad_norm is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.task.max_grad_norm)
        self.optimizer.step()
        update_average(self.average, self.net, config.ema, step)
        # All figures leave the device at once: the next batch depends on them, and nothing else waits for the step.
        losses = self.dist.all_reduce_rows(losses.detach(), len(plan)).cpu()
        if not losses.isfinite().all():
            self.diverged("the loss", step)
        if not math.isfinite(norm):
            self.diverged("the gradient", step)
        return self.task.after_step(plan, batch, losses, lr)

    def diverged(self, what: str, step: int) -> NoReturn:
        """Raise DivergedError, on rank 0 alone: all ranks have the same losses and weights."""
        if not self.dist.is_main:
            raise MainFailed
        lr = learning_rate(step, self.config.steps, self.config.lr, self.config.warmup)
        raise DivergedError(
            f"step {step}: {what} is not finite, at learning rate {lr:g}; the same command with optim.lr below "
            f"{self.config.lr:g} resumes from the last good state",
            step,
        )

    def save(self) -> None:
        """Write the checkpoint for a resume, whole or not at all; on rank 0 alone.

        Raises:
            DivergedError: a weight is not finite; the file stays as it was.
        """
        weights = [*self.net.state_dict().values(), *self.average.values()]
        if not torch.stack([value.isfinite().all() for value in weights]).all():
            self.diverged("a weight", self.step - 1)
        if self.dist.is_main:
            content = {"format": checkpoint.FORMAT, "step": self.step, "net": self.net.state_dict()}
            content |= {"average": self.average, "optimizer": self.optimizer.state_dict(), "task": self.task.state()}
            checkpoint.write(self.state_file, content)


def read_state(file: Path) -> dict[str, Any] | None:
    """The state of a trainer; None where there is no file.

    Raises:
        KwsError: the file is damaged, or of another version of kws.
    """
    if not file.is_file():
        return None
    try:
        state = checkpoint.read(file)
    except KwsError as error:
        raise KwsError(f"{error}; this run cannot resume: train it again with another out") from None
    if missing := {"step", "net", "average", "optimizer", "task"} - state.keys():
        raise KwsError(f"{file}: no {min(missing)} in it; another version of kws wrote it: train with another out")
    return state
