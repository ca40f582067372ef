"""Hard-negative mining: choose the parts of scored audio that enter the replay buffer, and cut them out as clips.

A mining source chooses rows of a stream: false triggers, a random share, nearest neighbours. One of your own is a
function with the decorator `register_mining_source`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, make_dataclass, replace
from typing import Annotated, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kws.data.manifest import Source
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.replay.records import SPAN_S, Kind, NewClip


@dataclass
class SourceSettings:
    """Settings of registered mining sources, a group each."""


def source_settings() -> SourceSettings:
    """Defaults of the settings of registered sources."""
    groups = [(name, s.settings, field(default_factory=s.settings)) for name, s in SOURCES.items() if s.settings]
    made: SourceSettings = make_dataclass("SourceSettings", groups, bases=(SourceSettings,))()
    return made


@dataclass
class SelectionConfig:
    """Which parts of a stream become clips."""

    clips_per_hour: Annotated[
        float, Field(ge=1, le=10**5, description="false triggers and random clips of a keyword per hour of audio")
    ] = 300.0
    min_score: Annotated[float, Field(ge=0, le=1, description="lowest score of a false trigger")] = 0.05
    score_bands: Annotated[
        int, Field(ge=1, le=100, description="equal bands of scores from min_score to 1 that give as many clips each")
    ] = 4
    random_share: Annotated[float, Field(ge=0, le=1, description="share of the clips taken from random places")] = 0.0
    neighbours_per_hour: Annotated[
        float, Field(ge=0, le=10**5, description="clips per hour with embeddings nearest to the keyword, of any score")
    ] = 0.0
    max_per_recording: Annotated[
        int,
        Field(ge=1, le=10**6, description="clips of a keyword in each started 10 s of a recording"),
    ] = 3
    post_s: Annotated[float, Field(ge=0, le=2, description="seconds of audio in a clip after its trigger")] = 0.2
    sources: SourceSettings = field(default_factory=source_settings)


@dataclass
class BatchMiningConfig:
    """Mining of the hardest negatives of training batches, online hard example mining (Shrivastava et al., 2016)."""

    batch_mining: Annotated[bool, Field(description="add the hardest fresh negatives of the batches to the buffer")] = (
        False
    )
    batch_mining_every: Annotated[int, Field(ge=1, le=10**7, description="steps between two rounds of it")] = 50
    batch_mining_clips: Annotated[int, Field(ge=1, le=10**4, description="clips of a round of batch mining")] = 32


class Provenance(TypedDict):
    """Origin of a clip, in the fields of `NewClip`."""

    source: Source
    offset_s: float
    text: str
    mixed_with: tuple[Source, ...]
    mix: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class MiningStream:
    """About an hour of audio with the scores of a detector.

    Args:
        pcm: the audio; row `i` ends at sample `(i + 1) * detector.block_n`. Its first clip length gives no clip.
        scores: of each keyword, 0 to 1.
        nearness: cosine of each row's embedding with the nearest keyword.
        recordings: number of the recording at each row; -1 where nothing may be mined.
        spans: number of the span of `SPAN_S` of that recording at each row, so that it is mined the same however long.
        hours: of audio, for the limits per hour.
        max_per_recording: clips of a span so far, in this and all earlier streams.
        provenance: of a clip, from its row and its first sample.
        rng: samples clips.

    Shape: pcm int16 [T], scores float32 [N, K], nearness float32 [N], recordings and spans int64 [N].
    """

    pcm: NDArray[np.int16]
    scores: NDArray[np.float32]
    nearness: NDArray[np.float32]
    recordings: NDArray[np.int64]
    spans: NDArray[np.int64]
    hours: float
    max_per_recording: int
    provenance: Callable[[int, int], Provenance]
    rng: np.random.Generator


@dataclass(frozen=True, eq=False)
class Candidates:
    """Rows of a stream that a mining source may choose for one keyword.

    Args:
        stream: the scored audio.
        column: of the keyword in the scores.
        config: settings of the selection.
        apart_n: minimum distance of two clips of one source, in rows: half a clip.
        taken: rows that other sources took for this keyword, int64 [M].
        counts: clips of this keyword and kind so far, by recording and span.
        settings: of the source itself; None where it has none.
    """

    stream: MiningStream
    column: int
    config: SelectionConfig
    apart_n: int
    taken: NDArray[np.int64]
    counts: Counter[tuple[int, int]]
    settings: object = None

    @property
    def scores(self) -> NDArray[np.float32]:
        """Scores of the keyword. Shape: [N]."""
        return np.ascontiguousarray(self.stream.scores[:, self.column])

    def n_clips(self, per_hour: float) -> int:
        """Clips that a limit per hour allows in this stream; at least one, unless the limit is 0."""
        return max(1, round(per_hour * self.stream.hours)) if per_hour else 0

    def accept(self, row: int) -> bool:
        """Count a clip of the recording at this row. Returns False if its span there has reached its limit."""
        place = int(self.stream.recordings[row]), int(self.stream.spans[row])
        if place[0] < 0 or self.counts[place] >= self.stream.max_per_recording:
            return False
        self.counts[place] += 1
        return True

    def first(self, rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
        """The first `n` rows that `accept` allows. Shape: rows [M]; returns int64 [n or fewer]."""
        found: list[int] = []
        for row in rows.tolist():
            if len(found) == n:
                break
            if self.accept(row):
                found.append(row)
        return np.array(found, np.int64)


Chooser = Callable[[Candidates], NDArray[np.int64]]


@dataclass(frozen=True)
class MiningSource:
    """A registered mining source: the function that chooses rows, the kind of its clips, and its settings."""

    choose: Chooser
    kind: Kind
    settings: type | None


SOURCES: dict[str, MiningSource] = {}  # called in this order


def register_mining_source(
    name: str, kind: Kind = Kind.false_trigger, settings: type | None = None
) -> Callable[[Chooser], Chooser]:
    """Make a function a mining source: every mining round calls it for each keyword of each stream.

    Args:
        name: of the source.
        kind: of its clips; sources of one kind share `max_per_recording`.
        settings: a dataclass of settings with defaults, `mining.sources.NAME.*`; the function finds them in
            `Candidates.settings`.
    """

    def register(choose: Chooser) -> Chooser:
        SOURCES[name] = MiningSource(choose, kind, settings)
        return choose

    return register


def peaks(scores: NDArray[np.float32], threshold: float, apart_n: int) -> NDArray[np.int64]:
    """Rows of score maxima at or above `threshold`, highest first, each more than `apart_n` rows from a higher one.

    Suppression around each peak keeps near-duplicates out, as in regional hard-example mining.

    Shape: scores [N]; returns int64 [peaks].
    """
    rows = np.flatnonzero(scores >= threshold)
    rows = rows[np.argsort(-scores[rows], kind="stable")]
    hidden = np.zeros(len(scores), bool)
    kept: list[int] = []
    for row in rows.tolist():
        if not hidden[row]:
            kept.append(row)
            hidden[max(0, row - apart_n) : row + apart_n + 1] = True
    return np.array(kept, np.int64)


@register_mining_source("false_triggers")
def false_triggers(candidates: Candidates) -> NDArray[np.int64]:
    """Score peaks, equally many from each band of scores, so that not only the highest scores are mined.

    The other bands fill the places of a band with too few peaks. Within a band peaks are sampled uniformly.
    """
    c, config = candidates, candidates.config
    n = c.n_clips(config.clips_per_hour)
    rows = peaks(c.scores, config.min_score, c.apart_n)
    scores, bands = c.scores[rows], config.score_bands
    band = ((scores - config.min_score) / max(1 - config.min_score, 1e-9) * bands).astype(np.int64)
    band = np.minimum(band, bands - 1)
    order = c.stream.rng.permutation(len(rows)) if bands > 1 else np.arange(len(rows))
    # The first of each band, then the second of each, the higher band first.
    turn = np.zeros(len(rows), np.int64)
    for number in range(bands):
        members = np.flatnonzero(band == number)
        turn[members[np.argsort(order[members])]] = np.arange(len(members))
    kept = c.first(rows[np.lexsort((-band, turn))], n - round(config.random_share * n))
    return kept[np.argsort(-c.scores[kept], kind="stable")]


@register_mining_source("random_share")
def random_share(candidates: Candidates) -> NDArray[np.int64]:
    """Rows sampled uniformly, apart from each other and from false triggers.

    They keep audio in the buffer that the model does not confuse with the keyword, or not yet.
    """
    c = candidates
    n, rows_n = round(c.config.random_share * c.n_clips(c.config.clips_per_hour)), len(c.stream.recordings)
    found: list[int] = []
    occupied = np.sort(c.taken)
    for row in (c.stream.rng.integers(0, rows_n, 8 * n) if rows_n else np.zeros(0, np.int64)).tolist():
        if len(found) == n:
            break
        at = int(np.searchsorted(occupied, row))
        if all(abs(int(other) - row) > c.apart_n for other in occupied[max(0, at - 1) : at + 1]) and c.accept(row):
            found.append(row)
            occupied = np.insert(occupied, at, row)
    return np.array(found, np.int64)


@register_mining_source("neighbours", Kind.neighbour)
def neighbours(candidates: Candidates) -> NDArray[np.int64]:
    """Rows whose embeddings are nearest to the keyword, nearest first, of any score.

    Approximate nearest-neighbour negatives (Xiong et al., 2021), exact here: a pool of hours is small.
    """
    c = candidates
    if not c.config.neighbours_per_hour:
        return np.zeros(0, np.int64)
    rows = peaks(c.stream.nearness, -1.0, c.apart_n)
    rows = rows[c.stream.scores[rows].argmax(1) == c.column]
    return c.first(rows, c.n_clips(c.config.neighbours_per_hour))


def spans_of(places_n: NDArray[np.int64], sample_rate: int) -> NDArray[np.int64]:
    """Numbers of the spans of a recording that hold these samples of it. Shape: [N]; returns int64 [N]."""
    return np.floor(places_n / (SPAN_S * sample_rate)).astype(np.int64)


def mine(
    streams: Iterable[MiningStream],
    detector: Detector,
    config: SelectionConfig,
    clip_n: int,
    checkpoint: str,
    run: str,
    round_: int,
) -> Iterator[list[NewClip]]:
    """Clips that the mining sources choose, stream by stream, with one stream in memory.

    A clip begins on a row boundary and contains the receptive field of its score. So the detector gives the same score
    when it scores the clip from silence.

    Args:
        streams: scored by `detector`.
        detector: its labels are the keywords.
        config: which rows become clips.
        clip_n: samples of a clip, a whole number of rows.
        checkpoint: hash of the detector's weights.
        run, round_: for the record.
    """
    counts: dict[tuple[Kind, int], Counter[tuple[int, int]]] = {}
    row_n = detector.block_n
    post_n = min(round(config.post_s / detector.frame_s) * row_n, (clip_n - detector.reach_n) // row_n * row_n)
    for stream in streams:
        found = []
        for column, keyword in enumerate(detector.labels):
            taken = np.zeros(0, np.int64)
            for name, source in SOURCES.items():
                count = counts.setdefault((source.kind, column), Counter())
                settings = getattr(config.sources, name, None)
                rows = source.choose(Candidates(stream, column, config, clip_n // row_n // 2, taken, count, settings))
                taken = np.concatenate([taken, rows])
                for row in rows.tolist():
                    start = (row + 1) * row_n - (clip_n - post_n)
                    found.append(
                        NewClip(
                            pcm=cut(stream.pcm, start, clip_n),
                            kind=source.kind,
                            keyword=keyword,
                            score=float(stream.scores[row, column]),
                            checkpoint=checkpoint,
                            run=run,
                            round=round_,
                            **stream.provenance(row, start),
                        )
                    )
        yield found


def cut(pcm: NDArray[np.int16], start: int, n_samples: int) -> NDArray[np.int16]:
    """Samples from `start` on, followed by silence where the stream ends. Shape: pcm int16 [T]; returns [n_samples]."""
    clip = np.zeros(n_samples, np.int16)
    audio = pcm[start : start + n_samples]
    clip[: len(audio)] = audio
    return clip


def embedded(found: Sequence[NewClip], detector: Detector) -> list[NewClip]:
    """The clips with their embeddings by this detector, for near-duplicates and clusters."""
    _, vectors = score_clips(detector, [clip.pcm for clip in found])
    return [replace(clip, embedding=vector) for clip, vector in zip(found, vectors, strict=True)]


Nearness = Callable[[Tensor], Tensor]  # hidden layer [N, C] to the cosine with the nearest keyword [N]


def nearness(detector: Detector, keywords: list[NDArray[np.int16]]) -> Nearness:
    """A function from the hidden layer to the highest cosine with the embedding of any of these keyword recordings."""
    _, vectors = score_clips(detector, keywords)
    known = torch.nn.functional.normalize(torch.from_numpy(vectors), dim=1)

    def near(hidden: Tensor) -> Tensor:
        return (torch.nn.functional.normalize(hidden, dim=1) @ known.to(hidden.device).t()).amax(1)

    return near
