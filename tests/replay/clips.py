"""Clips and limits of replay buffers for tests."""

from typing import Any

import numpy as np

from kws.replay.eviction import EvictionConfig, QuotaConfig
from kws.replay.records import ClipTable


def evicting(
    capacity: int = 2000,
    hours: float | None = None,
    quota: dict[str, float] | None = None,
    max_per_recording: int | None = None,
    eviction: str = "hardest",
) -> EvictionConfig:
    """Limits of a buffer; without limits of a recording unless given."""
    return EvictionConfig(capacity, hours, QuotaConfig(**(quota or {})), max_per_recording, eviction)


def table(n: int, **columns: Any) -> ClipTable:
    """A table of `n` clips; columns that are not given are alike."""
    given: dict[str, Any] = {
        "hash": [f"{i:064x}" for i in range(n)],
        "kind": ["false_trigger"] * n,
        "recording": ["a"] * n,
        "start_s": np.zeros(n),
        "n_samples": np.full(n, 100),
        "score": np.full(n, 0.5),
        "priority": np.ones(n),
        "times_drawn": np.ones(n, np.int64),
    }
    return ClipTable(**(given | columns))
