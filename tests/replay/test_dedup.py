"""Near-duplicates by overlap and by embedding."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.replay import dedup
from kws.replay.dedup import DuplicatesConfig
from kws.replay.records import ClipTable
from tests.replay.clips import table

OFF = 1.1
RATE = 4
NONE = table(0)


def spans(*clips: tuple[str, float, float], embedding: list[list[float]] | None = None) -> ClipTable:
    source, start, length = zip(*clips, strict=True)
    vectors = None if embedding is None else np.array(embedding, np.float32)
    n_samples = np.array(length, np.float64) * RATE
    return table(
        len(source), recording=list(source), start_s=np.array(start, np.float64), n_samples=n_samples, embedding=vectors
    )


def vectors(*rows: list[float]) -> ClipTable:
    return spans(*[(f"recording {i}", 0.0, 1.0) for i in range(len(rows))], embedding=list(rows))


def near_duplicates(new: ClipTable, old: ClipTable, overlap: float, cosine: float) -> list[int]:
    return dedup.near_duplicates(new, old, DuplicatesConfig(overlap, cosine), RATE)


def by_pairs(new: ClipTable, old: ClipTable, overlap: float, cosine: float) -> list[int]:
    """The same, a pair at a time, as the definition has it."""

    def repeat(a: ClipTable, i: int, b: ClipTable, j: int) -> bool:
        if overlap <= 1 and a.recording[i] == b.recording[j]:
            ends = a.start_s[i] + a.n_samples[i] / RATE, b.start_s[j] + b.n_samples[j] / RATE
            common = min(ends) - max(a.start_s[i], b.start_s[j])
            if common > 0 and common >= overlap * min(a.n_samples[i] / RATE, b.n_samples[j] / RATE):
                return True
        if cosine > 1 or a.embedding is None or b.embedding is None:
            return False
        x, y = a.embedding[i].astype(float), b.embedding[j].astype(float)
        size = math.sqrt(x @ x) * math.sqrt(y @ y)
        return size > 0 and bool(x @ y / size >= cosine - 1e-6)  # false for NaN

    kept: list[int] = []
    for i in range(len(new.recording)):
        if not any(repeat(new, i, old, j) for j in range(len(old.recording))) and not any(
            repeat(new, i, new, j) for j in kept
        ):
            kept.append(i)
    return [i for i in range(len(new.recording)) if i not in kept]


@st.composite
def sounds(draw: st.DrawFn) -> ClipTable:
    n = draw(st.integers(0, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    embedding = rng.integers(-2, 3, (n, 3)).astype(np.float32)  # now and then all zero
    embedding[rng.random(n) < 0.1] = math.nan
    return table(
        n,
        recording=[f"r{i}" for i in rng.integers(0, 4, n)],
        start_s=rng.integers(-4, 40, n) / RATE,  # no rounding
        n_samples=rng.integers(1, 13, n),
        embedding=embedding if draw(st.booleans()) else None,
    )


SHARES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, OFF])
COSINES = st.sampled_from([-0.55, 0.0, 0.33, 0.77, 0.93, 1.0, OFF])


@given(sounds(), sounds(), SHARES, COSINES)
def test_near_duplicates_equal_a_comparison_of_all_pairs(
    new: ClipTable, old: ClipTable, overlap: float, cosine: float
) -> None:
    repeats = near_duplicates(new, old, overlap, cosine)
    assert repeats == by_pairs(new, old, overlap, cosine)
    assert repeats == near_duplicates(new, old, overlap, cosine)


def test_an_overlap_counts_from_the_share_on_and_within_a_recording_only() -> None:
    old = spans(("a", 10.0, 2.0))
    new = spans(("a", 11.0, 2.0), ("b", 10.0, 2.0))
    assert near_duplicates(new, old, 0.5, OFF) == [0]
    assert near_duplicates(new, old, 0.51, OFF) == []
    assert near_duplicates(new, old, OFF, OFF) == []


def test_the_overlap_is_relative_to_the_shorter_clip() -> None:
    long, short = spans(("a", 0.0, 10.0)), spans(("a", 9.5, 1.0))
    assert near_duplicates(short, long, 0.5, OFF) == [0]
    assert near_duplicates(long, short, 0.5, OFF) == [0]
    assert near_duplicates(short, long, 0.6, OFF) == []


def test_clips_that_only_touch_do_not_overlap() -> None:
    assert near_duplicates(spans(("a", 1.0, 1.0)), spans(("a", 0.0, 1.0), ("a", 2.0, 1.0)), 0.0, OFF) == []


def test_rounded_seconds_do_not_hide_an_overlap() -> None:
    # In floating point 0.7 + 0.6 - 1.0 is less than half of 0.6.
    assert near_duplicates(spans(("a", 1.0, 0.6)), spans(("a", 0.7, 0.6)), 0.5, OFF) == [0]


def test_an_overlap_with_the_end_of_a_long_clip_is_found() -> None:
    old = spans(("a", 0.0, 100.0), *[("a", float(t), 0.5) for t in range(1, 90)])
    assert near_duplicates(spans(("a", 95.0, 1.0), ("a", 101.0, 1.0)), old, 1.0, OFF) == [0]


def test_of_overlapping_new_clips_the_first_is_kept() -> None:
    new = spans(("a", 0.0, 1.0), ("a", 0.4, 1.0), ("a", 0.8, 1.0))
    # The second repeats the first; the third repeats only the second, which does not stay.
    assert near_duplicates(new, NONE, 0.5, OFF) == [1]


def test_of_new_clips_with_near_embeddings_the_first_is_kept() -> None:
    new = vectors([1, 0], [1, 1], [0, 1])
    assert near_duplicates(new, NONE, OFF, 0.7) == [1]


def test_embeddings_are_compared_by_direction() -> None:
    old = vectors([3.0, 4.0])
    new = vectors([6e-30, 8e-30], [-3.0, -4.0], [4.0, 3.0], [3e30, 4e30])
    assert near_duplicates(new, old, OFF, 1.0) == [0, 3]
    assert near_duplicates(new, old, OFF, 0.95) == [0, 2, 3]


def test_zero_and_missing_embeddings_match_no_other() -> None:
    new = vectors([0, 0], [0, 0], [math.nan, 1], [math.nan, 1], [math.inf, 1], [math.inf, 1])
    assert near_duplicates(new, new, OFF, -1.0) == []
    without = spans(("a", 0.0, 1.0), ("b", 0.0, 1.0))
    assert near_duplicates(without, vectors([1, 0]), OFF, -1.0) == []
    assert near_duplicates(vectors([1, 0]), without, OFF, -1.0) == []


@pytest.mark.parametrize("overlap", [0.5, OFF])
@pytest.mark.parametrize("cosine", [0.5, OFF])
def test_empty_tables_have_no_near_duplicates(overlap: float, cosine: float) -> None:
    assert near_duplicates(NONE, vectors([1, 0]), overlap, cosine) == []
    assert near_duplicates(vectors([1, 0]), NONE, overlap, cosine) == []


def test_embeddings_are_compared_in_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "BLOCK", 12)
    rng = np.random.default_rng(0)
    old = vectors(*rng.normal(size=(50, 16)).tolist())
    new = vectors(*rng.normal(size=(5, 16)).tolist())
    assert old.embedding is not None
    assert new.embedding is not None
    new.embedding[[1, 2, 4]] = 2 * old.embedding[[0, 29, 49]]
    assert near_duplicates(new, old, OFF, 0.99) == [1, 2, 4]
