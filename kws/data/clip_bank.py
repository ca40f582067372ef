"""Clips resident on the device: a batch of windows is one gather."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


class ClipBank:
    """Packed int16 sound, cut into any windows.

    Args:
        pcm: all clips one after another, int16 [total].
        starts, lengths: where each clip lies, samples.
        longest_n: the longest window that will be asked for, samples.
        device: where the sound lives.
    """

    def __init__(
        self,
        pcm: np.ndarray,
        starts: Sequence[int],
        lengths: Sequence[int],
        longest_n: int,
        device: torch.device | str = "cpu",
    ) -> None:
        padded = np.zeros(len(pcm) + 2 * longest_n, np.int16)  # a window may hang over either end
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
        self._here = torch.full((len(self.starts),), read is None)

    def __len__(self) -> int:
        return len(self.starts)

    @classmethod
    def of(cls, clips: Sequence[np.ndarray], longest_n: int, device: torch.device | str = "cpu") -> "ClipBank":
        """A bank of separate int16 clips."""
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
        """A bank that reads a clip when a window first asks for it; on a CPU what was never read takes no memory.

        Args:
            lengths: of the clips, samples.
            read: the sound of a clip, int16 of its length.
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
        for i in index[~self._here[index]].tolist():
            start = int(self.starts[i])
            self.pcm[start : start + int(self.lengths[i])] = torch.from_numpy(self._read(i)).to(self.device)
            self._here[i] = True

    def window(self, index: Tensor, offset: Tensor, n: int) -> Tensor:
        """`n` samples of each clip from `offset` (may be negative or run past the end: silence there), in [-1, 1].

        Shape: index, offset int64 [B], on the CPU; returns float32 [B, n] on the device.
        """
        self._fill(index)
        begin = (-offset).clamp(0, n)
        end = (self.lengths[index] - offset).clamp(0, n)
        place = (self.starts[index] + offset).clamp(0, len(self.pcm) - n)
        if self.device.type == "cpu":  # copying spans is many times as fast here as gathering samples
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
