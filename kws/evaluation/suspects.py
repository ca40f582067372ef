"""The validation negatives that place a threshold: a single one that says the keyword moves it far."""

from dataclasses import dataclass, replace

import numpy as np

from kws.detector.streaming import ScoreTrack
from kws.evaluation.breakdown import TRIGGER_DELAY_S
from kws.evaluation.calibration import Calibration, calibrate
from kws.evaluation.scoring import KeywordScores, Segment
from kws.evaluation.threshold_sweep import Sweep, sweep

NAMED = 3
FAR = 0.05  # a threshold that moves less without a recording is not worth a second look


@dataclass(frozen=True)
class Peak:
    """The highest score of a negative recording, and its time on the track in seconds."""

    recording: Segment
    score: float
    at_s: float

    def __str__(self) -> str:
        return f"{self.recording.name} ({self.score:.4f} at {self.at_s - self.recording.start_s:.1f} s)"


def highest_negatives(scores: KeywordScores) -> list[Peak]:
    """The three negatives with the highest scores, the highest first; empty if the recordings are not known."""
    track = scores.negative
    peaks: dict[str, Peak] = {}
    for one in scores.negatives:
        rows = _rows(track, one)
        if one.name and rows.stop > rows.start:
            at = rows.start + int(track.scores[rows].argmax())
            peak = Peak(one, float(track.scores[at]), float(track.times[at]))
            if one.name not in peaks or peak.score > peaks[one.name].score:
                peaks[one.name] = peak
    return sorted(peaks.values(), key=lambda peak: -peak.score)[:NAMED]


def suspects(scores: KeywordScores, positive: Sweep, calibration: Calibration, refractory_s: float, passes: int) -> str:
    """Sentence that names the negatives with the highest scores, and what the threshold would be without the first.

    Args:
        scores: of the validation split, with the recordings of the negatives.
        positive: sweep of its positive track.
        calibration: placed on these scores.
        refractory_s, passes: with which it was placed.

    Returns:
        the sentence; empty if the recordings are not known.
    """
    track, highest = scores.negative, highest_negatives(scores)
    if not highest:
        return ""
    text = f"highest negatives: {', '.join(map(str, highest))}"
    others = track.scores.copy()
    for one in scores.negatives:
        if one.name == highest[0].recording.name:
            others[_rows(track, one)] = 0
    without = calibrate(sweep(replace(track, scores=others), refractory_s), None, calibration.wanted, passes).threshold
    if calibration.threshold - without < FAR:
        return text
    before, after = (positive.at(threshold)[1] for threshold in (calibration.threshold, without))
    return (
        f"{text}; without the first the threshold would be {without:.4f}, with {after} of {positive.spans_n} events "
        f"missed instead of {before}: it may contain the keyword"
    )


def _rows(track: ScoreTrack, one: Segment) -> slice:
    """The rows of a recording. A score is known a little after its sound."""
    a, b = np.searchsorted(track.times, (one.start_s + TRIGGER_DELAY_S, one.end_s + TRIGGER_DELAY_S))
    return slice(int(a), int(b))
