"""A depthwise convolution over time that trains fast on a CPU."""

import torch
from torch import Tensor, nn


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
        if not self.training:
            found: Tensor = self._conv_forward(x, self.weight, self.bias)
            return found
        # The same sum tap by tap: its backward pass is about twice as fast on a CPU.
        taps, d, s = self.kernel_size[0], self.dilation[0], self.stride[0]
        end = x.shape[2] - (taps - 1) * d
        y = x[:, :, :end:s] * self.weight[:, 0, 0, None]
        for k in range(1, taps):
            y = torch.addcmul(y, x[:, :, k * d : k * d + end : s], self.weight[:, 0, k, None])
        bias = self.bias
        return y if bias is None else y + bias.unsqueeze(1)
