"""Scores of hours of audio in one pass: the detector itself, fed in large chunks."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from kws.audio import to_float
from kws.detect import Track

PASS_S = 20.0  # chunk of a pass: large enough that the convolutions, not their calls, cost the time


def scores(
    detector: Callable[[Tensor], Tensor], pcm: np.ndarray, sample_rate: int, chunk_s: float = PASS_S
) -> np.ndarray:
    """Every score row of a stream, from silence.

    Args:
        detector: a `Detector` or an exported file; it is reset first.
        pcm: int16 [T].
        sample_rate: Hz.
        chunk_s: seconds fed at a time; changes the speed, not the scores.

    Shape: returns float32 [rows, K].
    """
    detector.reset()  # type: ignore[attr-defined]
    step = max(1, round(chunk_s * sample_rate))
    rows = [detector(torch.from_numpy(to_float(pcm[i : i + step]))).cpu() for i in range(0, max(1, len(pcm)), step)]
    return torch.cat(rows).numpy()


def row_times(rows_n: int, row_samples: int, stream_n: int, sample_rate: int, chunk_s: float) -> np.ndarray:
    """When each row reaches whoever feeds the detector chunks of `chunk_s` seconds: the end of the chunk, seconds.

    Shape: returns float64 [rows].
    """
    step = int(chunk_s * sample_rate)
    done = (np.arange(rows_n) + 1) * row_samples  # samples that must have come in
    chunk = -(-done // step)
    return np.asarray(np.minimum(chunk * step, stream_n) / sample_rate)


def track(
    detector: Callable[[Tensor], Tensor], pcm: np.ndarray, sample_rate: int, chunk_s: float
) -> Mapping[str, Track]:
    """The score track of each keyword over one stream (int16 [T])."""
    labels: list[str] = list(detector.labels)  # type: ignore[attr-defined]
    frame_s: float = detector.frame_s  # type: ignore[attr-defined]
    found = scores(detector, pcm, sample_rate)
    times = row_times(len(found), round(frame_s * sample_rate), len(pcm), sample_rate, chunk_s)
    return {k: Track(times, np.ascontiguousarray(found[:, i]), len(pcm) / sample_rate) for i, k in enumerate(labels)}
