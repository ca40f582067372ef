"""Misses and false alarms by group, latency and confusion: known answers."""

import numpy as np
import pytest

from kws.detector.streaming import ScoreTrack
from kws.evaluation.breakdown import attribute, confusion, false_alarms_by_group, latency, match_events, misses_by_group
from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.report.examples import clock, galleries
from kws.evaluation.scoring import DetectorScores, KeywordScores, Segment
from tests.tracks import track


def peaks(at_s: list[float], length_s: float, height: float = 0.9) -> ScoreTrack:
    """Rows every 10 ms, high at these seconds."""
    scores = np.zeros(round(length_s * 100))
    for at in at_s:
        scores[round(at * 100) - 1] = height
    return track(scores)


def example_scores() -> KeywordScores:
    """Four events with three hits; false alarms in two of three negative recordings."""
    events = [
        Segment(0.0, 3.0, "e0", "ann", "phone", 4.0, 1.0),
        Segment(10.0, 13.0, "e1", "ann", "phone", 12.0, 11.0),
        Segment(20.0, 23.0, "e2", "bob", "studio", 14.9, 21.0),
        Segment(30.0, 33.0, "e3", "bob", "phone", -3.0, 31.0),
    ]
    negatives = [
        Segment(10.0, 40.0, "n0", "cat", "radio", 10.0, None, 0, 10.0),
        Segment(40.5, 60.0, "n1", "cat", "radio", 10.0, None, 0, 10.0),
        Segment(60.5, 100.0, "n2", "dan", "kitchen", 10.0, None, 0, 10.0),
    ]
    # 40.6 comes so soon after n1 began that n0 caused it.
    return KeywordScores(peaks([1.2, 11.3, 20.9], 40.0), events, peaks([20.0, 40.6, 70.0], 100.0), negatives)


def test_digital_silence_is_no_hours_of_a_group() -> None:
    negatives = [
        Segment(0.0, 150.0, "a", source="radio"),
        Segment(150.0, 1800.0, "b", source="kitchen", stream=1, offset_s=150.0, silent_s=1500.0),
    ]
    rows = false_alarms_by_group(KeywordScores(peaks([], 1.0), [], peaks([], 1800.0), negatives), np.array([160.0]))
    assert {row.value: round(row.hours * 3600) for row in rows if row.by == "source"} == {"radio": 150, "kitchen": 150}


def test_latency_from_the_keywords_end() -> None:
    hit_at, _ = match_events(example_scores(), 0.5, 1.0)
    assert hit_at.tolist() == [
        pytest.approx(1.2),
        pytest.approx(11.3),
        pytest.approx(20.9),
        pytest.approx(np.nan, nan_ok=True),
    ]
    late = latency(example_scores(), hit_at)
    assert late is not None
    assert (late.events, late.median_s, late.p95_s) == (3, pytest.approx(0.2), pytest.approx(0.29))


def test_no_latency_without_a_hit_or_a_known_end() -> None:
    assert latency(example_scores(), match_events(example_scores(), 0.95, 1.0)[0]) is None
    unknown = KeywordScores(example_scores().positive, [Segment(0.0, 3.0)], example_scores().negative)
    assert latency(unknown, match_events(unknown, 0.5, 1.0)[0]) is None


def test_misses_of_each_group() -> None:
    one = example_scores()
    rows = {(row.by, row.value): row for row in misses_by_group(one, match_events(one, 0.5, 1.0)[0])}
    assert {key: (row.misses, row.events) for key, row in rows.items()} == {
        ("recording", "e3"): (1, 1),
        ("source", "phone"): (1, 3),
        ("source", "studio"): (0, 1),
        ("speaker", "ann"): (0, 2),
        ("speaker", "bob"): (1, 2),
        ("snr", "-5 to 0 dB"): (1, 1),
        ("snr", "0 to 5 dB"): (0, 1),
        ("snr", "10 to 15 dB"): (0, 2),
    }
    phone = rows["source", "phone"]
    assert (phone.miss_low, phone.miss_high) == wilson(1, 3)


def test_false_alarms_belong_to_the_recording_that_caused_them() -> None:
    one = example_scores()
    _, alarms = match_events(one, 0.5, 1.0)
    assert attribute(one.negatives, alarms) == [0, 0, 2]
    rows = {(row.by, row.value): row for row in false_alarms_by_group(one, alarms)}
    assert {key: row.false_alarms for key, row in rows.items()} == {
        ("recording", "n0"): 2,
        ("recording", "n2"): 1,
        ("source", "radio"): 2,
        ("source", "kitchen"): 1,
        ("speaker", "cat"): 2,
        ("speaker", "dan"): 1,
    }
    radio = rows["source", "radio"]
    assert radio.hours == pytest.approx((30 + 19.5) / 3600)
    assert (radio.fa_low, radio.fa_high) == poisson(2, radio.hours)


def test_a_false_alarm_belongs_to_its_own_stream() -> None:
    negatives = [Segment(10.0, 20.0, "a", stream=0, offset_s=10.0), Segment(20.0, 30.0, "b", stream=1, offset_s=20.0)]
    assert attribute(negatives, np.array([15.0, 20.0, 20.1, 25.0])) == [0, 0, 1, 1], (
        "the second is in the last row of a"
    )


def test_two_keywords_in_one_recording_are_not_confused() -> None:
    quiet = peaks([], 40.0)
    left = KeywordScores(
        peaks([1.0], 40.0),
        [Segment(0.0, 2.0)],
        quiet,
        others={"right": peaks([1.5], 40.0)},
        other_spans={"right": [(1.4, 2.5)]},
    )
    assert [row.times for row in confusion({"left": left}, {"left": 0.5, "right": 0.5}, 1.0)] == [0]


def test_confusion_by_hand() -> None:
    events = [Segment(0.0, 2.0), Segment(10.0, 12.0), Segment(20.0, 22.0)]
    quiet = peaks([], 40.0)
    left = KeywordScores(peaks([1.0, 11.0], 40.0), events, quiet, others={"right": peaks([1.5, 15.0, 21.0], 40.0)})
    right = KeywordScores(quiet, events, quiet, others={"left": peaks([11.0], 40.0, 0.4)})
    found = confusion({"left": left, "right": right}, {"left": 0.5, "right": 0.5}, 1.0)
    assert [(row.said, row.fired, row.times, row.events) for row in found] == [
        ("left", "right", 2, 3),
        ("right", "left", 0, 3),
    ]
    assert (found[0].low, found[0].high) == wilson(2, 3)


def test_a_longer_keyword_is_not_confused_with_one_that_it_contains() -> None:
    events, quiet, fires = [Segment(0.0, 2.0)], peaks([], 10.0), peaks([1.0], 10.0)
    short = KeywordScores(fires, events, quiet, others={"hey computer": fires})
    long = KeywordScores(fires, events, quiet, others={"computer": fires})
    scores = {"computer": short, "hey computer": long}
    pairs = confusion(scores, dict.fromkeys(scores, 0.5), 1.0)
    assert [(row.said, row.fired, row.times) for row in pairs] == [("computer", "hey computer", 1)]


def test_examples_are_the_lowest_misses_and_the_highest_false_alarms() -> None:
    one = example_scores()
    one.positive.scores[[3100, 3150]] = 0.3, 0.4  # the event that is missed
    one.negative.scores[6999] = 0.95  # 70.0 s
    asked = []

    def cut(stream: int, start_s: float, end_s: float) -> np.ndarray:
        asked.append((stream, round(start_s, 3), round(end_s, 3)))
        return np.zeros(max(0, round((end_s - start_s) * 16000)), np.int16)

    detector = DetectorScores({"word": one}, {"word": 0.5}, name="a")
    ((misses,), (alarms,)) = (gallery.columns for gallery in galleries([detector], cut, 16000, 1.0, limit=2))
    assert (misses.total, alarms.total, len(alarms.examples)) == (1, 3, 2)
    (missed,) = misses.examples
    assert (missed.score, missed.span, missed.kind) == (pytest.approx(0.4), (30.0, 33.0), "miss")
    assert "speaker bob" in missed.description
    assert [round(alarm.at_s or 0, 2) for alarm in alarms.examples] == [60.0, 10.0], (
        "in the stream, which begins at 10 s"
    )
    assert "n2" in alarms.examples[0].description
    assert alarms.examples[0].description.startswith("0:00:09.5, n2"), "in the recording"
    assert asked == [(0, 29.5, 33.5), (0, 58.0, 60.7), (0, 8.0, 10.7)]
    times, scores = alarms.examples[0].tracks["a"]
    assert scores.max() == pytest.approx(0.95)
    assert (times[0], times[-1]) == (pytest.approx(58.0, abs=0.02), pytest.approx(60.7, abs=0.02))


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00.0"), (59.96, "0:01:00.0"), (3723.44, "1:02:03.4")])
def test_clock_as_text(seconds: float, text: str) -> None:
    assert clock(seconds) == text
