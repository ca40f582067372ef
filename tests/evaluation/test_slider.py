"""The slider of the page shows what the sweep counted, at thresholds that have exactly these counts."""

import json
import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.detector.streaming import ScoreTrack
from kws.evaluation.operating_points import at_threshold, curve, operating_points
from kws.evaluation.report.slider import shortest, sweep_values
from kws.evaluation.results import Outcome
from kws.evaluation.threshold_sweep import sweep
from tests.tracks import fires_by_hand, misses_by_hand, track, tracks

SPANS = [(0.1, 0.4), (0.5, 1.0), (2.0, 2.5)]


def outcome(negative: ScoreTrack, positive: ScoreTrack, threshold: float) -> Outcome:
    """The outcome of a detector with this threshold; its name is no business of the slider."""
    a, b = sweep(positive, 1.0, SPANS), sweep(negative, 1.0)
    return Outcome("</script>", "猫", operating_points(a, b), at_threshold(a, b, threshold), curve(a, b))


@settings(deadline=None, max_examples=25)
@given(tracks(), tracks(), st.floats(0.125, 1, width=32))
def test_each_threshold_has_the_counts_beside_it(negative: ScoreTrack, positive: ScoreTrack, own: float) -> None:
    o = outcome(negative, positive, own)
    values = sweep_values(o)
    for text, misses, alarms in values["stops"]:
        threshold = float(np.float32(float(text)))
        found = fires_by_hand(positive.times, positive.scores, threshold)
        assert misses_by_hand(found, SPANS) == misses
        assert len(fires_by_hand(negative.times, negative.scores, threshold)) == alarms
        assert values["misses"][misses].startswith(f"{misses}/3")
        assert values["alarms"][alarms].startswith(f"{alarms} in ")
    start = values["stops"][values["start"]]
    assert start[1:] == [o.own.misses, o.own.false_alarms], "it begins at the calibrated threshold"
    assert not {"</script>", "猫"} & set(json.dumps(values, ensure_ascii=False)), "names are not in it"


def test_a_calibrated_threshold_that_fires_all_the_time_is_on_the_slider() -> None:
    o = outcome(track(np.tile([0.3, 0.0], 300), 1.0), track([0.0, 0.9, 0.0, 0.0, 0.8, 0.2], 0.1), 0.2)
    values = sweep_values(o, np.full((len(o.curve.thresholds), 2), 0.75))
    assert values["stops"][values["start"]] == ["0.2000", o.own.misses, 300, 0.75, 0.75]


def test_thresholds_are_short_where_counts_allow_it() -> None:
    assert shortest(0.892729, 0.88, 0.9) == "0.8927"
    assert shortest(0.892729, 0.892729, 0.9) == "0.8928", "a lower one has other counts"
    score = float(np.float32(0.9999871))
    above = shortest(math.nextafter(score, 2), math.nextafter(score, 2), 1.0)
    assert score < float(np.float32(float(above))) < 1.0
    assert len(above) <= 9
