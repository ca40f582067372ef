"""MatchboxNet: residual blocks of time-channel separable convolutions with long filters."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kws.common.settings import Each
from kws.models.base import keyword_head, register
from kws.models.windowed import WindowConfig, WindowNet, same_padding

OUTER = 128  # channels before and after the blocks


class Separable(nn.Module):
    """A depthwise and a pointwise convolution over time, and a batch norm. Shape: x [B, C_in, N], returns [B, C, N]."""

    folds = (("pointwise", "norm"),)

    def __init__(self, in_channels: int, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        self.pad = list(same_padding(1, kernel, 1, dilation))
        self.depthwise = nn.Conv1d(in_channels, in_channels, kernel, dilation=dilation, groups=in_channels, bias=False)
        self.pointwise, self.norm = nn.Conv1d(in_channels, channels, 1, bias=False), nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.pointwise(self.depthwise(F.pad(x, self.pad))))
        return y


class Block(nn.Module):
    """Separable convolutions with a pointwise residual connection. Shape: x [B, C_in, N], returns [B, C, N]."""

    folds = (("around", "norm"),)

    def __init__(self, in_channels: int, channels: int, kernel: int, repeats: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            [Separable(channels if i else in_channels, channels, kernel) for i in range(repeats)]
        )
        self.around, self.norm = nn.Conv1d(in_channels, channels, 1, bias=False), nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for i, part in enumerate(self.parts):
            y = part(torch.relu(y) if i else y)
        return torch.relu(y + self.norm(self.around(x)))


@dataclass
class MatchboxNetConfig(WindowConfig):
    """Settings of a MatchboxNet: 3x1x64 as published, except for features.n_mels (published: 64)."""

    channels: Annotated[int, Field(ge=4, le=1024, description="width of the blocks")] = 64
    kernels: Annotated[
        list[int], Each(1, 63), Field(min_length=1, description="taps of the convolutions of each block")
    ] = field(default_factory=lambda: [13, 15, 17])
    repeats: Annotated[int, Field(ge=1, le=16, description="convolutions of a block")] = 1


@register("matchboxnet", MatchboxNetConfig)
class MatchboxNet(WindowNet):
    """MatchboxNet-BxRxC (Majumdar & Ginsburg, 2020), in the layout of the authors' code: no stride in time, no dropout.

    With 64 bands and 30 score columns 3x1x64 has 77,214 weights (published: 77 k), 3x2x64 92,766 (93 k). The published
    input is 64 MFCC (`features.n_mels=64`), one second padded with zeros to 128 frames. With 40 bands there are 3,336
    weights fewer.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        channels, kernels, repeats, window: see `MatchboxNetConfig`. C is `channels`, B the number of `kernels`, R
            is `repeats`.
    """

    source = "Majumdar & Ginsburg, 2020"
    folds = (("mix", "norm"),)

    def __init__(
        self, n_mels: int, n_keywords: int, channels: int, kernels: Sequence[int], repeats: int, **window: int
    ) -> None:
        super().__init__(n_mels, n_keywords, OUTER, **window)
        in_channels = [OUTER, *[channels] * (len(kernels) - 1)]
        self.stem = Separable(n_mels, OUTER, 11)
        self.blocks = nn.Sequential(
            *(Block(f, channels, k, repeats) for f, k in zip(in_channels, kernels, strict=True))
        )
        self.wide = Separable(channels, OUTER, 29, dilation=2)
        self.mix, self.norm = nn.Conv1d(OUTER, OUTER, 1, bias=False), nn.BatchNorm1d(OUTER)
        self.head = keyword_head(OUTER, n_keywords)

    def embed(self, x: Tensor) -> Tensor:
        y = torch.relu(self.wide(self.blocks(torch.relu(self.stem(x)))))
        return torch.relu(self.norm(self.mix(y))).mean(2)
