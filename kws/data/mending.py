"""Sound as people have it: faults of recordings that are mended while decoding, or that make a recording unusable."""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

_SILENT = 2 / 32768  # amplitude; the last bits of a converter are no sound
_QUIET = 1 / 512  # amplitude, -54 dBFS
_FULL = 32766 / 32768  # amplitude of a clipped sample
_CLIPPED = 0.005  # share of such samples
_CANCELS = 0.1  # power of the mean of the channels against that of the loudest one
_OFFSET, _OFFSET_SHARE = 0.002, 0.1  # smallest offset that is removed, and as a share of the standard deviation
_FRAME_S = 0.032
_SILENT_S = 10.0  # a window that counts as silent where nothing but the last bits change
_OVERSHOOT, _SPIKES = 8.0, 0.01  # of float samples: largest peak of a mix, and share of samples beyond full scale
_RANGES = (2.0**15, 2.0**23, 2.0**31)  # of the integers that float samples are written as by mistake


class Fault(StrEnum):
    """A fault of a recording that is mended, or that is only worth knowing."""

    unfinished = "unfinished"
    scaled = "scaled"
    antiphase = "antiphase"
    offset = "offset"
    quiet = "quiet"
    clipped = "clipped"
    silence = "silence"


TEXTS = {
    Fault.unfinished: "with a wrong length in the header, or none (read to the end of the file)",
    Fault.scaled: "with float samples beyond full scale (scaled to it)",
    Fault.antiphase: "with channels that cancel out (one of them is used)",
    Fault.offset: "with a constant offset (removed)",
    Fault.quiet: "quieter than -54 dBFS",
    Fault.clipped: "clipped",
    Fault.silence: "with digital silence in more than half of their time",
}


def listed(counts: Mapping[Fault, int]) -> str:
    """The numbers of recordings with each fault, in one line; empty if there is none."""
    return ", ".join(f"{counts[fault]} {text}" for fault, text in TEXTS.items() if counts.get(fault))


class Mender:
    """Mends one recording, block by block, and finds its faults.

    Args:
        sample_rate: of the recording, Hz.
        divisor: of its float samples, see `divisor_of`.
    """

    def __init__(self, sample_rate: int, divisor: float = 1.0) -> None:
        self.faults = {Fault.scaled} if divisor != 1 else set[Fault]()
        self._divisor, self._frame_n = divisor, round(_FRAME_S * sample_rate)
        self._channel: int | None = None
        self._offset: int | None = None  # in steps of 1 / 32768, so that integers stay integers
        self._low, self._high = math.inf, -math.inf
        self._n = self._full_n = self._silent_n = 0
        self._sample_rate = sample_rate

    def mono(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """The mean of the channels, or one of them where they cancel out. Shape: float32 [n, C]; returns [n]."""
        x = block[:, 0]
        if block.shape[1] > 1:
            x = block.mean(axis=1)
            power = block.var(axis=0)
            if x.var() < _CANCELS * power.max():
                if self._channel is None:  # the first that is about as loud as any
                    self._channel = int((power >= 0.5 * power.max()).argmax())
                self.faults.add(Fault.antiphase)
                x = block[:, self._channel]
        if self._divisor != 1:
            x = np.clip(x / np.float32(self._divisor), -1, 1)
        offset = self._measure(x, 1.0)
        return x - np.float32(offset / 32768) if offset else x

    def pcm(self, x: NDArray[np.int16]) -> NDArray[np.int16]:
        """The same for one channel of integers, which need no conversion. Shape: int16 [n]; the same is returned."""
        offset = self._measure(x, 32768.0)
        return np.clip(x.astype(np.int32) - offset, -32768, 32767).astype(np.int16) if offset else x

    def check(self) -> str:
        """Find the faults of the whole recording once it is read. Returns why it is unusable, else nothing."""
        amplitude = (self._high - self._low) / 2
        if amplitude <= _SILENT or self._silent_n == self._n:
            return "silent"
        if amplitude < _QUIET:
            self.faults.add(Fault.quiet)
        if self._full_n > _CLIPPED * self._n:
            self.faults.add(Fault.clipped)
        if self._silent_n > self._n / 2:
            self.faults.add(Fault.silence)
        return ""

    def _measure(self, x: NDArray[Any], full: float) -> int:
        """Measure a block whose full scale is `full`. Returns its offset, which is that of the first with sound."""
        low, high = float(x.min()) / full, float(x.max()) / full
        self._silent_n += silent_samples(x, self._sample_rate, full)
        self._low, self._high = min(low, self._low), max(high, self._high)
        self._n += len(x)
        if max(high, -low) >= _FULL:
            self._full_n += int(((x >= _FULL * full) | (x <= -_FULL * full)).sum())
        if self._offset is None and high - low > 2 * _SILENT:
            self._offset = 0
            offset = _offset(x, self._frame_n, _OFFSET * full) if len(x) >= self._frame_n else 0.0
            if abs(offset) > _OFFSET_SHARE * float(x.std(dtype=np.float64)):
                self._offset = round(offset / full * 32768)
                self.faults.add(Fault.offset)
        return self._offset or 0


def silent_samples(x: NDArray[Any], sample_rate: int, full: float = 32768.0) -> int:
    """Samples of the windows of 10 s in which nothing but the last bits change, as of a muted microphone.

    A rest that is shorter than a window counts as sound.

    Args:
        x: samples, int16 or float32.
        sample_rate: Hz.
        full: full scale of the samples.

    Shape: x [T].
    """
    window_n = round(_SILENT_S * sample_rate)
    windows = x[: len(x) // window_n * window_n].reshape(-1, window_n)
    spread = windows.max(axis=1).astype(np.float64) - windows.min(axis=1)
    return window_n * int((spread <= 2 * _SILENT * full).sum())


def _offset(x: NDArray[Any], frame_n: int, smallest: float) -> float:
    """Mean of the quietest tenth of the frames, if it outweighs their sound and `smallest`; else 0.

    Speech itself has a mean, since its waves are not symmetric.
    """
    if abs(float(x.mean(dtype=np.float64))) < smallest:
        return 0.0
    frames = x[: len(x) // frame_n * frame_n].reshape(-1, frame_n).astype(np.float64)
    spread = frames.std(axis=1)
    quiet = np.quantile(spread, 0.1)
    offset = float(np.median(frames.mean(axis=1)[spread <= quiet]))
    return offset if abs(offset) >= max(smallest, float(quiet)) else 0.0


def divisor_of(blocks: Iterable[NDArray[np.float32]]) -> float:
    """The number by which float samples must be divided, 1 for samples within full scale or with a few beyond it.

    Samples some times beyond full scale are a mix that nobody limited; they are divided by their peak. Samples that are
    louder still are integers in float: they are divided by the range of 16, 24 or 32 bits.

    Raises:
        ValueError: samples are in no such range.
    """
    peak, beyond_n, sound_n = 0.0, 0, 0
    for block in blocks:
        level = np.abs(block)
        peak = max(peak, float(level.max(initial=0.0)))
        beyond_n += int((level > 1).sum())
        sound_n += int((level > 0).sum())
    if beyond_n <= _SPIKES * sound_n:
        return 1.0
    if peak <= _OVERSHOOT:
        return peak
    for full in _RANGES:
        if peak <= 2 * full:
            return full
    raise ValueError(f"holds samples of up to {peak:.1e}, beyond the range of any format")
