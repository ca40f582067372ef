"""Who makes the steps, and the average of the weights that follows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from kws.evaluation.operating_points import OperatingPoint


def make_optimizer(net: nn.Module, kind: str, lr: float, weight_decay: float, momentum: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019), or SGD with momentum.

    AdamW decays the weights of layers alone; SGD decays all, norms and biases too, as published recipes have it.

    Args:
        net: whose weights are trained.
        kind: adamw or sgd.
        lr: the learning rate at first, above 0.
        weight_decay: at least 0.
        momentum: of sgd, 0 to 1.
    """
    fused = next(net.parameters()).device.type == "cuda"  # one kernel for all weights
    if kind == "sgd":
        return torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=lr, fused=fused
    )


@torch.no_grad()
def follow(average: Mapping[str, Tensor], net: nn.Module, decay: float, step: int) -> None:
    """Move averaged weights towards the trained ones (Polyak & Juditsky, 1992), faster at the start.

    Args:
        average: of the net's state, changed in place.
        net: as it is after this step.
        decay: of the moving average, 0 to 1; 0 keeps the last weights.
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
class Look:
    """The weights at a step, and what they did on the validation streams at the wanted rate of false alarms.

    Args:
        step: the last that was done.
        misses, events: keywords missed, and said; of all keywords together.
        false_alarms, hours: at the same thresholds.
        weights: the state of the net, on the CPU.
    """

    step: int
    misses: int
    events: int
    false_alarms: int
    hours: float
    weights: Mapping[str, Tensor]

    def counts(self) -> dict[str, int | float]:
        """All but the weights."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "weights"}

    def __str__(self) -> str:
        return f"{self.step} ({self.misses} of {self.events} missed, {self.false_alarms} false alarms)"


@dataclass(frozen=True)
class Kept:
    """The weights that a run ends with, and the looks that they are the mean of; no looks: a moving average."""

    weights: Mapping[str, Tensor]
    looks: Sequence[Look] = ()


def look(step: int, points: Mapping[str, OperatingPoint], weights: Mapping[str, Tensor]) -> Look:
    """What the validation streams say of these weights, which are copied.

    Args:
        step: the last that was done.
        points: of each keyword, at least one, at the threshold for the wanted rate.
        weights: those that were heard.
    """
    each = list(points.values())
    return Look(
        step,
        sum(point.misses for point in each),
        sum(point.events for point in each),
        sum(point.false_alarms for point in each),
        each[0].hours,
        {name: value.detach().cpu().clone() for name, value in weights.items()},
    )


def keep_best(looks: Sequence[Look], new: Look, n: int) -> list[Look]:
    """The best `n` (at least 1) of the looks and a new one: fewest misses, then false alarms, then the latest.

    Which these are does not depend on the order in which they come. They are returned in the order of their steps.
    """
    ranked = sorted([*looks, new], key=lambda one: (one.misses, one.false_alarms, -one.step))
    return sorted(ranked[:n], key=lambda one: one.step)


def averaged(looks: Sequence[Look]) -> dict[str, Tensor]:
    """The mean of their weights (Izmailov et al., 2018), in float64; of what only counts, the last.

    The statistics of batch norms are averaged like weights, as they are in a moving average: looks lie on one path, and
    the best of them late on it, where the rate of learning is low and the weights move little.

    Args:
        looks: at least one, in the order of their steps.
    """

    def mean(name: str, last: Tensor) -> Tensor:
        if not last.dtype.is_floating_point:
            return last
        return torch.stack([one.weights[name].double() for one in looks]).mean(0).to(last.dtype)

    return {name: mean(name, last) for name, last in looks[-1].weights.items()}
