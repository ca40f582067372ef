"""Every threshold at once: how often a detector fires, and what it misses, from the lowest score to the highest.

A detector's firings are a chain: the first row that reaches the threshold, then the first one after its silence, and
so on. As the threshold rises past a score, that row falls out. Where it was no firing nothing changes; where it was,
the chain is laid anew from there, and only until it meets the old one. So the rows are taken out one by one, lowest
first, and the counts of all thresholds are exact, at about the cost of sorting the scores. Only a track that rises row
by row for hours would cost more: there two chains never meet.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from kws.data.streams import Span
from kws.detector.streaming import ScoreTrack


@dataclass(frozen=True, eq=False)
class Sweep:
    """What one track counts at every threshold.

    Entry i holds for each threshold above scores[i - 1], up to and with scores[i]; above the last nothing fires.

    Args:
        scores: the distinct scores of the track, rising.
        firings: how often the detector fires; never rises.
        missed: spans that hold no firing; it may fall too, as a firing just before a span silences those in it.
        spans_n: how many spans there are.
        hours: length of the track.

    Shape: scores float64 [U], firings and missed int64 [U].
    """

    scores: NDArray[np.float64]
    firings: NDArray[np.int64]
    missed: NDArray[np.int64]
    spans_n: int
    hours: float

    def counts(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Firings and missed spans at each of some thresholds. Shape: [N], both [N]."""
        i = np.searchsorted(self.scores, thresholds)
        return np.append(self.firings, 0)[i], np.append(self.missed, self.spans_n)[i]

    def at(self, threshold: float) -> tuple[int, int]:
        """Firings and missed spans at one threshold."""
        firings, missed = self.counts(np.array([threshold]))
        return int(firings[0]), int(missed[0])

    def threshold_for(self, allowed: float) -> float:
        """The smallest threshold at which it fires `allowed` times or less: one float64 above a score, or above 0.

        There is one, since a higher threshold never fires more often: a chain of firings is the largest set of rows a
        silence apart (interval scheduling, earliest first), and of fewer rows none is larger.
        """
        i = int(np.searchsorted(-self.firings, -allowed))  # the first entry with so few
        return float(np.nextafter(max(0.0, self.scores[i - 1]) if i else 0.0, np.inf))


def sweep(track: ScoreTrack, refractory_s: float = 1.0, spans: Sequence[Span] = ()) -> Sweep:
    """Count what `detect.fires` and `detect.misses` count, at every threshold.

    Args:
        track: scores along a stream.
        refractory_s: seconds of silence after each firing, 0 or more.
        spans: (start, end) of each event in seconds, both inclusive; they may overlap.
    """
    # Of equal scores the last goes first: the chain before it then stays, however long silence scores the same.
    order = len(track.scores) - 1 - np.argsort(track.scores[::-1], kind="stable")
    ranked = track.scores[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))  # where each distinct score begins
    bounds = np.asarray(spans, dtype=np.float64).reshape(-1, 2)
    first = np.searchsorted(track.times, bounds[:, 0])
    last = np.maximum(first, np.searchsorted(track.times, bounds[:, 1], side="right"))
    # The spans of row i are holding[begin[i] : begin[i + 1]].
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, b) for a, b in zip(first, last, strict=True))])
    holding = np.repeat(np.arange(len(bounds)), last - first)[np.argsort(rows, kind="stable")]
    begin = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(track.times)))])
    firings, missed = _taken_out(track.times, order, starts, float(refractory_s), holding, begin, len(bounds))
    return Sweep(ranked[starts].astype(np.float64), firings, missed, len(bounds), track.hours)


@numba.njit(cache=True)
def _next(after: NDArray[np.int32], i: int) -> int:
    """The first row from i on that is still in (disjoint sets; Tarjan, 1975, with path halving)."""
    while after[i] != i:
        after[i] = after[after[i]]
        i = after[i]
    return i


@numba.njit(cache=True)
def _over(times: NDArray[np.float64], refractory_s: float) -> NDArray[np.int32]:
    """The first row that the silence after each row lets through."""
    n = len(times)
    over = np.empty(n, np.int32)
    j = 0
    for i in range(n):
        j = max(j, i + 1)
        while j < n and times[j] - times[i] < refractory_s:
            j += 1
        over[i] = j
    return over


@numba.njit(cache=True)
def _touch(inside: NDArray[np.int64], spans: NDArray[np.int64], firings: int) -> int:
    """Add so many firings to these spans; how many more spans are missed for it."""
    missed = 0
    for s in spans:
        before = inside[s] == 0
        inside[s] += firings
        missed += (inside[s] == 0) - before
    return missed


@numba.njit(cache=True)
def _taken_out(
    times: NDArray[np.float64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    refractory_s: float,
    holding: NDArray[np.int64],
    begin: NDArray[np.int64],
    spans_n: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Firings and missed spans before each distinct score is taken out."""
    n = len(times)
    over = _over(times, refractory_s)
    after = np.arange(n + 1).astype(np.int32)
    fires = np.zeros(n, np.bool_)
    inside = np.zeros(spans_n, np.int64)  # firings in each span
    count, missed = 0, spans_n
    i = 0
    while i < n:  # the chain of the lowest threshold, with all rows in
        fires[i] = True
        count += 1
        missed += _touch(inside, holding[begin[i] : begin[i + 1]], 1)
        i = over[i]
    all_firings, all_missed = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
    u = 0
    for place in range(n):
        if u < len(starts) and starts[u] == place:
            all_firings[u], all_missed[u] = count, missed
            u += 1
        gone = order[place]
        after[gone] = gone + 1
        if not fires[gone]:
            continue
        # The old chain goes on at `old`, the new one at `new`; the one that lies behind moves, until they meet.
        new, old = _next(after, gone + 1), _next(after, over[gone])
        while True:
            fires[gone] = False
            count -= 1
            missed += _touch(inside, holding[begin[gone] : begin[gone + 1]], -1)
            while new < old:
                fires[new] = True
                count += 1
                missed += _touch(inside, holding[begin[new] : begin[new + 1]], 1)
                new = _next(after, over[new])
            if new == old:  # they have met, if only at the end
                break
            gone = old
            old = _next(after, over[old])
    return all_firings, all_missed
