"""Scores of a net on the validation streams while it trains."""

from collections.abc import Callable, Mapping
from functools import cached_property

from torch import Tensor

from kws.detector.checkpoint import ModelSpec
from kws.detector.detector import Detector
from kws.detector.streaming import ScoreTrack
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.validation import ValidationCounts, ValidationScores, ValidationStreams


class Validator:
    """Scores of the averaged model on the validation streams, computed at most once per step.

    Args:
        spec: of the net.
        make_streams: composes the streams; called when they are first needed.
    """

    def __init__(self, spec: ModelSpec, make_streams: Callable[[], ValidationStreams]) -> None:
        self.spec, self.make_streams = spec, make_streams
        self._step = -1
        self._detector: Detector | None = None
        self._positives: dict[str, ScoreTrack] | None = None
        self._scores: ValidationScores | None = None

    @cached_property
    def streams(self) -> ValidationStreams:
        """The validation streams."""
        return self.make_streams()

    def counts(self, weights: Mapping[str, Tensor], step: int, at_score: float) -> ValidationCounts:
        """False alarms and misses at a score, over all keywords; `step` names the weights."""
        return self.streams.count(self._all(weights, step), at_score)

    def points(self, weights: Mapping[str, Tensor], step: int, fa_per_hour: float) -> dict[str, OperatingPoint]:
        """The operating point of each keyword at a rate of false alarms."""
        return self.streams.operating_points(self._all(weights, step), fa_per_hour)

    def median_peaks(self, weights: Mapping[str, Tensor], step: int) -> dict[str, float]:
        """Median score of the positives of each keyword."""
        return self.streams.median_peaks(self._of_positives(weights, step))

    def _detector_at(self, weights: Mapping[str, Tensor], step: int) -> Detector:
        """The detector of the weights of this step. Scores of another step are dropped."""
        if self._detector is None or self._step != step:
            self._step, self._positives, self._scores = step, None, None
            self._detector = self.spec.detector({k: v.cpu() for k, v in weights.items()})
        return self._detector

    def _of_positives(self, weights: Mapping[str, Tensor], step: int) -> dict[str, ScoreTrack]:
        detector = self._detector_at(weights, step)
        if self._positives is None:
            self._positives = self.streams.score_positives(detector)
        return self._positives

    def _all(self, weights: Mapping[str, Tensor], step: int) -> ValidationScores:
        positives = self._of_positives(weights, step)
        if self._scores is None:
            self._scores = self.streams.score(self._detector_at(weights, step), positives)
        return self._scores
