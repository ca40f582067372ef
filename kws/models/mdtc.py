"""MDTC: stacks of causal dilated depthwise-separable convolutions; the outputs of all stacks are summed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from kws.common.settings import Each, SettingError
from kws.models.base import KeywordNet, ModelConfig, keyword_head, register
from kws.models.layers import Depthwise


class Block(nn.Module):
    """A dilated depthwise and two pointwise convolutions, each with a batch norm; residual if the shapes are equal.

    Shape: x [B, C_in, N], cache [B, C_in, past_n]; returns [B, C, N / stride] and the next cache.
    """

    folds = (("depthwise", "norm"), ("pointwise", "norm_pointwise"), ("mix", "norm_mix"))

    def __init__(self, in_channels: int, channels: int, kernel: int, dilation: int, stride: int = 1) -> None:
        super().__init__()
        self.past_n = (kernel - 1) * dilation + 1 - stride
        self.residual = in_channels == channels and stride == 1
        self.depthwise, self.norm = Depthwise(in_channels, kernel, dilation, stride), nn.BatchNorm1d(in_channels)
        self.pointwise, self.norm_pointwise = nn.Conv1d(in_channels, channels, 1, bias=False), nn.BatchNorm1d(channels)
        self.mix, self.norm_mix = nn.Conv1d(channels, channels, 1, bias=False), nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        past = torch.cat([cache, x], 2)
        y = self.norm(self.depthwise(past))
        y = self.norm_mix(self.mix(torch.relu(self.norm_pointwise(self.pointwise(y)))))
        return torch.relu(x + y if self.residual else y), past[:, :, past.shape[2] - self.past_n :]


@dataclass
class MDTCConfig(ModelConfig):
    """Settings of an MDTC. The published net has four stacks of 64 channels and needs clips of 2.8 s."""

    stride: Annotated[int, Field(ge=1, le=100, description="feature frames per score row")] = 1
    channels: Annotated[int, Field(ge=4, le=1024, description="width of the blocks")] = 20
    kernel: Annotated[int, Field(ge=2, le=31, description="taps of each convolution, at least stride")] = 5
    dilations: Annotated[
        list[int], Each(1, 64), Field(min_length=1, description="dilation of each block, in score rows")
    ] = field(default_factory=lambda: [1, 2, 4, 8])
    stacks: Annotated[int, Field(ge=1, le=16, description="number of stacks")] = 2

    def check(self) -> None:
        if self.kernel < self.stride:
            raise SettingError("kernel", self.kernel, f"must be at least stride={self.stride}")


@register("mdtc", MDTCConfig)
class MDTC(KeywordNet):
    """Multi-scale depthwise temporal convolution (Hou et al., 2020), as in wekws (Wang et al., 2023).

    A first block, then stacks of blocks. The head gets the sum of the outputs of all stacks, whose receptive fields
    differ in length. Biases that batch norms make redundant are left out of the published net (64 channels, 4 stacks,
    80 MFCC, stride 1, 2.4 s).

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        channels, kernel, dilations, stacks, stride: see `MDTCConfig`.
    """

    source = "Hou et al., 2020"

    def __init__(
        self,
        n_mels: int,
        n_keywords: int,
        channels: int,
        kernel: int,
        dilations: Sequence[int],
        stacks: int,
        stride: int,
    ) -> None:
        super().__init__(n_mels, n_keywords, stride)
        self.per_stack = len(dilations)
        first = Block(n_mels, channels, kernel, 1, stride)
        rest = [Block(channels, channels, kernel, d) for _ in range(stacks) for d in dilations]
        self.first, self.blocks = first, nn.ModuleList(rest)
        self.head = keyword_head(channels, n_keywords)
        self.width = channels
        self.cache_shapes = [[n_mels, first.past_n]] + [[channels, block.past_n] for block in rest]
        self.receptive_field = kernel + stride * sum(block.past_n for block in rest)

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, kept = self.first(x, cache[0])
        following = [kept]
        total = torch.zeros_like(y)
        for i, block in enumerate(self.blocks):
            y, kept = block(y, cache[i + 1])
            following.append(kept)
            if (i + 1) % self.per_stack == 0:
                total = total + y
        return total, following
