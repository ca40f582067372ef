"""Scoring of many recordings and streams with one detector: one pass each, on all cores, in bounded memory."""

import copy
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data.audio import BadAudio, length_s, pcm_blocks
from kws.data.mending import Fault, silent_samples
from kws.data.streams import Piece, Span, Stream
from kws.detector import streaming
from kws.detector.streaming import CHUNK_S, BatchScorer, ScoreTrack, StreamScorer
from kws.evaluation.calibration import Calibration

FILES_PER_BATCH = 16  # short files


@dataclass(frozen=True)
class StreamSource:
    """Audio to score: a file of any length, a stream, or a function that composes a stream when its turn comes.

    `length_s` is the approximate length in seconds. It orders and batches the work, and gives the time left.
    """

    audio: Path | Stream | Callable[[], Stream]
    length_s: float


@dataclass(frozen=True)
class ScoredStream:
    """Scores of one source: a track for each keyword, the pieces of a composed stream, and the faults of a file."""

    tracks: dict[str, ScoreTrack]
    pieces: list[Piece]
    faults: frozenset[Fault] = frozenset()


Result = ScoredStream | BadAudio
Batch = list[int]  # numbers of sources that are scored together
Progress = Callable[[float], None]  # called with the seconds scored up to now
ScoreAll = Callable[[StreamScorer, Sequence[StreamSource], float, Progress], list[Result]]  # `score_all` or Ray's
ConfusableScores = tuple[ScoreTrack, Sequence[Span]]  # track of the clips, and in it the span of a hit of each clip


@dataclass(frozen=True)
class Segment:
    """A labelled segment of a score track: one keyword occurrence or one negative recording.

    Args:
        start_s, end_s: of a keyword, the span within which a trigger is a hit; of a negative, its place on the track.
        name, speaker, source: of the recording; empty where unknown.
        snr_db: signal-to-noise ratio; None where unknown.
        spoken_s: end of the spoken keyword, from which latency is measured; None where unknown.
        stream: number of the stream source that holds the segment.
        offset_s: start of that stream on the track.
        silent_s: of a negative, seconds of digital silence, which count as no hours.
    """

    start_s: float
    end_s: float
    name: str = ""
    speaker: str = ""
    source: str = ""
    snr_db: float | None = None
    spoken_s: float | None = None
    stream: int = 0
    offset_s: float = 0.0
    silent_s: float = 0.0

    @property
    def span(self) -> Span:
        """Start and end in seconds."""
        return self.start_s, self.end_s


@dataclass(frozen=True)
class KeywordScores:
    """Scores of one keyword on the streams with and without it.

    Args:
        positive: track of the streams with the keyword; `NO_STREAM` if there are none.
        events: occurrences of the keyword on that track.
        negative: track of the streams without it; `NO_STREAM` if there are none.
        negatives: recordings of that track.
        others: tracks of the detector's other keywords on the positive streams.
        other_spans: spans on those tracks within which a trigger of the other keyword is a hit.
    """

    positive: ScoreTrack
    events: list[Segment]
    negative: ScoreTrack
    negatives: list[Segment] = field(default_factory=list)
    others: Mapping[str, ScoreTrack] = field(default_factory=dict)
    other_spans: Mapping[str, Sequence[Span]] = field(default_factory=dict)

    @property
    def spans(self) -> list[Span]:
        """Spans of the events."""
        return [event.span for event in self.events]


@dataclass(frozen=True)
class DetectorScores:
    """Scores of one detector, and the thresholds at which it counts.

    Args:
        scores: of each keyword.
        thresholds: of each keyword.
        calibrations: of the thresholds that were placed on validation streams.
        confusables: scores of the confusables of each keyword; empty without confusables.
        name: in tables; empty for a single detector.
    """

    scores: Mapping[str, KeywordScores]
    thresholds: Mapping[str, float]
    calibrations: Mapping[str, Calibration] = field(default_factory=dict)
    confusables: Mapping[str, ConfusableScores] = field(default_factory=dict)
    name: str = ""


def file_source(file: Path) -> StreamSource:
    """A file to score. Only its header is read."""
    return StreamSource(file, length_s(file))


def total_s(sources: Sequence[StreamSource]) -> float:
    """Approximate total length in seconds."""
    return sum(source.length_s for source in sources)


def group_sources(sources: Sequence[StreamSource], batched: bool) -> list[Batch]:
    """Batches of sources: long ones alone, the longest first, then short files of similar length together.

    Args:
        sources: to score.
        batched: the detector can score several recordings at once.
    """
    short = [i for i, s in enumerate(sources) if batched and isinstance(s.audio, Path) and 0 < s.length_s <= CHUNK_S]
    short.sort(key=lambda i: sources[i].length_s)
    alone = sorted(set(range(len(sources))) - set(short), key=lambda i: -sources[i].length_s)
    return [[i] for i in alone] + [short[at : at + FILES_PER_BATCH] for at in range(0, len(short), FILES_PER_BATCH)]


def score_sources(
    detector: StreamScorer, sources: Sequence[StreamSource], chunk_s: float, progress: Progress = lambda _: None
) -> list[Result]:
    """Score the sources of one batch. A file that does not decode gives its error in place of scores.

    Args:
        detector: a `Detector` or an exported file.
        sources: of one batch.
        chunk_s: length of the audio chunks in seconds; a score row is known at the end of its chunk.
        progress: called with the seconds of each scored block.
    """
    rate = detector.sample_rate
    block_n = round(CHUNK_S * rate)

    def result(audio: Path | Stream, rows: NDArray[np.float32], n: int, silent_n: int, faults: set[Fault]) -> Result:
        if isinstance(audio, Path) and not len(rows):
            return BadAudio(audio.as_posix(), f"shorter than a score row of {detector.frame_s:g} s")
        if isinstance(audio, Path) and silent_n == n:
            return BadAudio(audio.as_posix(), "silent")
        pieces = [] if isinstance(audio, Path) else audio.pieces
        return ScoredStream(dict(streaming.as_tracks(detector, rows, n, chunk_s, silent_n)), pieces, frozenset(faults))

    def score(audio: Path | Stream | Callable[[], Stream]) -> Result:
        stream, silent_n = audio() if callable(audio) else audio, 0
        faults = set[Fault]() if isinstance(stream, Path) else set(stream.faults)
        if isinstance(stream, Path):
            blocks = pcm_blocks(stream, rate, block_n, faults)
        else:
            blocks = (stream.pcm[i : i + block_n] for i in range(0, len(stream.pcm), block_n))

        def measured() -> Iterator[NDArray[np.int16]]:
            nonlocal silent_n
            for block in blocks:
                silent_n += silent_samples(block, rate)
                yield block

        rows, n = streaming.score_blocks(detector, measured(), lambda n: progress(n / rate))
        return result(stream, rows, n, silent_n, faults)

    if len(sources) == 1:
        try:
            return [score(sources[0].audio)]
        except BadAudio as error:
            return [error]
    results: list[Result | None] = [None] * len(sources)
    files = [source.audio for source in sources if isinstance(source.audio, Path)]
    faults = [set[Fault]() for _ in files]
    loaded = {}
    for i, file in enumerate(files):
        try:
            blocks = list(pcm_blocks(file, rate, block_n, faults[i]))
        except BadAudio as error:
            results[i] = error
            continue
        if len(blocks) == 1:
            loaded[i] = blocks[0]
        else:  # longer than its header says
            results[i] = score(file)
    if loaded:
        scores = streaming.score_batch(cast(BatchScorer, detector), list(loaded.values()))
        for i, rows in zip(loaded, scores, strict=True):
            silent_n = silent_samples(loaded[i], rate)
            results[i] = result(files[i], rows, len(loaded[i]), silent_n, faults[i])
            progress(len(loaded[i]) / rate)
    return [one for one in results if one is not None]


def score_all(
    detector: StreamScorer, sources: Sequence[StreamSource], chunk_s: float, progress: Progress = lambda _: None
) -> list[Result]:
    """Score every source, on as many cores as torch may use, one batch a core.

    Scores do not depend on the number of cores, since each source is scored on one.

    Args:
        detector, chunk_s: as for `score_sources`.
        sources: in any order; the results keep it.
        progress: called with the seconds scored up to now.
    """
    results: list[Result | None] = [None] * len(sources)
    batches = group_sources(sources, hasattr(detector, "batch"))
    workers = max(1, min(torch.get_num_threads(), len(batches)))
    detectors: queue.SimpleQueue[StreamScorer] = queue.SimpleQueue()
    for i in range(workers):
        detectors.put(copy.deepcopy(detector) if i else detector)
    lock, scored_s, stopped = threading.Lock(), 0.0, threading.Event()

    def add(seconds: float) -> None:
        nonlocal scored_s
        if stopped.is_set():
            raise InterruptedError
        with lock:
            scored_s += seconds
            progress(scored_s)

    def work(batch: Batch) -> tuple[Batch, list[Result]]:
        own = detectors.get()
        try:
            return batch, score_sources(own, [sources[i] for i in batch], chunk_s, add)
        finally:
            detectors.put(own)

    torch_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # torch's own threads would compete with the workers for the cores
    with ThreadPoolExecutor(workers) as pool:
        try:
            for done in as_completed([pool.submit(work, batch) for batch in batches]):
                batch, scored = done.result()
                for i, result in zip(batch, scored, strict=True):
                    results[i] = result
        except BaseException:
            stopped.set()  # the other workers stop after their current block
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            torch.set_num_threads(torch_threads)
    return [result for result in results if result is not None]


def decoded(result: Result) -> ScoredStream:
    """Return the scores, or raise the error of a file that did not decode."""
    if isinstance(result, BadAudio):
        raise result
    return result
