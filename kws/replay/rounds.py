"""Mining rounds inside a run: the pool of train recordings, streamed under new noise and levels, into the buffer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from kws import stream
from kws.compose import Stream, compose
from kws.detector import Detector
from kws.replay.buffer import Found, Kind, Source
from kws.replay.hear import hear_clips
from kws.replay.mine import Trigger, by_lot, choose, peaks, triggers
from kws.replay.neighbours import Near
from kws.seeding import numpy_generator
from kws.store import Entry, Store


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
    return Source(entry.hash, entry.recording.name, entry.recording.part)


def mine_pool(
    detector: Detector,
    checkpoint: str,
    store: Store,
    pool: Sequence[int],
    noise: Sequence[int],
    search: Search,
    run: str,
    round_: int,
    near: Near | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Found]:
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
    found = []
    rate = store.sample_rate
    row_n = round(detector.frame_s * rate)
    for number in range(search.passes):
        rng = numpy_generator(search.seed, "mining", round_, number)
        order = [pool[i] for i in rng.permutation(len(pool))]
        clips, beds = [store.audio(i) for i in order], [store.audio(i) for i in noise]
        lead_s = search.clip_n / rate  # so that a clip cut near the beginning scores as it did
        made = compose(clips, beds, rng, search.gap_s, search.snr_db, search.noise_db, lead_s, rate)
        under = beds_at(made, beds)
        scores, nearness = stream.heard(detector, made.pcm, rate, near or (lambda hidden: hidden[:, 0]))
        hours = len(made.pcm) / rate / 3600

        wanted = [
            (Kind.FALSE_TRIGGER, c, search_rows(np.ascontiguousarray(scores[:, c]), search, hours, row_n, rng))
            for c in range(len(detector.labels))
        ]
        if near is not None:
            rows = peaks(nearness, -np.inf, apart(search, row_n))[: round(search.neighbours * hours)]
            best = scores[rows].argmax(1)
            wanted += [(Kind.NEIGHBOUR, c, rows[best == c]) for c in range(len(detector.labels))]
        for kind, column, rows in wanted:
            for t in triggers(
                made.pcm,
                scores[:, column],
                rows,
                search.clip_n,
                search.post_n,
                row_n,
                piece_at(made),
                search.max_per_recording,
            ):
                piece, end = made.pieces[t.source], t.start + search.clip_n
                entry = store.entries[order[piece.index]]
                # The guard must know every recording that can be heard in the clip.
                heard = {order[p.index] for p in made.pieces if p.start < end and p.start + p.n_samples > t.start}
                heard |= {noise[i] for i in under(t.start, end)}
                beside = [store.entries[i] for i in sorted(heard - {order[piece.index]})]
                offset_s, keyword = (t.start - piece.start) / rate, detector.labels[column]
                found.append(as_found(t, kind, keyword, entry, offset_s, beside, piece.snr_db, checkpoint, run, round_))
        progress(number + 1)
    return found


def search_rows(
    scores: np.ndarray, search: Search, hours: float, row_n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """The rows of one keyword's track to mine: peaks by bands of score, then a reserve by lot. Shape: scores [N]."""
    wanted_n = round(search.per_hour * hours)
    rows = peaks(scores, search.min_score, apart(search, row_n))
    rows = rows[choose(scores[rows], wanted_n, search.min_score, search.bands, rng)]
    spare = by_lot(len(scores), rows, round(search.reserve * wanted_n), apart(search, row_n), rng)
    return np.concatenate([rows, spare])


def apart(search: Search, row_n: int) -> int:
    """Rows between two clips: half a clip."""
    return search.clip_n // row_n // 2


def embedded(found: Sequence[Found], detector: Detector) -> list[Found]:
    """The same clips with what the detector makes of each, so that near-duplicates and clusters can be told."""
    _, vectors = hear_clips(detector, [one.pcm for one in found])
    return [replace(one, embedding=vector) for one, vector in zip(found, vectors, strict=True)]


def as_found(
    trigger: Trigger,
    kind: Kind,
    keyword: str,
    entry: Entry,
    offset_s: float,
    beside: Sequence[Entry],
    snr_db: float,
    checkpoint: str,
    run: str,
    round_: int,
) -> Found:
    """A trigger as the buffer wants it; `beside` are the other recordings that can be heard in it."""
    return Found(
        pcm=trigger.pcm,
        kind=kind,
        keyword=keyword,
        source=source(entry),
        offset_s=offset_s,
        score=trigger.score,
        checkpoint=checkpoint,
        run=run,
        round=round_,
        text=entry.recording.text,
        mixed_with=tuple(source(other) for other in beside),
        mix={"snr_db": float(snr_db)} if np.isfinite(snr_db) else {},
    )


def piece_at(made: Stream) -> Callable[[int], int]:
    """A function from a sample to the last piece that has begun there, -1 before the first."""
    starts = np.array([piece.start for piece in made.pieces])
    return lambda sample: int(np.searchsorted(starts, sample, side="right")) - 1


def beds_at(made: Stream, beds: Sequence[np.ndarray]) -> Callable[[int, int], list[int]]:
    """A function from a span of samples to the noise recordings that lie beneath it."""
    ends = list(accumulate(len(beds[i]) for i in made.noises))

    def under(start: int, end: int) -> list[int]:
        first, last = np.searchsorted(ends, [start, end - 1], side="right")
        return sorted(set(made.noises[int(first) : int(last) + 1]))

    return under
