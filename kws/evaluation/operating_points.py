"""Operating points: misses and false alarms at a threshold, and thresholds for a false-alarm rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kws.common.errors import KwsError
from kws.evaluation.intervals import evidence, poisson, wilson
from kws.evaluation.threshold_sweep import Sweep

MISSED, ALARMS = 0.5, 100.0  # a detector is useless from this share of misses, or false alarms an hour, on
RATES = (0.0, 0.1, 0.5, 1.0, 2.0)  # false alarms per hour at which results are given


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
class OperatingPoint:
    """Misses on a positive stream and false alarms on a negative one, at one threshold.

    `wanted_fa_per_hour` is the rate that the threshold was chosen for, None for a given threshold. `fa_low` and
    `fa_high` are the 95 % interval of the rate per hour. Rates are NaN where there are no events, or no hours.
    """

    wanted_fa_per_hour: float | None
    threshold: float
    false_alarms: int
    hours: float
    fa_per_hour: float
    fa_low: float
    fa_high: float
    misses: int
    events: int
    miss_rate: float
    miss_low: float
    miss_high: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Misses against false alarms: one entry for each threshold at which either changes, from the lowest threshold.

    Shape: thresholds float64 [N], false_alarms and misses int64 [N].
    """

    thresholds: NDArray[np.float64]
    false_alarms: NDArray[np.int64]
    misses: NDArray[np.int64]
    hours: float
    events: int


@dataclass(frozen=True)
class Calibration:
    """A threshold chosen on validation streams for a wanted false-alarm rate, with the evidence for that rate.

    `threshold` is a float32 number, so that comparisons in float32 and float64 agree. `supported` is False where the
    negative stream is too short for a single false alarm at the `wanted` rate (per hour). `fa_high` is the upper end of
    the 95 % interval of the rate. `note` sums up the evidence.
    """

    threshold: float
    wanted: float
    false_alarms: int
    hours: float
    fa_high: float
    supported: bool
    note: str


def threshold_for(negative: Sweep, rate_per_hour: float) -> float:
    """The smallest threshold with at most `rate_per_hour` (0 or more) times the hours false alarms."""
    if not rate_per_hour >= 0:
        raise KwsError(f"the false-alarm rate must be 0 or more per hour, not {rate_per_hour}")
    return negative.threshold_for(rate_per_hour * negative.hours)


def at_threshold(positive: Sweep, negative: Sweep, threshold: float, wanted: float | None = None) -> OperatingPoint:
    """Count misses and false alarms at one threshold.

    Args:
        positive: sweep of the stream with the keyword, with the spans of its events.
        negative: sweep of the stream without it; several streams are joined first.
        threshold: the detector triggers at scores >= threshold.
        wanted: false alarms per hour that the threshold was chosen for, stored in the result.
    """
    events, hours = positive.spans_n, negative.hours
    alarms, missed = negative.at(threshold)[0], positive.at(threshold)[1]
    rates = (alarms / hours, *poisson(alarms, hours)) if hours else (math.nan, 0.0, math.inf)
    miss_rate = missed / events if events else math.nan
    return OperatingPoint(
        wanted, float(threshold), alarms, hours, *rates, missed, events, miss_rate, *wilson(missed, events)
    )


def useless(point: OperatingPoint) -> str:
    """Why nobody can use a detector at this threshold; empty where somebody can."""
    why = []
    if misses_many(point):
        why.append(f"misses {point.misses} of {point.events} keywords")
    if point.fa_per_hour >= ALARMS and point.fa_low >= ALARMS / 10:  # a single false alarm in seconds shows little
        why.append(f"triggers {point.fa_per_hour:.0f} times an hour without the keyword")
    return f"useless at its threshold: {' and '.join(why)}" if why else ""


def misses_many(point: OperatingPoint) -> bool:
    """Whether a detector misses so many keywords that it is useless. One miss of two keywords shows little."""
    return point.miss_rate >= MISSED and point.miss_low >= MISSED / 2


def operating_points(positive: Sweep, negative: Sweep, rates: Sequence[float] = RATES) -> list[OperatingPoint]:
    """The operating point at `threshold_for` each false-alarm rate (per hour); none without a negative stream."""
    if not negative.hours:
        return []
    return [at_threshold(positive, negative, threshold_for(negative, rate), rate) for rate in rates]


def wanted_text(rates: Sequence[float | None]) -> str:
    """What a threshold is for: `for 0 to 1/h`, wanted rates that it gives, or `calibrated`, that of the detector."""
    if rates[0] is None:
        return "calibrated"
    return "for " + " to ".join(f"{rate:g}" for rate in dict.fromkeys((rates[0], rates[-1]))) + "/h"


def curve(positive: Sweep, negative: Sweep, max_fa_per_hour: float = 20.0) -> Curve:
    """Misses and false alarms at every threshold with at most `max_fa_per_hour`."""
    lowest = threshold_for(negative, max_fa_per_hour)
    scores = np.union1d(positive.scores, negative.scores)
    # Counts change just above a score. Above the highest score nothing triggers.
    thresholds = np.unique(np.append(lowest, np.nextafter(scores[scores >= lowest], np.inf)))
    alarms, missed = negative.counts(thresholds)[0], positive.counts(thresholds)[1]
    new = np.append(True, (np.diff(alarms) != 0) | (np.diff(missed) != 0))
    return Curve(thresholds[new], alarms[new], missed[new], negative.hours, positive.spans_n)


def calibrate(negative: Sweep, positive: Sweep | None, rate_per_hour: float, passes: int = 1) -> Calibration:
    """Choose the threshold for a false-alarm rate on validation streams.

    Where `rate_per_hour` times the hours is below 1, no false alarm is allowed and the threshold lies just above the
    highest negative score. That is a guess, not a measurement, and the note says so.

    Args:
        negative: sweep of the validation streams without the keyword.
        positive: sweep of those with it, or None; only the note needs it.
        rate_per_hour: wanted false alarms per hour, 0 or more.
        passes: copies of the same recordings in `negative`, each under other noise. More passes place the threshold
            better, but are no more evidence: hours, false alarms (rounded up) and bound are those of one pass.
    """
    exact = threshold_for(negative, rate_per_hour)
    threshold = float(np.float32(exact))
    if threshold < exact:  # the next float32: no score lies between, so both give equal counts
        threshold = float(np.nextafter(np.float32(exact), np.float32(np.inf)))
    alarms, hours = math.ceil(negative.at(threshold)[0] / passes), negative.hours / passes
    note = evidence(alarms, hours, rate_per_hour)
    if passes > 1:
        note += f"; scored {passes} times, under different noise"
    if positive is not None and positive.spans_n:
        note += f"; {positive.at(threshold)[1]} of {positive.spans_n} events missed"
    high = poisson(alarms, hours)[1]
    return Calibration(threshold, rate_per_hour, alarms, hours, high, supports(hours, rate_per_hour), note)


def supports(hours: float, rate_per_hour: float) -> bool:
    """Whether the hours can place a threshold for the rate: the rate must allow at least one false alarm in them."""
    return rate_per_hour * hours >= 1


def require_hours(hours: float, rate_per_hour: float) -> None:
    """Raise KwsError if the validation hours do not support the rate; the message names the lowest rate they do."""
    if not supports(hours, rate_per_hour):
        digits = 10 ** (1 - math.floor(math.log10(1 / hours))) if hours else 1
        lowest = (
            f"at least {math.ceil(digits / hours) / digits:g} (one false alarm in those hours)" if hours else "unset"
        )
        raise KwsError(
            f"threshold.at_fa_per_hour={rate_per_hour:g}: {hours:.2f} h of validation negatives are too few to place a "
            f"threshold for this rate; must be {lowest}, or set threshold.unsupported=guess to place the threshold "
            "just above the highest negative score"
        )
