"""Scores -> events: when a detector fires, and what it missed.

A detector fires at its first row at or above the threshold and is then silent for the refractory time. An
event is hit when it fires within its span; what fires in a negative stream is a false alarm; hours are the
stream's own. The project's independent referee counts the same, number for number.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.streams import Span
from kws.detector.streaming import ScoreTrack


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


def answers(found: NDArray[np.float64], spans: Sequence[Span]) -> NDArray[np.float64]:
    """The first of the sorted firing times within each span, NaN where there is none. Shape: [spans]."""
    starts = np.asarray(spans, dtype=np.float64).reshape(-1, 2)[:, 0]
    first = np.append(found, math.inf)[np.searchsorted(found, starts)]
    return np.where(hits(found, spans), first, math.nan)


def event_peaks(track: ScoreTrack, spans: Sequence[Span]) -> NDArray[np.float32]:
    """The highest score within each of the spans (start, end; seconds, both inclusive), 0 where no row lies in one.

    Shape: returns [number of spans].
    """
    first = np.searchsorted(track.times, [start for start, _ in spans])
    last = np.searchsorted(track.times, [end for _, end in spans], side="right")
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    return np.array([track.scores[a:b].max(initial=0) for a, b in pairs], np.float32)


def offsets(tracks: Sequence[ScoreTrack], gap_s: float = 0.0) -> list[float]:
    """Where each of some streams begins on the track that `join` makes of them, in seconds."""
    ends = np.cumsum([0.0, *(track.hours for track in tracks)])[:-1]
    return [float(end * 3600 + 10 + i * gap_s) for i, end in enumerate(ends)]


def join(tracks: Sequence[ScoreTrack], gap_s: float = 0.0, times: NDArray[np.float64] | None = None) -> ScoreTrack:
    """Streams one after another as the referee lays negative ones: 10 s in, the refractory time running on.

    A single stream goes through here too: shifted times round otherwise, and gaps of just 1 s count.

    Args:
        tracks: at least one.
        gap_s: seconds between two, which are no part of the hours: no firing then reaches from one into the next.
        times: of the joined track where another keyword's has them already.
    """
    if not tracks:
        raise KwsError("no negative stream: at least one is needed to count false alarms")
    if times is None:
        times = np.concatenate([t.times + at for t, at in zip(tracks, offsets(tracks, gap_s), strict=True)])
    scores = np.concatenate([track.scores for track in tracks])
    hours = sum(track.hours for track in tracks)
    return ScoreTrack(times, scores, tracks[0].duration_s if len(tracks) == 1 else hours * 3600)
