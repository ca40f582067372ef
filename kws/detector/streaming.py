"""Score tracks of long audio: the detector runs over it once, in large chunks."""

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

CHUNK_S = 20.0  # seconds per call: large enough that the overhead of a call does not count


@dataclass(frozen=True, eq=False)
class ScoreTrack:
    """Scores of one keyword in one stream.

    Args:
        times: time at which each row is known, seconds from the start of the stream, non-decreasing.
        scores: score of the keyword in each row, in [0, 1].
        duration_s: length of the stream; 0 only for `NO_STREAM`.
        silent_s: of these, seconds without any sound, which count as no hours.

    Shape: times float64 [N], scores float32 [N].

    Raises:
        KwsError: there is no row, or a value violates these rules.
    """

    times: NDArray[np.float64]
    scores: NDArray[np.float32]
    duration_s: float
    silent_s: float = 0.0

    def __post_init__(self) -> None:
        if self.times.ndim != 1 or self.times.shape != self.scores.shape:
            raise KwsError(f"score track: times {self.times.shape} and scores {self.scores.shape} must both be [N]")
        if not 0 <= self.duration_s < math.inf:
            raise KwsError(f"score track: duration_s={self.duration_s}: must be 0 or more")
        if bool(len(self.times)) != (self.duration_s > 0):
            raise KwsError("score track: no row, because the stream is shorter than a row of the detector")
        if self.duration_s and not 0 <= self.silent_s < self.duration_s:
            raise KwsError("score track: the stream holds no sound")
        if not (np.isfinite(self.scores).all() and np.isfinite(self.times).all()):
            raise KwsError("score track: scores or times are not finite, the model is broken")
        if (np.diff(self.times) < 0).any():
            raise KwsError("score track: times must not decrease")

    @property
    def hours(self) -> float:
        """Length of the stream without its silence, in hours."""
        return (self.duration_s - self.silent_s) / 3600


NO_STREAM = ScoreTrack(np.zeros(0), np.zeros(0, np.float32), 0.0)  # where nothing was given to score


class StreamScorer(Protocol):
    """The interface that `Detector` and an exported file share."""

    labels: list[str]
    thresholds: list[float]
    sample_rate: int
    frame_s: float

    def reset(self) -> None: ...

    def __call__(self, pcm: Tensor, /) -> Tensor: ...


class BatchScorer(StreamScorer, Protocol):
    """A detector that also scores several recordings at once. Files exported by older versions cannot."""

    def batch(self, pcm: Tensor, /) -> Tensor: ...


def score_blocks(
    detector: StreamScorer, blocks: Iterable[np.ndarray], progress: Callable[[int], None] = lambda _: None
) -> tuple[np.ndarray, int]:
    """Score a stream that comes in blocks, from silence. Only one block is held in memory.

    Args:
        detector: it is reset first.
        blocks: int16 [n] each; their lengths change the speed, not the scores.
        progress: called with the number of samples of each scored block.

    Shape: returns the scores float32 [rows, K], and the number of samples.
    """
    detector.reset()
    rows, samples_n = [], 0
    for block in blocks:
        rows.append(detector(_tensor(block)).cpu())
        samples_n += len(block)
        progress(len(block))
    return torch.cat(rows or [detector(torch.zeros(0))]).numpy(), samples_n


def score_pcm(detector: StreamScorer, pcm: np.ndarray, sample_rate: int, chunk_s: float = CHUNK_S) -> np.ndarray:
    """Score a stream from silence, in chunks of `chunk_s`. Shape: pcm int16 [T], returns float32 [rows, K]."""
    step = max(1, round(chunk_s * sample_rate))
    return score_blocks(detector, (pcm[i : i + step] for i in range(0, len(pcm), step)))[0]


def score_batch(detector: BatchScorer, recordings: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Score several recordings in one call, each from silence.

    Shape: recordings int16 [T] each; returns float32 [rows, K] of each.
    """
    padded = torch.zeros(len(recordings), max(map(len, recordings)))
    for i, pcm in enumerate(recordings):
        padded[i, : len(pcm)] = torch.from_numpy(to_float(pcm))
    rows, block_n = detector.batch(padded).cpu(), round(detector.frame_s * detector.sample_rate)
    # The model is causal: padding after a recording's end changes no row before it.
    return [rows[i, : len(pcm) // block_n].numpy() for i, pcm in enumerate(recordings)]


def score_and_reduce(
    detector: Detector, pcm: np.ndarray, sample_rate: int, reduce: Callable[[Tensor], Tensor]
) -> tuple[np.ndarray, np.ndarray]:
    """Score a stream from silence, and reduce its embeddings to one number per row, because all would fill the memory.

    Shape: pcm int16 [T]; `reduce` maps float32 [rows, C] to [rows]; returns float32 [rows, K] and [rows].
    """
    detector.reset()
    step = round(CHUNK_S * sample_rate)
    scores, reduced = [], []
    for i in range(0, max(1, len(pcm)), step):
        rows, embeddings = detector.score_and_embed(_tensor(pcm[i : i + step]))
        scores.append(rows.cpu())
        reduced.append(reduce(embeddings).cpu())
    return torch.cat(scores).numpy(), torch.cat(reduced).numpy()


def row_times(rows_n: int, row_samples: int, stream_n: int, sample_rate: int, chunk_s: float) -> np.ndarray:
    """Time at which each row is known if chunks of `chunk_s` are fed: the end of its chunk.

    Shape: returns float64 [rows], seconds.
    """
    step = int(chunk_s * sample_rate)
    needed = (np.arange(rows_n) + 1) * row_samples  # samples before each row is complete
    chunk = -(-needed // step)
    return np.asarray(np.minimum(chunk * step, stream_n) / sample_rate)


def score_tracks(detector: StreamScorer, pcm: np.ndarray, sample_rate: int, chunk_s: float) -> Mapping[str, ScoreTrack]:
    """Score one stream (int16 [T]): a score track for each keyword."""
    return as_tracks(detector, score_pcm(detector, pcm, sample_rate), len(pcm), chunk_s)


def as_tracks(
    detector: StreamScorer, rows: np.ndarray, stream_n: int, chunk_s: float, silent_n: int = 0
) -> Mapping[str, ScoreTrack]:
    """Turn the score rows (float32 [rows, K]) of a stream of `stream_n` samples into a score track for each keyword.

    `silent_n` of the samples count as no hours, see `kws.data.mending.silent_samples`.
    """
    rate = detector.sample_rate
    times = row_times(len(rows), round(detector.frame_s * rate), stream_n, rate, chunk_s)
    return {
        k: ScoreTrack(times, np.ascontiguousarray(rows[:, i]), stream_n / rate, silent_n / rate)
        for i, k in enumerate(detector.labels)
    }


def _tensor(pcm: np.ndarray) -> Tensor:
    """Samples in memory of torch: the alignment of a NumPy array may change the last bit of a sum."""
    return torch.from_numpy(to_float(pcm)).clone()
