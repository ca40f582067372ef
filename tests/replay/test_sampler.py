"""Which clips of the replay buffer a batch samples: known probabilities, exact shares of the kinds."""

from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.replay.sampler import (
    Sampling,
    SamplingConfig,
    importance,
    importance_exponent_at,
    priority_of_score,
    sample,
    sampling_weights,
    split,
)

LOSSES = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1e6))  # often equal: ranks have ties


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def weights_of(priority: list[float], how: Sampling = Sampling.proportional, exponent: float = 0.6) -> torch.Tensor:
    return sampling_weights(np.array(priority, np.float64), SamplingConfig(how, exponent))


def agree(counts: np.ndarray, chance: np.ndarray) -> None:
    """Each count is within four standard deviations of its expectation."""
    n = counts.sum()
    assert (np.abs(counts / n - chance) <= 4 * np.sqrt(chance * (1 - chance) / n)).all(), (counts / n, chance)


@pytest.mark.parametrize(
    ("how", "exponent", "weight"),
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
def test_clips_are_sampled_as_often_as_the_rule_says(how: Sampling, exponent: float, weight: list[float]) -> None:
    weights, source = weights_of([0.5, 4.0, 0.0, 1.0], how, exponent), rng(1)
    want = np.array(weight) / sum(weight)
    np.testing.assert_allclose(weights / weights.sum(), want, rtol=1e-12)
    sampled = [int(sample(weights, 1, source)[0]) for _ in range(20_000)]
    agree(np.bincount(sampled, minlength=4), want)


@pytest.mark.parametrize("weight", [[0.1, 0.2, 0.3, 0.4], [100.0, 1.0, 2.0, 0.01], [1e9, 1.0, 3.0]])
def test_a_batch_is_sampled_one_clip_after_the_other_without_replacement(weight: list[float]) -> None:
    chance = np.array(weight) / sum(weight)
    orders = list(permutations(range(len(weight)), 3))
    want = [chance[a] * chance[b] / (1 - chance[a]) * chance[c] / (1 - chance[a] - chance[b]) for a, b, c in orders]
    source, weights = rng(2), torch.tensor(weight, dtype=torch.float64)
    counts = Counter(tuple(sample(weights, 3, source).tolist()) for _ in range(20_000))
    agree(np.array([counts[order] for order in orders]), np.clip(want, 0, 1))


def test_ranks_do_not_depend_on_the_scale() -> None:
    losses = np.random.default_rng(0).exponential(size=50)
    one, other = weights_of(losses.tolist(), Sampling.rank), weights_of((losses**3 * 1000).tolist(), Sampling.rank)
    assert torch.equal(one, other)


def test_of_equal_priorities_the_first_clip_ranks_higher() -> None:
    weights = weights_of([1.0, 2.0, 1.0, 2.0, 0.0, 0.0], Sampling.rank, 1.0)
    np.testing.assert_allclose(weights / weights[1], [1 / 3, 1, 1 / 4, 1 / 2, 1 / 5, 1 / 6])


@pytest.mark.parametrize("how", Sampling)
def test_learned_clips_are_sampled_too(how: Sampling) -> None:
    assert sorted(sample(weights_of([0.0] * 7, how), 7, rng()).tolist()) == list(range(7))


def test_a_clip_that_was_never_sampled_has_the_loss_of_its_score() -> None:
    priority = priority_of_score(np.array([0.0, 0.5, 0.9, 1.0, np.nan]))
    np.testing.assert_allclose(priority[:4], [0, np.log(2), np.log(10), np.log(1e6)], rtol=1e-5)
    assert np.isnan(priority[4])


@pytest.mark.parametrize("how", Sampling)
def test_nothing_of_nothing(how: Sampling) -> None:
    assert sample(weights_of([], how), 5, rng()).shape == (0,)
    none = sample(weights_of([1.0, 2.0], how), 0, rng())
    assert (none.shape, none.dtype) == ((0,), torch.int64)


@given(
    priority=st.lists(LOSSES, max_size=40),
    n=st.integers(0, 50),
    how=st.sampled_from(list(Sampling)),
    exponent=st.floats(0, 2),
    seed=st.integers(0, 99),
)
@settings(deadline=None)
def test_no_clip_is_sampled_twice(priority: list[float], n: int, how: Sampling, exponent: float, seed: int) -> None:
    weights = weights_of(priority, how, exponent)
    assert (weights > 0).all()
    batch = sample(weights, n, rng(seed))
    assert len(set(batch.tolist())) == len(batch) == min(n, len(priority))
    assert set(batch.tolist()) <= set(range(len(priority)))


def test_only_the_given_generator_is_used() -> None:
    weights = weights_of([1.0, 2.0, 3.0, 4.0])
    before = (torch.get_rng_state(), np.random.get_state()[1].copy())  # noqa: NPY002
    first = sample(weights, 3, rng(7))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert torch.equal(sample(weights, 3, rng(7)), first)


# Importance weights.


def test_importance_weights_scale_down_clips_that_are_sampled_more_often() -> None:
    chance = torch.tensor([0.4, 0.1, 0.2], dtype=torch.float64)
    np.testing.assert_allclose(importance(chance, 10, 1.0), [0.25, 1, 0.5])
    np.testing.assert_allclose(importance(chance, 10, 0.5), [0.5, 1, 0.5**0.5])
    np.testing.assert_array_equal(importance(chance, 10, 0.0), [1, 1, 1])
    assert importance(torch.zeros(0), 10, 0.5).shape == (0,)


def test_weighted_losses_have_the_mean_of_the_buffer() -> None:
    """With exponent 1 the weighted losses average to those of uniformly sampled clips."""
    losses = torch.tensor([0.1, 0.5, 2.0, 7.0], dtype=torch.float64)
    weights = weights_of(losses.tolist(), Sampling.rank, 1.0)
    chance = weights / weights.sum()
    weight = importance(chance, 4, 1.0)
    assert float((chance * weight * losses).sum() / (chance * weight).sum()) == pytest.approx(float(losses.mean()))


def test_the_exponent_rises_linearly_to_one() -> None:
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
