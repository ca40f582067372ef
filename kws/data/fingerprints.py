"""Recordings that are audible in a clip sample for sample, wherever the clip begins: they were played into a detector.

Recordings are sampled in short windows, as in Manber, "Finding similar files in a large file system" (1994), and clips
are searched for all of them. Sound that was played over a loudspeaker, resampled or mixed is another one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_WINDOW_N, _STEP_N = 32, 400  # of a recording: a window of 2 ms each 25 ms at 16 kHz
_BLOCK_N = 200 * _STEP_N  # window starts that are hashed at once, since each of them takes 300 bytes
_LOUD = 32  # least range of a window; quieter ones are alike in many recordings
_CHANGES = _WINDOW_N // 2  # least differences that are not 0; clipped sound is alike in many recordings
_AT_LEAST = 4  # different windows of a recording in a clip, 0.1 s
_BASE = 0x9E3779B97F4A7C15  # an odd number; powers modulo 2^64
_POWERS = np.array([pow(_BASE, n, 2**64) for n in range(1, _WINDOW_N)], np.uint64)


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Different windows of each recording. Shape: hashes uint64 [n], ascending; owner int64 [n], indexes into names."""

    hashes: NDArray[np.uint64]
    owner: NDArray[np.int64]
    names: list[str]

    def audible(self, pcm: NDArray[np.int16]) -> str:
        """Name of a recording that is audible in a clip, that with the most windows in it; empty for none.

        Shape: pcm int16 [T].
        """
        if len(pcm) < _WINDOW_N or not len(self.hashes):
            return ""
        found = set[int]()
        for hashes in _hashes(pcm, 1):
            windows = np.unique(hashes)
            first, after = (np.searchsorted(self.hashes, windows, side) for side in ("left", "right"))
            known = first < after
            found.update(i for a, b in zip(first[known], after[known], strict=True) for i in range(a, b))
        counts = np.bincount(self.owner[list(found)], minlength=len(self.names))
        return self.names[int(counts.argmax())] if counts.max() >= _AT_LEAST else ""


def fingerprints(recordings: Iterable[tuple[str, NDArray[np.int16]]]) -> Fingerprints:
    """Fingerprints of recordings with their names. Shape: int16 [T] each."""
    named = [
        (name, np.unique(np.concatenate([*_hashes(pcm, _STEP_N)]))) for name, pcm in recordings if len(pcm) >= _WINDOW_N
    ]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(own for _, own in named)])
    owner = np.repeat(np.arange(len(named)), [len(own) for _, own in named])
    order = np.argsort(hashes, kind="stable")
    return Fingerprints(hashes[order], owner[order], [name for name, _ in named])


def _hashes(pcm: NDArray[np.int16], step_n: int) -> Iterator[NDArray[np.uint64]]:
    """Hashes of the windows of samples that tell recordings apart, block by block; `step_n` divides the block.

    Differences have no constant offset, which is removed from recordings.
    """
    for first in range(0, len(pcm) - _WINDOW_N + 1, _BLOCK_N):
        block = pcm[first : first + _BLOCK_N + _WINDOW_N - 1].astype(np.int64)
        windows = sliding_window_view(block, _WINDOW_N)[::step_n]
        changes = sliding_window_view(np.diff(block), _WINDOW_N - 1)[::step_n]
        wanted = (np.ptp(windows, 1) >= _LOUD) & (np.count_nonzero(changes, 1) >= _CHANGES)
        yield changes[wanted].astype(np.uint64) @ _POWERS
