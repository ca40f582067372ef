"""Validation streams, composed once and scored again and again while a model trains."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.manifest import Split
from kws.data.streams import Stream, StreamConfig, spans
from kws.detector import streaming
from kws.detector.streaming import ScoreTrack, StreamScorer
from kws.evaluation.events import event_peaks, join_tracks, misses, trigger_times
from kws.evaluation.operating_points import OperatingPoint, operating_points
from kws.evaluation.splits import negative_stream, positive_stream
from kws.evaluation.threshold_sweep import sweep

ValidationScores = Mapping[str, tuple[ScoreTrack, ScoreTrack]]  # of each keyword: positive and negative track


@dataclass(frozen=True)
class ValidationCounts:
    """Misses and false alarms on the validation streams, over all keywords."""

    false_alarms: int
    hours: float
    misses: int
    events: int


class ValidationStreams:
    """Streams of the validation split: to report, to steer the replay share, to set the quarantine; never to train on.

    Args:
        store, chosen: audio and roles of the recordings.
        levels: of the streams.
        chunk_s, refractory_s: as for an evaluation.
    """

    def __init__(
        self, store: AudioCache, chosen: Selection, levels: StreamConfig, chunk_s: float, refractory_s: float
    ) -> None:
        self.rate, self.chunk_s, self.refractory_s = store.sample_rate, chunk_s, refractory_s
        self.positive: dict[str, Stream] = {
            keyword: positive_stream(store, chosen, Split.VALIDATION, column, levels)
            for column, keyword in enumerate(chosen.keywords)
            if chosen.positives[Split.VALIDATION][column]
        }
        self.negative = negative_stream(store, chosen, Split.VALIDATION, levels)

    def score_positives(self, detector: StreamScorer) -> dict[str, ScoreTrack]:
        """Score each keyword's positive stream."""
        return {k: self._tracks(detector, stream)[k] for k, stream in self.positive.items()}

    def score(self, detector: StreamScorer, positives: Mapping[str, ScoreTrack] | None = None) -> ValidationScores:
        """Score each keyword's positive stream and the negative stream; `positives` are scored already."""
        negative = self._tracks(detector, self.negative)
        tracks = self.score_positives(detector) if positives is None else positives
        return {k: (track, negative[k]) for k, track in tracks.items()}

    def count(self, scores: ValidationScores, threshold: float) -> ValidationCounts:
        """Count misses and false alarms at a threshold, over all keywords."""
        alarms = missed = events = 0
        for keyword, (positive, negative) in scores.items():
            marks = spans(self.positive[keyword])
            alarms += len(trigger_times(negative, threshold, self.refractory_s))
            missed += misses(trigger_times(positive, threshold, self.refractory_s), marks)
            events += len(marks)
        return ValidationCounts(alarms, len(self.negative.pcm) / self.rate / 3600, missed, events)

    def operating_points(self, scores: ValidationScores, fa_per_hour: float) -> dict[str, OperatingPoint]:
        """The operating point of each keyword for a false-alarm rate, as in an evaluation."""
        points = {}
        for keyword, (positive, negative) in scores.items():
            marks = spans(self.positive[keyword])
            swept = sweep(positive, self.refractory_s, marks), sweep(join_tracks([negative]), self.refractory_s)
            (points[keyword],) = operating_points(*swept, [fa_per_hour])
        return points

    def median_peaks(self, positives: Mapping[str, ScoreTrack]) -> dict[str, float]:
        """Median over the positives of the highest score of each, by keyword; tracks are those of `score_positives`."""
        return {k: float(np.median(event_peaks(track, spans(self.positive[k])))) for k, track in positives.items()}

    def _tracks(self, detector: StreamScorer, stream: Stream) -> Mapping[str, ScoreTrack]:
        return streaming.score_tracks(detector, stream.pcm, self.rate, self.chunk_s)
