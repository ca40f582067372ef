"""A depthwise convolution over time that trains fast on a CPU, and scores short chunks of a stream fast."""

import torch
from torch import Tensor, nn

from kws.common.tensors import exporting


def is_short(n: int) -> bool:
    """Whether so few outputs are faster without a convolution, which oneDNN sets up anew for each call."""
    return not exporting() and n <= 16


class Depthwise(nn.Conv1d):
    """One filter per channel, without padding.

    Args:
        channels: C.
        kernel: taps.
        dilation: frames between taps.
        stride: frames between outputs.

    Shape: x [B, C, N], returns [B, C, (N - (kernel - 1) * dilation - 1) // stride + 1].
    """

    def __init__(self, channels: int, kernel: int, dilation: int = 1, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, dilation=dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        taps, d, s, bias = self.kernel_size[0], self.dilation[0], self.stride[0], self.bias
        span = (taps - 1) * d + 1
        # Without numbers (meta), operations are counted, and those of a convolution are known.
        if not self.training and (x.is_meta or not is_short((x.shape[2] - span) // s + 1)):
            found: Tensor = self._conv_forward(x, self.weight, bias)
            return found
        if not self.training:
            y = (x.unfold(2, span, s)[:, :, :, ::d] * self.weight).sum(3)
            return y if bias is None else y + bias.unsqueeze(1)
        # The same sum tap by tap: its backward pass is about twice as fast on a CPU.
        end = x.shape[2] - span + 1
        y = x[:, :, :end:s] * self.weight[:, 0, 0, None]
        for k in range(1, taps):
            y = torch.addcmul(y, x[:, :, k * d : k * d + end : s], self.weight[:, 0, k, None])
        return y if bias is None else y + bias.unsqueeze(1)


class Pointwise(nn.Conv1d):
    """A convolution of kernel 1. Outside training it is a matrix product.

    Shape: x [..., C_in, N], returns [..., C_out, N].
    """

    def __init__(self, in_channels: int, channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or x.is_meta:
            found: Tensor = self._conv_forward(x, self.weight, self.bias)
            return found
        y = torch.nn.functional.linear(x.transpose(-2, -1), self.weight[:, :, 0], self.bias)
        return y.transpose(-2, -1)


def matrix(values: Tensor) -> nn.Parameter:
    """A weight in memory of its own."""
    return nn.Parameter(values.detach().clone(memory_format=torch.contiguous_format))
