"""Who makes the steps, and the average of the weights that follows them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def make_optimizer(net: nn.Module, kind: str, lr: float, weight_decay: float, momentum: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter, 2019), or SGD with momentum.

    AdamW decays the weights of layers alone; SGD decays all, norms and biases too, as published recipes have it.

    Args:
        net: whose weights are trained.
        kind: adamw or sgd.
        lr: the learning rate at first, above 0.
        weight_decay: at least 0.
        momentum: of sgd, 0 to 1.
    """
    fused = next(net.parameters()).device.type == "cuda"  # one kernel for all weights
    if kind == "sgd":
        return torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, fused=fused)
    decayed = [p for p in net.parameters() if p.ndim > 1]
    plain = [p for p in net.parameters() if p.ndim <= 1]
    return torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}], lr=lr, fused=fused
    )


@torch.no_grad()
def follow(average: Mapping[str, Tensor], net: nn.Module, decay: float, step: int) -> None:
    """Move averaged weights towards the trained ones (Polyak & Juditsky, 1992), faster at the start.

    Args:
        average: of the net's state, changed in place.
        net: as it is after this step.
        decay: of the moving average, 0 to 1; 0 keeps the last weights.
        step: from 0 up.
    """
    keep = min(decay, (1 + step) / (10 + step))
    for name, value in net.state_dict().items():
        if value.dtype.is_floating_point:
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)
