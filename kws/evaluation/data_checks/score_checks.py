"""Check of the negatives with a detector: those that score like a keyword may say it."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kws.common.text import plural
from kws.detector.detector import Detector
from kws.detector.streaming import score_batch, score_pcm
from kws.evaluation.data_checks.finding import Case, Finding, Level

_BATCH, _BATCH_S = 32, 240.0  # recordings scored side by side, and their seconds with padding
MEND = (
    "Listen to them: what says the keyword must go, or get its label. The others are the negatives that training needs."
)


def peaks(
    detector: Detector, sounds: Sequence[NDArray[np.int16]], progress: Callable[[int], None] = lambda _: None
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Highest score of each keyword in each recording, and its time in seconds.

    Args:
        detector: scores each recording from silence.
        sounds: recordings of any length.
        progress: called with the number of recordings scored.

    Shape: sounds int16 [T] each; returns float32 [N, K] and float64 [N, K].
    """
    columns = len(detector.labels)
    scores, times = np.zeros((len(sounds), columns), np.float32), np.zeros((len(sounds), columns))
    done = 0
    for indexes in _batches(sounds, detector.sample_rate):
        pcm = [sounds[i] for i in indexes]
        tracks = score_batch(detector, pcm) if len(pcm) > 1 else [score_pcm(detector, pcm[0], detector.sample_rate)]
        for i, rows in zip(indexes, tracks, strict=True):
            if len(rows):
                scores[i], times[i] = rows.max(0), (rows.argmax(0) + 1) * detector.frame_s
        done += len(indexes)
        progress(done)
    return scores, times


def _batches(sounds: Sequence[NDArray[np.int16]], sample_rate: int) -> Iterator[list[int]]:
    """Indexes of recordings of similar length, the longest alone."""
    batch: list[int] = []
    for i in sorted(range(len(sounds)), key=lambda i: len(sounds[i])):
        padded_s = (len(batch) + 1) * len(sounds[i]) / sample_rate
        if batch and (len(batch) == _BATCH or padded_s > _BATCH_S):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def like_keyword(keyword: str, threshold: float, scored: Sequence[tuple[str, float, float]]) -> list[Finding]:
    """Negatives that score at or above the threshold of a keyword, the highest first.

    Args:
        keyword, threshold: of the detector.
        scored: name, highest score and its time in seconds of each negative.
    """
    above = sorted((one for one in scored if one[1] >= threshold), key=lambda one: -one[1])
    if not above:
        return []
    text = f"{plural(len(above), 'negative', len(scored))} at or above {threshold:.3f}, the threshold of {keyword!r}"
    cases = [Case(name, f"{score:.3f} at {seconds:.1f} s") for name, score, seconds in above]
    return [Finding("scores like the keyword", Level.warning, text, MEND, cases)]
