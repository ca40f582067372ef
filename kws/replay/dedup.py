"""Near-duplicates: clips that say nothing new."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 2**22  # cosines at once
SLACK_S = 1e-6  # less than a sample: seconds are rounded
SLACK = 1e-6  # of a cosine in float32


@dataclass
class Sounds:
    """Clips as near-duplicates see them, column by column.

    Args:
        source: hash of the recording each is cut from.
        start_s: where it begins there, in seconds.
        length_s: how long it is, in seconds.
        embedding: what it sounds like, of any length but zero; a row of zeros or with a NaN for a clip that has none,
            None where no clip has one.

    Shape: start_s, length_s float64 [N], embedding float32 [N, D].
    """

    source: list[str]
    start_s: NDArray[np.float64]
    length_s: NDArray[np.float64]
    embedding: NDArray[np.float32] | None = None


def near_duplicates(new: Sounds, old: Sounds, overlap: float, cosine: float) -> list[int]:
    """The clips of `new` that repeat one of `old` or an earlier one of `new` that does not itself, as indexes.

    Args:
        new: those that want in, in the order of preference.
        old: those that are in.
        overlap: two clips of one recording repeat each other when they share so much of the shorter one, 0 to 1 (and
            something at all); above 1 is off.
        cosine: two clips repeat each other when their embeddings' cosine is at least this; above 1 is off.
    """
    repeats = np.zeros(len(new.source), bool)
    at = _of_recordings(new)
    rows, units = _units(new)
    if overlap <= 1:
        repeats |= _overlap_any(new, old, overlap, at)
    if cosine <= 1 and len(rows):
        repeats[rows] |= _highest_cosine(units, _units(old)[1]) >= cosine - SLACK

    place = {row: i for i, row in enumerate(rows.tolist())}
    for i, source in enumerate(new.source):
        if repeats[i]:
            continue
        if overlap <= 1:
            later = at[source][np.searchsorted(at[source], i, "right") :]
            repeats[later] |= _overlap(new, i, new, later, overlap)
        if cosine <= 1 and i in place:
            behind = slice(place[i] + 1, None)
            repeats[rows[behind]] |= units[behind] @ units[place[i]] >= cosine - SLACK
    return np.flatnonzero(repeats).tolist()


def _of_recordings(sounds: Sounds, only: set[str] | None = None) -> dict[str, NDArray[np.int64]]:
    """Which clips are of each recording, in ascending order."""
    at: dict[str, list[int]] = defaultdict(list)
    for i, source in enumerate(sounds.source):
        if only is None or source in only:
            at[source].append(i)
    return {source: np.array(clips) for source, clips in at.items()}


def _overlap(a: Sounds, i: int, b: Sounds, others: NDArray[np.int64], share: float) -> NDArray[np.bool_]:
    """Whether clip `i` of `a` shares so much of the shorter one with each of the others of the same recording."""
    start, length = b.start_s[others], b.length_s[others]
    common = np.minimum(start + length, a.start_s[i] + a.length_s[i]) - np.maximum(start, a.start_s[i])
    enough = share * np.minimum(length, a.length_s[i])
    return np.asarray((common > SLACK_S) & (common >= enough - SLACK_S))


def _overlap_any(new: Sounds, old: Sounds, share: float, at: dict[str, NDArray[np.int64]]) -> NDArray[np.bool_]:
    """Whether each new clip overlaps an old one; only those that begin near it are looked at."""
    repeats = np.zeros(len(new.source), bool)
    for source, clips in _of_recordings(old, set(at)).items():
        there = clips[np.argsort(old.start_s[clips])]
        starts, longest = old.start_s[there], old.length_s[there].max()
        mine = at[source]
        first = np.searchsorted(starts, new.start_s[mine] - longest)
        last = np.searchsorted(starts, new.start_s[mine] + new.length_s[mine])
        for i, lo, hi in zip(mine.tolist(), first.tolist(), last.tolist(), strict=True):
            repeats[i] = _overlap(new, i, old, there[lo:hi], share).any()
    return repeats


def _units(sounds: Sounds) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Which clips have an embedding, and those at length 1."""
    if sounds.embedding is None:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    largest = np.abs(sounds.embedding).max(1, initial=0)
    rows = np.flatnonzero(np.isfinite(largest) & (largest > 0))
    units = sounds.embedding[rows] / largest[rows, None]  # first, so that no square over- or underflows
    return rows, units / np.linalg.norm(units, axis=1, keepdims=True)


def _highest_cosine(units: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """The highest cosine of each with any of the others, -inf for no others; a block at a time."""
    highest = np.full(len(units), -np.inf, np.float32)
    step = max(1, BLOCK // max(1, len(units)))
    for start in range(0, len(others), step):
        np.maximum(highest, (others[start : start + step] @ units.T).max(0), out=highest)
    return highest
