"""Optimizers, the learning rate schedule, and averages of the weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from kws.common.settings import SettingError
from kws.evaluation.operating_points import OperatingPoint


class Optimizer(StrEnum):
    """Optimizers of training."""

    adamw = auto()
    sgd = auto()


class Average(StrEnum):
    """Which weights a run keeps."""

    ema = auto()
    best = auto()


@dataclass
class OptimConfig:
    """Steps, optimizer, objective, and which weights are kept."""

    steps: Annotated[int, Field(ge=1, le=10**8, description="training steps")] = 1000
    epochs: Annotated[
        int | None,
        Field(ge=1, le=10**5, description="task=classification: passes over the train split, in place of steps"),
    ] = None
    optimizer: Annotated[
        Optimizer,
        Field(description="adamw decays the weights of layers; sgd with momentum decays norms and biases as well"),
    ] = Optimizer.adamw
    momentum: Annotated[float, Field(ge=0, le=0.999, description="momentum of sgd")] = 0.9
    lr: Annotated[
        float, Field(ge=1e-7, le=10, description="peak learning rate: linear warm-up, then a cosine to 0")
    ] = 0.003
    warmup: Annotated[int, Field(ge=0, le=10**7, description="steps of the warm-up")] = 100
    warmup_epochs: Annotated[
        float, Field(ge=0, le=10**4, description="epochs of the warm-up, where epochs are given")
    ] = 5.0
    weight_decay: Annotated[float, Field(ge=0, le=1, description="decay of the weights")] = 0.01
    ema: Annotated[
        float,
        Field(
            ge=0,
            le=0.99999,
            description="decay of the moving average of the weights, which is validated, mines, and is kept",
        ),
    ] = 0.995
    average: Annotated[
        Average,
        Field(description="weights kept: ema, the moving average of the last step; best, its mean at the best steps"),
    ] = Average.ema
    best_n: Annotated[
        int, Field(ge=1, le=100, description="average=best: number of validated steps with the fewest misses")
    ] = 5
    focal_gamma: Annotated[
        float, Field(ge=0, le=10, description="exponent of focal loss; 0: plain cross-entropy, 2: as published")
    ] = 0.0
    label_smoothing: Annotated[
        float, Field(ge=0, le=0.5, description="label smoothing: 0.1 makes the targets 0.95 and 0.05")
    ] = 0.0
    negative_weight: Annotated[
        float, Field(ge=0, le=100, description="weight of the loss of negatives; that of positives is 1")
    ] = 1.0
    peak_early_s: Annotated[
        float, Field(ge=0, le=2, description="earliest peak of the score, seconds before the keyword's end")
    ] = 0.1
    peak_late_s: Annotated[
        float, Field(ge=0, le=2, description="latest peak of the score, seconds after the keyword's end")
    ] = 0.4
    save_every: Annotated[
        int, Field(ge=1, le=10**7, description="steps between checkpoints; a killed run resumes from the last")
    ] = 100

    def check(self) -> None:
        """Rules between the settings."""
        if 0 < self.focal_gamma < 1 and self.label_smoothing:
            raise SettingError(
                "focal_gamma",
                self.focal_gamma,
                f"must be 0, or at least 1, with label_smoothing={self.label_smoothing:g}: between them the gradient "
                "is unbounded at the smoothed target",
            )


def make_optimizer(net: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019), or SGD with momentum.

    AdamW decays the weights of layers alone; SGD decays all, norms and biases too, as published recipes do.
    """
    lr, decay = config.lr, config.weight_decay
    fused = next(net.parameters()).device.type == "cuda"  # one kernel for all weights
    if config.optimizer is Optimizer.sgd:
        return torch.optim.SGD(net.parameters(), lr=lr, momentum=config.momentum, weight_decay=decay, fused=fused)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}], lr=lr, fused=fused
    )


@torch.no_grad()
def update_average(average: Mapping[str, Tensor], net: nn.Module, decay: float, step: int) -> None:
    """Update an exponential moving average of the weights (Polyak & Juditsky, 1992), faster in the first steps.

    Args:
        average: state of the net, averaged; changed in place.
        net: after this step.
        decay: 0 to 1; 0 keeps the last weights.
        step: from 0 up.
    """
    keep = min(decay, (1 + step) / (10 + step))
    for name, value in net.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero (Loshchilov & Hutter, 2017).

    Args:
        step: from 0 up.
        steps: of the run.
        peak: reached in the last step of the warm-up.
        warmup: steps, at least 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2


@dataclass(frozen=True)
class ValidatedWeights:
    """Averaged weights of one step with their validation counts, summed over the keywords.

    Args:
        step: the last step that was done.
        misses, events: keywords missed, and all keywords.
        false_alarms, hours: at the same thresholds, which are those for the wanted rate.
        weights: the state of the net, on the CPU.
    """

    step: int
    misses: int
    events: int
    false_alarms: int
    hours: float
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, step: int, points: Mapping[str, OperatingPoint], weights: Mapping[str, Tensor]) -> "ValidatedWeights":
        """Copy the weights, and sum the counts of the keywords (at least one)."""
        each = list(points.values())
        return cls(
            step,
            sum(point.misses for point in each),
            sum(point.events for point in each),
            sum(point.false_alarms for point in each),
            each[0].hours,
            {name: value.detach().cpu().clone() for name, value in weights.items()},
        )

    def counts(self) -> dict[str, int | float]:
        """All fields but the weights."""
        return {name: value for name, value in vars(self).items() if name != "weights"}

    def __str__(self) -> str:
        return f"{self.step} ({self.misses} of {self.events} missed, {self.false_alarms} false alarms)"


def keep_best(kept: Sequence[ValidatedWeights], new: ValidatedWeights, n: int) -> list[ValidatedWeights]:
    """The best `n` (at least 1) of those kept and a new one: fewest misses, then false alarms, then the latest.

    The result does not depend on the order in which they come. It is in the order of their steps.
    """
    ranked = sorted([*kept, new], key=lambda one: (one.misses, one.false_alarms, -one.step))
    return sorted(ranked[:n], key=lambda one: one.step)


def mean_weights(kept: Sequence[ValidatedWeights]) -> dict[str, Tensor]:
    """Mean of the weights (Izmailov et al., 2018), accumulated in float64. Integer buffers keep the last value.

    Statistics of batch norms are averaged like weights, as in the moving average. The best weights lie late on one
    path, where the learning rate is low and the weights move little.

    Args:
        kept: at least one, in the order of their steps.
    """

    def mean(name: str, last: Tensor) -> Tensor:
        if not last.dtype.is_floating_point:
            return last
        return torch.stack([one.weights[name].double() for one in kept]).mean(0).to(last.dtype)

    return {name: mean(name, last) for name, last in kept[-1].weights.items()}


def start_from(net: nn.Module, weights: Mapping[str, Tensor], same_head: bool) -> None:
    """Load the weights of a finished model into a net of the same architecture before its first step.

    Args:
        net: changed in place.
        weights: of the finished model.
        same_head: whether the model has the same score columns; else the head of the net stays as it is.
    """
    kept = {name: value for name, value in weights.items() if same_head or not name.startswith("head.")}
    missing, unexpected = net.load_state_dict(kept, strict=False)
    assert not unexpected
    assert all(name.startswith("head.") and not same_head for name in missing)


def interpolated(before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Weights between two models: `share` of the way from `before` to `after`, 0 to 1; integers are those of `after`.

    Source: interpolation of fine-tuned weights (Wortsman et al., 2022).
    """
    return {
        name: before[name] + share * (value - before[name]) if value.is_floating_point() else value
        for name, value in after.items()
    }
