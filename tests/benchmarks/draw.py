"""Time sampling from a large replay buffer: python -m tests.benchmarks draw."""

import statistics
import time

import numpy as np
import torch

from kws.replay.sampler import Sampling, SamplingConfig, sample, sampling_weights

CLIPS, BATCH, EXPONENT, ROUNDS = 100_000, 256, 0.6, 200


def main() -> None:
    """Sample a batch again and again, with new priorities for the clips of the last one, as training does."""
    torch.set_num_threads(1)
    losses = np.random.default_rng(0)
    rng = torch.Generator().manual_seed(0)
    print(f"{CLIPS} clips, {BATCH} a batch, exponent {EXPONENT}, one thread; median ms of {ROUNDS}")
    for how in Sampling:
        priority, config, ms = losses.exponential(size=CLIPS), SamplingConfig(how, EXPONENT), []
        for _ in range(ROUNDS):
            begun = time.perf_counter()
            batch = sample(sampling_weights(priority, config), BATCH, rng)
            ms.append(1000 * (time.perf_counter() - begun))
            priority[batch.numpy()] = losses.exponential(size=BATCH)
        print(f"{how:12}  {statistics.median(ms):.3f}", flush=True)
