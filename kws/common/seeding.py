"""Randomness without state: every draw has its own generator, named by what it is for.

A run that resumes at step 700 asks for the generators of step 700: nothing needs to be saved to draw the same batches.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_of(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for `purpose` (words and numbers, such as "batch", 700) under the run's `seed`."""
    digest = hashlib.sha256("\x1f".join(map(str, (seed, *purpose))).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> "torch.Generator":
    """A torch generator (on the CPU, so that every device sees the same draws)."""
    import torch  # takes a second, which processes that synthesise speech need not spend

    return torch.Generator().manual_seed(seed_of(seed, *purpose))


def numpy_generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """The same for NumPy."""
    return np.random.default_rng(seed_of(seed, *purpose))
