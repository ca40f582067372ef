"""Intervals against published tables, their own definition, and the referee."""

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import poisson as poisson_law

from kws.evaluation.intervals import (
    duration_text,
    false_alarms_text,
    poisson,
    proportion_text,
    rate_text,
    wilson,
)


def test_wilson_known_answers() -> None:
    assert wilson(6, 64) == pytest.approx((0.0437, 0.1898), abs=1e-4)
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)  # z^2 / (n + z^2)
    assert wilson(10, 10) == pytest.approx((1 - 0.2775, 1), abs=1e-4)
    assert wilson(0, 0) == (0, 1)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_wilson_interval_contains_the_proportion_and_is_symmetric(kn: tuple[int, int]) -> None:
    k, n = kn
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert wilson(n - k, n) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_poisson_known_answers() -> None:
    """Garwood's table: 0 -> (0, 3.69), 1 -> (0.0253, 5.57), 10 -> (4.80, 18.39)."""
    assert poisson(0, 1) == pytest.approx((0, 3.689), abs=1e-3)
    assert poisson(1, 1) == pytest.approx((0.0253, 5.572), abs=1e-3)
    assert poisson(10, 2) == pytest.approx((4.795 / 2, 18.39 / 2), abs=1e-2)


@given(st.integers(1, 300), st.floats(0.01, 1000))
def test_poisson_bounds_leave_2_5_percent_tails(k: int, hours: float) -> None:
    low, high = poisson(k, hours)
    assert poisson_law.sf(k - 1, low * hours) == pytest.approx(0.025)
    assert poisson_law.cdf(k, high * hours) == pytest.approx(0.025)


@pytest.mark.parametrize(("k", "exposure"), [(-1, 1.0), (0, 0.0), (0, -1.0), (0, float("nan")), (0, float("inf"))])
def test_impossible_counts_are_refused(k: int, exposure: float) -> None:
    with pytest.raises(ValueError, match="exposure above 0"):
        poisson(k, exposure)


def test_more_misses_than_events_are_refused() -> None:
    with pytest.raises(ValueError, match="not 4"):
        wilson(4, 3)


def test_rates_as_text() -> None:
    assert [rate_text(x) for x in (0.035, 1.388, 7.74, 133.2)] == ["0.04", "1.4", "7.7", "133"]


def test_durations_have_a_unit() -> None:
    assert [duration_text(h) for h in (112.6, 2.853, 0.72, 0.01, 0.0003)] == [
        "113 h",
        "2.85 h",
        "43 min",
        "36 s",
        "1 s",
    ]


def test_a_rate_of_nothing_is_a_dash() -> None:
    assert (proportion_text(0, 0), false_alarms_text(0, 0.0)) == ("-", "-")


def test_a_single_trial_is_no_rate() -> None:
    assert [proportion_text(1, n) for n in (1, 2, 3)] == ["1/1", "1/2", "1/3 = 33.3 % [6.1, 79.2]"]
    assert [false_alarms_text(1, h) for h in (15 / 3600, 0.5)] == ["1 in 15 s", "1 in 30 min = 2.0/h [0.05, 11.1]"]


def test_intervals_equal_the_referees(referee: ModuleType) -> None:
    for n in (1, 7, 64, 1000):
        for k in sorted({0, 1, n // 3, n}):
            assert [round(x, 4) for x in wilson(k, n)] == referee.wilson(k, n)
