"""Replay schedule: how much of a batch comes from the replay buffer."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import torch
from pydantic import Field

from kws.common.settings import SettingError
from kws.evaluation.validation import ValidationCounts

MIN_SHARE = 0.002  # an adaptive share below this becomes 0


class Schedule(StrEnum):
    """How the replayed share develops from the first mining round on."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"
    adaptive = "adaptive"


@dataclass
class ScheduleConfig:
    """How much of a batch is replayed."""

    share: Annotated[
        float,
        Field(ge=0, le=0.5, description="replayed share of a batch; 0: no replay"),
    ] = 0.1
    schedule: Annotated[Schedule, Field(description="rise of the share after the first mining round")] = Schedule.linear
    ramp_steps: Annotated[int, Field(ge=0, le=10**7, description="steps of a linear or cosine rise")] = 100
    max_miss_rate: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="validation keywords missed: above it an adaptive share halves, and a run with init goes back",
        ),
    ] = 0.1
    target_fa_per_hour: Annotated[
        float, Field(ge=0, le=10**5, description="adaptive: the share rises above this false alarm rate")
    ] = 2.0
    share_step: Annotated[float, Field(ge=0.001, le=0.5, description="adaptive: by how much the share rises")] = 0.02
    max_share: Annotated[float, Field(ge=0, le=0.5, description="adaptive: the highest share")] = 0.25
    steer_at_score: Annotated[
        float, Field(ge=0, le=1, description="adaptive: score threshold of validation alarms and hits")
    ] = 0.5
    steer_every: Annotated[int, Field(ge=1, le=10**7, description="adaptive: steps between two validations")] = 50

    def check(self) -> None:
        """Raise SettingError where an adaptive share begins above its maximum."""
        if self.schedule is Schedule.adaptive and self.share > self.max_share:
            raise SettingError("share", self.share, f"must be at most replay.max_share={self.max_share:g}")


def share_at(step: int, first: int, share: float, config: ScheduleConfig) -> float:
    """The replayed share of the batch at a step.

    Args:
        step: training step.
        first: step of the first mining round; 0 where the buffer held clips before.
        share: the share in the end, 0 to 0.5; of an adaptive schedule its present value.
        config: schedule and ramp.
    """
    if step < first:
        return 0.0
    ramped = config.schedule in (Schedule.linear, Schedule.cosine) and config.ramp_steps > 0
    part = min(1.0, (step - first) / config.ramp_steps) if ramped else 1.0
    return share * (part if config.schedule is not Schedule.cosine else (1 - math.cos(math.pi * part)) / 2)


def steered(share: float, seen: ValidationCounts, config: ScheduleConfig) -> tuple[float, str]:
    """The next share of an adaptive schedule, and the reason.

    Additive increase, multiplicative decrease (Chiu & Jain, 1989). Recall is lost faster than false alarms are won, so
    misses are checked first and halve the share.
    """
    missed = f"{seen.misses} of {seen.events} validation keywords missed"
    alarms = f"{seen.false_alarms} false alarms in {seen.hours:.2f} h"
    if seen.misses > config.max_miss_rate * seen.events:
        lower = share / 2 if share / 2 >= MIN_SHARE else 0.0
        return (
            lower,
            f"{missed}, above max_miss_rate of {config.max_miss_rate:.1%}: {'falls' if share else 'stays at 0'}",
        )
    if seen.false_alarms > config.target_fa_per_hour * seen.hours:
        target = f"{alarms}, above {config.target_fa_per_hour:g}/h"
        if share >= config.max_share:
            return config.max_share, f"{target}, but the share is at its maximum"
        return min(config.max_share, share + config.share_step), f"{target}: rises"
    return share, f"{alarms}, {missed}: both within bounds"


def stochastic_round(value: float, rng: torch.Generator) -> int:
    """Round `value` up with the probability of its fraction, so that the mean over batches is exact."""
    return int(value + torch.rand(1, generator=rng).item())
