"""Which clips of the replay buffer a batch draws: chances by known answers, resumption bit by bit, exact quotas."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.replay.sampler import Sampler, Sampling, importance, importance_exponent_at, split, successive

LOSSES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1e6))  # often equal: ranks have ties
HOW = st.sampled_from(list(Sampling))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sampler(
    priority: list[float], how: Sampling = Sampling.proportional, alpha: float = 0.6, drawn: int = 1
) -> Sampler:
    return Sampler(np.array(priority), np.full(len(priority), drawn), how, alpha)


def chances(of: Sampler) -> np.ndarray:
    return of.probability(np.arange(len(of)))


def agree(counts: np.ndarray, chance: np.ndarray) -> None:
    """Each count is within four standard deviations of what its chance promises."""
    n = counts.sum()
    assert (np.abs(counts / n - chance) <= 4 * np.sqrt(chance * (1 - chance) / n)).all(), (counts / n, chance)


# Chances.


@pytest.mark.parametrize(
    ("how", "alpha", "weight"),
    [
        (Sampling.uniform, 0.6, [1, 1, 1, 1]),
        (Sampling.proportional, 1.0, [0.501, 4.001, 0.001, 1.001]),
        (Sampling.proportional, 0.5, [0.501**0.5, 4.001**0.5, 0.001**0.5, 1.001**0.5]),
        (Sampling.proportional, 0.0, [1, 1, 1, 1]),
        (Sampling.rank, 1.0, [1 / 3, 1, 1 / 4, 1 / 2]),
        (Sampling.rank, 2.0, [1 / 9, 1, 1 / 16, 1 / 4]),
        (Sampling.rank, 0.0, [1, 1, 1, 1]),
    ],
)
def test_single_draws_come_as_often_as_the_rule_says(how: Sampling, alpha: float, weight: list[float]) -> None:
    buffer, source = sampler([0.5, 4.0, 0.0, 1.0], how, alpha), rng(1)
    want = np.array(weight) / sum(weight)
    np.testing.assert_allclose(chances(buffer), want, rtol=1e-12)
    drawn = [int(buffer.sample(1, source)[0]) for _ in range(20_000)]
    agree(np.bincount(drawn, minlength=4), want)


@pytest.mark.parametrize("weight", [[0.1, 0.2, 0.3, 0.4], [100.0, 1.0, 0.0, 2.0, 0.01], [1e9, 1.0, 3.0]])
def test_a_batch_is_drawn_one_clip_after_the_other_without_replacement(weight: list[float]) -> None:
    chance = np.array(weight) / sum(weight)
    orders = list(permutations(np.flatnonzero(chance).tolist(), 3))
    want = [chance[a] * chance[b] / (1 - chance[a]) * chance[c] / (1 - chance[a] - chance[b]) for a, b, c in orders]
    source = rng(2)
    counts = Counter(tuple(successive(np.array(weight), 3, source).tolist()) for _ in range(20_000))
    assert counts.keys() <= set(orders), "a repeat, or a clip without weight"
    agree(np.array([counts[order] for order in orders]), np.clip(want, 0, 1))


def test_a_clip_whose_weight_drowns_all_others_does_not_keep_them_out() -> None:
    weight = np.array([1e-20, 1.0, 1e-20, 1e20, 0.0])
    drawn = successive(weight, 4, rng()).tolist()
    assert drawn[:2] == [3, 1]
    assert sorted(drawn[2:]) == [0, 2]


def test_ranks_know_nothing_of_the_scale() -> None:
    losses = np.random.default_rng(0).exponential(size=50)
    one, other = sampler(losses.tolist(), Sampling.rank), sampler((losses**3 * 1000).tolist(), Sampling.rank)
    np.testing.assert_array_equal(chances(one), chances(other))
    np.testing.assert_array_equal(one.sample(20, rng()), other.sample(20, rng()))


def test_of_equal_priorities_the_first_clip_ranks_higher() -> None:
    chance = chances(sampler([1.0, 2.0, 1.0, 2.0, 0.0, 0.0], Sampling.rank, 1.0))
    np.testing.assert_allclose(chance / chance[1], [1 / 3, 1, 1 / 4, 1 / 2, 1 / 5, 1 / 6])


@pytest.mark.parametrize("how", Sampling)
def test_solved_clips_are_drawn_too(how: Sampling) -> None:
    assert sorted(sampler([0.0] * 7, how).sample(7, rng()).tolist()) == list(range(7))
    np.testing.assert_allclose(chances(sampler([0.0] * 4, how, alpha=0)), 0.25)


# What comes first, and how many.


@pytest.mark.parametrize("how", Sampling)
def test_clips_never_drawn_come_first(how: Sampling) -> None:
    priority, drawn = np.array([9.0, 0.0, 9.0, 0.0, 9.0, 0.0]), np.array([3, 0, 1, 0, 2, 0])
    buffer, source = Sampler(priority, drawn, how, 1.0), rng(3)
    for _ in range(50):
        batch = buffer.sample(5, source).tolist()
        assert sorted(batch[:3]) == [1, 3, 5]
        assert set(batch[3:]) < {0, 2, 4}
    buffer.set_priorities(np.array([1, 5]), np.array([0.0, 0.0]))
    assert buffer.sample(1, source).tolist() == [3]


def test_clips_never_drawn_come_evenly() -> None:
    buffer, source = sampler([0.0, 1.0, 50.0], drawn=0), rng(4)
    orders = list(permutations(range(3), 2))
    counts = Counter(tuple(buffer.sample(2, source).tolist()) for _ in range(20_000))
    assert counts.keys() <= set(orders)
    agree(np.array([counts[order] for order in orders]), np.full(6, 1 / 6))


@pytest.mark.parametrize("how", Sampling)
def test_nothing_of_nothing(how: Sampling) -> None:
    empty = sampler([], how)
    assert empty.sample(5, rng()).shape == (0,)
    assert chances(empty).shape == (0,)
    none = sampler([1.0, 2.0], how).sample(0, rng())
    assert (none.shape, none.dtype) == ((0,), np.int64)


@given(
    clips=st.lists(st.tuples(LOSSES, st.integers(0, 2)), max_size=40),
    n=st.integers(0, 50),
    how=HOW,
    alpha=st.floats(0, 2),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_no_clip_comes_twice(clips: list[tuple[float, int]], n: int, how: Sampling, alpha: float, seed: int) -> None:
    priority, drawn = [p for p, _ in clips], [d for _, d in clips]
    buffer = Sampler(np.array(priority), np.array(drawn, np.int64), how, alpha)
    batch = buffer.sample(n, rng(seed))
    assert batch.dtype == np.int64
    assert len(set(batch.tolist())) == len(batch) == min(n, len(clips))
    assert set(batch.tolist()) <= set(range(len(clips)))
    n_new = sum(d == 0 for d in drawn)
    assert [drawn[i] == 0 for i in batch] == [k < n_new for k in range(len(batch))]
    if clips:
        assert chances(buffer).sum() == pytest.approx(1)


# Learning, and going on from a checkpoint.


def test_what_is_learned_steers_the_draws_and_leaves_the_callers_arrays_alone() -> None:
    priority, drawn = np.ones(3), np.ones(3, np.int64)
    buffer = Sampler(priority, drawn, Sampling.proportional, 1.0)
    buffer.set_priorities(np.array([2, 0]), np.array([0.0, 3.0]))
    np.testing.assert_array_equal(buffer.priority, [3, 1, 0])
    np.testing.assert_array_equal(buffer.drawn, [2, 1, 2])
    np.testing.assert_allclose(chances(buffer), np.array([3.001, 1.001, 0.001]) / 4.003)
    assert (priority.tolist(), drawn.tolist()) == ([1, 1, 1], [1, 1, 1])


@given(
    clips=st.lists(st.tuples(LOSSES, st.integers(0, 1)), min_size=1, max_size=30),
    steps=st.lists(st.tuples(st.integers(0, 12), st.lists(LOSSES, min_size=12, max_size=12)), max_size=12),
    how=HOW,
    alpha=st.floats(0, 2),
)
@settings(deadline=None)
def test_a_resumed_run_draws_what_the_first_one_would_have(
    clips: list[tuple[float, int]], steps: list[tuple[int, list[float]]], how: Sampling, alpha: float
) -> None:
    living = Sampler(np.array([p for p, _ in clips]), np.array([d for _, d in clips]), how, alpha)
    for step, (n, losses) in enumerate(steps):
        batch = living.sample(n, rng(step))
        living.set_priorities(batch, np.array(losses[: len(batch)]))
        resumed = Sampler(living.priority, living.drawn, how, alpha)
        np.testing.assert_array_equal(resumed.sample(n + 3, rng(-step)), living.sample(n + 3, rng(-step)))
        assert chances(resumed).tobytes() == chances(living).tobytes()
        if how == Sampling.rank:
            order = np.lexsort((np.arange(len(clips)), -living.priority))
            weight = np.empty(len(clips))
            weight[order] = (1 / np.arange(1, len(clips) + 1)) ** alpha
            np.testing.assert_allclose(chances(living), weight / weight.sum())


@pytest.mark.parametrize("how", Sampling)
def test_a_large_buffer_resumes_as_exactly(how: Sampling) -> None:
    losses = np.random.default_rng(0)
    living = Sampler(losses.exponential(size=5003), losses.integers(0, 9, 5003), how, 0.6)
    for step in range(30):
        batch = living.sample(101, rng(step))
        living.set_priorities(batch, losses.exponential(size=101).round(1))
    resumed = Sampler(living.priority, living.drawn, how, 0.6)
    for step in range(30):
        batch = living.sample(101, rng(step))
        np.testing.assert_array_equal(resumed.sample(101, rng(step)), batch)
        assert resumed.probability(batch).tobytes() == living.probability(batch).tobytes()


def test_only_the_given_generator_is_asked() -> None:
    buffer = sampler([1.0, 2.0, 3.0, 4.0])
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    first = buffer.sample(3, rng(7))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    np.testing.assert_array_equal(buffer.sample(3, rng(7)), first)


@pytest.mark.parametrize("bad", [-0.1, np.inf, np.nan])
def test_a_priority_that_is_none_is_refused_and_changes_nothing(bad: float) -> None:
    with pytest.raises(KwsError, match="priority"):
        sampler([1.0, bad])
    buffer = sampler([1.0, 2.0])
    with pytest.raises(KwsError, match="priority"):
        buffer.set_priorities(np.array([0, 1]), np.array([5.0, bad]))
    assert (buffer.priority.tolist(), buffer.drawn.tolist()) == ([1, 2], [1, 1])


# Importance weights.


def test_importance_weights_scale_down_what_was_drawn_too_often() -> None:
    chance = np.array([0.4, 0.1, 0.2])
    np.testing.assert_allclose(importance(chance, 10, 1.0), [0.25, 1, 0.5])
    np.testing.assert_allclose(importance(chance, 10, 0.5), [0.5, 1, 0.5**0.5])
    np.testing.assert_array_equal(importance(chance, 10, 0.0), [1, 1, 1])
    assert importance(np.zeros(0), 10, 0.5).shape == (0,)


def test_weighted_losses_have_the_mean_of_the_buffer() -> None:
    """With beta 1 the drawn losses, weighted, average to those of evenly drawn clips."""
    losses = np.array([0.1, 0.5, 2.0, 7.0])
    chance = chances(sampler(losses.tolist(), Sampling.rank, 1.0))
    weight = importance(chance, 4, 1.0)
    assert (chance * weight * losses).sum() / (chance * weight).sum() == pytest.approx(losses.mean())


def test_beta_rises_in_a_line_to_one() -> None:
    assert [importance_exponent_at(step, 10, 20, 0.4) for step in (0, 10, 15, 20, 99)] == [
        0.4,
        0.4,
        pytest.approx(0.7),
        1,
        1,
    ]
    assert [importance_exponent_at(step, 10, 10, 0.4) for step in (9, 10)] == [0.4, 1]


# Quotas.


def test_quotas_known_answers() -> None:
    plenty = {"a": 99, "b": 99, "c": 99}
    assert split(10, {"a": 0.5, "b": 0.3, "c": 0.2}, plenty, rng()) == {"a": 5, "b": 3, "c": 2}
    assert split(8, {"a": 6, "b": 2}, plenty, rng()) == {"a": 6, "b": 2}
    assert split(8, {"a": 6, "b": 0}, plenty, rng()) == {"a": 8, "b": 0}
    assert split(0, {"a": 1, "b": 1}, plenty, rng()) == {"a": 0, "b": 0}
    assert split(10, {"a": 1, "b": 1}, {"a": 4, "b": 99}, rng()) == {"a": 4, "b": 6}
    # a has 1 of its 5: its other 4 go to b and c as 3 to 2, where c has only 3.
    assert split(10, {"a": 5, "b": 3, "c": 2}, {"a": 1, "b": 99, "c": 3}, rng()) == {"a": 1, "b": 6, "c": 3}
    assert split(10, {"a": 5, "b": 3, "c": 2}, {"b": 2, "c": 1}, rng()) == {"a": 0, "b": 2, "c": 1}
    assert split(10, {"a": 1, "b": 0}, {"a": 3, "b": 99}, rng()) == {"a": 3, "b": 0}, "share 0 is none"


@pytest.mark.parametrize("mix", [{}, {"a": 0.0}, {"a": 1.0, "b": -0.1}, {"a": float("inf")}, {"a": float("nan")}])
def test_shares_that_are_none_are_refused(mix: dict[str, float]) -> None:
    with pytest.raises(KwsError, match="mix"):
        split(1, mix, {"a": 1}, rng())


SHARES = st.one_of(st.sampled_from([0.0, 0.1, 0.2, 0.7, 1.0]), st.floats(0, 1e6))
MIXES = st.dictionaries(st.sampled_from("abcde"), SHARES, min_size=1).filter(lambda mix: any(mix.values()))


@given(n=st.integers(0, 300), mix=MIXES, seed=st.integers(0, 99))
@settings(deadline=None)
def test_a_quota_is_a_share_rounded_down_or_up(n: int, mix: dict[str, float], seed: int) -> None:
    counts = split(n, mix, dict.fromkeys(mix, 300), rng(seed))
    assert list(counts) == list(mix)
    assert sum(counts.values()) == n
    for kind, share in mix.items():
        assert abs(counts[kind] - n * share / sum(mix.values())) < 1 + 1e-9


@given(
    n=st.integers(0, 60),
    mix=MIXES,
    available=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30)),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_what_one_kind_cannot_give_comes_from_the_others(
    n: int, mix: dict[str, float], available: dict[str, int], seed: int
) -> None:
    counts = split(n, mix, available, rng(seed))
    assert sum(counts.values()) == min(n, sum(available.get(kind, 0) for kind, share in mix.items() if share > 0))
    assert all(0 <= counts[kind] <= available.get(kind, 0) for kind in mix)


@pytest.mark.parametrize(
    ("available", "want"),
    [
        ({"a": 50, "b": 50, "c": 50}, [3.5, 2.1, 1.4]),
        ({"a": 1, "b": 50, "c": 50}, [1, 3.6, 2.4]),
        ({"a": 50, "b": 50}, [4.375, 2.625, 0]),
    ],
)
def test_quotas_are_right_on_average(available: dict[str, int], want: list[float]) -> None:
    source, n = rng(5), 4000
    counts = np.array([list(split(7, {"a": 0.5, "b": 0.3, "c": 0.2}, available, source).values()) for _ in range(n)])
    part = np.mod(want, 1)
    assert (np.abs(counts.mean(axis=0) - want) <= 4 * np.sqrt(part * (1 - part) / n) + 1e-9).all(), counts.mean(axis=0)


@given(n=st.integers(0, 40), mix=MIXES, seed=st.integers(0, 99))
@settings(deadline=None, max_examples=20)
def test_any_quota_is_right_on_average(n: int, mix: dict[str, float], seed: int) -> None:
    source = rng(seed)
    mean = np.mean([list(split(n, mix, dict.fromkeys(mix, 40), source).values()) for _ in range(500)], axis=0)
    # Hoeffding (1963): further off than this in one of 10^9 cases.
    assert (np.abs(mean - n * np.array(list(mix.values())) / sum(mix.values())) < 0.15).all()
