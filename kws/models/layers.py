"""A depthwise convolution over time that trains fast on a CPU, and scores short chunks of a stream fast."""

from typing import Any

import torch
from torch import Tensor, nn

from kws.common.tensors import exporting


def is_short(n: int) -> bool:
    """Whether so few outputs are faster without a convolution, which oneDNN sets up anew for each call."""
    return not exporting() and n <= 16


class Taps(torch.autograd.Function):
    """A depthwise convolution as a sum over its taps, which trains two to three times as fast on a CPU as oneDNN's.

    Shape: x [B, C, L] with weight [K, C, 1], or frames first: x [B, L, C] with weight [K, C]; returns as x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, dilation: int, stride: int) -> Tensor:
        """The sum; dilation and stride in frames."""
        ctx.save_for_backward(x, weight)
        ctx.steps = dilation, stride
        y = Taps.rows(x, weight, 0, dilation, stride) * weight[0]
        for k in range(1, len(weight)):
            y.addcmul_(Taps.rows(x, weight, k, dilation, stride), weight[k])
        return y

    @staticmethod
    def rows(x: Tensor, weight: Tensor, k: int, dilation: int, stride: int) -> Tensor:
        """The frames of x that tap k reads, a view."""
        axis = 1 if weight.dim() == 2 else 2
        n = x.shape[axis] - (len(weight) - 1) * dilation
        return x.narrow(axis, k * dilation, n)[(slice(None),) * axis + (slice(None, None, stride),)]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """Gradients of x and weight."""
        (x, weight), (grad,) = ctx.saved_tensors, grads
        over = (0, 1) if weight.dim() == 2 else (0, 2)
        of_x, of_weight = torch.zeros_like(x), torch.empty_like(weight)
        for k in range(len(weight)):
            Taps.rows(of_x, weight, k, *ctx.steps).addcmul_(grad, weight[k])
            of_weight[k] = (grad * Taps.rows(x, weight, k, *ctx.steps)).sum(over).view_as(weight[k])
        return of_x, of_weight, None, None


@torch.jit.unused  # a net trains in Python alone  # type: ignore[untyped-decorator]
def taps(x: Tensor, weight: Tensor, dilation: int, stride: int = 1) -> Tensor:
    """See `Taps`."""
    y: Tensor = Taps.apply(x, weight, dilation, stride)  # type: ignore[no-untyped-call]
    return y


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
        d, s, bias = self.dilation[0], self.stride[0], self.bias
        span = (self.kernel_size[0] - 1) * d + 1
        # Without numbers (meta), operations are counted, and those of a convolution are known.
        if not self.training and (x.is_meta or not is_short((x.shape[2] - span) // s + 1)):
            found: Tensor = self._conv_forward(x, self.weight, bias)
            return found
        if not self.training:
            y = (x.unfold(2, span, s)[:, :, :, ::d] * self.weight).sum(3)
            return y if bias is None else y + bias.unsqueeze(1)
        y = taps(x, self.weight.permute(2, 0, 1), d, s)
        return y if bias is None else y + bias.unsqueeze(1)


class Pointwise(nn.Conv1d):
    """A convolution of kernel 1, as a matrix product.

    Shape: x [..., C_in, N], returns [..., C_out, N].
    """

    def __init__(self, in_channels: int, channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:  # operations are counted, and those of a convolution are known
            found: Tensor = self._conv_forward(x, self.weight, self.bias)
            return found
        y = torch.nn.functional.linear(x.transpose(-2, -1), self.weight[:, :, 0], self.bias)
        return y.transpose(-2, -1)


def matrix(values: Tensor) -> nn.Parameter:
    """A weight in memory of its own."""
    return nn.Parameter(values.detach().clone(memory_format=torch.contiguous_format))
