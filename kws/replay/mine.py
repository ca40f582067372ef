"""What comes into the buffer: false triggers of a stream, each with the sound that makes its score reproducible."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from kws.detect import Track, threshold_for


@dataclass(frozen=True)
class Trigger:
    """A false trigger: where it is, how high, and the clip around it.

    A detector that hears `pcm` (int16 [clip_n]) from silence gives `score` at row `row`: the clip begins on a row
    boundary of the stream and holds all that the row depends on.
    """

    pcm: np.ndarray
    start: int  # first sample of the clip in the stream
    source: int  # the recording it is laid to
    row: int
    score: float


def peaks(scores: np.ndarray, threshold: float, apart_n: int) -> np.ndarray:
    """Rows of score maxima at or above `threshold`, highest first, each more than `apart_n` rows from a higher one.

    Suppression around each peak keeps near-duplicates out, as in regional hard-example mining.

    Shape: scores [N]; returns int64 [peaks].
    """
    rows = np.flatnonzero(scores >= threshold)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    taken = np.zeros(len(scores), bool)
    kept: list[int] = []
    for row in rows.tolist():
        if not taken[row]:
            kept.append(row)
            taken[max(0, row - apart_n) : row + apart_n + 1] = True
    return np.array(kept, np.int64)


def mining_threshold(track: Track, per_hour: float, lowest: float) -> float:
    """A threshold low enough to find about `per_hour` triggers an hour, but not below `lowest`."""
    return max(lowest, threshold_for(track, per_hour))


def triggers(
    pcm: np.ndarray,
    scores: np.ndarray,
    threshold: float,
    clip_n: int,
    post_n: int,
    row_n: int,
    source_at: Callable[[int], int],
    max_per_source: int,
) -> list[Trigger]:
    """The false triggers of one stream, as clips, highest first.

    Args:
        pcm: the stream as it was scored, int16 [T]; no trigger is taken from its first `clip_n - post_n` samples, whose
            scores still depend on the stream's beginning.
        scores: of one keyword; row `i` ends at sample `(i + 1) * row_n`.
        threshold: lowest score of a trigger.
        clip_n, post_n: samples a clip, and how many of them follow the trigger; multiples of `row_n`.
        row_n: samples a row.
        source_at: which recording lies at a sample; -1 for none: nothing is mined there.
        max_per_source: at most so many from one recording.
    """
    row = (clip_n - post_n) // row_n - 1
    found, count = [], Counter[int]()
    for peak in peaks(scores, threshold, clip_n // row_n // 2).tolist():
        source, start = source_at(peak * row_n), (peak - row) * row_n
        if source < 0 or start < 0 or count[source] >= max_per_source:
            continue
        count[source] += 1
        clip = np.zeros(clip_n, np.int16)
        sound = pcm[start : start + clip_n]
        clip[: len(sound)] = sound
        found.append(Trigger(clip, start, source, row, float(scores[peak])))
    return found
