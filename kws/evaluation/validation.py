"""The validation streams, composed once, to be heard again and again while a model trains."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.manifest import Split
from kws.data.streams import Stream, spans
from kws.detector import streaming
from kws.detector.streaming import ScoreTrack
from kws.evaluation.events import event_peaks, fires, join, misses
from kws.evaluation.operating_points import OperatingPoint, operating_points
from kws.evaluation.splits import Levels, negative_stream, positive_stream
from kws.evaluation.threshold_sweep import sweep


@dataclass(frozen=True)
class ValidationCounts:
    """What the model did on validation streams at the guard's score: counts, and of how much."""

    false_alarms: int
    hours: float
    misses: int
    events: int


Tracks = Mapping[str, tuple[ScoreTrack, ScoreTrack]]  # of each keyword: its own stream, and the negatives


class ValidationStreams:
    """What a model does on the validation part: to show, to steer the share, to tell what is suspect; never to train.

    Args:
        store, chosen: the sound and the roles of the recordings.
        levels: of the streams.
        chunk_s, refractory_s: as for an evaluation.
    """

    def __init__(
        self, store: AudioCache, chosen: Selection, levels: Levels, chunk_s: float, refractory_s: float
    ) -> None:
        self.rate, self.chunk_s, self.refractory_s = store.sample_rate, chunk_s, refractory_s
        self.positive: dict[str, Stream] = {}
        for column, keyword in enumerate(chosen.keywords):
            made = positive_stream(store, chosen, Split.VALIDATION, column, levels)
            if made is not None:
                self.positive[keyword] = made
        self.negative = negative_stream(store, chosen, Split.VALIDATION, levels, 0)

    def _tracks(self, detector: streaming.StreamScorer, made: Stream) -> dict[str, ScoreTrack]:
        return dict(streaming.track(detector, made.pcm, self.rate, self.chunk_s))

    def hear(self, detector: streaming.StreamScorer) -> Tracks:
        """The scores of each keyword along its own stream and along the negatives."""
        negative = self._tracks(detector, self.negative)
        return {k: (self._tracks(detector, made)[k], negative[k]) for k, made in self.positive.items()}

    def observe(self, heard: Tracks, at_score: float) -> ValidationCounts:
        """Count false alarms and misses at a score, over all keywords."""

        def fired(track: ScoreTrack) -> np.ndarray:
            return fires(track.times, track.scores, at_score, self.refractory_s)

        alarms = missed = events = 0
        for keyword, (positive, negative) in heard.items():
            marks = spans(self.positive[keyword])
            alarms += len(fired(negative))
            missed += misses(fired(positive), marks)
            events += len(marks)
        return ValidationCounts(alarms, len(self.negative.pcm) / self.rate / 3600, missed, events)

    def at_rate(self, heard: Tracks, fa_per_hour: float) -> dict[str, OperatingPoint]:
        """Count the same for each keyword at the threshold for a rate of false alarms, as an evaluation does."""
        points = {}
        for keyword, (positive, negative) in heard.items():
            marks = spans(self.positive[keyword])
            swept = sweep(positive, self.refractory_s, marks), sweep(join([negative]), self.refractory_s)
            (points[keyword],) = operating_points(*swept, [fa_per_hour])
        return points

    def typical(self, detector: streaming.StreamScorer) -> dict[str, float]:
        """The median over the held-out positives of what each scores at its highest, by keyword."""
        return {
            keyword: float(np.median(event_peaks(self._tracks(detector, made)[keyword], spans(made))))
            for keyword, made in self.positive.items()
        }
