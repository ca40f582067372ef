"""The learning rate over a run."""

import math


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero (Loshchilov & Hutter, 2017).

    Args:
        step: from 0 up.
        steps: of the run.
        peak: reached in the last step of the warm-up.
        warmup: steps, at least 0.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup))) / 2
