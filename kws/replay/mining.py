"""What comes into the buffer: false triggers of a stream, each with the sound that makes its score reproducible."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


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


def peaks(scores: np.ndarray, threshold: float, apart_n: int) -> NDArray[np.int64]:
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


class Caps:
    """At most so many clips of each recording; a place that a recording may not take is left to others.

    Args:
        most: of each.
        times: so many times as many of each recording; None for 1.
    """

    def __init__(self, most: int, times: Sequence[int] | None = None) -> None:
        self.most, self.times, self._count = most, times, Counter[int]()

    def take(self, source: int) -> bool:
        """Take a place for a clip of this recording, if there is one; -1 is none."""
        if source < 0 or self._count[source] >= self.most * (self.times[source] if self.times else 1):
            return False
        self._count[source] += 1
        return True


def choose(
    scores: np.ndarray,
    sources: np.ndarray,
    wanted_n: int,
    lowest: float,
    bands: int,
    caps: Caps,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Which of the peaks to keep: as many from each band of scores, so that not only the top is kept.

    The bands cut the range from `lowest` to 1 into equal parts. A band that has too few leaves its places to the
    others; within a band it is drawn by lot. One band keeps the highest.

    Args:
        scores: of the peaks, at least `lowest`.
        sources: the recording that each lies in, -1 for none: such a peak is not kept.
        wanted_n: how many, at most.
        lowest: where the bands begin.
        bands: how many, at least 1.
        caps: how many of a recording; what is kept takes places.
        rng: for the lots.

    Shape: scores, sources [N]; returns int64 [at most min(N, wanted_n)], highest first.
    """
    place = np.minimum(((scores - lowest) / max(1 - lowest, 1e-9) * bands).astype(np.int64), bands - 1)
    lots = rng.permutation(len(scores)) if bands > 1 else np.argsort(np.argsort(-scores, kind="stable"))
    # The first of each band, then the second of each, the higher band first.
    turn = np.zeros(len(scores), np.int64)
    for band in range(bands):
        mine = np.flatnonzero(place == band)
        turn[mine[np.argsort(lots[mine])]] = np.arange(len(mine))
    found = allowed(np.lexsort((-place, turn)), lambda peak: sources[peak], wanted_n, caps)
    return found[np.argsort(-scores[found], kind="stable")]


def by_lot(
    rows_n: int,
    taken: NDArray[np.int64],
    sources_at: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    n: int,
    apart_n: int,
    caps: Caps,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """About `n` rows anywhere in recordings, each more than `apart_n` from the others and from those taken already.

    A small reserve of these keeps what the model does not (or not yet) confuse in the buffer too.

    Shape: taken [M]; returns int64 [n or fewer].
    """
    found: list[int] = []
    near = np.sort(taken)
    drawn = rng.integers(0, rows_n, 8 * n) if rows_n else np.zeros(0, np.int64)
    for row, source in zip(drawn.tolist(), sources_at(drawn).tolist(), strict=True):
        if len(found) == n:
            break
        at = int(np.searchsorted(near, row))
        if all(abs(int(other) - row) > apart_n for other in near[max(0, at - 1) : at + 1]) and caps.take(source):
            found.append(row)
            near = np.insert(near, at, row)
    return np.array(found, np.int64)


def trigger_rows(
    track: np.ndarray,
    sources_at: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    wanted_n: int,
    reserve: float,
    lowest: float,
    bands: int,
    apart_n: int,
    caps: Caps,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The rows of a keyword's track to keep: peaks by bands of score, and a reserve by lot.

    Args:
        track: scores.
        sources_at: the recording that each row lies in, -1 for none.
        wanted_n: how many, at most.
        reserve: share of them by lot.
        lowest, bands, caps, rng: see `choose`.
        apart_n: rows between two.

    Shape: track [N]; returns int64 [wanted_n or fewer].
    """
    spare_n, rows = round(reserve * wanted_n), peaks(track, lowest, apart_n)
    rows = rows[choose(track[rows], sources_at(rows), wanted_n - spare_n, lowest, bands, caps, rng)]
    return np.concatenate([rows, by_lot(len(track), rows, sources_at, spare_n, apart_n, caps, rng)])


def neighbour_rows(
    nearness: np.ndarray,
    sources_at: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    wanted_n: int,
    apart_n: int,
    caps: Caps,
) -> NDArray[np.int64]:
    """The rows nearest to the keyword, nearest first. Shape: nearness [N]; returns int64 [wanted_n or fewer]."""
    return allowed(peaks(nearness, -1.0, apart_n), sources_at, wanted_n, caps)


def allowed(
    rows: NDArray[np.int64],
    sources_at: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    wanted_n: int,
    caps: Caps,
) -> NDArray[np.int64]:
    """The first rows whose recordings may still give one. Shape: rows [N]; returns int64 [wanted_n or fewer]."""
    found: list[int] = []
    for row, source in zip(rows.tolist(), sources_at(rows).tolist(), strict=True):
        if len(found) == wanted_n:
            break
        if caps.take(source):
            found.append(row)
    return np.array(found, np.int64)


def triggers(
    pcm: np.ndarray,
    scores: np.ndarray,
    rows: NDArray[np.int64],
    clip_n: int,
    post_n: int,
    row_n: int,
    source_at: Callable[[int], int],
) -> list[Trigger]:
    """Rows of one stream as clips.

    Args:
        pcm: the stream as it was scored, int16 [T]; no clip is taken from its first `clip_n - post_n` samples, whose
            scores still depend on the stream's beginning.
        scores: of one keyword; row `i` ends at sample `(i + 1) * row_n`.
        rows: which, in the order of preference.
        clip_n, post_n: samples a clip, and how many of them follow the row; multiples of `row_n`.
        row_n: samples a row.
        source_at: which recording lies at a sample; -1 for none: nothing is mined there.
    """
    row = (clip_n - post_n) // row_n - 1
    found = []
    for peak in rows.tolist():
        source, start = source_at(peak * row_n), (peak - row) * row_n
        if source < 0 or start < 0:
            continue
        clip = np.zeros(clip_n, np.int16)
        sound = pcm[start : start + clip_n]
        clip[: len(sound)] = sound
        found.append(Trigger(clip, start, source, row, float(scores[peak])))
    return found


Near = Callable[[Tensor], Tensor]  # how near each row is: hidden layer [N, C] to cosine [N]


def nearness(keywords: NDArray[np.float32]) -> Near:
    """A function from the hidden layer to the highest cosine with any of the keywords.

    Approximate nearest-neighbour negatives (Xiong et al., 2021), exact here: a pool of hours is small.

    Shape: keywords float32 [P, C], embeddings of clips that hold the keyword.
    """
    known = torch.nn.functional.normalize(torch.from_numpy(keywords), dim=1)

    def near(hidden: Tensor) -> Tensor:
        return (torch.nn.functional.normalize(hidden, dim=1) @ known.to(hidden.device).t()).amax(1)

    return near
