"""Mining rounds inside a run: the pool of train recordings, streamed under new noise and levels, into the buffer."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from kws.common.seeding import numpy_generator
from kws.data.audio_cache import AudioCache, Entry
from kws.data.manifest import Source
from kws.data.streams import Stream, compose
from kws.detector import streaming
from kws.detector.clip_scores import hear_clips
from kws.detector.detector import Detector
from kws.replay.buffer import Kind, NewClip
from kws.replay.mining import Caps, Near, Trigger, neighbour_rows, trigger_rows, triggers

STREAM_S = 3600  # of sound at once


@dataclass(frozen=True)
class Search:
    """How the pool is streamed and what counts as a trigger; see conf/mining."""

    seed: int
    passes: int
    snr_db: tuple[float, float]
    noise_db: tuple[float, float]
    gap_s: float
    per_hour: float
    min_score: float
    bands: int
    reserve: float  # share of the clips
    neighbours: float  # an hour
    max_per_recording: int
    clip_n: int
    post_n: int


def source(entry: Entry) -> Source:
    """Where a clip came from, as the buffer wants to know it."""
    return Source(entry.hash, entry.recording.name, entry.recording.split)


def mine_pool(
    detector: Detector,
    checkpoint: str,
    store: AudioCache,
    pool: Sequence[int],
    noise: Sequence[int],
    search: Search,
    run: str,
    round_: int,
    near: Near | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[NewClip]:
    """False triggers of the detector on the pool, and the keyword's neighbours there, ready for the buffer.

    Args:
        detector: as training stands now.
        checkpoint: hash of its weights.
        store: the sound.
        pool, noise: entries to stream and to lay beneath; all of the train part.
        search: how.
        run, round_: for the record, and the round also for the draws: each hears other noise.
        near: how near a row is to the keyword; None where no neighbours are wanted.
        progress: called after each pass with how many are done.
    """
    found: list[NewClip] = []
    rate, row_n = store.sample_rate, round(detector.frame_s * store.sample_rate)
    beds = [store.audio(i) for i in noise]
    lead_s = search.clip_n / rate  # so that a clip cut near the beginning scores as it did
    caps, near_caps = [Caps(0) for _ in detector.labels], Caps(0)
    for number in range(search.passes):
        for cap in (*caps, near_caps):  # no recording is heard under one noise alone: each pass may take its part
            cap.most = -(-search.max_per_recording * (number + 1) // search.passes)
        rng = numpy_generator(search.seed, "mining", round_, number)
        order = [pool[i] for i in rng.permutation(len(pool))]
        for some in portions(order, store):
            clips = [store.audio(i) for i in some]
            made = compose(clips, beds, rng, search.gap_s, search.snr_db, search.noise_db, lead_s, rate)
            # From here on pieces and noises name entries of the store.
            pieces = [replace(piece, index=some[piece.index]) for piece in made.pieces]
            made = replace(made, pieces=pieces, noises=[noise[i] for i in made.noises])
            scores, nearness = streaming.heard(detector, made.pcm, rate, near or (lambda hidden: hidden[:, 0]))
            hours, of, apart_n = len(made.pcm) / rate / 3600, sources_of(made, row_n), search.clip_n // row_n // 2
            wanted = []
            for column in range(len(detector.labels)):
                rows = trigger_rows(
                    np.ascontiguousarray(scores[:, column]),
                    of,
                    round(search.per_hour * hours),
                    search.reserve,
                    search.min_score,
                    search.bands,
                    apart_n,
                    caps[column],
                    rng,
                )
                wanted.append((Kind.FALSE_TRIGGER, column, rows))
            if near is not None:
                rows = neighbour_rows(nearness, of, round(search.neighbours * hours), apart_n, near_caps)
                best = scores[rows].argmax(1)
                wanted += [(Kind.NEIGHBOUR, c, rows[best == c]) for c in range(len(detector.labels))]
            found += [
                as_found(t, kind, detector.labels[column], made, store, checkpoint, run, round_)
                for kind, column, rows in wanted
                for t in triggers(
                    made.pcm, scores[:, column], rows, search.clip_n, search.post_n, row_n, piece_at(made)
                )
            ]
        progress(number + 1)
    return found


def portions(order: Sequence[int], store: AudioCache) -> Iterator[list[int]]:
    """The entries in this order, about an hour at a time: a pool of any length is mined in the same memory."""
    some: list[int] = []
    n_samples = 0
    for i in order:
        some.append(i)
        n_samples += store.entries[i].n_samples
        if n_samples >= STREAM_S * store.sample_rate:
            yield some
            some, n_samples = [], 0
    if some:
        yield some


def sources_of(made: Stream, row_n: int) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """A function from rows to the entries of the store that they lie in, -1 before the first."""
    entries = np.array([-1, *(piece.index for piece in made.pieces)])
    starts = np.array([piece.start for piece in made.pieces])
    return lambda rows: entries[np.searchsorted(starts, rows * row_n, side="right")]


def embedded(found: Sequence[NewClip], detector: Detector) -> list[NewClip]:
    """The same clips with what the detector makes of each, so that near-duplicates and clusters can be told."""
    _, vectors = hear_clips(detector, [one.pcm for one in found])
    return [replace(one, embedding=vector) for one, vector in zip(found, vectors, strict=True)]


def as_found(
    trigger: Trigger, kind: Kind, keyword: str, made: Stream, store: AudioCache, checkpoint: str, run: str, round_: int
) -> NewClip:
    """A trigger of a stream, whose pieces and noises are entries of the store, as the buffer wants it."""
    piece, end = made.pieces[trigger.source], trigger.start + len(trigger.pcm)
    entry = store.entries[piece.index]
    # The guard must know every recording that can be heard in the clip.
    heard = {p.index for p in made.pieces if p.start < end and p.start + p.n_samples > trigger.start}
    heard |= set(beds_at(made, store)(trigger.start, end))
    return NewClip(
        pcm=trigger.pcm,
        kind=kind,
        keyword=keyword,
        source=source(entry),
        offset_s=(trigger.start - piece.start) / store.sample_rate,
        score=trigger.score,
        checkpoint=checkpoint,
        run=run,
        round=round_,
        text=entry.recording.text,
        mixed_with=tuple(source(store.entries[i]) for i in sorted(heard - {piece.index})),
        mix={"snr_db": float(piece.snr_db)} if np.isfinite(piece.snr_db) else {},
    )


def piece_at(made: Stream) -> Callable[[int], int]:
    """A function from a sample to the last piece that has begun there, -1 before the first."""
    starts = np.array([piece.start for piece in made.pieces])
    return lambda sample: int(np.searchsorted(starts, sample, side="right")) - 1


def beds_at(made: Stream, store: AudioCache) -> Callable[[int, int], list[int]]:
    """A function from a span of samples to the noise recordings, entries of the store, that lie beneath it."""
    ends = list(accumulate(store.entries[i].n_samples for i in made.noises))

    def under(start: int, end: int) -> list[int]:
        first, last = np.searchsorted(ends, [start, end - 1], side="right")
        return made.noises[int(first) : int(last) + 1]

    return under
