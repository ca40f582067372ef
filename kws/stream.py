"""Scores of hours of audio in one pass: the detector itself, fed in large chunks."""

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from kws.audio import to_float
from kws.detect import Track
from kws.detector import Detector

PASS_S = 20.0  # chunk of a pass: large enough that the convolutions, not their calls, cost the time


class Listener(Protocol):
    """What `Detector` and an exported file have in common."""

    labels: list[str]
    frame_s: float

    def reset(self) -> None: ...

    def __call__(self, pcm: Tensor, /) -> Tensor: ...


def _piece(pcm: np.ndarray, start: int, n: int) -> Tensor:
    """Samples of a stream, in memory of torch's: where an array of NumPy's begins may change the last bit of a sum."""
    return torch.from_numpy(to_float(pcm[start : start + n])).clone()


def scores(detector: Listener, pcm: np.ndarray, sample_rate: int, chunk_s: float = PASS_S) -> np.ndarray:
    """Every score row of a stream, from silence.

    Args:
        detector: a `Detector` or an exported file; it is reset first.
        pcm: int16 [T].
        sample_rate: Hz.
        chunk_s: seconds fed at a time; changes the speed, not the scores.

    Shape: returns float32 [rows, K].
    """
    detector.reset()
    step = max(1, round(chunk_s * sample_rate))
    rows = [detector(_piece(pcm, i, step)).cpu() for i in range(0, max(1, len(pcm)), step)]
    return torch.cat(rows).numpy()


def heard(
    detector: Detector, pcm: np.ndarray, sample_rate: int, of: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Every score row of a stream, and what `of` makes of the hidden layer at each: an hour of that would fill memory.

    Args:
        detector: it is reset first.
        pcm: int16 [T].
        sample_rate: Hz.
        of: from float32 [rows, C] to [rows].

    Shape: returns float32 [rows, K] and [rows].
    """
    detector.reset()
    step = round(PASS_S * sample_rate)
    found, made = [], []
    for i in range(0, max(1, len(pcm)), step):
        rows, hidden = detector.hear(_piece(pcm, i, step))
        found.append(rows.cpu())
        made.append(of(hidden).cpu())
    return torch.cat(found).numpy(), torch.cat(made).numpy()


def row_times(rows_n: int, row_samples: int, stream_n: int, sample_rate: int, chunk_s: float) -> np.ndarray:
    """When each row reaches whoever feeds the detector chunks of `chunk_s` seconds: the end of the chunk, seconds.

    Shape: returns float64 [rows].
    """
    step = int(chunk_s * sample_rate)
    done = (np.arange(rows_n) + 1) * row_samples  # samples that must have come in
    chunk = -(-done // step)
    return np.asarray(np.minimum(chunk * step, stream_n) / sample_rate)


def track(detector: Listener, pcm: np.ndarray, sample_rate: int, chunk_s: float) -> Mapping[str, Track]:
    """The score track of each keyword over one stream (int16 [T])."""
    found = scores(detector, pcm, sample_rate)
    times = row_times(len(found), round(detector.frame_s * sample_rate), len(pcm), sample_rate, chunk_s)
    length_s = len(pcm) / sample_rate
    return {k: Track(times, np.ascontiguousarray(found[:, i]), length_s) for i, k in enumerate(detector.labels)}
