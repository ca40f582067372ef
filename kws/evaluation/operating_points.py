"""Operating points: what a threshold costs, which one a wanted rate of false alarms takes, and what the hours show."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.evaluation.intervals import evidence, poisson, poisson_upper, wilson
from kws.evaluation.threshold_sweep import Sweep

RATES = (0.0, 0.1, 0.5, 1.0, 2.0)  # false alarms an hour at which detectors are told apart


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold costs: misses on a positive stream, false alarms on a negative one.

    `wanted_fa_per_hour` is the rate that the threshold was chosen for, None where it was given. `fa_low` and
    `fa_high` are the two-sided 95 % interval of the rate, `fa_upper95` its one-sided bound, all per hour.
    """

    wanted_fa_per_hour: float | None
    threshold: float
    false_alarms: int
    hours: float
    fa_per_hour: float
    fa_low: float
    fa_high: float
    fa_upper95: float
    misses: int
    events: int
    miss_rate: float
    miss_low: float
    miss_high: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Misses against false alarms, exactly: one entry for each threshold at which either changes, from the lowest.

    Shape: thresholds float64 [N], false_alarms and misses int64 [N].
    """

    thresholds: NDArray[np.float64]
    false_alarms: NDArray[np.int64]
    misses: NDArray[np.int64]
    hours: float
    events: int


@dataclass(frozen=True)
class Calibration:
    """A threshold chosen on validation streams, and what those can vouch for.

    `threshold` is a float32 number, so that a detector compares alike in either precision. `supported` is
    False where the negative stream is so short that the `wanted` rate (per hour) allows it no alarm at all;
    `note` says in one line what is known of the rate.
    """

    threshold: float
    wanted: float
    false_alarms: int
    hours: float
    fa_upper95: float
    supported: bool
    note: str


def threshold_for(negative: Sweep, rate_per_hour: float) -> float:
    """The smallest threshold whose false alarms stay within `rate_per_hour` (0 or more) times the hours.

    The referee searches its 20,000 highest rows only: the same, at 100 rows a second, wherever fewer than some 180
    alarms are allowed.
    """
    if not rate_per_hour >= 0:
        raise KwsError(f"the false-alarm rate must be 0 or more per hour, not {rate_per_hour}")
    return negative.threshold_for(rate_per_hour * negative.hours)


def at_threshold(positive: Sweep, negative: Sweep, threshold: float, wanted: float | None = None) -> OperatingPoint:
    """Count misses and false alarms at one threshold.

    Args:
        positive: of a stream in which the keyword is said, with the spans of each time.
        negative: of a stream in which it is not; several are joined first.
        threshold: fires at scores >= this.
        wanted: the false alarms per hour that the threshold was chosen for, for the record.
    """
    events, hours = positive.spans_n, negative.hours
    if not events:
        raise KwsError("the positive stream has no keyword event: at least one is needed to count misses")
    alarms, missed = negative.at(threshold)[0], positive.at(threshold)[1]
    false_alarms = (alarms, hours, alarms / hours, *poisson(alarms, hours), poisson_upper(alarms, hours))
    return OperatingPoint(
        wanted, float(threshold), *false_alarms, missed, events, missed / events, *wilson(missed, events)
    )


def operating_points(positive: Sweep, negative: Sweep, rates: Sequence[float] = RATES) -> list[OperatingPoint]:
    """The operating point at each wanted rate (false alarms per hour), at `threshold_for` that rate."""
    return [at_threshold(positive, negative, threshold_for(negative, rate), rate) for rate in rates]


def curve(positive: Sweep, negative: Sweep, max_fa_per_hour: float = 20.0) -> Curve:
    """Every count of misses and false alarms that some threshold gives, from no alarm up to a rate per hour."""
    lowest = threshold_for(negative, max_fa_per_hour)
    scores = np.union1d(positive.scores, negative.scores)
    # Counts change just above a score; above the highest nothing fires.
    thresholds = np.unique(np.append(lowest, np.nextafter(scores[scores >= lowest], np.inf)))
    alarms, missed = negative.counts(thresholds)[0], positive.counts(thresholds)[1]
    new = np.append(True, (np.diff(alarms) != 0) | (np.diff(missed) != 0))
    return Curve(thresholds[new], alarms[new], missed[new], negative.hours, positive.spans_n)


def calibrate(
    negative: Sweep,
    positive: Sweep | None,
    rate_per_hour: float,
    passes: int = 1,
) -> Calibration:
    """Choose the threshold for a wanted rate on validation streams, and say what they can vouch for.

    Where `rate_per_hour` times the hours is below 1 no alarm is allowed, and the threshold lies just above
    the highest negative score: that is a guess about the rate, not a measurement, and the note says so.

    Args:
        negative: of the validation streams without the keyword.
        positive: of those with it, or None where there are none; only the note needs it.
        rate_per_hour: wanted false alarms per hour, 0 or more.
        passes: times that `negative` holds the same recordings under other noise. They help to place the threshold, but
            are no new hours: hours, alarms (rounded up) and bound are those of one pass.
    """
    exact = threshold_for(negative, rate_per_hour)
    threshold = float(np.float32(exact))
    if threshold < exact:  # the next float32: no score lies between, so both count the same
        threshold = float(np.nextafter(np.float32(exact), np.float32(np.inf)))
    alarms, hours = math.ceil(negative.at(threshold)[0] / passes), negative.hours / passes
    note = evidence(alarms, hours, rate_per_hour)
    if passes > 1:
        note += f"; heard {passes} times, under other noise"
    if positive is not None and positive.spans_n:
        note += f"; {positive.at(threshold)[1]} of {positive.spans_n} events missed"
    bound = poisson_upper(alarms, hours)
    return Calibration(threshold, rate_per_hour, alarms, hours, bound, supports(hours, rate_per_hour), note)


def supports(hours: float, rate_per_hour: float) -> bool:
    """Can so many hours place a threshold for this rate? Only where it allows at least one alarm in them."""
    return rate_per_hour * hours >= 1


def demand_hours(hours: float, rate_per_hour: float) -> None:
    """Refuse a rate that the validation hours cannot support; raises KwsError that says which they can."""
    if not supports(hours, rate_per_hour):
        digits = 10 ** (1 - math.floor(math.log10(1 / hours))) if hours else 1
        least = f"{math.ceil(digits / hours) / digits:g}" if hours else "none"
        raise KwsError(
            f"threshold.at_fa_per_hour={rate_per_hour:g}: {hours:.2f} h of validation negatives are too few to place a "
            f"threshold for it; allowed is {least} or more (one alarm in those hours), or threshold.unsupported=guess, "
            "which puts it just above all that they score"
        )
