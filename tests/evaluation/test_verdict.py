"""A detector's figures in words: what it misses, how often it fires, and what to do next."""

import math

from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.operating_points import OperatingPoint, with_events
from kws.evaluation.verdict import verdict


def point(misses: int = 0, events: int = 0, alarms: int = 0, hours: float = 0.0) -> OperatingPoint:
    rates = (alarms / hours, *poisson(alarms, hours)) if hours else (math.nan, 0.0, math.inf)
    share = misses / events if events else math.nan
    return OperatingPoint(None, 0.5, alarms, hours, *rates, misses, events, share, *wilson(misses, events))


def test_a_usual_detector() -> None:
    misses, alarms, then = verdict(point(1, 64, 3, 2.85))
    assert misses == "Misses 1 of 64 keywords: 1.6 in 100 (95 %: 0.3 to 8.3)."
    assert alarms == "3 false alarms in 2.85 h: one in 57 min (95 %: one in 20 min to one in 4.61 h)."
    assert "recipe=harden" in then


def test_no_false_alarm_is_no_proof_of_none() -> None:
    _, alarms, then = verdict(point(1, 64, 0, 0.72))
    assert alarms == "0 false alarms in 43 min (95 %: at most one in 12 min)."
    assert "37 h without a false alarm show 0.1 an hour" in then
    assert verdict(point(1, 64, 0, 40.0))[2] == "Next: try it where it will be used."


def test_one_side_alone_says_what_is_not_measured() -> None:
    assert "misses is not measured: give positive=" in verdict(point(0, 0, 2, 20.0))[-1]
    assert "fires is not measured: give negative=" in verdict(point(2, 20))[-1]


def test_frequent_false_alarms_come_first() -> None:
    for one in (point(0, 0, 10, 0.26), point(5, 50, 10, 0.26), point(10, 50, 10, 0.26)):
        assert "recipe=harden" in verdict(one)[-1]
    assert "lower the misses" in verdict(point(10, 50, 1, 2.0))[-1]


def test_a_useless_detector_is_called_so() -> None:
    assert verdict(point(10, 10, 0, 1.0))[-1].startswith("It is useless at its threshold: misses 10 of 10 keywords.")
    assert verdict(point(0, 10, 961, 1.0))[-1].startswith("It is useless at its threshold: triggers 961 times an hour")
    assert "recipe=harden" in verdict(point(1, 2, 961, 1.0))[-1], "the misses are not the reason"


def test_real_keywords_say_whether_it_is_of_use() -> None:
    """Synthetic ones, of which many may be missed, are named apart."""
    whole = point(300, 600, 0, 40.0)
    said = verdict(whole, with_events(whole, 0, 40))
    assert said[1] == "Of these, 40 are real, and it misses 0 of them."
    assert said[-1] == "Next: try it where it will be used."
    assert "kws data check" in verdict(whole, with_events(whole, 9, 10))[-1]
    none = verdict(whole, with_events(whole, 0, 0))
    assert none[1] == "All of these are synthetic."
    assert "misses 300 of 600" in none[-1]
    assert none[-1].endswith("record the keyword with several voices and use recipe=few_shot.")


def test_few_keywords_show_little() -> None:
    more = (
        "Next: evaluate it on more recordings of the keyword (positive=): 35 without a miss show fewer than 10 misses "
    )
    for misses, events in ((0, 3), (1, 2), (0, 34), (5, 30)):
        assert verdict(point(misses, events, 0, 40.0))[-1] == more + "in 100."
    for events in (35, 64):
        assert verdict(point(0, events, 0, 40.0))[-1] == "Next: try it where it will be used."
    assert "lower the misses" in verdict(point(8, 30, 0, 40.0))[-1]
    assert "is useless" in verdict(point(6, 10, 0, 40.0))[-1]
