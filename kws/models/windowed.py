"""Nets that score a whole window, as streaming nets: each row is the score of the window that ends there."""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kws.common.settings import SettingError
from kws.common.tensors import exporting
from kws.models.base import KeywordNet, ModelConfig


@dataclass
class WindowConfig(ModelConfig):
    """Settings of a net that scores windows."""

    stride: Annotated[int, Field(ge=1, le=100, description="feature frames from one window to the next")] = 8
    smooth_s: Annotated[float, Field(ge=0, le=1, description="seconds over which scores are smoothed")] = 0.16
    window: Annotated[int, Field(ge=10, le=1000, description="feature frames of a window, at least stride")] = 100
    train_every: Annotated[
        int, Field(ge=1, le=100, description="windows from one that is scored in training to the next")
    ] = 4

    def check(self) -> None:
        if self.window < self.stride:
            raise SettingError("window", self.window, f"must be at least stride={self.stride}")


class WindowNet(KeywordNet):
    """A net that pads in time or averages over its window, as most published nets do, so it cannot reuse earlier rows.

    The cache holds the earlier frames of the next window, and every row costs a whole window. A stream begins with
    frames of zeros. Training scores the last row and every `train_every`-th row before it. Each row between takes the
    embedding of the scored row before it, so that no row depends on later audio.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        width: input channels of the head, C.
        stride: input frames from one window to the next.
        window: frames of a window, at least `stride`.
        train_every: rows per scored row in training. Neighbouring windows overlap, so training on them adds little.
    """

    streams_from = "windows"

    def __init__(
        self, n_mels: int, n_keywords: int, width: int, stride: int, window: int, train_every: int = 1
    ) -> None:
        super().__init__(n_mels, n_keywords, stride)
        self.window = self.receptive_field = window
        self.width, self.train_every = width, train_every
        self.at_once = 32  # windows per batch outside training: memory stays flat
        self.cache_shapes = [[n_mels, window - stride]]

    def embed(self, x: Tensor) -> Tensor:
        """Embedding of each window. Shape: x [B, M, window], returns [B, C]."""
        raise NotImplementedError

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        past = torch.cat([cache[0], x], 2)
        windows = past.unfold(2, self.window, self.stride).transpose(1, 2)  # [B, rows, M, window]
        every = self.train_every if self.training else 1
        rows_n = windows.shape[1]
        first = (rows_n - 1) % every
        windows = windows[:, first::every]
        flat = windows.reshape(-1, self.n_mels, self.window)
        if self.training or exporting():
            y = self.embed(flat)
        else:
            y = torch.cat([self.embed(some) for some in torch.split(flat, self.at_once)])
        held = (torch.arange(rows_n, device=x.device) - first).div(every, rounding_mode="floor").clamp(min=0)
        rows = y.view(x.shape[0], windows.shape[1], self.width)[:, held].transpose(1, 2)
        return rows, [past[:, :, past.shape[2] - (self.window - self.stride) :]]

    def last_logits(self, x: Tensor) -> Tensor:
        window = torch.nn.functional.pad(x, (max(0, self.window - x.shape[2]), 0))[:, :, -self.window :]
        logits: Tensor = self.head(self.embed(window)[:, :, None])
        return logits[:, :, 0]


def same_padding(n: int, kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Zeros before and after `n` frames for ceil(n / stride) outputs, as TensorFlow's "SAME": an odd one is after."""
    total = max((-(-n // stride) - 1) * stride + (kernel - 1) * dilation + 1 - n, 0)
    return total // 2, total - total // 2
