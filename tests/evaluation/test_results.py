"""Results in words: real keywords beside synthetic ones."""

import numpy as np

from kws.evaluation.breakdown import MissGroup
from kws.evaluation.operating_points import Curve
from kws.evaluation.results import Outcome, over_real_keywords
from tests.evaluation.test_verdict import point


def outcome(*missed: MissGroup) -> Outcome:
    counts = np.zeros(0, np.int64)
    own = point(401, 606, 0, 40.0)
    return Outcome("", "beep", [], own, Curve(np.zeros(0), counts, counts, 40.0, 606), missed=list(missed))


SYNTHETIC = MissGroup("source", "espeak en-us", 400, 600, 0.667, 0.63, 0.70)
REAL = [MissGroup("source", "kitchen", 1, 4, 0.25, 0.05, 0.7), MissGroup("source", "car", 0, 2, 0.0, 0.0, 0.66)]
SPEAKER = MissGroup("speaker", "me", 1, 6, 0.2, 0.03, 0.56)


def test_misses_of_real_keywords_are_counted_apart() -> None:
    both = over_real_keywords(outcome(SYNTHETIC, *REAL, SPEAKER), {"espeak en-us"})
    assert both.real is not None
    assert (both.real.misses, both.real.events, both.own.events) == (1, 6, 606)
    assert not both.useless, "most of the synthetic keywords are missed, and one of six real ones"
    assert "Of these, 6 are real, and it misses 1 of them." in both.verdict
    none = over_real_keywords(outcome(SYNTHETIC), {"espeak en-us"})
    assert none.useless.startswith("useless at its threshold: misses 401 of 606")
    assert "All of these are synthetic." in none.verdict
    assert over_real_keywords(outcome(*REAL), set()).real is None
