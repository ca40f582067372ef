"""Time a large replay buffer: python -m tests.benchmarks buffer [clips]."""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from kws.data.manifest import Source, Split
from kws.replay.buffer import Buffer, Kind, NewClip
from kws.replay.dedup import DuplicatesConfig
from kws.replay.eviction import RULES, EvictionConfig
from kws.replay.sampler import SamplingConfig
from kws.replay.snapshot import Snapshot

CLIPS, NEW, BATCH, CLIP_S, RATE, DIMS, ROUNDS = 100_000, 1000, 256, 2, 16000, 64, 3
PER_RECORDING, DRAWS = 5, 200
NOTE = """\
{n} clips of {s} s from {r} recordings, embeddings of {d} numbers, as a round of `kws train` adds them. Faked: the old
clips are rows without sound files, their hashes and embeddings are random, no two of them alike; none of what is timed
reads an old clip's sound. Real: the index, and all that a new clip costs (noise, its FLAC file down to the disk, near-
duplicates by overlap 0.5 and cosine 0.99, eviction of as many). One thread but for the files. Median s of {rounds}, of
200 for samples, after one to warm up; {cores} cores, load {load:.1f} at the start:"""


def seconds(work: Callable[[int], object], rounds: int = ROUNDS) -> float:
    """Median of some runs, after one to warm up; each gets its number."""
    spent = []
    for number in range(rounds + 1):
        begun = time.perf_counter()
        work(number)
        spent.append(time.perf_counter() - begun)
    return statistics.median(spent[1:])


def clips(first: int, n: int, pcm: np.ndarray, round_: int) -> list[NewClip]:
    """New clips that nearly repeat no other: places of their own in recordings, random embeddings."""
    rng = np.random.default_rng(first)
    scores, vectors = rng.random(n), rng.normal(size=(n, DIMS)).astype(np.float32)
    return [
        NewClip(
            pcm, Kind.false_trigger, "computer",
            Source(f"{i // PER_RECORDING:064x}", f"rooms/{i // PER_RECORDING}.flac", Split.TRAIN),
            CLIP_S * (i % PER_RECORDING), float(scores[i - first]), "weights", "run", round_,
            embedding=vectors[i - first],
        )
        for i in range(first, first + n)
    ]  # fmt: skip


def noise(first: int, n: int) -> list[NewClip]:
    """The same with sound."""
    rng = np.random.default_rng(first)
    level = 10 ** rng.uniform(1, 4, (n, 1))
    pcm = (level * rng.normal(size=(n, CLIP_S * RATE))).clip(-32768, 32767).astype(np.int16)
    return [replace(one, pcm=sound) for one, sound in zip(clips(first, n, pcm[0], 2), pcm, strict=True)]


def main(clips_n: float = CLIPS) -> None:
    """Open a full buffer, add to it under each eviction rule, draw from it."""
    torch.set_num_threads(1)
    n = int(clips_n)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    note = {"s": CLIP_S, "r": n // PER_RECORDING, "d": DIMS, "rounds": ROUNDS, "cores": os.cpu_count(), "load": load}
    print(NOTE.format(n=n, **note))
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        with Buffer(Path(folder)) as buffer, buffer._index.writing():
            for i, one in enumerate(clips(0, n, np.zeros(CLIP_S * RATE, np.int16), 1)):
                buffer._index.find(sha256(b"%d" % i).hexdigest(), one, 1.0)
        print(f"{time.perf_counter() - begun:8.3f}   to make it (once)", flush=True)

        def opened(_: int) -> Snapshot:
            with Buffer(Path(folder)) as buffer:
                return Snapshot.of(buffer, CLIP_S * RATE, torch.device("cpu"), SamplingConfig())

        print(f"{seconds(opened):8.3f}   to open it with the snapshot that batches sample from", flush=True)
        snapshot, rng = opened(0), torch.Generator().manual_seed(0)
        print(f"{seconds(lambda _: snapshot.sample(BATCH, None, rng), DRAWS):8.5f}   to sample {BATCH}", flush=True)
        first = n
        for eviction in RULES:
            batches = [noise(first + i * NEW, NEW) for i in range(ROUNDS + 1)]
            first += (ROUNDS + 1) * NEW
            with Buffer(
                Path(folder), EvictionConfig(n, max_per_recording=None, eviction=eviction), RATE, DuplicatesConfig()
            ) as buffer:

                def add(number: int) -> None:
                    added = buffer.add(batches[number])  # noqa: B023
                    assert (len(added.new), len(added.evicted), len(buffer)) == (NEW, NEW, n)

                print(f"{seconds(add):8.3f}   to add {NEW} and evict as many by {eviction}", flush=True)
