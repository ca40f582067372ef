"""Recordings that are audible in a clip sample for sample, wherever the clip begins: they were played into a detector.

Recordings are sampled in short windows, as in Manber, "Finding similar files in a large file system" (1994), and clips
are searched for all of them. Sound that was played over a loudspeaker, resampled or mixed is another one.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

_WINDOW_N, _STEP_N = 32, 400  # of a recording: a window of 2 ms each 25 ms at 16 kHz
_LOUD = 32  # least range of a window; quieter ones are alike in many recordings
_AT_LEAST = 4  # windows of a recording in a clip, 0.1 s
_BASE = 0x9E3779B97F4A7C15  # an odd number; powers modulo 2^64
_POWERS = np.array([pow(_BASE, n, 2**64) for n in range(1, _WINDOW_N)], np.uint64)


@dataclass(frozen=True, eq=False)
class Fingerprints:
    """Windows of recordings. Shape: hashes uint64 [n], ascending; owner int64 [n], indexes into names."""

    hashes: NDArray[np.uint64]
    owner: NDArray[np.int64]
    names: list[str]

    def audible(self, pcm: NDArray[np.int16]) -> str:
        """Name of a recording that is audible in a clip, that with the most windows in it; empty for none.

        Shape: pcm int16 [T].
        """
        if len(pcm) < _WINDOW_N or not len(self.hashes):
            return ""
        windows = np.unique(_hashes(pcm, 1))
        first, after = (np.searchsorted(self.hashes, windows, side) for side in ("left", "right"))
        found = [i for a, b in zip(first, after, strict=True) if a < b for i in range(a, b)]
        counts = np.bincount(self.owner[found], minlength=len(self.names))
        return self.names[int(counts.argmax())] if counts.max() >= _AT_LEAST else ""


def fingerprints(recordings: Iterable[tuple[str, NDArray[np.int16]]]) -> Fingerprints:
    """Fingerprints of recordings with their names. Shape: int16 [T] each."""
    named = [(name, _hashes(pcm, _STEP_N)) for name, pcm in recordings if len(pcm) >= _WINDOW_N]
    hashes = np.concatenate([np.zeros(0, np.uint64), *(own for _, own in named)])
    owner = np.repeat(np.arange(len(named)), [len(own) for _, own in named])
    order = np.argsort(hashes, kind="stable")
    return Fingerprints(hashes[order], owner[order], [name for name, _ in named])


def _hashes(pcm: NDArray[np.int16], step_n: int) -> NDArray[np.uint64]:
    """Hashes of the loud windows of samples. Differences have no constant offset, which is removed from recordings."""
    windows = sliding_window_view(pcm, _WINDOW_N)[::step_n]
    loud = windows[windows.max(1) - windows.min(1).astype(np.int32) >= _LOUD]
    hashes: NDArray[np.uint64] = np.diff(loud.astype(np.int64)).astype(np.uint64) @ _POWERS
    return hashes
