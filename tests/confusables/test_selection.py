from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.confusables.selection import quotas, spread

CELLS = st.lists(st.tuples(st.sampled_from([0, 0.1, 0.2, 0.5, 1]), st.integers(0, 50)), min_size=1, max_size=6)


@pytest.mark.parametrize(
    ("n", "shares", "available", "expected"),
    [
        (100, [0.5, 0.3, 0.2], [1000] * 3, [50, 30, 20]),
        (100, [5, 3, 2], [1000] * 3, [50, 30, 20]),
        (100, [0.5, 0.5], [10, 1000], [10, 90]),  # what one lacks, the other fills
        (100, [0.5, 0.5, 0], [10, 20, 1000], [10, 20, 0]),  # but none without a share
        (10, [1, 1, 1], [9, 9, 9], [4, 3, 3]),
        (0, [1, 1], [5, 5], [0, 0]),
    ],
)
def test_quotas_of_known_cases(n, shares, available, expected):
    assert quotas(n, shares, available) == expected


@given(st.integers(0, 120), CELLS)
def test_quotas_fill_up_and_never_exceed_what_is_available(n, cells):
    shares, available = [share for share, _ in cells], [there for _, there in cells]
    got = quotas(n, shares, available)
    assert all(0 <= size <= there for size, there in zip(got, available, strict=True))
    assert all(size == 0 for size, share in zip(got, shares, strict=True) if not share)
    assert sum(got) == min(n, sum(there for share, there in cells if share))


def taken(traits, n, seed=0):
    return spread(traits, n, Counter(), np.random.default_rng(seed))


def test_rare_traits_are_selected_first():
    traits = [["a"]] * 50 + [["b"]] * 5 + [["c"]]
    assert Counter(traits[i][0] for i in taken(traits, 9)) == {"a": 4, "b": 4, "c": 1}
    assert sorted(taken(traits, 100)) == list(range(56)), "all, where there are no more"


def test_traits_selected_before_count():
    seen = Counter({"a": 100})
    assert [*spread([["a"], ["b"]], 1, seen, np.random.default_rng(0))] == [1]
    assert seen == {"a": 100, "b": 1}


def test_the_greedy_choice_is_the_best_at_each_step():
    rng = np.random.default_rng(1)
    traits = [list(rng.choice(12, size=rng.integers(1, 5), replace=False)) for _ in range(60)]
    seen: Counter = Counter()
    left = set(range(60))
    for i in taken(traits, 30):
        gains = {j: np.mean([np.sqrt(seen[t] + 1) - np.sqrt(seen[t]) for t in traits[j]]) for j in left}
        assert gains[i] == pytest.approx(max(gains.values()))
        seen.update(traits[i])
        left.remove(i)


def test_ties_are_broken_by_the_seed_alone():
    traits = [["a"]] * 30
    assert taken(traits, 5) == taken(traits, 5)
    assert taken(traits, 5) != taken(traits, 5, seed=1)
