"""Real keywords beside synthetic ones: counted apart, and the ones that decide whether a detector is of use."""

from collections.abc import Sequence

from kws.evaluation.results import Outcome, outcomes_of
from kws.evaluation.scoring import DetectorScores, KeywordScores, Segment
from tests.evaluation.test_breakdown import peaks


def outcome(sources: Sequence[str], hits: Sequence[int], synthetic: Sequence[str]) -> Outcome:
    """Events of these sources, 10 s apart, of which some are hits."""
    events = [Segment(10.0 * i, 10.0 * i + 3.0, f"e{i}", "", source) for i, source in enumerate(sources)]
    positive = peaks([10.0 * i + 1.0 for i in hits], 10.0 * len(events))
    scores = KeywordScores(positive, events, peaks([], 3600.0), [])
    (one,) = outcomes_of(DetectorScores({"beep": scores}, {"beep": 0.5}), 1.0, synthetic)
    return one


def test_real_keywords_are_counted_apart_and_decide() -> None:
    sources = ["espeak en-us"] * 30 + ["kitchen"] * 4 + ["car"] * 2
    mixed = outcome(sources, [0, 1, 30, 31, 33, 34, 35], ["espeak en-us"])
    assert (mixed.own.misses, mixed.own.events) == (29, 36)
    assert mixed.real is not None
    assert (mixed.real.misses, mixed.real.events) == (1, 6)
    assert not mixed.useless, "most of the synthetic keywords are missed, and one of six real ones"
    assert "Of these, 6 are real, and it misses 1 of them." in mixed.verdict
    assert outcome(sources, [0, 1, 30, 31, 33, 34, 35], []).useless.startswith("useless at its threshold: misses 29 of")


def test_keywords_of_one_synthetic_source_are_all_synthetic() -> None:
    one = outcome(["espeak en-us"] * 8, [0], ["espeak en-us"])
    assert one.real is not None
    assert one.real.events == 0
    assert one.useless.startswith("useless at its threshold: misses 7 of 8")
    assert "All of these are synthetic." in one.verdict


def test_real_keywords_alone_are_counted_once() -> None:
    assert outcome(["kitchen"] * 8, [0, 1], ["espeak en-us"]).real is None
