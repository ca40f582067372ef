"""DS-CNN-S: depthwise-separable convolutions over time and frequency."""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kws.models.base import keyword_head, register
from kws.models.windowed import WindowConfig, WindowNet, same_padding

TAPS = (4, 10)  # taps of the first convolution in frequency and time


class Block(nn.Module):
    """A depthwise 3 x 3 and a pointwise convolution, each with a batch norm. Shape: x and result [B, C, F, N]."""

    folds = (("depthwise", "norm"), ("pointwise", "norm_pointwise"))

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.pointwise, self.norm_pointwise = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.depthwise(x)))
        return torch.relu(self.norm_pointwise(self.pointwise(y)))


@dataclass
class DSCNNConfig(WindowConfig):
    """Settings of a DS-CNN-S, as published."""

    channels: Annotated[int, Field(ge=4, le=1024, description="width of each convolution")] = 64


@register("ds_cnn", DSCNNConfig)
class DSCNN(WindowNet):
    """DS-CNN-S (Zhang et al., 2017) in the published layout.

    With 12 score columns it has 23,180 weights for any input. The published input is 49 frames of 10 MFCC, 40 ms every
    20 ms: `features.n_mels=10 features.window_s=0.04 features.hop_s=0.02 model.window=49 model.stride=4`. The default
    of 100 frames of 40 bands costs 8 times as many multiply-adds.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        channels, window: see `DSCNNConfig`.
    """

    source = "Zhang et al., 2017"
    folds = (("stem", "norm"),)

    def __init__(self, n_mels: int, n_keywords: int, channels: int, **window: int) -> None:
        super().__init__(n_mels, n_keywords, channels, **window)
        self.stem, self.norm = nn.Conv2d(1, channels, TAPS, 2, bias=False), nn.BatchNorm2d(channels)
        self.pad = [*same_padding(self.window, TAPS[1], 2), *same_padding(n_mels, TAPS[0], 2)]
        self.blocks = nn.Sequential(*(Block(channels) for _ in range(4)))
        self.head = keyword_head(channels, n_keywords)

    def embed(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.stem(F.pad(x.unsqueeze(1), self.pad))))
        z: Tensor = self.blocks(y).mean([2, 3])
        return z
