"""Streams made of a part's recordings, and what a detector does on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from kws import stream
from kws.compose import Stream, compose, spans
from kws.detect import Track, join
from kws.manifest import Part
from kws.seeding import numpy_generator
from kws.selection import Selection
from kws.store import Store


@dataclass(frozen=True)
class Levels:
    """How loud streams are; see conf/stream."""

    snr_db: tuple[float, float]
    noise_db: tuple[float, float]
    gap_s: float
    negative_gap_s: float


@dataclass(frozen=True)
class Heard:
    """What a detector made of one keyword's streams."""

    positive: Track
    spans: list[tuple[float, float]]
    negative: Track


def positive_stream(
    store: Store, chosen: Selection, part: Part, column: int, levels: Levels, number: int = 0
) -> Stream | None:
    """A stream that says one keyword, once for each of its recordings of a part; None where it has none there.

    Each number lays other noise beneath them.
    """
    if not chosen.positives[part][column]:
        return None
    rng = numpy_generator(0, "stream", part, chosen.keywords[column], *([number] if number else []))
    return _stream(store, chosen, part, chosen.positives[part][column], rng, levels, levels.gap_s)


def negative_stream(store: Store, chosen: Selection, part: Part, levels: Levels, number: int) -> Stream:
    """A stream of the negatives of a part; each number lays other noise beneath them."""
    rng = numpy_generator(0, "stream", part, "negative", number)
    return _stream(store, chosen, part, chosen.speech[part], rng, levels, levels.negative_gap_s)


def _stream(
    store: Store,
    chosen: Selection,
    part: Part,
    said: Sequence[int],
    rng: np.random.Generator,
    levels: Levels,
    gap_s: float,
) -> Stream:
    """The recordings `said` (entries of the store) in a drawn order over the part's noise; pieces name the entries."""
    order = [said[i] for i in rng.permutation(len(said))]
    clips, noise = [store.audio(i) for i in order], [store.audio(i) for i in chosen.noise[part]]
    made = compose(clips, noise, rng, gap_s, levels.snr_db, levels.noise_db, sample_rate=store.sample_rate)
    return replace(made, pieces=[replace(piece, index=order[piece.index]) for piece in made.pieces])


def evaluate_part(
    detector: stream.Listener,
    store: Store,
    chosen: Selection,
    part: Part,
    levels: Levels,
    passes: int,
    chunk_s: float,
    progress: Callable[[int], None] = lambda _: None,
) -> Mapping[str, Heard]:
    """Run a detector over streams of one part: a stream of each keyword, and the negatives `passes` times.

    The streams depend on the recordings alone, not on the run's seed: two models are heard on the same ones.

    Args:
        detector: a `Detector` or an exported file.
        store, chosen: the sound and the roles of the recordings.
        part: which part to hear.
        levels: of the streams.
        passes: streams of the negatives, each under other noise; they are not independent of one another.
        chunk_s: a trigger counts from the end of the chunk of this length that brings it.
        progress: called after each stream with how many are done; there are as many as keywords + passes.

    Returns:
        what was heard of each keyword that has recordings in the part.
    """
    positives = {}
    for column, keyword in enumerate(chosen.keywords):
        made = positive_stream(store, chosen, part, column, levels)
        if made is not None:
            tracks = stream.track(detector, made.pcm, store.sample_rate, chunk_s)
            positives[keyword] = (tracks[keyword], spans(made))
        progress(column + 1)
    negatives: dict[str, list[Track]] = {keyword: [] for keyword in chosen.keywords}
    for number in range(passes):
        made = negative_stream(store, chosen, part, levels, number)
        tracks = stream.track(detector, made.pcm, store.sample_rate, chunk_s)
        for keyword in chosen.keywords:  # a detector may know more
            negatives[keyword].append(tracks[keyword])
        progress(len(chosen.keywords) + number + 1)
    return {k: Heard(found, marks, join(negatives[k])) for k, (found, marks) in positives.items()}
