"""Triggers, hits, misses and false alarms of score tracks.

A detector triggers at the first row at or above the threshold and is then silent for the refractory time. A trigger
within the span of an event is a hit. A trigger on a negative stream is a false alarm. Hours are the length of the
stream.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.streams import Span
from kws.detector.streaming import ScoreTrack

Times = TypeVar("Times", float, NDArray[np.float64])


def trigger_times(track: ScoreTrack, threshold: float, refractory_s: float = 1.0) -> NDArray[np.float64]:
    """Times in seconds at which a detector triggers.

    Args:
        track: scores along a stream.
        threshold: compared in float64, since a threshold just above a float32 score would round onto the score.
        refractory_s: seconds of silence after each trigger, 0 or more.

    Shape: returns [number of triggers].
    """
    crossings = track.times[track.scores >= np.float64(threshold)].tolist()
    triggers: list[float] = []
    i = 0
    while i < len(crossings):
        last = crossings[i]
        triggers.append(last)
        # Skip the silence. The search compares differences, since `last + refractory_s` would round otherwise.
        i = bisect_left(crossings, refractory_s, lo=i + 1, key=lambda t: t - last)
    return np.asarray(triggers, dtype=np.float64)


def hits(triggers: NDArray[np.float64], spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Which spans (start, end; seconds, both inclusive) hold one of the sorted trigger times. Shape: [spans]."""
    start, end = np.asarray(spans, dtype=np.float64).reshape(-1, 2).T
    first = np.searchsorted(triggers, start)  # the first trigger that is not before the span
    return np.asarray(np.append(triggers, math.inf)[first] <= end)


def misses(triggers: NDArray[np.float64], spans: Sequence[Span]) -> int:
    """Number of spans that hold none of the sorted trigger times."""
    return int((~hits(triggers, spans)).sum())


def hit_times(triggers: NDArray[np.float64], spans: Sequence[Span]) -> NDArray[np.float64]:
    """The first of the sorted trigger times within each span, NaN for a miss. Shape: [spans]."""
    starts = np.asarray(spans, dtype=np.float64).reshape(-1, 2)[:, 0]
    first = np.append(triggers, math.inf)[np.searchsorted(triggers, starts)]
    return np.where(hits(triggers, spans), first, math.nan)


def event_peaks(track: ScoreTrack, spans: Sequence[Span]) -> NDArray[np.float32]:
    """The highest score within each span (start, end; seconds, both inclusive), 0 without a row. Shape: [spans]."""
    first = np.searchsorted(track.times, [start for start, _ in spans])
    last = np.searchsorted(track.times, [end for _, end in spans], side="right")
    pairs = zip(first.tolist(), last.tolist(), strict=True)
    return np.array([track.scores[a:b].max(initial=0) for a, b in pairs], np.float32)


@dataclass(frozen=True)
class Offset:
    """Place of a stream on the track that `join_tracks` makes.

    Args:
        before_s: length of all streams before this one, in seconds.
        lead_s: 10 s before the first stream, and the gaps before this one, in seconds.
    """

    before_s: float = 0.0
    lead_s: float = 0.0

    @property
    def start_s(self) -> float:
        """Start of the stream on the joined track, in seconds."""
        return self.shift(0.0)

    def shift(self, times: Times) -> Times:
        """Times in seconds of this stream, moved to the joined track.

        A gap of exactly the refractory time allows a new trigger, and a trigger on the edge of a span is a hit. So rows
        and spans are shifted by the same sums, in the order of the referee.
        """
        return times + self.before_s + self.lead_s


NO_OFFSET = Offset()  # of a stream that is not joined: its times stay as they are


def join_offsets(tracks: Sequence[ScoreTrack], gap_s: float = 0.0) -> list[Offset]:
    """Place of each stream on the track that `join_tracks` makes."""
    hours = np.cumsum([0.0, *(track.duration_s / 3600 for track in tracks)])[:-1].tolist()
    return [Offset(hour * 3600, 10 + i * gap_s) for i, hour in enumerate(hours)]


def join_tracks(
    tracks: Sequence[ScoreTrack], gap_s: float = 0.0, times: NDArray[np.float64] | None = None
) -> ScoreTrack:
    """Join streams one after another. The first starts at 10 s, and the refractory time runs on between streams.

    A single negative stream is joined too: shifted times round differently, which decides at gaps of exactly the
    refractory time.

    Args:
        tracks: at least one.
        gap_s: seconds between two streams, not part of the hours, so that no trigger silences the next stream.
        times: of the joined track, where they are known from another keyword's tracks.
    """
    if not tracks:
        raise KwsError("no negative stream: at least one is needed to count false alarms")
    if times is None:
        offsets = join_offsets(tracks, gap_s)
        times = np.concatenate([at.shift(track.times) for track, at in zip(tracks, offsets, strict=True)])
    scores = np.concatenate([track.scores for track in tracks])
    hours, silent_s = sum(track.duration_s / 3600 for track in tracks), sum(track.silent_s for track in tracks)
    return ScoreTrack(times, scores, tracks[0].duration_s if len(tracks) == 1 else hours * 3600, silent_s)
