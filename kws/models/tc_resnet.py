"""TC-ResNet8: a residual net that convolves over time only, mel bands as its channels."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from kws.models.base import doubting, register
from kws.models.windowed import WindowConfig, WindowNet, same_padding

WIDTHS = (16, 24, 32, 48)  # of the first convolution and of each block


class Block(nn.Module):
    """Two convolutions over time, the first of which halves the frames, and a pointwise one around them.

    Shape: x [B, C_in, N], returns [B, C, ceil(N / 2)].
    """

    folds = (("conv", "norm"), ("conv_again", "norm_again"), ("around", "norm_around"))

    def __init__(self, fed: int, channels: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(fed, channels, 9, 2, bias=False), nn.BatchNorm1d(channels)
        self.conv_again, self.norm_again = nn.Conv1d(channels, channels, 9, bias=False), nn.BatchNorm1d(channels)
        self.around, self.norm_around = nn.Conv1d(fed, channels, 1, 2, bias=False), nn.BatchNorm1d(channels)

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
    """TC-ResNet8 (Choi et al., 2019), to the published layout.

    With 40 bands and 12 score columns it has 65,180 weights; the published 66 k count what the batch norms remember. As
    published it hears 40 MFCC of 30 ms in 98 frames, the last two of a second short.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        width_multiplier: what the published widths are multiplied by: 1 or 1.5.
        dropout: share of what the head sees that it forgets in training.
        window: frames of a window.
        stride: input frames from one window to the next.
        train_every: see `WindowNet`.
    """

    source = "Choi et al., 2019"
    folds = (("stem", "norm"),)

    def __init__(
        self,
        n_mels: int = 40,
        n_keywords: int = 1,
        width_multiplier: float = 1.0,
        dropout: float = 0.5,
        window: int = 100,
        stride: int = 8,
        train_every: int = 4,
    ) -> None:
        widths = [int(width_multiplier * width) for width in WIDTHS]
        super().__init__(n_mels, n_keywords, stride, window, widths[-1], train_every)
        self.stem, self.norm = nn.Conv1d(n_mels, widths[0], 3, padding=1, bias=False), nn.BatchNorm1d(widths[0])
        self.blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
        self.dropout = nn.Dropout(dropout)
        self.head = doubting(nn.Conv1d(widths[-1], n_keywords, 1))

    def embed(self, x: Tensor) -> Tensor:
        y: Tensor = self.dropout(self.blocks(torch.relu(self.norm(self.stem(x)))).mean(2))
        return y
