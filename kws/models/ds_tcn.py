"""DS-TCN: causal depthwise-separable convolutions over time, with an explicit cache per layer."""

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
    """A residual depthwise-separable causal convolution, dilated in time.

    Shape: x [B, C, N], cache [B, C, (kernel - 1) * dilation]; returns the same two shapes.
    """

    folds = (("pointwise", "norm"),)

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.past_n = (kernel - 1) * dilation
        self.depthwise = Depthwise(channels, kernel, dilation)
        self.pointwise = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        past = torch.cat([cache, x], 2)
        y = torch.relu(self.norm(self.pointwise(self.depthwise(past))))
        return x + y, past[:, :, past.shape[2] - self.past_n :]


@dataclass
class DSTCNConfig(ModelConfig):
    """Settings of a DS-TCN: about 45,000 weights, 1.4 s of context, a score every 20 ms."""

    channels: Annotated[int, Field(ge=4, le=1024, description="width of the blocks")] = 64
    kernel: Annotated[int, Field(ge=2, le=31, description="taps of each convolution, at least stride")] = 5
    dilations: Annotated[
        list[int], Each(1, 64), Field(min_length=1, description="dilation of each block, in score rows")
    ] = field(default_factory=lambda: [1, 2, 4, 1, 2, 4, 2])

    def check(self) -> None:
        if self.kernel < self.stride:
            raise SettingError("kernel", self.kernel, f"must be at least stride={self.stride}")


@register("ds_tcn", DSTCNConfig)
class DSTCN(KeywordNet):
    """DS-TCN over log-mel frames, similar to the small-footprint nets of wekws (Wang et al., 2023).

    A strided dense convolution, residual depthwise-separable blocks and one linear score per keyword. wekws uses a
    linear layer in place of the strided convolution, also a batch norm after the depthwise convolution, and dropout.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        channels, kernel, dilations, stride: see `DSTCNConfig`.
    """

    source = "Wang et al., 2023"
    folds = (("stem", "norm"),)

    def __init__(
        self, n_mels: int, n_keywords: int, channels: int, kernel: int, dilations: Sequence[int], stride: int
    ) -> None:
        super().__init__(n_mels, n_keywords, stride)
        self.past_n = kernel - stride
        self.norm_in = nn.BatchNorm1d(n_mels)
        self.stem = nn.Conv1d(n_mels, channels, kernel, stride=stride, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.blocks = nn.ModuleList([Block(channels, kernel, d) for d in dilations])
        self.head = keyword_head(channels, n_keywords)
        self.width = channels
        self.cache_shapes = [[n_mels, self.past_n]] + [[channels, (kernel - 1) * d] for d in dilations]
        self.receptive_field = self.past_n + stride * (1 + (kernel - 1) * sum(dilations))

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        past = torch.cat([cache[0], self.norm_in(x)], 2)
        following = [past[:, :, past.shape[2] - self.past_n :]]
        y = torch.relu(self.norm(self.stem(past)))
        for i, block in enumerate(self.blocks):
            y, kept = block(y, cache[i + 1])
            following.append(kept)
        return y, following
