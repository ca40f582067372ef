"""The validation negatives that place a threshold: a single one that says the keyword moves it far."""

from dataclasses import replace

import numpy as np

from kws.detector.streaming import ScoreTrack
from kws.evaluation.breakdown import TRIGGER_DELAY_S
from kws.evaluation.operating_points import Calibration, calibrate
from kws.evaluation.scoring import KeywordScores, Segment
from kws.evaluation.threshold_sweep import Sweep, sweep

NAMED = 3
FAR = 0.05  # a threshold that moves less without a recording is not worth a second look


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
    track = scores.negative
    peaks: dict[str, tuple[float, float]] = {}  # score, and seconds from the start of the recording
    for one in scores.negatives:
        rows = _rows(track, one)
        if one.name and rows.stop > rows.start:
            at = rows.start + int(track.scores[rows].argmax())
            peak = float(track.scores[at]), float(track.times[at] - one.start_s)
            peaks[one.name] = max(peaks.get(one.name, peak), peak)
    if not peaks:
        return ""
    highest = sorted(peaks, key=lambda name: peaks[name], reverse=True)[:NAMED]
    text = "highest negatives: " + ", ".join(f"{n} ({peaks[n][0]:.4f} at {peaks[n][1]:.1f} s)" for n in highest)
    others = track.scores.copy()
    for one in scores.negatives:
        if one.name == highest[0]:
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
