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

BLOCK = 2**22  # cosines in memory
SLACK_S = 1e-6  # rounding error of seconds, less than a sample
SLACK = 1e-6  # rounding error of a cosine in float32


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
    """The new clips that are duplicates of an old one, or of an earlier new one that is kept, as places in the table.

    Two clips of one recording are duplicates when they overlap by at least `duplicate_overlap` of the shorter one. Two
    clips are duplicates when the cosine of their embeddings is at least `duplicate_cosine`.

    Args:
        new: clips to be added, in the order of preference.
        old: clips of the buffer.
        config: thresholds.
        sample_rate: Hz.
    """
    share, cosine = config.duplicate_overlap, config.duplicate_cosine
    of_recording: dict[str, list[int]] = {recording: [] for recording in new.recording}
    for i, recording in enumerate(old.recording):
        if recording in of_recording:
            of_recording[recording].append(i)
    old_at = {recording: np.array(places, np.int64) for recording, places in of_recording.items()}
    kept_at: dict[str, list[int]] = defaultdict(list)
    rows, units = _units(new)
    nearest = np.full(len(new), -np.inf)  # cosine with the nearest old or kept clip
    if cosine <= 1 and len(rows):
        nearest[rows] = _highest_cosine(units, _units(old)[1])
    place = {row: i for i, row in enumerate(rows.tolist())}
    found = []
    for i, recording in enumerate(new.recording):
        overlaps = share <= 1 and (
            _overlap(new, i, old, old_at[recording], share, sample_rate)
            or _overlap(new, i, new, np.array(kept_at[recording], np.int64), share, sample_rate)
        )
        if overlaps or (cosine <= 1 and nearest[i] >= cosine - SLACK):
            found.append(i)
            continue
        kept_at[recording].append(i)
        if cosine <= 1 and i in place:
            nearest[rows] = np.maximum(nearest[rows], units @ units[place[i]])
    return found


def repeats(
    new: Mapping[str, NewClip],
    existing: Callable[[str | None], ClipTable],
    config: DuplicatesConfig,
    sample_rate: int,
) -> set[str]:
    """The new clips that are near-duplicates of one another or of clips of the buffer. The harder new clip is kept.

    Args:
        new: by hash.
        existing: returns the clips of the buffer with embeddings by a checkpoint; without any for None.
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
    unused = np.zeros(len(clips))
    table = ClipTable(
        hash=order,
        kind=[clip.kind for clip in clips],
        recording=[clip.source.hash for clip in clips],
        start_s=np.array([clip.offset_s for clip in clips]),
        n_samples=np.array([len(clip.pcm) for clip in clips]),
        score=unused,
        priority=unused,
        times_drawn=unused.astype(np.int64),
        embedding=matrix([None if vector is None else as_blob(vector) for vector in vectors]),
    )
    old = existing(checkpoint if config.duplicate_cosine <= 1 else None)
    return {order[i] for i in near_duplicates(table, old, config, sample_rate)}


def _overlap(a: ClipTable, i: int, b: ClipTable, others: NDArray[np.int64], share: float, sample_rate: int) -> bool:
    """Whether clip `i` of `a` overlaps one of the others of its recording by this share of the shorter one."""
    start, length, own = b.start_s[others], b.n_samples[others] / sample_rate, a.n_samples[i] / sample_rate
    common = np.minimum(start + length, a.start_s[i] + own) - np.maximum(start, a.start_s[i])
    return bool(((common > SLACK_S) & (common >= share * np.minimum(length, own) - SLACK_S)).any())


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
