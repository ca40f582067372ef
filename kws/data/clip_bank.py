"""Clips in device memory, from which a batch of windows is cut in one gather."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


class ClipBank:
    """Packed int16 audio of many clips, cut into windows.

    Args:
        pcm: all clips one after another, int16 [total].
        starts, lengths: position of each clip, samples.
        longest_n: longest window that will be cut, samples.
        device: device that holds the audio.
    """

    def __init__(
        self,
        pcm: np.ndarray,
        starts: Sequence[int],
        lengths: Sequence[int],
        longest_n: int,
        device: torch.device | str = "cpu",
    ) -> None:
        padded = np.zeros(len(pcm) + 2 * longest_n, np.int16)  # a window may extend beyond either end
        padded[longest_n : longest_n + len(pcm)] = pcm
        self._keep(torch.from_numpy(padded).to(device), starts, lengths, longest_n, None)

    def _keep(
        self,
        pcm: Tensor,
        starts: Sequence[int],
        lengths: Sequence[int],
        longest_n: int,
        read: Callable[[int], np.ndarray] | None,
    ) -> None:
        self.pcm, self.device, self._read = pcm, pcm.device, read
        self.starts = torch.tensor(list(starts), dtype=torch.long) + longest_n
        self.lengths = torch.tensor(list(lengths), dtype=torch.long)
        self._loaded = torch.full((len(self.starts),), read is None)

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, clips: Sequence[np.ndarray], longest_n: int, device: torch.device | str = "cpu") -> "ClipBank":
        """Create a bank of separate int16 clips."""
        lengths = [len(c) for c in clips]
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1].astype(int).tolist() if clips else []
        pcm = np.concatenate(clips) if clips else np.zeros(0, np.int16)
        return cls(pcm, starts, lengths, longest_n, device)

    @classmethod
    def lazy(
        cls,
        lengths: Sequence[int],
        read: Callable[[int], np.ndarray],
        longest_n: int,
        device: torch.device | str = "cpu",
    ) -> "ClipBank":
        """Create a bank that reads each clip at its first use. On a CPU, unread clips take no memory.

        Args:
            lengths: lengths of the clips, samples.
            read: returns the audio of a clip, int16 [its length].
            longest_n, device: as above.
        """
        bank = cls.__new__(cls)
        starts = np.concatenate([[0], np.cumsum(lengths)])[:-1].astype(int).tolist() if lengths else []
        pcm = torch.empty(sum(lengths) + 2 * longest_n, dtype=torch.int16, device=device)
        bank._keep(pcm, starts, lengths, longest_n, read)
        return bank

    def _fill(self, index: Tensor) -> None:
        if self._read is None:
            return
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
