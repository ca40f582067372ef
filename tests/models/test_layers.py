"""Depthwise convolutions as sums over taps: the values and gradients of torch's convolution."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kws.models.layers import taps


@pytest.mark.parametrize("frames_first", [False, True])
@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 5), st.integers(1, 3), st.integers(1, 3), st.integers(1, 9))
def test_taps_are_a_depthwise_convolution(
    frames_first: bool, batch: int, channels: int, kernel: int, dilation: int, stride: int, more: int
) -> None:
    length = (kernel - 1) * dilation + more
    rng = torch.Generator().manual_seed(batch * 100 + length)
    x = torch.randn(batch, channels, length, generator=rng, dtype=torch.double, requires_grad=True)
    weight = torch.randn(channels, 1, kernel, generator=rng, dtype=torch.double, requires_grad=True)
    wanted = torch.nn.functional.conv1d(x, weight, stride=stride, dilation=dilation, groups=channels)
    if frames_first:
        found = taps(x.transpose(1, 2), weight[:, 0].t().contiguous(), dilation, stride).transpose(1, 2)
    else:
        found = taps(x, weight.permute(2, 0, 1), dilation, stride)
    torch.testing.assert_close(found, wanted)
    of = torch.randn(wanted.shape, generator=rng, dtype=torch.double)
    for a, b in zip(
        torch.autograd.grad(found, (x, weight), of), torch.autograd.grad(wanted, (x, weight), of), strict=True
    ):
        torch.testing.assert_close(a, b)
