"""Streams made of a part's recordings, and what a detector does on them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kws.common.seeding import numpy_generator
from kws.data.audio import keyword_bounds, to_float
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.manifest import Split
from kws.data.streams import Piece, Span, Stream, answer_spans, compose
from kws.detector.streaming import StreamScorer
from kws.evaluation import scoring
from kws.evaluation.events import join, offsets
from kws.evaluation.scoring import Hear, KeywordScores, Passage, Take, Tell, whole


@dataclass(frozen=True)
class Levels:
    """How loud streams are; see conf/stream."""

    snr_db: tuple[float, float]
    noise_db: tuple[float, float]
    gap_s: float
    negative_gap_s: float


def positive_stream(
    store: AudioCache, chosen: Selection, split: Split, column: int, levels: Levels, number: int = 0
) -> Stream | None:
    """A stream that says one keyword, once for each of its recordings of a part; None where it has none there.

    Each number lays other noise beneath them.
    """
    if not chosen.positives[split][column]:
        return None
    rng = numpy_generator(0, "stream", split, chosen.keywords[column], *([number] if number else []))
    return _stream(store, chosen, split, chosen.positives[split][column], rng, levels, levels.gap_s)


def negative_stream(store: AudioCache, chosen: Selection, split: Split, levels: Levels, number: int) -> Stream:
    """A stream of the negatives of a part; each number lays other noise beneath them."""
    rng = numpy_generator(0, "stream", split, "negative", number)
    return _stream(store, chosen, split, chosen.speech[split], rng, levels, levels.negative_gap_s)


def negative_hours(store: AudioCache, chosen: Selection, split: Split, levels: Levels) -> float:
    """How long the stream of the negatives of a part is."""
    return _length_s(store, chosen.speech[split], levels.negative_gap_s) / 3600


def _length_s(store: AudioCache, said: Sequence[int], gap_s: float) -> float:
    return sum(store.entries[i].n_samples / store.sample_rate + gap_s for i in said)


def _stream(
    store: AudioCache,
    chosen: Selection,
    split: Split,
    said: Sequence[int],
    rng: np.random.Generator,
    levels: Levels,
    gap_s: float,
) -> Stream:
    """The recordings `said` (entries of the store) in a drawn order over the part's noise; pieces name the entries."""
    order = [said[i] for i in rng.permutation(len(said))]
    clips, noise = [store.audio(i) for i in order], [store.audio(i) for i in chosen.noise[split]]
    made = compose(clips, noise, rng, gap_s, levels.snr_db, levels.noise_db, sample_rate=store.sample_rate)
    return replace(made, pieces=[replace(piece, index=order[piece.index]) for piece in made.pieces])


def part_takes(store: AudioCache, chosen: Selection, split: Split, levels: Levels, passes: int) -> list[Take]:
    """A stream of each keyword that has recordings in a part, then its negatives `passes` times; made when heard.

    The streams depend on the recordings alone, not on a run's seed: two models are heard on the same ones.
    """
    takes = []
    for column, said in enumerate(chosen.positives[split]):
        if said:

            def positive(column: int = column) -> Stream:
                made = positive_stream(store, chosen, split, column, levels)
                assert made is not None
                return made

            takes.append(Take(positive, _length_s(store, said, levels.gap_s)))
    for number in range(passes):

        def negative(number: int = number) -> Stream:
            return negative_stream(store, chosen, split, levels, number)

        takes.append(Take(negative, _length_s(store, chosen.speech[split], levels.negative_gap_s)))
    return takes


def evaluate_part(
    detector: StreamScorer,
    store: AudioCache,
    chosen: Selection,
    split: Split,
    takes: Sequence[Take],
    chunk_s: float,
    longest_s: float,
    tell: Tell = lambda _: None,
    hear: Hear = scoring.hear_all,
) -> Mapping[str, KeywordScores]:
    """Run a detector over the streams of one part.

    Args:
        detector: a `Detector` or an exported file.
        store, chosen: the sound and the roles of the recordings.
        part, takes: which part to hear, and its streams as `part_takes` has them. Several passes of the negatives are
            not independent of one another.
        chunk_s: a trigger counts from the end of the chunk of this length that brings it.
        longest_s: a keyword lasts no longer than this: to find where it ends in its recording.
        tell: called with the seconds heard so far.
        hear: hears takes.

    Returns:
        what was heard of each keyword that has recordings in the part.
    """
    found = [whole(result) for result in hear(detector, takes, chunk_s, tell)]
    said = [keyword for keyword, own in zip(chosen.keywords, chosen.positives[split], strict=True) if own]
    heard = {}
    for take, keyword in enumerate(said):
        one = found[take]
        events = []
        for piece, span in zip(one.pieces, answer_spans(one.pieces, store.sample_rate), strict=True):
            end = piece.start + keyword_bounds(to_float(store.audio(piece.index)), store.sample_rate, longest_s)[1]
            events.append(replace(_passage(store, piece, span, take), spoken_s=end / store.sample_rate))
        tracks = [result.tracks[keyword] for result in found[len(said) :]]
        negatives = [
            _passage(store, piece, span, len(said) + number, offset)
            for number, (result, one_, offset) in enumerate(
                zip(found[len(said) :], tracks, offsets(tracks), strict=True)
            )
            for piece, span in zip(result.pieces, _lie(result.pieces, one_.duration_s, store.sample_rate), strict=True)
        ]
        others = {k: track for k, track in one.tracks.items() if k != keyword and k in chosen.keywords}
        heard[keyword] = KeywordScores(one.tracks[keyword], events, join(tracks), negatives, others)
    return heard


def _lie(pieces: Sequence[Piece], length_s: float, rate: int) -> list[Span]:
    """From where each begins to where the next one does: the gap after it is its own, as its alarms there are."""
    starts = [piece.start / rate for piece in pieces]
    return list(zip(starts, [*starts[1:], length_s], strict=True))


def _passage(store: AudioCache, piece: Piece, span: Span, take: int, offset_s: float = 0.0) -> Passage:
    recording = store.entries[piece.index].recording
    snr_db = piece.snr_db if math.isfinite(piece.snr_db) else None
    start, end = span[0] + offset_s, span[1] + offset_s
    return Passage(start, end, recording.name, recording.speaker, recording.source, snr_db, None, take, offset_s)
