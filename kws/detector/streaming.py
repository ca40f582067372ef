"""Scores of hours of audio in one pass: the detector itself, fed in large chunks."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.common.errors import KwsError
from kws.data.audio import to_float
from kws.detector.detector import Detector


@dataclass(frozen=True, eq=False)
class ScoreTrack:
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


PASS_S = 20.0  # chunk of a pass: large enough that the convolutions, not their calls, cost the time


class StreamScorer(Protocol):
    """What `Detector` and an exported file have in common."""

    labels: list[str]
    sample_rate: int
    frame_s: float

    def reset(self) -> None: ...

    def __call__(self, pcm: Tensor, /) -> Tensor: ...


class BatchScorer(StreamScorer, Protocol):
    """A listener that hears several recordings at once; files exported by older versions cannot."""

    def batch(self, pcm: Tensor, /) -> Tensor: ...


def _tensor(pcm: np.ndarray) -> Tensor:
    """Samples in memory of torch's: where an array of NumPy's begins may change the last bit of a sum."""
    return torch.from_numpy(to_float(pcm)).clone()


def follow(
    detector: StreamScorer, blocks: Iterable[np.ndarray], tell: Callable[[int], None] = lambda _: None
) -> tuple[np.ndarray, int]:
    """Every score row of a stream that comes in blocks, from silence, and its samples; no more than a block is held.

    Args:
        detector: a `Detector` or an exported file; it is reset first.
        blocks: int16 [n] each; their lengths change the speed, not the scores.
        tell: called with the samples of each block that was heard.

    Shape: returns float32 [rows, K].
    """
    detector.reset()
    rows, heard_n = [], 0
    for block in blocks:
        rows.append(detector(_tensor(block)).cpu())
        heard_n += len(block)
        tell(len(block))
    return torch.cat(rows or [detector(torch.zeros(0))]).numpy(), heard_n


def side_by_side(detector: BatchScorer, sounds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Every score row of each of several recordings, each from silence: short ones cost a call together, not one each.

    Shape: sounds int16 [T] each; returns float32 [rows, K] of each.
    """
    longest = max(map(len, sounds))
    padded = torch.zeros(len(sounds), longest)
    for i, pcm in enumerate(sounds):
        padded[i, : len(pcm)] = torch.from_numpy(to_float(pcm))
    rows, block_n = detector.batch(padded).cpu(), round(detector.frame_s * detector.sample_rate)
    # What comes after a recording's end changes nothing before it.
    return [rows[i, : len(pcm) // block_n].numpy() for i, pcm in enumerate(sounds)]


def scores(detector: StreamScorer, pcm: np.ndarray, sample_rate: int, chunk_s: float = PASS_S) -> np.ndarray:
    """Every score row of a stream, from silence.

    Args:
        detector: a `Detector` or an exported file; it is reset first.
        pcm: int16 [T].
        sample_rate: Hz.
        chunk_s: seconds fed at a time; changes the speed, not the scores.

    Shape: returns float32 [rows, K].
    """
    step = max(1, round(chunk_s * sample_rate))
    return follow(detector, (pcm[i : i + step] for i in range(0, len(pcm), step)))[0]


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
        rows, hidden = detector.hear(_tensor(pcm[i : i + step]))
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


def track(detector: StreamScorer, pcm: np.ndarray, sample_rate: int, chunk_s: float) -> Mapping[str, ScoreTrack]:
    """The score track of each keyword over one stream (int16 [T])."""
    return tracks(detector, scores(detector, pcm, sample_rate), len(pcm), chunk_s)


def tracks(detector: StreamScorer, rows: np.ndarray, stream_n: int, chunk_s: float) -> Mapping[str, ScoreTrack]:
    """Score rows (float32 [rows, K]) of a stream of so many samples as a track of each keyword."""
    rate = detector.sample_rate
    times = row_times(len(rows), round(detector.frame_s * rate), stream_n, rate, chunk_s)
    return {
        k: ScoreTrack(times, np.ascontiguousarray(rows[:, i]), stream_n / rate) for i, k in enumerate(detector.labels)
    }
