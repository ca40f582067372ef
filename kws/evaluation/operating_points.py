"""Operating points: misses and false alarms at a threshold, and thresholds for a false-alarm rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.text import plural
from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.threshold_sweep import Sweep

MISSED, ALARMS = 0.5, 100.0  # a detector is useless from this share of misses, or false alarms an hour, on
RATES = (0.0, 0.1, 0.5, 1.0, 2.0)  # false alarms per hour at which results are given


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


def with_events(point: OperatingPoint, misses: int, events: int) -> OperatingPoint:
    """The same point with the misses of some of its events alone."""
    low, high = wilson(misses, events)
    share = misses / events if events else math.nan
    return replace(point, misses=misses, events=events, miss_rate=share, miss_low=low, miss_high=high)


def useless(point: OperatingPoint) -> str:
    """Why nobody can use a detector at this threshold; empty where somebody can."""
    why = []
    if misses_many(point):
        why.append(f"misses {plural(point.misses, 'keyword', point.events)}")
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
    """What a threshold is for: `for 0 to 1 FA/h`, wanted rates that it gives, or `calibrated`, that of the detector."""
    if rates[0] is None:
        return "calibrated"
    return "for " + " to ".join(f"{rate:g}" for rate in dict.fromkeys((rates[0], rates[-1]))) + " FA/h"


def curve(positive: Sweep, negative: Sweep) -> Curve:
    """Misses and false alarms at every threshold above 0."""
    scores = np.union1d(positive.scores, negative.scores)
    # Counts change just above a score. Above the highest score nothing triggers.
    thresholds = np.unique(np.nextafter(np.append(0.0, scores[scores > 0]), np.inf))
    alarms, missed = negative.counts(thresholds)[0], positive.counts(thresholds)[1]
    new = np.append(True, (np.diff(alarms) != 0) | (np.diff(missed) != 0))
    return Curve(thresholds[new], alarms[new], missed[new], negative.hours, positive.spans_n)
