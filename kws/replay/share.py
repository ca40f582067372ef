"""How much of a batch comes from the buffer."""

import math

import torch


def share_at(step: int, first: int, share: float, schedule: str, ramp_steps: int) -> float:
    """The replayed share of the batch at `step`.

    Args:
        step: training step.
        first: step of the first mining round; nothing is replayed before it.
        share: the share in the end, 0 to 0.5.
        schedule: constant, linear or cosine.
        ramp_steps: steps until the ramp is up, at least 0.
    """
    if step < first:
        return 0.0
    part = 1.0 if schedule == "constant" or ramp_steps == 0 else min(1.0, (step - first) / ramp_steps)
    return share * (part if schedule != "cosine" else (1 - math.cos(math.pi * part)) / 2)


def stochastic_round(value: float, rng: torch.Generator) -> int:
    """`value` rounded up as often as its fraction says: right on average over batches, never off by a whole clip."""
    return int(value + torch.rand(1, generator=rng).item())
