"""Batch norms over the rows of all processes; torch's own SyncBatchNorm refuses CPUs."""

from typing import Any

import torch
from torch import Tensor, distributed, nn


class _Total(torch.autograd.Function):
    """The sum over all processes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        distributed.all_reduce(total)
        return total


def total(x: Tensor) -> Tensor:
    """The sum over all processes, with gradients: each one's `x` counts in the losses of all."""
    out: Tensor = _Total.apply(x)  # type: ignore[no-untyped-call]
    return out


class SyncedNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation (Ioffe & Szegedy, 2015) with the statistics of the whole batch, however it is divided.

    Shape: x [B, C, ...], B of this process, which may differ between them; returns the same.
    """

    def _check_input_dim(self, x: Tensor) -> None:
        pass  # any number of axes

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        axes, column = [0, *range(2, x.ndim)], (-1, *[1] * (x.ndim - 2))
        y = x.float()
        own_n = y.new_full((1,), y.numel() / y.shape[1])
        sums = total(torch.cat([y.sum(axes), own_n]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        y = y - mean.view(column)
        var = total(y.square().sum(axes)) / n
        with torch.no_grad():
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(var * (n / (n - 1)), momentum)
        y = y * torch.rsqrt(var + self.eps).view(column)
        if self.affine:
            y = y * self.weight.view(column) + self.bias.view(column)
        return y.to(x.dtype)


def synced(net: nn.Module) -> None:
    """Put such norms in the place of a net's batch norms; weights, state and their names stay."""
    for name, part in list(net.named_children()):
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            made = SyncedNorm(part.num_features, part.eps, part.momentum, part.affine, part.track_running_stats)
            made.weight, made.bias = part.weight, part.bias
            made.running_mean, made.running_var = part.running_mean, part.running_var
            made.num_batches_tracked = part.num_batches_tracked
            made.training = part.training
            setattr(net, name, made)
        else:
            synced(part)
