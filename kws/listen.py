"""Many recordings and one detector: each heard in one pass, on all cores, in as much memory as a few blocks take."""

import copy
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from kws import stream
from kws.audio import BadAudio, length_s, pcm_blocks
from kws.compose import Piece, Stream
from kws.detect import Track
from kws.stream import PASS_S, Batched, Listener

AT_ONCE = 16  # short recordings in a batch


@dataclass(frozen=True)
class Take:
    """Something to hear: a file of any length, or a stream that is made when its turn comes.

    `length_s` is about how long it is, in seconds: for the time left, and to hear short files by the batch.
    """

    sound: Path | Stream | Callable[[], Stream]
    length_s: float


@dataclass(frozen=True)
class Listened:
    """What a detector made of one take: the track of each keyword, and the pieces of a stream that was made."""

    tracks: dict[str, Track]
    pieces: list[Piece]


Result = Listened | BadAudio
Job = list[int]  # takes that are heard together


def take(file: Path) -> Take:
    """A file to hear; its header is all that is read."""
    return Take(file, length_s(file))


def seconds(takes: Sequence[Take]) -> float:
    """About how long they are together."""
    return sum(one.length_s for one in takes)


def jobs_of(takes: Sequence[Take], batched: bool) -> list[Job]:
    """Which takes are heard together: long ones alone, first; short files side by side, those of like length."""
    short = [i for i, one in enumerate(takes) if batched and isinstance(one.sound, Path) and 0 < one.length_s <= PASS_S]
    short.sort(key=lambda i: takes[i].length_s)
    alone = sorted(set(range(len(takes))) - set(short), key=lambda i: -takes[i].length_s)
    return [[i] for i in alone] + [short[at : at + AT_ONCE] for at in range(0, len(short), AT_ONCE)]


def hear(
    detector: Listener, takes: Sequence[Take], chunk_s: float, tell: Callable[[float], None] = lambda _: None
) -> list[Result]:
    """Hear takes that belong together; a file that does not decode gives its error instead.

    Args:
        detector: a `Detector` or an exported file.
        takes: of one job.
        chunk_s: a trigger counts from the end of the chunk of this length that brings it.
        tell: called with the seconds that were heard.
    """
    rate = detector.sample_rate
    block_n = round(PASS_S * rate)

    def samples(n: int) -> None:
        tell(n / rate)

    def of_file(file: Path, rows: NDArray[np.float32], n: int) -> Result:
        if not len(rows):
            return BadAudio(file.as_posix(), f"shorter than a score row of {detector.frame_s:g} s")
        return Listened(dict(stream.tracks(detector, rows, n, chunk_s)), [])

    def one(sound: Path | Stream | Callable[[], Stream]) -> Result:
        if isinstance(sound, Path):
            return of_file(sound, *stream.follow(detector, pcm_blocks(sound, rate, block_n), samples))
        made = sound if isinstance(sound, Stream) else sound()
        blocks = (made.pcm[i : i + block_n] for i in range(0, len(made.pcm), block_n))
        rows, n = stream.follow(detector, blocks, samples)
        return Listened(dict(stream.tracks(detector, rows, n, chunk_s)), made.pieces)

    if len(takes) == 1:
        try:
            return [one(takes[0].sound)]
        except BadAudio as error:
            return [error]
    found: list[Result | None] = [None] * len(takes)
    files = [each.sound for each in takes if isinstance(each.sound, Path)]
    whole = {}
    for i, file in enumerate(files):
        try:
            blocks = list(pcm_blocks(file, rate, block_n))
        except BadAudio as error:
            found[i] = error
            continue
        if len(blocks) == 1:
            whole[i] = blocks[0]
        else:  # longer than its header says
            found[i] = one(file)
    if whole:
        rows_of = stream.side_by_side(cast(Batched, detector), list(whole.values()))  # as `jobs_of` was told
        for i, rows in zip(whole, rows_of, strict=True):
            found[i] = of_file(files[i], rows, len(whole[i]))
            samples(len(whole[i]))
    return [result for result in found if result is not None]


def hear_all(
    detector: Listener, takes: Sequence[Take], chunk_s: float, tell: Callable[[float], None] = lambda _: None
) -> list[Result]:
    """Hear every take, on as many cores as torch may use: each works through takes of its own.

    The scores are the same however many cores there are, as each take is heard on one.

    Args:
        detector, chunk_s: as for `hear`.
        takes: in any order; the results keep it.
        tell: called with the seconds heard so far.
    """
    found: list[Result | None] = [None] * len(takes)
    jobs = jobs_of(takes, hasattr(detector, "batch"))
    workers = max(1, min(torch.get_num_threads(), len(jobs)))
    ears: queue.SimpleQueue[Listener] = queue.SimpleQueue()
    for i in range(workers):
        ears.put(copy.deepcopy(detector) if i else detector)
    lock, heard_s, stopped = threading.Lock(), 0.0, threading.Event()

    def add(seconds: float) -> None:
        nonlocal heard_s
        if stopped.is_set():
            raise InterruptedError
        with lock:
            heard_s += seconds
            tell(heard_s)

    def work(job: Job) -> tuple[Job, list[Result]]:
        ear = ears.get()
        try:
            return job, hear(ear, [takes[i] for i in job], chunk_s, add)
        finally:
            ears.put(ear)

    with _a_thread_each(), ThreadPoolExecutor(workers) as pool:
        try:
            for done in as_completed([pool.submit(work, job) for job in jobs]):
                job, results = done.result()
                for i, result in zip(job, results, strict=True):
                    found[i] = result
        except BaseException:
            stopped.set()  # those that are hearing stop after the block they are at
            pool.shutdown(cancel_futures=True)
            raise
    return [result for result in found if result is not None]


@contextmanager
def _a_thread_each() -> Iterator[None]:
    """Threads that begin here compute alone: torch's own teams of threads would fight for the same cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
