"""DS-TCN: causal depthwise-separable convolutions over time, with an explicit cache per layer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from kws.common.settings import Each, SettingError
from kws.common.tensors import affine, last, windows
from kws.models.base import KeywordNet, ModelConfig, keyword_head, merge_norms, register
from kws.models.layers import Depthwise, matrix, taps


class BandConv(nn.Module):
    """A convolution over bands and frames that halves the bands. A filter sees few bands, and the same filter sees all.

    Shape: x [B, C_in, M, N]; returns [B, C, (M + 1) // 2, (N - kernel) // stride + 1].
    """

    folds = (("conv", "norm"),)

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, (5, kernel), (2, stride), (2, 0), bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Block(nn.Module):
    """A residual depthwise-separable causal convolution, dilated in time, on frames before channels.

    Shape: x [B, N, C], cache [B, (kernel - 1) * dilation, C]; returns the same two shapes.
    """

    folds = (("pointwise", "norm"),)

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.past_n = (kernel - 1) * dilation
        self.depthwise = Depthwise(channels, kernel, dilation)
        self.pointwise = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        past = torch.cat([cache, x], 1)
        if x.is_meta:  # operations are counted, and those of a convolution are known
            y = self.pointwise(self.depthwise(past.transpose(1, 2))).transpose(1, 2)
        else:  # products of matrices train faster on a CPU than convolutions
            rows = taps(past, self.depthwise.weight[:, 0].t().contiguous(), self.depthwise.dilation[0])
            y = torch.nn.functional.linear(rows, self.pointwise.weight[:, :, 0], self.pointwise.bias)
        y = torch.relu(self.norm(y.flatten(0, 1)).view_as(y))
        return x + y, last(past, self.past_n)


@dataclass
class DSTCNConfig(ModelConfig):
    """Settings of a DS-TCN: 45,000 weights and 1.35 s of context without `stem_2d`, a score every 20 ms."""

    channels: Annotated[int, Field(ge=4, le=1024, description="width of the blocks")] = 64
    kernel: Annotated[int, Field(ge=2, le=31, description="taps of each convolution, at least stride")] = 5
    dilations: Annotated[
        list[int], Each(1, 64), Field(min_length=1, description="dilation of each block, in score rows")
    ] = field(default_factory=lambda: [1, 2, 4, 1, 2, 4, 2])
    stem_2d: Annotated[
        list[int],
        Each(1, 512),
        Field(
            max_length=5,
            description="widths of convolutions over bands and frames, which come first; [16,32] in ds_tcn_2d",
        ),
    ] = field(default_factory=list)

    def check(self) -> None:
        if self.kernel < self.stride:
            raise SettingError("kernel", self.kernel, f"must be at least stride={self.stride}")


@register("ds_tcn", DSTCNConfig)
class DSTCN(KeywordNet):
    """DS-TCN over log-mel frames, similar to the small-footprint nets of wekws (Wang et al., 2023).

    A strided dense convolution, residual depthwise-separable blocks and one linear score per keyword. wekws uses a
    linear layer in place of the strided convolution, also a batch norm after the depthwise convolution, and dropout.

    With `stem_2d`, convolutions over bands and frames come first, as in the nets of Sainath and Parada (2015). The
    first of them has the stride; the others and the dense convolution have 3 taps over time.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        channels, kernel, dilations, stride, stem_2d: see `DSTCNConfig`.
    """

    source = "Wang et al., 2023"
    folds = (("stem", "norm"),)

    def __init__(
        self,
        n_mels: int,
        n_keywords: int,
        channels: int,
        kernel: int,
        dilations: Sequence[int],
        stride: int,
        stem_2d: Sequence[int] = (),
    ) -> None:
        super().__init__(n_mels, n_keywords, stride)
        self.past_n = kernel - stride + 2 * stride * len(stem_2d)
        self.norm_in = nn.BatchNorm1d(n_mels)
        layers, maps, bands, taps_n, step = list[BandConv](), 1, n_mels, kernel, stride
        for width in stem_2d:
            layers.append(BandConv(maps, width, taps_n, step))
            maps, bands, taps_n, step = width, (bands + 1) // 2, 3, 1
        self.stem_2d = nn.ModuleList(layers)
        self.stem = nn.Conv1d(maps * bands, channels, taps_n, stride=step, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.blocks = nn.ModuleList([Block(channels, kernel, d) for d in dilations])
        self.head = keyword_head(channels, n_keywords)
        self.width = channels
        self.cache_shapes = [[self.past_n, n_mels]] + [[(kernel - 1) * d, channels] for d in dilations]
        self.receptive_field = self.past_n + stride * (1 + (kernel - 1) * sum(dilations))

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        past = torch.cat([cache[0].transpose(1, 2), self.norm_in(x)], 2)
        following = [past[:, :, past.shape[2] - self.past_n :].transpose(1, 2)]
        y = past.unsqueeze(1)
        for layer in self.stem_2d:
            y = layer(y)
        y = torch.relu(self.norm(self.stem(y.flatten(1, 2)))).transpose(1, 2).contiguous()
        for i, block in enumerate(self.blocks):
            y, kept = block(y, cache[i + 1])
            following.append(kept)
        return y.transpose(1, 2), following

    def folded(self) -> "FoldedDSTCN":
        return FoldedDSTCN(merge_norms(self))


class FoldedBlock(nn.Module):
    """A block for scoring, with its batch norm merged.

    Shape: x [..., N, C], cache [..., (kernel - 1) * dilation, C]; returns the same two shapes.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        assert block.pointwise.bias is not None  # that of the norm
        self.past_n = block.past_n
        self.kernel, self.dilation = block.depthwise.kernel_size[0], block.depthwise.dilation[0]
        self.taps = matrix(block.depthwise.weight[:, 0].t())
        self.weight, self.bias = matrix(block.pointwise.weight[:, :, 0].t()), matrix(block.pointwise.bias)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        past = torch.cat([cache, x], -2)
        y = (windows(past, self.kernel, self.dilation) * self.taps).sum(-2)
        return x + torch.relu(affine(y, self.weight, self.bias)), last(past, self.past_n)


class FoldedDSTCN(KeywordNet):
    """A DS-TCN for scoring: batch norms are merged, and frames come before channels.

    A chunk of a few frames then costs few operations, which are products of small matrices.

    Args:
        net: with the batch norms of its convolutions merged.
    """

    source, batch_free = DSTCN.source, True

    def __init__(self, net: DSTCN) -> None:
        super().__init__(net.n_mels, net.n_keywords, net.stride)
        norm, stem = net.norm_in, net.stem
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert stem.bias is not None  # that of the norm
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.scale, self.shift = matrix(scale), matrix(norm.bias - norm.running_mean * scale)
        self.past_n, self.kernel, self.step = net.past_n, stem.kernel_size[0], stem.stride[0]
        self.stem_2d = net.stem_2d
        self.weight, self.bias = matrix(stem.weight.permute(2, 1, 0).flatten(0, 1)), matrix(stem.bias)
        self.blocks = nn.ModuleList([FoldedBlock(block) for block in net.blocks if isinstance(block, Block)])
        self.head, self.width = net.head, net.width
        self.cache_shapes, self.receptive_field = net.cache_shapes, net.receptive_field

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        past = torch.cat([cache[0], torch.addcmul(self.shift, x.transpose(-2, -1), self.scale)], -2)
        following = [last(past, self.past_n)]
        y = past
        if len(self.stem_2d) > 0:
            y = y.transpose(-2, -1).unsqueeze(-3)
            for layer in self.stem_2d:
                y = layer(y)
            y = y.flatten(-3, -2).transpose(-2, -1)
        y = torch.relu(affine(windows(y, self.kernel, 1, self.step).flatten(-2), self.weight, self.bias))
        for i, block in enumerate(self.blocks):
            y, kept = block(y, cache[i + 1])
            following.append(kept)
        return y.transpose(-2, -1), following
