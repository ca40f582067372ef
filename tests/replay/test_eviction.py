"""Eviction: limits, and the rules that choose clips."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.replay import eviction
from kws.replay.eviction import RULES, EvictionConfig, register_eviction, surplus
from kws.replay.records import ClipTable, Kind
from tests.replay.clips import evicting, table

RATE = 100
KINDS = [Kind.false_trigger.value, Kind.confusable.value, Kind.user.value]


def some(score: list[float], **columns: Any) -> ClipTable:
    return table(len(score), score=np.array(score, np.float64), **({"n_samples": np.full(len(score), RATE)} | columns))


def stay(clips: ClipTable, limits: EvictionConfig) -> list[int]:
    gone = set(surplus(clips, limits, RATE))
    return [i for i in range(len(clips.hash)) if i not in gone]


@st.composite
def buffers(draw: st.DrawFn) -> ClipTable:
    n = draw(st.integers(0, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    score = rng.integers(0, 8, n) / 8  # with ties
    score[rng.random(n) < 0.1] = math.nan
    embedding = rng.normal(size=(n, 3)).astype(np.float32)
    embedding[rng.random(n) < 0.2] = math.nan
    return table(
        n,
        hash=[f"{i:064x}" for i in rng.integers(0, 2**62, n)],
        kind=[KINDS[i] for i in rng.integers(0, 3, n)],
        recording=[f"r{i}" for i in rng.integers(0, 6, n)],
        n_samples=rng.integers(1, 3 * RATE, n),
        score=score,
        embedding=embedding if draw(st.booleans()) else None,
    )


def limited(eviction: st.SearchStrategy[str]) -> st.SearchStrategy[EvictionConfig]:
    return st.builds(
        evicting,
        capacity=st.integers(1, 45),
        hours=st.none() | st.floats(1, 60).map(lambda s: s / 3600),
        quota=st.dictionaries(st.sampled_from(KINDS), st.floats(0, 1)),
        max_per_recording=st.none() | st.integers(1, 8),
        eviction=eviction,
    )


def test_hardest_evicts_the_lowest_scores_and_the_oldest_among_equals() -> None:
    clips = some([0.5, 0.2, 0.9, 0.2, 0.7])
    assert surplus(clips, evicting(capacity=2), RATE) == [1, 3, 0]


def test_a_clip_never_scored_counts_as_the_hardest() -> None:
    assert surplus(some([0.9, math.nan, 1.0, math.nan]), evicting(capacity=1), RATE) == [0, 2, 1]


def test_oldest_evicts_the_oldest() -> None:
    assert surplus(some([0.9, 0.1, 0.5]), evicting(capacity=1, eviction="oldest"), RATE) == [0, 1]


@pytest.mark.parametrize("eviction", list(RULES))
def test_among_equal_clips_the_oldest_are_evicted(eviction: str) -> None:
    clips = some([0.5] * 5, hash=["same"] * 5, embedding=np.ones((5, 2), np.float32))
    assert surplus(clips, evicting(capacity=3, eviction=eviction), RATE) == [0, 1]


def test_each_recording_keeps_its_hardest() -> None:
    clips = some([0.1, 0.9, 0.2, 0.8, 0.05], recording=["a", "a", "a", "b", "b"])
    assert surplus(clips, evicting(max_per_recording=1), RATE) == [4, 0, 2]


def test_a_long_recording_counts_as_one_for_each_10_s() -> None:
    clips = some([0.3, 0.2, 0.1, 0.4, 0.5, 0.6], start_s=np.array([-1.5, 0.5, 9.9, 10.0, 19.9, 20.0]))
    assert stay(clips, evicting(max_per_recording=1)) == [0, 4, 5]
    assert stay(clips, evicting(max_per_recording=2)) == [0, 1, 3, 4, 5]


def test_a_quota_is_a_share_of_the_capacity() -> None:
    kind = [KINDS[0]] * 40 + [KINDS[1]] * 40
    clips = some([i / 80 for i in range(80)], kind=kind)
    # 0.29 x 100 is 28.999999999999996
    assert surplus(clips, evicting(capacity=100, quota={KINDS[0]: 0.29}), RATE) == list(range(11))
    assert surplus(clips, evicting(capacity=100, quota={KINDS[1]: 0.0}), RATE) == list(range(40, 80))


def test_hours_limit_the_duration_of_the_clips() -> None:
    clips = some([0.1, 0.2, 0.3, 0.4], n_samples=np.array([1, 50, 2, 3]) * RATE)
    assert surplus(clips, evicting(hours=56 / 3600), RATE) == []
    assert surplus(clips, evicting(hours=55 / 3600), RATE) == [0]
    assert surplus(clips, evicting(hours=6 / 3600), RATE) == [0, 1]


def test_limits_are_enforced_in_the_order_recording_kind_capacity_hours() -> None:
    clips = some(
        [0.9, 0.8, 0.5, 0.6, 0.1, 0.2, 0.3],
        recording=["a", "a", "b", "c", "d", "e", "f"],
        kind=[KINDS[0]] * 2 + [KINDS[1]] * 2 + [KINDS[0]] * 3,
    )
    limits = evicting(capacity=4, hours=3 / 3600, quota={KINDS[1]: 0.25}, max_per_recording=1)
    assert surplus(clips, limits, RATE) == [1, 2, 4, 5]


def test_the_reservoir_keeps_the_same_clips_when_filled_in_batches() -> None:
    clips = some([0.5] * 300)
    limits = evicting(capacity=20, eviction="reservoir")
    held: list[int] = []
    for first in range(0, 300, 30):
        held += range(first, first + 30)
        held = [held[i] for i in stay(clips.select(np.array(held, np.int64)), limits)]
    assert held == stay(clips, limits)


def test_the_reservoir_prefers_neither_old_nor_new_nor_hard() -> None:
    clips = some([i / 4000 for i in range(4000)])
    kept = np.array(stay(clips, evicting(capacity=2000, eviction="reservoir")))
    quarters = np.bincount(kept // 1000)
    assert quarters.sum() == 2000
    assert abs(quarters - 500).max() < 80  # five standard deviations


def far_clusters(large: int, small: int, n_dims: int = 8) -> np.ndarray:
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(large + small, n_dims))
    embedding[large:, 0] += 100
    return embedding.astype(np.float32)


@pytest.mark.parametrize("n_dims", [1, 2, 8, 64])
def test_balanced_keeps_as_many_of_a_small_cluster_as_of_a_large_one(n_dims: int) -> None:
    score = [i / 90 for i in range(90)] + [0.0] * 10
    clips = some(score, embedding=far_clusters(90, 10, n_dims))
    limits = evicting(capacity=20, eviction="balanced")
    assert surplus(clips, limits, RATE) == list(range(80))
    assert surplus(clips.select(np.arange(99, -1, -1)), limits, RATE) == list(range(99, 19, -1))


def test_balanced_takes_turns_once_the_clusters_are_equal() -> None:
    clips = some([i / 90 for i in range(90)] + [-1.0] * 10, embedding=far_clusters(90, 10))
    gone = surplus(clips, evicting(capacity=16, eviction="balanced"), RATE)
    assert gone == [*range(80), 90, 80, 91, 81]


def test_balanced_treats_clips_without_an_embedding_as_a_cluster() -> None:
    embedding = far_clusters(90, 10)
    embedding[70:90] = math.nan
    clips = some([i / 100 for i in range(100)], embedding=embedding)
    kept = stay(clips, evicting(capacity=30, eviction="balanced"))
    assert kept == [*range(60, 70), *range(80, 90), *range(90, 100)]


def test_balanced_is_balanced_within_each_recording() -> None:
    source = ["b"] * 30 + ["a"] * 60 + ["b"] * 10
    clips = some([i / 100 for i in range(100)], embedding=far_clusters(90, 10), recording=source)
    kept = stay(clips, evicting(max_per_recording=10, eviction="balanced"))
    assert kept == [*range(25, 30), *range(80, 90), *range(95, 100)]


def test_balanced_without_embeddings_is_hardest() -> None:
    clips = some([0.5, 0.2, 0.9, 0.2, 0.7])
    assert surplus(clips, evicting(capacity=2, eviction="balanced"), RATE) == [1, 3, 0]


def test_balanced_clusters_many_clips_from_a_sample() -> None:
    embedding = far_clusters(12_000, 100)
    clips = some([0.5] * 12_100, embedding=embedding)
    kept = stay(clips, evicting(capacity=200, eviction="balanced"))
    assert Counter(bool(i >= 12_000) for i in kept) == {True: 100, False: 100}


@pytest.mark.parametrize("eviction", list(RULES))
def test_an_empty_buffer_has_no_surplus(eviction: str) -> None:
    limits = evicting(1, 1.0, {KINDS[0]: 0.0}, 1, eviction)
    assert surplus(some([]), limits, RATE) == []
    assert surplus(some([], embedding=np.zeros((0, 4), np.float32)), limits, RATE) == []


@settings(deadline=None)
@given(buffers(), limited(st.sampled_from([*RULES])))
def test_all_limits_hold_and_a_second_eviction_changes_nothing(clips: ClipTable, limits: EvictionConfig) -> None:
    gone = surplus(clips, limits, RATE)
    assert len(set(gone)) == len(gone)
    assert gone == surplus(clips, limits, RATE)
    left = clips.select(np.array(stay(clips, limits), np.int64))
    assert len(left.hash) <= limits.capacity
    assert all(n <= (limits.max_per_recording or math.inf) for n in Counter(left.recording).values())
    kinds = Counter(left.kind)
    assert all(kinds[kind] <= share * limits.capacity + 1e-6 for kind, share in limits.quotas().items())
    assert left.n_samples.sum() / RATE / 3600 <= (limits.hours or math.inf)
    assert surplus(left, limits, RATE) == []


@settings(deadline=None)
@given(buffers(), st.integers(1, 45), st.sampled_from([*RULES]))
def test_no_more_clips_are_evicted_than_necessary(clips: ClipTable, most: int, eviction: str) -> None:
    gone = surplus(clips, evicting(capacity=most, eviction=eviction), RATE)
    assert len(gone) == max(0, len(clips.hash) - most)


@given(buffers(), st.integers(1, 45))
def test_hardest_evicts_no_clip_that_is_harder_than_a_kept_one(clips: ClipTable, most: int) -> None:
    kept = stay(clips, evicting(capacity=most))
    score = np.where(np.isnan(clips.score), np.inf, clips.score)
    gone = np.delete(score, kept)
    assert not len(gone) or gone.max() <= score[kept].min()


@given(buffers(), limited(st.just("reservoir")), st.randoms(use_true_random=False))
def test_the_reservoir_does_not_depend_on_the_order(clips: ClipTable, limits: EvictionConfig, random: Any) -> None:
    order = list(range(len(clips.hash)))
    random.shuffle(order)
    shuffled = clips.select(np.array(order, np.int64))
    kept = {clips.hash[i] for i in stay(clips, limits)}
    assert {shuffled.hash[i] for i in stay(shuffled, limits)} == kept


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(KwsError, match=r"replay\.eviction=newest: must be one of hardest, oldest"):
        surplus(some([0.5]), evicting(eviction="newest"), RATE)


@dataclass
class NewestSettings:
    keep: int = 1


def test_a_registered_rule_evicts_with_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "RULES", dict(RULES))
    monkeypatch.setattr(eviction, "_SETTINGS", {})

    @register_eviction("newest", NewestSettings)
    def newest(clips: ClipTable, places: np.ndarray, group: np.ndarray, settings: NewestSettings) -> np.ndarray:
        return np.concatenate([places[settings.keep :][::-1], places[: settings.keep]])

    assert surplus(some([0.5] * 4), evicting(2, eviction="newest"), RATE) == [3, 2]
    limits = evicting(1, eviction="newest")
    limits.eviction_rules.newest.keep = 2
    assert surplus(some([0.5] * 4), limits, RATE) == [3, 2, 0]
