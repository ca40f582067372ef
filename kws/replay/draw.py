"""Which clips of the buffer a batch replays."""

import torch
from torch import Tensor


def draw(priority: Tensor, n: int, alpha: float, rng: torch.Generator) -> Tensor:
    """`n` different clips, drawn in proportion to priority ** alpha (Schaul et al., 2016).

    Args:
        priority: the latest loss of each clip, at least 0; new clips stand at the top priority.
        n: how many; all of them where there are fewer.
        alpha: 0 draws uniformly, 1 in proportion.

    Shape: priority [R]; returns int64 [min(n, R)].
    """
    if n == 0 or len(priority) == 0:
        return torch.zeros(0, dtype=torch.long)
    weight = (priority.double() + 1e-3) ** alpha  # a solved clip keeps a small chance: it may be forgotten again
    return torch.multinomial(weight, min(n, len(priority)), replacement=False, generator=rng)
