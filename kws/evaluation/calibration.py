"""Calibration: the threshold for a rate of false alarms, from the tail of the validation scores."""

import math
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from kws.common.errors import KwsError
from kws.common.text import plural
from kws.evaluation.intervals import duration_text, poisson, rate_text
from kws.evaluation.operating_points import threshold_for
from kws.evaluation.threshold_sweep import Sweep

TAIL_PER_HOUR = 30.0  # the tail begins at the score that so many triggers an hour reach
TAIL_N = 60  # or that so many triggers reach, where there are more hours
FEWEST = 30  # triggers that a tail is fitted to, at least
FACTOR = 4.0  # a rate is supported if the interval of the fit is no wider than this, up and down
HIGHEST = 1 - 2.0**-24  # a score that rounds to 1 has no logit
Z = 1.96  # the 97.5 % point of the normal distribution


class Unsupported(StrEnum):
    """What to do where the validation hours are too few for a rate of false alarms."""

    refuse = auto()
    guess = auto()


@dataclass
class ThresholdConfig:
    """Calibration of the thresholds, on validation streams."""

    at_fa_per_hour: Annotated[
        float | None, Field(ge=0, le=1000, description="false alarms an hour that the threshold is chosen for")
    ] = 0.5
    unsupported: Annotated[
        Unsupported, Field(description="where the validation hours cannot support that rate: refuse, or guess anyway")
    ] = Unsupported.refuse
    passes: Annotated[
        int, Field(ge=1, le=100, description="passes over the validation negatives, each under other noise")
    ] = 3


@dataclass(frozen=True)
class Calibration:
    """A threshold chosen on validation streams for a wanted false-alarm rate, with the evidence for that rate.

    `threshold` is a float32 number, so that comparisons in float32 and float64 agree. `supported` is False where the
    hours are too few for the `wanted` rate (per hour). `fa_low` and `fa_high` are the 95 % interval of the rate at the
    threshold, per hour. `note` sums up the evidence.
    """

    threshold: float
    wanted: float
    false_alarms: int
    hours: float
    fa_low: float
    fa_high: float
    supported: bool
    note: str


class Tail(NamedTuple):
    """Triggers above a high score: their rate per hour there, and the mean of what their logits exceed it by."""

    logit: float
    per_hour: float
    mean_excess: float
    n: int

    def threshold(self, rate_per_hour: float) -> float:
        """The score that `rate_per_hour` triggers reach, a rate above 0 and at most that of the tail."""
        logit = self.logit + self.mean_excess * math.log(self.per_hour / rate_per_hour)
        return 1 / (1 + math.exp(-logit))


def calibrate(negative: Sweep, positive: Sweep | None, rate_per_hour: float, passes: int = 1) -> Calibration:
    """Choose the threshold for a false-alarm rate on validation streams.

    The logits of the highest triggers exceed a high score by an amount that is exponentially distributed (peaks over
    a threshold: Davison & Smith, 1990, with shape 0), so that rates far below one alarm in the validation hours have a
    threshold too. Where the hours hold more than `TAIL_N` false alarms at the wanted rate, they are counted instead.
    Where they are too few for a tail, and for the rate 0, the threshold lies just above the highest negative score.

    Args:
        negative: sweep of the validation streams without the keyword.
        positive: sweep of those with it, or None; only the note needs it.
        rate_per_hour: wanted false alarms per hour, 0 or more.
        passes: copies of the same recordings in `negative`, each under other noise. More passes place the threshold
            better, but are no more evidence: hours, false alarms (rounded up) and interval are those of one pass.
    """
    hours = negative.hours / passes
    tail = tail_of(negative, hours, passes) if 0 < rate_per_hour < tail_per_hour(hours) else None
    threshold = above(threshold_for(negative, rate_per_hour) if tail is None else tail.threshold(rate_per_hour))
    alarms = math.ceil(negative.at(threshold)[0] / passes)
    if tail is not None and (rate_per_hour >= tail.per_hour or poisson(alarms, hours)[0] > rate_per_hour):
        # The scores have another tail than assumed: some negatives may hold the keyword.
        tail, threshold = None, above(threshold_for(negative, rate_per_hour))
        alarms = math.ceil(negative.at(threshold)[0] / passes)
    note = f"{plural(alarms, 'false alarm')} in {duration_text(hours)}"
    if tail is None:
        low, high = poisson(alarms, hours)
        supported = bool(rate_per_hour) and high <= FACTOR * rate_per_hour
    else:
        factor = spread(hours, rate_per_hour)
        low, high, supported = rate_per_hour / factor, rate_per_hour * factor, factor <= FACTOR
        note += f", {rate_per_hour:g}/h by the tail of the {tail.n} highest scores"
    note += f" (95 %: {rate_text(low)} to {rate_text(high)}/h)"
    if passes > 1:
        note += f"; scored {passes} times, under different noise"
    if positive is not None and positive.spans_n:
        note += f"; {positive.at(threshold)[1]} of {positive.spans_n} events missed"
    return Calibration(threshold, rate_per_hour, alarms, hours, low, high, supported, note)


def above(score: float) -> float:
    """The score as a float32 number, or the next one above it: no score lies between, so both give equal counts."""
    nearest = float(np.float32(score))
    return nearest if nearest >= score else float(np.nextafter(np.float32(score), np.float32(np.inf)))


def tail_per_hour(hours: float) -> float:
    """The rate of triggers from which on scores count as the tail."""
    return min(TAIL_PER_HOUR, TAIL_N / hours) if hours else TAIL_PER_HOUR


def tail_of(negative: Sweep, hours: float, passes: int) -> Tail | None:
    """The tail of the triggers of a stream that holds `passes` times the same `hours`; None with too few triggers."""
    start = negative.threshold_for(tail_per_hour(hours) * negative.hours)
    first = int(np.searchsorted(negative.scores, start))
    scores, triggers = negative.scores[first:], negative.triggers[first:]
    per_hour = float(triggers[0]) / negative.hours if len(triggers) else 0.0
    if per_hour < tail_per_hour(hours) / 2 or triggers[0] < FEWEST * passes:  # or many scores are equal
        return None
    below = negative.scores[first - 1] if first else 0.0  # the highest score that is not in the tail
    scores = np.minimum(np.append(below or scores[0], scores), HIGHEST)
    logits = np.log(scores) - np.log1p(-scores)
    # The sum of all excesses is the area under the number of triggers.
    mean_excess = float((triggers * np.diff(logits)).sum() / triggers[0])
    if mean_excess <= 0:  # all of these scores are equal
        return None
    n = math.ceil(triggers[0] / passes)
    return Tail(float(logits[0]), per_hour, mean_excess, n)


def spread(hours: float, rate_per_hour: float) -> float:
    """By what factor the rate at a calibrated threshold may lie above or below the wanted one (95 %).

    That of a tail of as many triggers as these hours give: the variance of the logarithm of its rate is
    (1 + log(q)^2) / n, with n triggers of which each q-th is a false alarm at the wanted rate.
    """
    n = tail_per_hour(hours) * hours
    if not n or not rate_per_hour:
        return math.inf
    q = max(1.0, tail_per_hour(hours) / rate_per_hour)
    return math.exp(min(50.0, Z * math.sqrt((1 + math.log(q) ** 2) / max(n, rate_per_hour * hours))))


def supports(hours: float, rate_per_hour: float) -> bool:
    """Whether the hours can place a threshold for the rate to a factor of `FACTOR`: by a tail, or by counting."""
    if tail_per_hour(hours) * hours < FEWEST or rate_per_hour >= tail_per_hour(hours):
        counted = math.floor(rate_per_hour * hours)
        return counted > 0 and poisson(counted, hours)[1] <= FACTOR * rate_per_hour
    return spread(hours, rate_per_hour) <= FACTOR


def lowest_rate(hours: float) -> float:
    """About the lowest rate of false alarms an hour that the hours support; inf if they support none."""
    rates = (float(f"{10 ** (exponent / 20):.2g}") for exponent in range(-60, 61))  # from 0.001 to 1000 an hour
    return next((rate for rate in rates if supports(hours, rate)), math.inf)


def lowest_hours(rate_per_hour: float) -> float:
    """About the fewest hours that support a rate; inf for rate 0."""
    hours = (float(f"{10 ** (exponent / 20):.2g}") for exponent in range(-40, 101))
    return next((one for one in hours if supports(one, rate_per_hour)), math.inf) if rate_per_hour else math.inf


def require_hours(hours: float, rate_per_hour: float) -> None:
    """Raise KwsError if the validation hours do not support the rate; the message names the lowest rate they do."""
    if not supports(hours, rate_per_hour):
        lowest = lowest_rate(hours)
        rule = f"such as {lowest:g}" if math.isfinite(lowest) else "placed on more negatives"
        raise KwsError(
            f"threshold.at_fa_per_hour={rate_per_hour:g}: {duration_text(hours)} of validation negatives are too few "
            f"to place a threshold for this rate; must be {rule}, or set threshold.unsupported=guess to place it "
            "whatever the rate may turn out to be"
        )
