"""Random generators without state: each is seeded by the run's seed and a purpose.

A run that resumes at step 700 creates the generators of step 700, so no generator state is saved.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(seed: int, *purpose: str | int) -> int:
    """63-bit seed for a purpose (words and numbers, such as "batch", 700) under the seed of a run."""
    digest = hashlib.sha256("\x1f".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> "torch.Generator":
    """Torch generator for a purpose, on the CPU: every device then gets the same random numbers."""
    import torch  # the import takes a second, and processes that synthesise speech do not need it

    return torch.Generator().manual_seed(seed_of(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """NumPy generator for a purpose."""
    return np.random.default_rng(seed_of(seed, *purpose))
