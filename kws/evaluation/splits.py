"""Evaluation on the recordings of a split: they are composed into streams, and the streams are scored."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from kws.common.seeding import numpy_generator
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.manifest import Split
from kws.data.positives import context
from kws.data.streams import Piece, Span, Stream, StreamConfig, compose, hit_spans
from kws.detector.streaming import StreamScorer
from kws.evaluation.events import NO_OFFSET, Offset, join_offsets, join_tracks
from kws.evaluation.scoring import KeywordScores, Progress, ScoreAll, Segment, StreamSource, decoded, score_all


def positive_stream(
    store: AudioCache, chosen: Selection, split: Split, column: int, levels: StreamConfig, number: int = 0
) -> Stream:
    """Compose a stream of a keyword's recordings, each once; the split must hold one. Each number has other noise."""
    purpose = (split, chosen.keywords[column], number) if number else (split, chosen.keywords[column])
    clips = {i: context(store, chosen, i) for i in chosen.positives[split][column]}
    sounds, keywords = {i: x for i, (x, _) in clips.items()}, {i: bounds for i, (_, bounds) in clips.items()}
    return _stream(store, chosen, split, sounds, keywords, purpose, levels, levels.gap_s)


def negative_stream(
    store: AudioCache, chosen: Selection, split: Split, levels: StreamConfig, number: int = 0
) -> Stream:
    """Compose a stream of the negatives of a split. Each number has other noise."""
    purpose = (split, "negative", number)
    sounds = {i: store.audio(i) for i in chosen.speech[split]}
    return _stream(store, chosen, split, sounds, None, purpose, levels, levels.negative_gap_s)


def negative_hours(store: AudioCache, chosen: Selection, split: Split, levels: StreamConfig) -> float:
    """Length of the negative stream of a split, in hours."""
    return _length_s(store, chosen.speech[split], levels.negative_gap_s) / 3600


def _length_s(store: AudioCache, entries: Sequence[int], gap_s: float) -> float:
    return sum(store.entries[i].n_samples / store.sample_rate + gap_s for i in entries)


def _stream(
    store: AudioCache,
    chosen: Selection,
    split: Split,
    sounds: Mapping[int, NDArray[np.int16]],
    keywords: Mapping[int, tuple[int, int]] | None,
    purpose: tuple[str | int, ...],
    levels: StreamConfig,
    gap_s: float,
) -> Stream:
    """Compose sounds of entries in random order over the noise of the split. The pieces hold entry indexes."""
    rng = numpy_generator(0, "stream", *purpose)
    entries = list(sounds)
    order = [entries[i] for i in rng.permutation(len(entries))]
    clips, noise = [sounds[i] for i in order], [store.audio(i) for i in chosen.noise[split]]
    bounds = None if keywords is None else [keywords[i] for i in order]
    stream = compose(
        clips, noise, rng, gap_s, levels.snr_db, levels.noise_db, sample_rate=store.sample_rate, keywords=bounds
    )
    return replace(stream, pieces=[replace(piece, index=order[piece.index]) for piece in stream.pieces])


def split_streams(
    store: AudioCache, chosen: Selection, split: Split, levels: StreamConfig, passes: int = 1
) -> list[StreamSource]:
    """Streams of a split: one for each keyword that has recordings, then the negatives `passes` times.

    A stream is composed when it is scored. Streams depend on the recordings, not on the seed of a run, so that all
    models are scored on the same streams.
    """
    sources = []
    for column, own in enumerate(chosen.positives[split]):
        if own:
            compose_positive = partial(positive_stream, store, chosen, split, column, levels)
            sources.append(StreamSource(compose_positive, _length_s(store, own, levels.gap_s)))
    length_s = _length_s(store, chosen.speech[split], levels.negative_gap_s)
    for number in range(passes):
        sources.append(StreamSource(partial(negative_stream, store, chosen, split, levels, number), length_s))
    return sources


def evaluate_split(
    detector: StreamScorer,
    store: AudioCache,
    chosen: Selection,
    split: Split,
    sources: Sequence[StreamSource],
    chunk_s: float,
    progress: Progress = lambda _: None,
    score: ScoreAll = score_all,
) -> Mapping[str, KeywordScores]:
    """Score the streams of a split with a detector.

    Args:
        detector: a `Detector` or an exported file.
        store, chosen: audio and roles of the recordings.
        split, sources: the split, and its streams from `split_streams`. Passes of the negatives are not independent.
        chunk_s: length of the audio chunks in seconds; a score row is known at the end of its chunk.
        progress: called with the seconds scored up to now.
        score: scores the sources.

    Returns:
        scores of each keyword that has recordings in the split.
    """
    results = [decoded(result) for result in score(detector, sources, chunk_s, progress)]
    rate = store.sample_rate
    keywords = [keyword for keyword, own in zip(chosen.keywords, chosen.positives[split], strict=True) if own]
    negative_results = results[len(keywords) :]
    scores = {}
    for number, keyword in enumerate(keywords):
        positive = results[number]
        events = []
        for piece, span in zip(positive.pieces, hit_spans(positive.pieces, rate), strict=True):
            assert piece.keyword is not None
            events.append(replace(_segment(store, piece, span, number), spoken_s=piece.keyword[1] / rate))
        tracks = [result.tracks[keyword] for result in negative_results]
        negatives = [
            _segment(store, piece, span, stream, offset)
            for stream, (result, track, offset) in enumerate(
                zip(negative_results, tracks, join_offsets(tracks), strict=True), len(keywords)
            )
            for piece, span in _places(result.pieces, track.duration_s, rate)
        ]
        others = {k: track for k, track in positive.tracks.items() if k != keyword and k in chosen.keywords}
        scores[keyword] = KeywordScores(positive.tracks[keyword], events, join_tracks(tracks), negatives, others)
    return scores


def _places(pieces: Sequence[Piece], length_s: float, rate: int) -> list[tuple[Piece, Span]]:
    """Each recording with the span up to the next: false alarms in the gap belong to the recording before it."""
    starts = [piece.start / rate for piece in pieces]
    return list(zip(pieces, zip(starts, [*starts[1:], length_s], strict=True), strict=True))


def _segment(store: AudioCache, piece: Piece, span: Span, stream: int, offset: Offset = NO_OFFSET) -> Segment:
    recording = store.entries[piece.index].recording
    snr_db = piece.snr_db if math.isfinite(piece.snr_db) else None
    start, end = offset.shift(span[0]), offset.shift(span[1])
    place = stream, offset.start_s
    return Segment(start, end, recording.name, recording.speaker, recording.source, snr_db, None, *place)
