"""Clips in device memory, from which a batch of windows is cut in one gather."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


class ClipBank:
    """Packed int16 audio of many clips, cut into windows. Each clip is read at its first use.

    On a CPU, unread clips take no memory.

    Args:
        lengths: lengths of the clips, samples.
        read: returns the audio of a clip, int16 [its length].
        longest_n: longest window that will be cut, samples.
        device: device that holds the audio.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        read: Callable[[int], np.ndarray],
        longest_n: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.lengths = torch.tensor(list(lengths), dtype=torch.long)
        self.starts = longest_n + self.lengths.cumsum(0) - self.lengths  # a window may extend beyond either end
        self.pcm = torch.empty(sum(lengths) + 2 * longest_n, dtype=torch.int16, device=device)
        self.device, self._read = self.pcm.device, read
        self._loaded = torch.zeros(len(self.lengths), dtype=torch.bool)

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, clips: Sequence[np.ndarray], longest_n: int, device: torch.device | str = "cpu") -> "ClipBank":
        """Create a bank of int16 clips, all read at once."""
        bank = cls([len(clip) for clip in clips], clips.__getitem__, longest_n, device)
        bank._fill(torch.arange(len(clips)))
        return bank

    def _fill(self, index: Tensor) -> None:
        for i in index[~self._loaded[index]].tolist():
            start = int(self.starts[i])
            self.pcm[start : start + int(self.lengths[i])] = torch.from_numpy(self._read(i)).to(self.device)
            self._loaded[i] = True

    def window(self, index: Tensor, offset: Tensor, n: int) -> Tensor:
        """Cut `n` samples of each clip from `offset`, scaled to [-1, 1]. Beyond the ends of a clip there is silence.

        Shape: index, offset int64 [B], on the CPU; returns float32 [B, n] on the device.
        """
        self._fill(index)
        begin = (-offset).clamp(0, n)
        end = (self.lengths[index] - offset).clamp(0, n)
        place = (self.starts[index] + offset).clamp(0, len(self.pcm) - n)
        if self.device.type == "cpu":  # copying spans is many times faster here than gathering samples
            out = torch.empty(len(index), n)
            for row, at, first, last in zip(out, place.tolist(), begin.tolist(), end.tolist(), strict=True):
                row[:first] = 0
                row[last:] = 0
                row[first:last] = self.pcm[at + first : at + last]
            return out.mul_(1 / 32768)
        rows = self.pcm.unfold(0, n, 1)[place.to(self.device)]
        t = torch.arange(n, device=self.device)
        inside = (t >= begin.to(self.device)[:, None]) & (t < end.to(self.device)[:, None])
        return rows.masked_fill(~inside, 0).float() / 32768.0
