"""BC-ResNet: 2-D convolutions over frequency and 1-D convolutions over time, combined by broadcasting."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kws.common.settings import SettingError
from kws.models.base import KeywordNet, ModelConfig, keyword_head, register
from kws.models.layers import Depthwise
from kws.models.windowed import WindowConfig, WindowNet

BLOCKS = (2, 2, 4, 4)  # blocks of each stage; the dilation in time is 1, 2, 4, 8
HALVES = (1, 2, 2, 1)  # stride in frequency of the first block of each stage
KERNEL = 5  # taps of the first and of the last convolution


def extended(x: Tensor, cache: list[Tensor], i: int, past_n: int) -> Tensor:
    """Prepend tensor `i` of the cache to `x`; with an empty cache, pad both sides with half of `past_n` zeros."""
    if len(cache) == 0:
        return F.pad(x, (past_n // 2, past_n - past_n // 2))
    return torch.cat([cache[i], x], -1)


def last(x: Tensor, n: int) -> Tensor:
    """The last `n` frames."""
    return x[..., x.shape[-1] - n :]


class SubSpectralNorm(nn.Module):
    """A batch norm for each of `groups` frequency bands, a divisor of F (Chang et al., 2021).

    Shape: x [B, C, F, N], returns the same.
    """

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups, self.norm = groups, nn.BatchNorm2d(channels * groups)

    def forward(self, x: Tensor) -> Tensor:
        b, c, f, n = x.shape
        y: Tensor = self.norm(x.reshape(b, c * self.groups, f // self.groups, n)).view(b, c, f, n)
        return y


class Block(nn.Module):
    """Convolves the mean over the frequencies in time and adds the result to each frequency.

    Shape: x [B, C_in, F, N], tensor `i` of the cache [B, C, 2 * dilation]; returns [B, C, F / halves, N] and the next
        value of that tensor.
    """

    folds = (("widen", "norm"), ("over_time", "norm_over_time"))

    def __init__(
        self, in_channels: int, channels: int, dilation: int, halves: int, groups: int, dropout: float
    ) -> None:
        super().__init__()
        self.past_n, self.residual = 2 * dilation, in_channels == channels
        self.widen: nn.Module = nn.Identity() if self.residual else nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm: nn.Module = nn.Identity() if self.residual else nn.BatchNorm2d(channels)
        self.over_frequency = nn.Conv2d(channels, channels, (3, 1), (halves, 1), (1, 0), groups=channels, bias=False)
        self.norm_over_frequency = SubSpectralNorm(channels, groups)
        self.over_time, self.norm_over_time = Depthwise(channels, 3, dilation), nn.BatchNorm1d(channels)
        self.pointwise = nn.Conv1d(channels, channels, 1, bias=False)
        self.dropout = nn.Dropout1d(dropout)

    def forward(self, x: Tensor, cache: list[Tensor], i: int) -> tuple[Tensor, Tensor]:
        y = x if self.residual else torch.relu(self.norm(self.widen(x)))
        y = self.norm_over_frequency(self.over_frequency(y))
        past = extended(y.mean(2), cache, i, self.past_n)
        z = self.dropout(self.pointwise(F.silu(self.norm_over_time(self.over_time(past)))))
        y = y + z.unsqueeze(2)
        return torch.relu(x + y if self.residual else y), last(past, self.past_n)


class Trunk(nn.Module):
    """A BC-ResNet without its head.

    With a cache each convolution over time is causal. With an empty cache each is centred, and zeros pad `x`.

    Args:
        n_mels: mel bands, M, a multiple of 8 * groups.
        tau, groups, dropout: see `BCResNetConfig`.
        stride: input frames per output, at most KERNEL.

    Shape: x [B, M, N]; returns [B, width, N / stride] and the next cache.
    """

    folds = (("stem", "norm"), ("pointwise", "norm_pointwise"))

    def __init__(self, n_mels: int, tau: float, groups: int, dropout: float, stride: int) -> None:
        super().__init__()
        base = int(8 * tau)
        widths = [base, int(1.5 * base), 2 * base, int(2.5 * base)]
        self.stem_n, self.end_n, self.width = KERNEL - 1, KERNEL - stride, 4 * base
        self.stem = nn.Conv2d(1, 2 * base, KERNEL, (2, 1), (2, 0), bias=False)
        self.norm = nn.BatchNorm2d(2 * base)
        blocks, in_channels = [], 2 * base
        for stage, (channels, halves) in enumerate(zip(widths, HALVES, strict=True)):
            for n in range(BLOCKS[stage]):
                blocks.append(Block(in_channels, channels, 2**stage, 1 if n else halves, groups, dropout))
                in_channels = channels
        self.blocks = nn.ModuleList(blocks)
        heights = n_mels // 8
        self.end = nn.Conv2d(
            in_channels, in_channels, (min(KERNEL, heights), KERNEL), (1, stride), groups=in_channels, bias=False
        )
        self.pointwise, self.norm_pointwise = (
            nn.Conv2d(in_channels, self.width, 1, bias=False),
            nn.BatchNorm2d(self.width),
        )
        between = [[block.over_time.in_channels, block.past_n] for block in blocks]
        self.cache_shapes = [[n_mels, self.stem_n], *between, [in_channels, heights, self.end_n]]
        self.receptive_field = self.stem_n + sum(block.past_n for block in blocks) + KERNEL

    def forward(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        past = extended(x, cache, 0, self.stem_n)
        following = [last(past, self.stem_n)]
        y = torch.relu(self.norm(self.stem(past.unsqueeze(1))))
        for i, block in enumerate(self.blocks):
            y, kept = block(y, cache, i + 1)
            following.append(kept)
        past = extended(y, cache, len(self.blocks) + 1, self.end_n)
        following.append(last(past, self.end_n))
        return torch.relu(self.norm_pointwise(self.pointwise(self.end(past)))).mean(2), following


@dataclass
class _Widths(ModelConfig):
    """Settings of both kinds of BC-ResNet."""

    tau: Annotated[float, Field(ge=0.5, le=32, description="factor of the widths of BC-ResNet-1")] = 1.0
    groups: Annotated[
        int,
        Field(ge=1, le=16, description="bands of the sub-spectral norms; features.n_mels is a multiple of 8 * groups"),
    ] = 5
    dropout: Annotated[float, Field(ge=0, le=0.9, description="dropout in training: share of the channels")] = 0.1

    def check_rows(self, n_rows: int) -> None:
        if n_rows % (8 * self.groups):
            rule = f"must be such that features.n_mels={n_rows}, or n_mfcc, is a multiple of {8 * self.groups}"
            raise SettingError("model.groups", self.groups, rule)


@dataclass
class BCResNetConfig(WindowConfig, _Widths):
    """Settings of a BC-ResNet as published: each row scores the whole last second."""


@dataclass
class CausalBCResNetConfig(_Widths):
    """Settings of a causal BC-ResNet, which streams from a cache."""

    stride: Annotated[int, Field(ge=1, le=5, description="feature frames per score row")] = 2


@register("bc_resnet", BCResNetConfig)
class BCResNet(WindowNet):
    """BC-ResNet-tau (Kim et al., 2021) in the published layout: it pads in time and averages over its window.

    With 40 mel bands, 5 groups and 12 score columns it has the published number of weights for tau 1, 1.5, 2, 3, 6, 8.

    Args:
        n_mels: mel bands of the input, M, a multiple of 8 * groups.
        n_keywords: score columns, K.
        tau, groups, dropout, window: see `BCResNetConfig`.
    """

    source = "Kim et al., 2021"

    def __init__(self, n_mels: int, n_keywords: int, tau: float, groups: int, dropout: float, **window: int) -> None:
        trunk = Trunk(n_mels, tau, groups, dropout, 1)
        super().__init__(n_mels, n_keywords, trunk.width, **window)
        self.trunk, self.head = trunk, keyword_head(trunk.width, n_keywords)

    def embed(self, x: Tensor) -> Tensor:
        no_cache: list[Tensor] = []
        y: Tensor = self.trunk(x, no_cache)[0].mean(2)
        return y


@register("bc_resnet_causal", CausalBCResNetConfig)
class CausalBCResNet(KeywordNet):
    """BC-ResNet (Kim et al., 2021) with causal convolutions over time, so that it streams; same number of weights.

    The broadcast residual depends on one frame only and is causal already. The published average over the utterance is
    left out: the last convolution covers more than a second, and a detector smooths its scores.

    Args:
        n_mels, n_keywords, tau, groups, dropout: as for `BCResNet`.
        stride: input frames per score row, 1 to 5. Only the last convolution is strided.
    """

    source = "after Kim et al., 2021"

    def __init__(self, n_mels: int, n_keywords: int, tau: float, groups: int, dropout: float, stride: int) -> None:
        super().__init__(n_mels, n_keywords, stride)
        self.trunk = Trunk(n_mels, tau, groups, dropout, stride)
        self.head = keyword_head(self.trunk.width, n_keywords)
        self.width = self.trunk.width
        self.cache_shapes, self.receptive_field = self.trunk.cache_shapes, self.trunk.receptive_field

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, following = self.trunk(x, cache)
        return y, following
