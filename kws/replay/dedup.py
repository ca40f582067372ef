"""Near-duplicates: clips that overlap another clip, or whose embeddings are nearly equal."""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kws.replay.records import ClipTable, NewClip, as_blob, matrix

BLOCK = 2**22  # cosines at once
SLACK_S = 1e-6  # less than a sample: seconds are rounded
SLACK = 1e-6  # of a cosine in float32


@dataclass
class DuplicatesConfig:
    """Which clips are near-duplicates of others and stay out of the buffer."""

    duplicate_overlap: Annotated[
        float, Field(ge=0, le=2, description="clips of one recording that share this much are duplicates; above 1: off")
    ] = 0.5
    duplicate_cosine: Annotated[
        float, Field(ge=-1, le=2, description="clips with embeddings this near are duplicates; above 1: off")
    ] = 0.99


def near_duplicates(new: ClipTable, old: ClipTable, config: DuplicatesConfig, sample_rate: int) -> list[int]:
    """The new clips that repeat an old one, or an earlier new one that is kept, as places in the table.

    Two clips of one recording are duplicates when they share `duplicate_overlap` of the shorter one, and anything at
    all. Two clips are duplicates when the cosine of their embeddings is at least `duplicate_cosine`.

    Args:
        new: clips to be added, in the order of preference.
        old: clips of the buffer.
        config: thresholds.
        sample_rate: Hz.
    """
    overlap, cosine = config.duplicate_overlap, config.duplicate_cosine
    repeats = np.zeros(len(new.recording), bool)
    at = _of_recordings(new)
    rows, units = _units(new)
    if overlap <= 1:
        repeats |= _overlap_any(new, old, overlap, at, sample_rate)
    if cosine <= 1 and len(rows):
        repeats[rows] |= _highest_cosine(units, _units(old)[1]) >= cosine - SLACK

    place = {row: i for i, row in enumerate(rows.tolist())}
    for i, source in enumerate(new.recording):
        if repeats[i]:
            continue
        if overlap <= 1:
            later = at[source][np.searchsorted(at[source], i, "right") :]
            repeats[later] |= _overlap(new, i, new, later, overlap, sample_rate)
        if cosine <= 1 and i in place:
            behind = slice(place[i] + 1, None)
            repeats[rows[behind]] |= units[behind] @ units[place[i]] >= cosine - SLACK
    return np.flatnonzero(repeats).tolist()


def repeats(
    new: Mapping[str, NewClip],
    existing: Callable[[str | None], ClipTable],
    config: DuplicatesConfig,
    sample_rate: int,
) -> set[str]:
    """The new clips that are near-duplicates of one another or of clips of the buffer. Of new ones the harder stays.

    Args:
        new: by hash.
        existing: clips of the buffer with their embeddings by a checkpoint, or without for None.
        config: thresholds.
        sample_rate: Hz.
    """
    if min(config.duplicate_overlap, config.duplicate_cosine) > 1 or not new:
        return set()
    order = sorted(new, key=lambda clip: -math.inf if (score := new[clip].score) is None else -score)
    clips = [new[clip] for clip in order]
    # Only embeddings of one model can be compared.
    checkpoint = next((clip.checkpoint for clip in clips if clip.embedding is not None), "")
    vectors = [clip.embedding if clip.checkpoint == checkpoint else None for clip in clips]
    nothing = np.zeros(len(clips))
    table = ClipTable(
        hash=order,
        kind=[clip.kind for clip in clips],
        recording=[clip.source.hash for clip in clips],
        start_s=np.array([clip.offset_s for clip in clips]),
        n_samples=np.array([len(clip.pcm) for clip in clips]),
        score=nothing,
        priority=nothing,
        times_drawn=nothing.astype(np.int64),
        embedding=matrix([None if vector is None else as_blob(vector) for vector in vectors]),
    )
    old = existing(checkpoint if config.duplicate_cosine <= 1 else None)
    return {order[i] for i in near_duplicates(table, old, config, sample_rate)}


def _of_recordings(clips: ClipTable, only: set[str] | None = None) -> dict[str, NDArray[np.int64]]:
    """The places of the clips of each recording, ascending."""
    at: dict[str, list[int]] = defaultdict(list)
    for i, source in enumerate(clips.recording):
        if only is None or source in only:
            at[source].append(i)
    return {source: np.array(clips) for source, clips in at.items()}


def _overlap(
    a: ClipTable, i: int, b: ClipTable, others: NDArray[np.int64], share: float, sample_rate: int
) -> NDArray[np.bool_]:
    """Whether clip `i` of `a` shares this much of the shorter one with each of the others of the same recording."""
    start, length, own = b.start_s[others], b.n_samples[others] / sample_rate, a.n_samples[i] / sample_rate
    common = np.minimum(start + length, a.start_s[i] + own) - np.maximum(start, a.start_s[i])
    enough = share * np.minimum(length, own)
    return np.asarray((common > SLACK_S) & (common >= enough - SLACK_S))


def _overlap_any(
    new: ClipTable, old: ClipTable, share: float, at: dict[str, NDArray[np.int64]], sample_rate: int
) -> NDArray[np.bool_]:
    """Whether each new clip overlaps an old one. Only old clips that begin near it are compared."""
    repeats = np.zeros(len(new.recording), bool)
    for source, clips in _of_recordings(old, set(at)).items():
        there = clips[np.argsort(old.start_s[clips])]
        starts, longest = old.start_s[there], old.n_samples[there].max() / sample_rate
        mine = at[source]
        first = np.searchsorted(starts, new.start_s[mine] - longest)
        last = np.searchsorted(starts, new.start_s[mine] + new.n_samples[mine] / sample_rate)
        for i, lo, hi in zip(mine.tolist(), first.tolist(), last.tolist(), strict=True):
            repeats[i] = _overlap(new, i, old, there[lo:hi], share, sample_rate).any()
    return repeats


def _units(clips: ClipTable) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The places of clips with an embedding, and their embeddings at length 1."""
    if clips.embedding is None:
        return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
    largest = np.abs(clips.embedding).max(1, initial=0)
    rows = np.flatnonzero(np.isfinite(largest) & (largest > 0))
    units = clips.embedding[rows] / largest[rows, None]  # first, so that no square over- or underflows
    return rows, units / np.linalg.norm(units, axis=1, keepdims=True)


def _highest_cosine(units: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """The highest cosine of each vector with any of the others, a block at a time; -inf without others."""
    highest = np.full(len(units), -np.inf, np.float32)
    step = max(1, BLOCK // max(1, len(units)))
    for start in range(0, len(others), step):
        np.maximum(highest, (others[start : start + step] @ units.T).max(0), out=highest)
    return highest
