"""The validation streams, composed once, to be heard again and again while a model trains."""

from collections.abc import Mapping

import numpy as np

from kws import stream
from kws.compose import Stream, spans
from kws.detect import Track, event_peaks, fires, join, misses
from kws.evaluation import Levels, negative_stream, positive_stream
from kws.manifest import Part
from kws.operating import OperatingPoint, operating_points
from kws.replay.share import Observed
from kws.selection import Selection
from kws.store import Store
from kws.sweep import sweep

Tracks = Mapping[str, tuple[Track, Track]]  # of each keyword: its own stream, and the negatives


class HeldOut:
    """What a model does on the validation part: to show, to steer the share, to tell what is suspect; never to train.

    Args:
        store, chosen: the sound and the roles of the recordings.
        levels: of the streams.
        chunk_s, refractory_s: as for an evaluation.
    """

    def __init__(self, store: Store, chosen: Selection, levels: Levels, chunk_s: float, refractory_s: float) -> None:
        self.rate, self.chunk_s, self.refractory_s = store.sample_rate, chunk_s, refractory_s
        self.positive: dict[str, Stream] = {}
        for column, keyword in enumerate(chosen.keywords):
            made = positive_stream(store, chosen, Part.VALIDATION, column, levels)
            if made is not None:
                self.positive[keyword] = made
        self.negative = negative_stream(store, chosen, Part.VALIDATION, levels, 0)

    def _tracks(self, detector: stream.Listener, made: Stream) -> dict[str, Track]:
        return dict(stream.track(detector, made.pcm, self.rate, self.chunk_s))

    def hear(self, detector: stream.Listener) -> Tracks:
        """The scores of each keyword along its own stream and along the negatives."""
        negative = self._tracks(detector, self.negative)
        return {k: (self._tracks(detector, made)[k], negative[k]) for k, made in self.positive.items()}

    def observe(self, heard: Tracks, at_score: float) -> Observed:
        """Count false alarms and misses at a score, over all keywords."""

        def fired(track: Track) -> np.ndarray:
            return fires(track.times, track.scores, at_score, self.refractory_s)

        alarms = missed = events = 0
        for keyword, (positive, negative) in heard.items():
            marks = spans(self.positive[keyword])
            alarms += len(fired(negative))
            missed += misses(fired(positive), marks)
            events += len(marks)
        return Observed(alarms, len(self.negative.pcm) / self.rate / 3600, missed, events)

    def at_rate(self, heard: Tracks, fa_per_hour: float) -> dict[str, OperatingPoint]:
        """Count the same for each keyword at the threshold for a rate of false alarms, as an evaluation does."""
        points = {}
        for keyword, (positive, negative) in heard.items():
            marks = spans(self.positive[keyword])
            swept = sweep(positive, self.refractory_s, marks), sweep(join([negative]), self.refractory_s)
            (points[keyword],) = operating_points(*swept, [fa_per_hour])
        return points

    def typical(self, detector: stream.Listener) -> dict[str, float]:
        """The median over the held-out positives of what each scores at its highest, by keyword."""
        return {
            keyword: float(np.median(event_peaks(self._tracks(detector, made)[keyword], spans(made))))
            for keyword, made in self.positive.items()
        }
