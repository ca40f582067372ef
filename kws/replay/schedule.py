"""How much of a batch comes from the buffer."""

import math
from dataclasses import dataclass

import torch

from kws.evaluation.validation import ValidationCounts

LEAST = 0.002  # an adaptive share below this is none


def share_at(step: int, first: int, share: float, schedule: str, ramp_steps: int) -> float:
    """The replayed share of the batch at `step`.

    Args:
        step: training step.
        first: step from which the buffer is replayed: that of the first mining round, 0 where clips were there before.
        share: the share in the end, 0 to 0.5; for adaptive the one it stands at.
        schedule: constant, linear, cosine or adaptive.
        ramp_steps: steps until a linear or cosine ramp is up, at least 0.
    """
    if step < first:
        return 0.0
    ramped = schedule in ("linear", "cosine") and ramp_steps > 0
    part = min(1.0, (step - first) / ramp_steps) if ramped else 1.0
    return share * (part if schedule != "cosine" else (1 - math.cos(math.pi * part)) / 2)


@dataclass(frozen=True)
class Guard:
    """What an adaptive share is steered by.

    Args:
        target_fa_per_hour: false alarms on the validation stream above which the share rises.
        miss_rate: misses of held-out positives above which it falls, 0 to 1.
        rise: how much it rises at a time.
        most: the highest share.
    """

    target_fa_per_hour: float
    miss_rate: float
    rise: float
    most: float


def adapted(share: float, seen: ValidationCounts, guard: Guard) -> tuple[float, str]:
    """The next share, and the reason for it.

    Additive increase, multiplicative decrease (Chiu & Jain, 1989): recall is lost faster than false alarms are won, so
    the guard goes first and halves.
    """
    missed = f"{seen.misses} of {seen.events} held-out positives missed"
    alarms = f"{seen.false_alarms} false alarms in {seen.hours:.2f} h"
    if seen.misses > guard.miss_rate * seen.events:
        lower = share / 2 if share / 2 >= LEAST else 0.0
        way = "falls" if share else "stays at 0"
        return lower, f"{missed}, above the guard of {guard.miss_rate:.1%}: {way}"
    if seen.false_alarms > guard.target_fa_per_hour * seen.hours:
        if share >= guard.most:
            return guard.most, f"{alarms}, above {guard.target_fa_per_hour:g}/h, but the share is at its highest"
        higher = min(guard.most, share + guard.rise)
        return higher, f"{alarms}, above {guard.target_fa_per_hour:g}/h: rises"
    return share, f"{alarms}, {missed}: both within bounds"


def stochastic_round(value: float, rng: torch.Generator) -> int:
    """`value` rounded up as often as its fraction says: right on average over batches, never off by a whole clip."""
    return int(value + torch.rand(1, generator=rng).item())
