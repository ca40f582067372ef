"""Calibration: thresholds from the tail of the scores, against distributions whose rates are known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.detector.streaming import ScoreTrack
from kws.evaluation.calibration import (
    FACTOR,
    TAIL_PER_HOUR,
    calibrate,
    lowest_hours,
    lowest_rate,
    require_hours,
    spread,
    supports,
)
from kws.evaluation.events import trigger_times
from kws.evaluation.operating_points import threshold_for
from kws.evaluation.threshold_sweep import Sweep, sweep
from tests.tracks import track, tracks


def score(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logit))


def of_peaks(logits: NDArray[np.float64], hours: float) -> Sweep:
    """The sweep of a stream with so many triggers, far from one another."""
    scores = np.unique(score(logits))
    triggers = np.arange(len(scores), 0, -1)
    return Sweep(scores, triggers, np.zeros(len(scores), np.int64), 0, hours)


def test_the_threshold_of_an_exponential_tail_is_where_its_rate_is() -> None:
    """200 triggers an hour, at the quantiles of an exponential distribution of mean 0.8 above logit -3, in 40 h."""
    n = 8000
    logits = -3 + 0.8 * -np.log((np.arange(n) + 0.5) / n)
    stream = of_peaks(logits, 40.0)
    for rate in (0.05, 0.1, 0.5, 1.0):
        found = calibrate(stream, None, rate)
        exact = -3 + 0.8 * math.log(200 / rate)
        assert math.log(found.threshold / (1 - found.threshold)) == pytest.approx(exact, abs=0.05)
        assert found.supported
        assert found.fa_low < rate < found.fa_high
        assert found.fa_low * found.fa_high == pytest.approx(rate**2)
    counted = calibrate(stream, None, 2.0)  # 80 false alarms in 40 h: counted, whatever their tail is like
    assert counted.threshold == pytest.approx(threshold_for(stream, 2.0), abs=1e-7)
    assert counted.false_alarms == 80
    assert "tail" not in counted.note


def test_measured_rates_lie_in_the_interval_of_the_calibration() -> None:
    """Two hours of a Poisson process of 100 triggers an hour, 300 times over."""
    rng, hits = numpy_generator(0, "calibration"), []
    for _ in range(300):
        found = calibrate(of_peaks(rng.exponential(0.7, rng.poisson(200)), 2.0), None, 0.5)
        measured = 100 * math.exp(-math.log(found.threshold / (1 - found.threshold)) / 0.7)
        hits.append(found.fa_low <= measured <= found.fa_high)
    assert 0.91 <= np.mean(hits) <= 0.99  # 0.95, with the error of 300 trials


def test_the_note_says_what_was_counted_and_how_the_threshold_was_placed() -> None:
    n = 200
    stream, events = of_peaks(-np.log((np.arange(n) + 0.5) / n), 2.0), np.array([0.9, 0.999])
    positive = Sweep(events, np.array([2, 1]), np.array([0, 1]), 2, 0.01)
    found = calibrate(stream, positive, 0.5)
    assert found.note == (
        f"1 false alarm in 2.00 h, 0.5/h by the tail of the 60 highest scores (95 %: {found.fa_low:.2f} to "
        f"{found.fa_high:.1f}/h); 1 of 2 events missed"
    )
    assert "2 of 2 events" not in calibrate(stream, None, 0.5).note


def test_negatives_that_hold_the_keyword_are_counted_in_place_of_a_tail() -> None:
    """Ten of the highest 60 triggers score far above the others."""
    logits = np.concatenate([np.linspace(-3, 0, 400), np.linspace(0, 0.3, 50), np.linspace(6, 6.1, 10)])
    found = calibrate(of_peaks(logits, 2.0), None, 0.5)
    assert found.false_alarms == 1
    assert not found.supported
    assert "tail" not in found.note


def test_many_equal_scores_are_counted() -> None:
    scores, triggers = score(np.array([-2.0, 1.0, 1.1])), np.array([1000, 200, 40])
    stream = Sweep(scores, triggers, np.zeros(3, np.int64), 0, 10.0)
    assert calibrate(stream, None, 5.0).false_alarms == 40


def test_rate_0_lies_above_the_highest_score() -> None:
    stream = of_peaks(np.linspace(-3, 3, 500), 1.0)
    found = calibrate(stream, None, 0.0)
    assert found.threshold == pytest.approx(float(score(np.array(3.0))), abs=1e-6)
    assert found.threshold > stream.scores[-1]
    assert (found.false_alarms, found.supported) == (0, False)


def test_without_a_tail_the_threshold_lies_above_the_highest_score() -> None:
    few = track(np.linspace(0, 0.8, 1000), duration_s=0.45 * 3600)
    constant = track(np.full(400_000, 0.25))
    for negative, highest in ((few, 0.8), (constant, 0.25)):
        found = calibrate(sweep(negative), None, 0.5)
        assert highest < found.threshold < highest + 1e-6
        assert found.false_alarms == 0
        assert "tail" not in found.note


def test_a_score_of_0_is_not_where_the_tail_begins() -> None:
    scores = np.append(0.0, score(np.linspace(-1, 1, 40)))
    quiet = Sweep(scores, np.append(7200, np.arange(40, 0, -1)), np.zeros(41, np.int64), 0, 2.0)
    assert 0.73 < calibrate(quiet, None, 0.5).threshold < 0.99


def test_scores_that_round_to_1_have_a_threshold() -> None:
    found = calibrate(of_peaks(np.append(np.linspace(0, 10, 40), 50.0), 1.0), None, 0.5)
    assert 0.99 < found.threshold <= 1


def test_passes_over_the_same_recordings_add_no_evidence() -> None:
    logits = np.linspace(-2, 4, 300)
    once, thrice = calibrate(of_peaks(logits, 3.0), None, 0.5), calibrate(of_peaks(logits, 3.0), None, 0.5, passes=3)
    assert thrice.hours == pytest.approx(1.0)
    assert (once.supported, thrice.supported) == (True, False)
    assert thrice.fa_high > once.fa_high
    assert thrice.false_alarms == math.ceil(once.false_alarms / 3)
    assert "scored 3 times" in thrice.note


@settings(deadline=None)
@given(tracks(), st.sampled_from([0.0, 0.5, 20.0, 600.0, 1800.0]))
def test_a_calibrated_threshold_gives_equal_counts_in_float32_and_float64(negative: ScoreTrack, rate: float) -> None:
    found = calibrate(sweep(negative), None, rate)
    assert float(np.float32(found.threshold)) == found.threshold
    assert found.false_alarms == len(trigger_times(negative, found.threshold))
    assert ((negative.scores >= np.float32(found.threshold)) == (negative.scores >= np.float64(found.threshold))).all()


@given(st.floats(0.01, 500), st.floats(0.01, 900))
def test_more_hours_and_higher_rates_are_known_better(hours: float, rate: float) -> None:
    assert spread(hours * 1.5, rate) <= spread(hours, rate) * (1 + 1e-9)
    assert spread(hours, rate * 1.5) <= spread(hours, rate) * (1 + 1e-9)
    if hours > 1 and rate < TAIL_PER_HOUR / hours:
        assert supports(hours, rate) == (spread(hours, rate) <= FACTOR)


def test_too_few_hours_are_refused_with_the_lowest_rate() -> None:
    require_hours(2.0, 0.5)
    assert not supports(0.9 * lowest_hours(0.5), 0.5)
    assert not supports(0.51, 2.5)  # one false alarm in half an hour shows no rate
    assert supports(lowest_hours(0.5), 0.5)
    assert supports(0.45, lowest_rate(0.45))
    with pytest.raises(KwsError, match=rf"=0.5: 27 min .* must be such as {lowest_rate(0.45):g}, .*unsupported=guess"):
        require_hours(0.45, 0.5)
    with pytest.raises(KwsError, match="must be such as"):
        require_hours(1000.0, 0.0)
    with pytest.raises(KwsError, match="must be placed on more negatives"):
        require_hours(0.0, 0.5)
    assert lowest_hours(0.0) == math.inf
