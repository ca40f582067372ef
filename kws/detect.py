"""Scores -> events: when a detector fires, what it missed, and where to put its threshold.

A detector fires at its first row at or above the threshold and is then silent for the refractory time. An
event is hit when it fires within its span; what fires in a negative stream is a false alarm; hours are the
stream's own. The project's independent referee counts the same, number for number.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.errors import KwsError
from kws.metrics import evidence, poisson, poisson_upper, wilson

Span = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Track:
    """The scores of one keyword along one stream.

    Args:
        times: seconds from the stream's start at which each row is known, float64, never falling.
        scores: score of the keyword at each row in [0, 1], float32.
        duration_s: length of the stream in seconds, > 0.

    Shape: times [N], scores [N].
    """

    times: NDArray[np.float64]
    scores: NDArray[np.float32]
    duration_s: float

    def __post_init__(self) -> None:
        if self.times.ndim != 1 or self.times.shape != self.scores.shape:
            raise KwsError(f"a track's times {self.times.shape} and scores {self.scores.shape} must both be [N]")
        if not len(self.times):
            raise KwsError("a track has no row: the stream is shorter than the detector's window")
        if not 0 < self.duration_s < math.inf:
            raise KwsError(f"a track's duration_s must be above 0, not {self.duration_s}")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.times).all()):
            raise KwsError("a track holds non-finite scores or times: the model's output is broken")
        if (np.diff(self.times) < 0).any():
            raise KwsError("a track's times must never fall")

    @property
    def hours(self) -> float:
        """Length of the stream in hours."""
        return self.duration_s / 3600


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


@dataclass(frozen=True)
class Calibration:
    """A threshold chosen on validation tracks, and what those tracks can vouch for.

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


def fires(
    times: NDArray[np.float64], scores: NDArray[np.float32], threshold: float, refractory_s: float = 1.0
) -> NDArray[np.float64]:
    """Times in seconds at which a detector fires: at the first row with score >= threshold, then silent.

    Args:
        times: seconds, never falling.
        scores: one for each time.
        threshold: compared in float64, else a threshold just above a float32 score would round onto it.
        refractory_s: seconds of silence after each firing, 0 or more.

    Shape: times [N], scores [N], returns [number of firings].
    """
    crossings = times[scores >= np.float64(threshold)].tolist()
    found: list[float] = []
    i = 0
    while i < len(crossings):
        last = crossings[i]
        found.append(last)
        # Jump over the silence. The difference is searched, as `last + refractory_s` would round otherwise.
        i = bisect_left(crossings, refractory_s, lo=i + 1, key=lambda t: t - last)
    return np.asarray(found, dtype=np.float64)


def hits(found: NDArray[np.float64], spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Which of the spans (start, end; seconds, both inclusive) hold one of the sorted firing times. Shape: [spans]."""
    start, end = np.asarray(spans, dtype=np.float64).reshape(-1, 2).T
    first = np.searchsorted(found, start)  # the first firing that is not before the span
    return np.asarray(np.append(found, math.inf)[first] <= end)


def misses(found: NDArray[np.float64], spans: Sequence[Span]) -> int:
    """How many of the spans hold none of the sorted firing times."""
    return int((~hits(found, spans)).sum())


def event_peaks(track: Track, spans: Sequence[Span]) -> NDArray[np.float32]:
    """The highest score within each of the spans (start, end; seconds, both inclusive), 0 where no row lies in one.

    Shape: returns [number of spans].
    """
    first = np.searchsorted(track.times, [start for start, _ in spans])
    last = np.searchsorted(track.times, [end for _, end in spans], side="right")
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    return np.array([track.scores[a:b].max(initial=0) for a, b in pairs], np.float32)


def join(tracks: Sequence[Track]) -> Track:
    """Negative streams one after another as the referee lays them: 10 s in, the refractory time running on.

    A single stream goes through here too: shifted times round otherwise, and gaps of just 1 s count.
    """
    if not tracks:
        raise KwsError("no negative stream: at least one is needed to count false alarms")
    times, hours = [], 0.0
    for track in tracks:
        times.append(track.times + hours * 3600 + 10)
        hours += track.hours
    scores = np.concatenate([track.scores for track in tracks])
    return Track(np.concatenate(times), scores, tracks[0].duration_s if len(tracks) == 1 else hours * 3600)


def threshold_for(negative: Track, rate_per_hour: float, refractory_s: float = 1.0) -> float:
    """The smallest threshold whose false alarms stay within `rate_per_hour` times the hours of the track.

    It lies one float64 above a negative score (or above 0). Bisection over the sorted distinct scores is
    exact: greedy firing with a refractory time is a maximum packing of the crossings (interval scheduling,
    earliest first), and those of a higher threshold are a subset of those of a lower one, so the count never
    rises with the threshold. The referee searches its 20,000 highest rows only: the same, at 100 rows a
    second, wherever fewer than some 180 alarms are allowed.

    Args:
        negative: a track without the keyword; several streams are joined first.
        rate_per_hour: false alarms per hour, 0 or more.
        refractory_s: seconds of silence after each firing.
    """
    if not rate_per_hour >= 0:
        raise KwsError(f"the false-alarm rate must be 0 or more per hour, not {rate_per_hour}")
    allowed = rate_per_hour * negative.hours
    above = np.nextafter(np.unique(np.append(negative.scores.astype(np.float64), 0.0)), np.inf)

    def within(threshold: np.float64) -> bool:
        return len(fires(negative.times, negative.scores, threshold, refractory_s)) <= allowed

    # Above the highest score nothing fires, so the last one needs no look.
    return float(above[bisect_left(above, True, hi=len(above) - 1, key=within)])


def at_threshold(
    positive: Track,
    spans: Sequence[Span],
    negative: Track,
    threshold: float,
    refractory_s: float = 1.0,
    wanted: float | None = None,
) -> OperatingPoint:
    """Count misses and false alarms at one threshold.

    Args:
        positive: track of a stream in which the keyword is said.
        spans: (start, end) of each time it is said, seconds of that stream; at least one.
        negative: track of a stream in which it is not; several are joined first.
        threshold: fires at scores >= this.
        refractory_s: seconds of silence after each firing.
        wanted: the false alarms per hour that the threshold was chosen for, for the record.
    """
    if not spans:
        raise KwsError("the positive stream has no keyword event: at least one is needed to count misses")
    alarms = len(fires(negative.times, negative.scores, threshold, refractory_s))
    missed = misses(fires(positive.times, positive.scores, threshold, refractory_s), spans)
    hours = negative.hours
    false_alarms = (alarms, hours, alarms / hours, *poisson(alarms, hours), poisson_upper(alarms, hours))
    miss = (missed, len(spans), missed / len(spans), *wilson(missed, len(spans)))
    return OperatingPoint(wanted, float(threshold), *false_alarms, *miss)


def operating_points(
    positive: Track,
    spans: Sequence[Span],
    negative: Track,
    rates: Sequence[float] = (0, 0.1, 0.5, 1, 2),
    refractory_s: float = 1.0,
) -> list[OperatingPoint]:
    """The operating point at each wanted rate (false alarms per hour), at `threshold_for` that rate."""
    return [
        at_threshold(positive, spans, negative, threshold_for(negative, r, refractory_s), refractory_s, r)
        for r in rates
    ]


def calibrate(
    negative: Track,
    positive: Track | None,
    spans: Sequence[Span],
    rate_per_hour: float,
    refractory_s: float = 1.0,
    passes: int = 1,
) -> Calibration:
    """Choose the threshold for a wanted rate on validation tracks, and say what they can vouch for.

    Where `rate_per_hour` times the hours is below 1 no alarm is allowed, and the threshold lies just above
    the highest negative score: that is a guess about the rate, not a measurement, and the note says so.

    Args:
        negative: validation track without the keyword; several streams are joined first.
        positive: validation track with it, or None where there is none; only the note needs it.
        spans: (start, end) in seconds of each event of `positive`.
        rate_per_hour: wanted false alarms per hour, 0 or more.
        refractory_s: seconds of silence after each firing.
        passes: times that `negative` holds the same recordings under other noise. They help to place the threshold, but
            are no new hours: hours, alarms (rounded up) and bound are those of one pass.
    """
    exact = threshold_for(negative, rate_per_hour, refractory_s)
    threshold = float(np.float32(exact))
    if threshold < exact:  # the next float32: no score lies between, so both count the same
        threshold = float(np.nextafter(np.float32(exact), np.float32(np.inf)))
    alarms = len(fires(negative.times, negative.scores, threshold, refractory_s))
    alarms, hours = math.ceil(alarms / passes), negative.hours / passes
    bound = poisson_upper(alarms, hours)
    supported = rate_per_hour * hours >= 1
    note = evidence(alarms, hours, rate_per_hour)
    if passes > 1:
        note += f"; heard {passes} times, under other noise"
    if positive is not None and spans:
        missed = misses(fires(positive.times, positive.scores, threshold, refractory_s), spans)
        note += f"; {missed} of {len(spans)} events missed"
    return Calibration(threshold, rate_per_hour, alarms, hours, bound, supported, note)
