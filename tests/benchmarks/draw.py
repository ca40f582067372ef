"""Time the draws from a large replay buffer: python -m tests.benchmarks draw."""

import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from kws.replay.sampler import Sampler, Sampling

CLIPS, BATCH, ALPHA, ROUNDS = 100_000, 256, 0.6, 200


def milliseconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - begun)


def main() -> None:
    """Draw and learn in turn, as training does: each draw comes right after what was learned of the last."""
    torch.set_num_threads(1)
    losses = np.random.default_rng(0)
    rng = torch.Generator().manual_seed(0)
    print(f"{CLIPS} clips, {BATCH} a batch, alpha {ALPHA}, one thread; median ms of {ROUNDS}")
    for how in Sampling:
        # All drawn, as in most batches; half new, as after a large mining round.
        for name, drawn in ("all drawn", np.ones(CLIPS)), ("half new", np.arange(CLIPS) % 2):
            sampler = Sampler(losses.exponential(size=CLIPS), drawn.astype(np.int64), how, ALPHA)
            draw_ms, learn_ms = [], []
            for _ in range(ROUNDS):
                batch: list[np.ndarray] = []
                draw_ms.append(milliseconds(lambda: batch.append(sampler.sample(BATCH, rng))))  # noqa: B023
                loss = losses.exponential(size=BATCH)
                learn_ms.append(milliseconds(lambda: sampler.set_priorities(batch[0], loss)))  # noqa: B023
            print(
                f"{how:12}  {name:9}  draw {statistics.median(draw_ms):.3f}   learn {statistics.median(learn_ms):.3f}",
                flush=True,
            )
