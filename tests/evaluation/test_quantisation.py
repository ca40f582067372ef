"""A quantised file is refused where it misses more keywords than allowed, or has more false alarms than chance."""

import math

import pytest

from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.quantisation import Change, Loss, refusal, rows


def point(misses: int, alarms: int, wanted: float | None = None) -> OperatingPoint:
    return OperatingPoint(
        wanted, 0.5, alarms, 2.0, alarms / 2, *poisson(alarms, 2.0), misses, 40, misses / 40, *wilson(misses, 40)
    )


@pytest.mark.parametrize(
    ("misses", "alarms", "max_loss", "why"),
    [
        (2, 1, 0.0, ""),
        (1, 0, 0.0, ""),
        (3, 1, 0.03, ""),
        (4, 1, 0.03, "beep misses 2 more of 40 keywords (5.0%)"),
        (4, 1, 0.05, ""),
        (2, 5, 0.0, ""),  # within the interval of one false alarm
        (2, 6, 1.0, "beep has 6 false alarms in place of 1"),
    ],
)
def test_a_loss_beyond_the_limit_is_named(misses: int, alarms: int, max_loss: float, why: str) -> None:
    changes = [Change("beep", point(2, 1), point(misses, alarms)), Change("beep", point(0, 3, 2.0), point(40, 99, 2.0))]
    assert refusal(Loss(changes, 0.1, 0.0), max_loss, 0.1) == why


@pytest.mark.parametrize(("largest", "gate"), [(math.nan, 0.1), (0.1, math.nan), (0.1, math.inf)])
def test_scores_that_are_not_finite_are_refused(largest: float, gate: float) -> None:
    assert refusal(Loss([], largest, 0.0), 1.0, gate) == "scores are not finite"


def test_rows_have_counts_hours_and_intervals() -> None:
    assert rows(Loss([Change("beep", point(2, 1), point(3, 1))], 0.1, 0.0)) == [
        ("beep", "calibrated (0.5000)", "float32", "2/40 = 5.0 % [1.4, 16.5]", "1 in 2.00 h = 0.50/h [0.01, 2.8]"),
        ("", "", "int8", "3/40 = 7.5 % [2.6, 19.9]", "1 in 2.00 h = 0.50/h [0.01, 2.8]"),
    ]
