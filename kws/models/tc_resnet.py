"""TC-ResNet8: a residual net of convolutions over time, with the mel bands as channels."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kws.models.base import keyword_head, register
from kws.models.windowed import WindowConfig, WindowNet, same_padding

WIDTHS = (16, 24, 32, 48)  # channels of the first convolution and of each block


class Block(nn.Module):
    """Two convolutions over time, the first with stride 2, and a pointwise residual connection.

    Shape: x [B, C_in, N], returns [B, C, ceil(N / 2)].
    """

    folds = (("conv", "norm"), ("conv_again", "norm_again"), ("around", "norm_around"))

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(in_channels, channels, 9, 2, bias=False), nn.BatchNorm1d(channels)
        self.conv_again, self.norm_again = nn.Conv1d(channels, channels, 9, bias=False), nn.BatchNorm1d(channels)
        self.around, self.norm_around = nn.Conv1d(in_channels, channels, 1, 2, bias=False), nn.BatchNorm1d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv(F.pad(x, same_padding(x.shape[2], 9, 2)))))
        y = self.norm_again(self.conv_again(F.pad(y, same_padding(y.shape[2], 9))))
        return torch.relu(y + torch.relu(self.norm_around(self.around(x))))


@dataclass
class TCResNetConfig(WindowConfig):
    """Settings of a TC-ResNet8, as published."""

    width_multiplier: Annotated[
        float, Field(ge=0.25, le=32, description="factor of the published widths; 1.5 is published too")
    ] = 1.0
    dropout: Annotated[float, Field(ge=0, le=0.9, description="dropout in training: share of the channels")] = 0.5


@register("tc_resnet", TCResNetConfig)
class TCResNet8(WindowNet):
    """TC-ResNet8 (Choi et al., 2019) in the published layout.

    With 40 bands and 12 score columns it has 65,180 weights; the published 66 k include the statistics of the batch
    norms. The published input is 98 frames of 40 MFCC, 30 ms each.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        width_multiplier, dropout, window: see `TCResNetConfig`.
    """

    source = "Choi et al., 2019"
    folds = (("stem", "norm"),)

    def __init__(self, n_mels: int, n_keywords: int, width_multiplier: float, dropout: float, **window: int) -> None:
        widths = [int(width_multiplier * width) for width in WIDTHS]
        super().__init__(n_mels, n_keywords, widths[-1], **window)
        self.stem, self.norm = nn.Conv1d(n_mels, widths[0], 3, padding=1, bias=False), nn.BatchNorm1d(widths[0])
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
        self.dropout = nn.Dropout(dropout)
        self.head = keyword_head(widths[-1], n_keywords)

    def embed(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.blocks(torch.relu(self.norm(self.stem(x)))).mean(2))
        return y
