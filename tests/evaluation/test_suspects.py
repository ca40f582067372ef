"""The recordings that place a threshold are named, and one that may hold the keyword is pointed out."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from kws.detector.streaming import ScoreTrack
from kws.evaluation.report.examples import placing_negatives
from kws.evaluation.report.page import write_report
from kws.evaluation.results import calibrated
from kws.evaluation.scoring import DetectorScores, KeywordScores, Segment

HOP_S = 0.02


def track(length_s: float, peaks: dict[float, float]) -> ScoreTrack:
    """Scores of 0.1 with a peak of one row at each time."""
    times = np.arange(1, round(length_s / HOP_S) + 1) * HOP_S
    scores = np.full(len(times), 0.1, np.float32)
    for at, score in peaks.items():
        scores[round(at / HOP_S) - 1] = score
    return ScoreTrack(times, scores, length_s)


def scored(peaks: dict[float, float]) -> KeywordScores:
    """Fifteen keywords with scores from 0.5 to 0.78, and six recordings of 10 s."""
    events = {5.0 * i + 3: 0.5 + 0.02 * i for i in range(15)}
    spans = [Segment(at - 1, at + 1) for at in events]
    negatives = [Segment(10.0 * i, 10.0 * i + 10, f"talk/{i}.wav") for i in range(6)]
    return KeywordScores(track(80, events), spans, track(60, peaks), negatives)


def test_the_recordings_of_the_highest_scores_are_named_with_time_and_score() -> None:
    note = calibrated(scored({12.0: 0.44, 25.5: 0.46, 41.0: 0.45, 51.0: 0.2}), 0.0, 1.0, 1).note
    assert note.endswith(
        "; highest negatives: talk/2.wav (0.4600 at 5.5 s), talk/4.wav (0.4500 at 1.0 s), talk/1.wav (0.4400 at 2.0 s)"
    )


def test_a_single_recording_that_moves_the_threshold_far_is_pointed_out() -> None:
    scores = scored({12.0: 0.44, 25.5: 0.7})
    calibration = calibrated(scores, 0.0, 1.0, 1)
    assert calibration.threshold > 0.7
    assert calibration.note.endswith(
        "; without the first the threshold would be 0.4400, with 0 of 15 events missed instead of 11: it may contain "
        "the keyword"
    )


def test_a_trigger_just_after_a_recording_belongs_to_it() -> None:
    assert "highest negatives: talk/1.wav (0.7000 at 10.1 s)" in calibrated(scored({20.1: 0.7}), 0.0, 1.0, 1).note


def test_streams_without_recordings_have_no_names() -> None:
    unnamed = replace(scored({12.0: 0.44}), negatives=[])
    assert "highest" not in calibrated(unnamed, 0.0, 1.0, 1).note


def test_the_report_plays_the_sound_before_each_of_the_highest_scores(tmp_path: Path) -> None:
    scores, cuts = scored({12.0: 0.44, 25.5: 0.46, 41.0: 0.45, 51.0: 0.2}), list[tuple[int, float, float]]()
    odd = [replace(one, name=f"<b>{one.name}</b>", stream=3, offset_s=5.0) for one in scores.negatives]

    def cut(number: int, start_s: float, end_s: float) -> np.ndarray:
        cuts.append((number, round(start_s, 6), round(end_s, 6)))
        return np.ones(round((end_s - start_s) * 16000), np.int16)

    detector = DetectorScores({"beep": replace(scores, negatives=odd)}, {"beep": 0.5})
    (gallery,) = placing_negatives(detector, cut, 16000)
    assert cuts == [(3, 18.5, 21.2), (3, 34.0, 36.7), (3, 5.0, 7.7)]
    write_report(tmp_path / "r.html", "t", {}, galleries=[gallery])
    page = (tmp_path / "r.html").read_text()
    assert "beep: validation negatives with the highest scores" in page
    assert page.count("<audio") == 3
    assert "0:00:05.5, &lt;b&gt;talk/2.wav&lt;/b&gt;; highest score 0.460" in page
    assert "<b>" not in page
    assert placing_negatives(DetectorScores({"beep": replace(scores, negatives=[])}, {"beep": 0.5}), cut, 16000) == []
