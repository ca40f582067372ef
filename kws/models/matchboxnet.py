"""MatchboxNet: residual blocks of time-channel separable convolutions with long filters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kws.common.settings import Each
from kws.models.base import doubting, register
from kws.models.windowed import WindowConfig, WindowNet, same_padding

OUTER = 128  # channels before the blocks and after them


class Separable(nn.Module):
    """A depthwise convolution over time, a pointwise one and a batch norm. Shape: x [B, C_in, N], returns [B, C, N]."""

    folds = (("pointwise", "norm"),)

    def __init__(self, fed: int, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.pad = list(same_padding(1, kernel, 1, dilation))
        self.depthwise = nn.Conv1d(fed, fed, kernel, dilation=dilation, groups=fed, bias=False)
        self.pointwise, self.norm = nn.Conv1d(fed, channels, 1, bias=False), nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.pointwise(self.depthwise(F.pad(x, self.pad))))
        return y


class Block(nn.Module):
    """Separable convolutions in a row, and a pointwise one around them. Shape: x [B, C_in, N], returns [B, C, N]."""

    folds = (("around", "norm"),)

    def __init__(self, fed: int, channels: int, kernel: int, repeats: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList([Separable(channels if i else fed, channels, kernel) for i in range(repeats)])
        self.around, self.norm = nn.Conv1d(fed, channels, 1, bias=False), nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, part in enumerate(self.parts):
            y = part(torch.relu(y) if i else y)
        return torch.relu(y + self.norm(self.around(x)))


@dataclass
class MatchboxNetConfig(WindowConfig):
    """Settings of a MatchboxNet: 3x1x64 as published, but for features.n_mels, which is 64 there."""

    channels: Annotated[int, Field(ge=4, le=1024, description="width of the blocks")] = 64
    kernels: Annotated[
        list[int], Each(1, 63), Field(min_length=1, description="taps of the convolutions of each block")
    ] = field(default_factory=lambda: [13, 15, 17])
    repeats: Annotated[int, Field(ge=1, le=16, description="convolutions of a block")] = 1


@register("matchboxnet", MatchboxNetConfig)
class MatchboxNet(WindowNet):
    """MatchboxNet-BxRxC (Majumdar & Ginsburg, 2020), to the layout of its authors' code: no stride in time, no dropout.

    With 64 bands and 30 score columns 3x1x64 has 77,214 weights (published: 77 k), 3x2x64 92,766 (93 k). As published
    it hears 64 MFCC: `features.n_mels=64`; with 40 bands there are 3,336 weights fewer. Its authors fill the second up
    to 128 frames with zeros.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        channels: of the blocks, C.
        kernels: taps of the convolutions of each block, B of them.
        repeats: convolutions of a block, R.
        window: frames of a window.
        stride: input frames from one window to the next.
        train_every: see `WindowNet`.
    """

    source = "Majumdar & Ginsburg, 2020"
    folds = (("mix", "norm"),)

    def __init__(
        self,
        n_mels: int = 40,
        n_keywords: int = 1,
        channels: int = 64,
        kernels: Sequence[int] = (13, 15, 17),
        repeats: int = 1,
        window: int = 100,
        stride: int = 8,
        train_every: int = 4,
    ) -> None:
        super().__init__(n_mels, n_keywords, stride, window, OUTER, train_every)
        fed = [OUTER, *[channels] * (len(kernels) - 1)]
        self.stem = Separable(n_mels, OUTER, 11)
        self.blocks = nn.Sequential(*(Block(f, channels, k, repeats) for f, k in zip(fed, kernels, strict=True)))
        self.wide = Separable(channels, OUTER, 29, dilation=2)
        self.mix, self.norm = nn.Conv1d(OUTER, OUTER, 1, bias=False), nn.BatchNorm1d(OUTER)
        self.head = doubting(nn.Conv1d(OUTER, n_keywords, 1))

    def embed(self, x: Tensor) -> Tensor:
        y = torch.relu(self.wide(self.blocks(torch.relu(self.stem(x)))))
        return torch.relu(self.norm(self.mix(y))).mean(2)
