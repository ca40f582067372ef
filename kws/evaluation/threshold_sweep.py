"""Triggers and misses at every threshold, exactly, in one sweep over the scores.

The triggers of a detector are a chain: the first row that reaches the threshold, then the first one after the
refractory time, and so on. The sweep removes rows from the lowest score to the highest. Removing a row that is no
trigger changes nothing. Removing a trigger rebuilds the chain from there, until the new chain meets the old one. The
cost is about that of sorting the scores, except for a track that rises row by row for hours, where the two chains never
meet.
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
    """Triggers and missed spans of one track at every threshold.

    Entry i holds for thresholds above scores[i - 1], up to and including scores[i]. Above the last score nothing
    triggers.

    Args:
        scores: distinct scores of the track, ascending.
        triggers: number of triggers, never rising.
        missed: number of spans without a trigger. The number can fall: a trigger just before a span silences the span.
        spans_n: number of spans.
        hours: length of the track.

    Shape: scores float64 [U], triggers and missed int64 [U].
    """

    scores: NDArray[np.float64]
    triggers: NDArray[np.int64]
    missed: NDArray[np.int64]
    spans_n: int
    hours: float

    def counts(self, thresholds: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Numbers of triggers and of missed spans at each threshold. Shape: thresholds [N], returns [N] and [N]."""
        i = np.searchsorted(self.scores, thresholds)
        return np.append(self.triggers, 0)[i], np.append(self.missed, self.spans_n)[i]

    def at(self, threshold: float) -> tuple[int, int]:
        """Numbers of triggers and of missed spans at one threshold."""
        triggers, missed = self.counts(np.array([threshold]))
        return int(triggers[0]), int(missed[0])

    def threshold_for(self, max_triggers: float) -> float:
        """The smallest threshold with at most `max_triggers`: the next float64 above a score, or above 0.

        A higher threshold never triggers more often. The chain of triggers is the largest set of rows that are a
        refractory time apart (interval scheduling, earliest first), and fewer rows give no larger set.
        """
        i = int(np.searchsorted(-self.triggers, -max_triggers))
        return float(np.nextafter(max(0.0, self.scores[i - 1]) if i else 0.0, np.inf))


def sweep(track: ScoreTrack, refractory_s: float = 1.0, spans: Sequence[Span] = ()) -> Sweep:
    """Count triggers and misses as `events.trigger_times` and `events.misses` do, at every threshold.

    Args:
        track: scores along a stream.
        refractory_s: seconds of silence after each trigger, 0 or more.
        spans: (start, end) of each event in seconds, both inclusive; they may overlap.
    """
    if not len(track.scores):  # no stream
        nothing = np.zeros(0, np.int64)
        return Sweep(np.zeros(0), nothing, nothing, len(spans), track.hours)
    # The last of equal scores is removed first: the chain before it stays, however long a constant score lasts.
    order = len(track.scores) - 1 - np.argsort(track.scores[::-1], kind="stable")
    ranked = track.scores[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1]))  # first row of each distinct score
    bounds = np.asarray(spans, dtype=np.float64).reshape(-1, 2)
    first = np.searchsorted(track.times, bounds[:, 0])
    last = np.maximum(first, np.searchsorted(track.times, bounds[:, 1], side="right"))
    # The spans of row i are holding[begin[i] : begin[i + 1]].
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(a, b) for a, b in zip(first, last, strict=True))])
    holding = np.repeat(np.arange(len(bounds)), last - first)[np.argsort(rows, kind="stable")]
    begin = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(track.times)))])
    # Arrays of Ray are read-only, which would be another signature. See `_remove_rows`.
    times = np.require(track.times, np.float64, ["C", "W"])
    triggers, missed = _remove_rows(times, order, starts, float(refractory_s), holding, begin, len(bounds))
    return Sweep(ranked[starts].astype(np.float64), triggers, missed, len(bounds), track.hours)


@numba.njit(cache=False)
def _next(after: NDArray[np.int32], i: int) -> int:
    """The first row from i on that is not removed (disjoint sets; Tarjan, 1975, with path halving)."""
    while after[i] != i:
        after[i] = after[after[i]]
        i = after[i]
    return i


@numba.njit(cache=False)
def _after_silence(times: NDArray[np.float64], refractory_s: float) -> NDArray[np.int32]:
    """For each row, the first row after its refractory time."""
    n = len(times)
    over = np.empty(n, np.int32)
    j = 0
    for i in range(n):
        j = max(j, i + 1)
        while j < n and times[j] - times[i] < refractory_s:
            j += 1
        over[i] = j
    return over


@numba.njit(cache=False)
def _touch(inside: NDArray[np.int64], spans: NDArray[np.int64], triggers: int) -> int:
    """Add a number of triggers to some spans, and return by how much the number of missed spans grows."""
    missed = 0
    for s in spans:
        before = inside[s] == 0
        inside[s] += triggers
        missed += (inside[s] == 0) - before
    return missed


@numba.njit(cache=True)
def _remove_rows(
    times: NDArray[np.float64],
    order: NDArray[np.int64],
    starts: NDArray[np.int64],
    refractory_s: float,
    holding: NDArray[np.int64],
    begin: NDArray[np.int64],
    spans_n: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of triggers and missed spans before each distinct score is removed.

    Only this function is cached, and it always has one signature. Numba numbers the cached signatures of a function:
    two processes that compile different ones at the same time would store both under one number, and a later process
    would run the code of the wrong one.
    """
    n = len(times)
    over = _after_silence(times, refractory_s)
    after = np.arange(n + 1).astype(np.int32)
    is_trigger = np.zeros(n, np.bool_)
    inside = np.zeros(spans_n, np.int64)  # triggers in each span
    count, missed = 0, spans_n
    i = 0
    while i < n:  # the chain of the lowest threshold, with all rows
        is_trigger[i] = True
        count += 1
        missed += _touch(inside, holding[begin[i] : begin[i + 1]], 1)
        i = over[i]
    all_triggers, all_missed = np.empty(len(starts), np.int64), np.empty(len(starts), np.int64)
    u = 0
    for place in range(n):
        if u < len(starts) and starts[u] == place:
            all_triggers[u], all_missed[u] = count, missed
            u += 1
        gone = order[place]
        after[gone] = gone + 1
        if not is_trigger[gone]:
            continue
        # The old chain continues at `old`, the new one at `new`. The one behind moves on until they meet.
        new, old = _next(after, gone + 1), _next(after, over[gone])
        while True:
            is_trigger[gone] = False
            count -= 1
            missed += _touch(inside, holding[begin[gone] : begin[gone + 1]], -1)
            while new < old:
                is_trigger[new] = True
                count += 1
                missed += _touch(inside, holding[begin[new] : begin[new + 1]], 1)
                new = _next(after, over[new])
            if new == old:  # the chains have met, at the latest at the end
                break
            gone = old
            old = _next(after, over[old])
    return all_triggers, all_missed
