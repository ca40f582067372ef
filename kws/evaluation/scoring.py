"""Many recordings and one detector: each heard in one pass, on all cores, in as much memory as a few blocks take."""

import copy
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data.audio import BadAudio, length_s, pcm_blocks
from kws.data.streams import Piece, Span, Stream
from kws.detector import streaming
from kws.detector.streaming import PASS_S, BatchScorer, ScoreTrack, StreamScorer

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

    tracks: dict[str, ScoreTrack]
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
    detector: StreamScorer, takes: Sequence[Take], chunk_s: float, tell: Callable[[float], None] = lambda _: None
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
        return Listened(dict(streaming.tracks(detector, rows, n, chunk_s)), [])

    def one(sound: Path | Stream | Callable[[], Stream]) -> Result:
        if isinstance(sound, Path):
            return of_file(sound, *streaming.follow(detector, pcm_blocks(sound, rate, block_n), samples))
        made = sound if isinstance(sound, Stream) else sound()
        blocks = (made.pcm[i : i + block_n] for i in range(0, len(made.pcm), block_n))
        rows, n = streaming.follow(detector, blocks, samples)
        return Listened(dict(streaming.tracks(detector, rows, n, chunk_s)), made.pieces)

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
        rows_of = streaming.side_by_side(cast(BatchScorer, detector), list(whole.values()))  # as `jobs_of` was told
        for i, rows in zip(whole, rows_of, strict=True):
            found[i] = of_file(files[i], rows, len(whole[i]))
            samples(len(whole[i]))
    return [result for result in found if result is not None]


def hear_all(
    detector: StreamScorer, takes: Sequence[Take], chunk_s: float, tell: Callable[[float], None] = lambda _: None
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
    ears: queue.SimpleQueue[StreamScorer] = queue.SimpleQueue()
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


Tell = Callable[[float], None]  # called with the seconds heard so far
Hear = Callable[[StreamScorer, Sequence[Take], float, Tell], list[Result]]  # `listen.hear_all`, or a cluster's


@dataclass(frozen=True)
class Passage:
    """A stretch of a track and what is known of it: a keyword that is said there, or a negative recording.

    Args:
        start_s, end_s: of a keyword, within which a detector may answer; of a negative, where it lies. Seconds.
        name, speaker, source: of the recording; what is not known is empty.
        snr_db: above the noise, None where that is not known.
        spoken_s: when the keyword has been said, to measure the latency from; None where that is not known.
        take: which of the takes it lies in, and
        offset_s: where on the track that take begins, to find its sound.
    """

    start_s: float
    end_s: float
    name: str = ""
    speaker: str = ""
    source: str = ""
    snr_db: float | None = None
    spoken_s: float | None = None
    take: int = 0
    offset_s: float = 0.0

    @property
    def span(self) -> Span:
        """Its start and end."""
        return self.start_s, self.end_s


@dataclass(frozen=True)
class KeywordScores:
    """What a detector made of one keyword's streams.

    Args:
        positive: its track where the keyword is said.
        events: each time that it is said.
        negative: its track where it is not.
        negatives: the recordings of those streams.
        others: the tracks of the detector's other keywords where this one is said, and
        answers: the spans there within which those are right to fire.
    """

    positive: ScoreTrack
    events: list[Passage]
    negative: ScoreTrack
    negatives: list[Passage] = field(default_factory=list)
    others: Mapping[str, ScoreTrack] = field(default_factory=dict)
    answers: Mapping[str, Sequence[Span]] = field(default_factory=dict)

    @property
    def spans(self) -> list[Span]:
        """Within which each time may be answered."""
        return [event.span for event in self.events]


def whole(result: Result) -> Listened:
    """What was heard; raises the error where a file did not decode."""
    if isinstance(result, BadAudio):
        raise result
    return result
