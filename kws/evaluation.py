"""Streams made of a part's recordings, and what a detector does on them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kws import stream
from kws.compose import compose, spans
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
    noise = [store.audio(i) for i in chosen.noise[part]]
    positives = {}
    for column, keyword in enumerate(chosen.keywords):
        clips = [store.audio(i) for i in chosen.positives[part][column]]
        if clips:
            rng = numpy_generator(0, "stream", part, keyword)
            made = compose(
                shuffled(clips, rng), noise, rng, levels.gap_s, levels.snr_db, levels.noise_db,
                sample_rate=store.sample_rate,
            )  # fmt: skip
            tracks = stream.track(detector, made.pcm, store.sample_rate, chunk_s)
            positives[keyword] = (tracks[keyword], spans(made))
        progress(column + 1)
    negatives: dict[str, list[Track]] = {keyword: [] for keyword in chosen.keywords}
    for number in range(passes):
        rng = numpy_generator(0, "stream", part, "negative", number)
        clips = shuffled([store.audio(i) for i in chosen.speech[part]], rng)
        made = compose(
            clips,
            noise,
            rng,
            levels.negative_gap_s,
            levels.snr_db,
            levels.noise_db,
            sample_rate=store.sample_rate,
        )
        tracks = stream.track(detector, made.pcm, store.sample_rate, chunk_s)
        for keyword in chosen.keywords:  # a detector may know more
            negatives[keyword].append(tracks[keyword])
        progress(len(chosen.keywords) + number + 1)
    return {k: Heard(found, marks, join(negatives[k])) for k, (found, marks) in positives.items()}


def shuffled(clips: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """The clips in a drawn order."""
    return [clips[i] for i in rng.permutation(len(clips))]
