"""Examples of misses, false alarms and negatives with high scores: audio, score tracks and spectrogram of each."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data import audio
from kws.data.features import LogMel
from kws.data.streams import Span, Stream
from kws.evaluation.breakdown import attribute, match_events
from kws.evaluation.events import event_peaks
from kws.evaluation.report.det import colour
from kws.evaluation.scoring import DetectorScores, Segment, StreamSource
from kws.evaluation.suspects import highest_negatives

LIMIT, FEWEST = 20, 3  # examples of each kind and detector, and of a keyword of many
BEFORE_S, AFTER_S = 2.0, 0.7  # around a false alarm
MARGIN_S = 0.5  # around an event
LONGEST_S = 8.0

Cut = Callable[[int, float, float], NDArray[np.int16]]  # samples of a stream (by number), between two seconds


@dataclass(frozen=True, eq=False)
class Example:
    """One miss or false alarm, or a negative with a high score.

    Args:
        kind: "miss", "false alarm" or "negative".
        description: recording, time and other facts.
        score: the highest in the event, or of the negative.
        pcm: the audio around it.
        sample_rate: Hz.
        begin_s: start of the audio in the stream.
        tracks: score rows of each detector, by its name: times in seconds and scores.
        thresholds: of each detector.
        span: of the event.
        at_s: time of the score of a negative.

    Shape: pcm int16 [T].
    """

    kind: str
    description: str
    score: float
    pcm: NDArray[np.int16]
    sample_rate: int
    begin_s: float
    tracks: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float32]]]
    thresholds: Mapping[str, float]
    span: Span | None = None
    at_s: float | None = None


@dataclass(frozen=True)
class Column:
    """Examples of one detector, and the total number of such misses or false alarms."""

    title: str
    examples: Sequence[Example]
    total: int


@dataclass(frozen=True)
class Gallery:
    """Examples of one kind, a column for each detector."""

    title: str
    columns: Sequence[Column]

    @property
    def colours(self) -> dict[str, int]:
        """Colour number of each detector."""
        names = {name for column in self.columns for example in column.examples for name in example.tracks}
        return {name: i for i, name in enumerate(sorted(names))}


def galleries(
    detectors: Sequence[DetectorScores], cut: Cut, sample_rate: int, refractory_s: float, limit: int = LIMIT
) -> list[Gallery]:
    """Misses, the lowest score first, and false alarms, the highest score first, of each keyword and detector.

    Args:
        detectors: scores of the same streams.
        cut: audio of the streams.
        sample_rate: of that audio, in Hz.
        refractory_s: seconds of silence after each trigger.
        limit: most examples of each kind and detector, over all keywords; a keyword has at least three.
    """
    made = []
    keywords = list(dict.fromkeys(keyword for one in detectors for keyword in one.scores))
    limit = min(limit, max(FEWEST, limit // max(1, len(keywords))))
    for keyword in keywords:
        which = [one for one in detectors if keyword in one.scores]
        each = [[one, *(other for other in which if other is not one)] for one in which]
        columns = [_columns(shown, keyword, cut, sample_rate, refractory_s, limit) for shown in each]
        misses, alarms = zip(*columns, strict=True)
        if any(one.scores[keyword].events for one in which):
            made.append(Gallery(f"{keyword}: misses", misses))
        if any(one.scores[keyword].negative.duration_s for one in which):
            made.append(Gallery(f"{keyword}: false alarms", alarms))
    return made


def placing_negatives(detector: DetectorScores, cut: Cut, sample_rate: int) -> list[Gallery]:
    """The negatives with the highest scores: a gallery for each keyword that has some.

    Args:
        detector: scores of the streams that placed its thresholds.
        cut, sample_rate: as for `galleries`.
    """
    made = []
    for keyword, scores in detector.scores.items():
        found = [
            _example("negative", [detector], keyword, cut, sample_rate, one.recording, one.score, one.at_s)
            for one in highest_negatives(scores)
        ]
        if found:
            column = Column(f"highest scores{_by(detector)}", found, len(found))
            made.append(Gallery(f"{keyword}: validation negatives with the highest scores", [column]))
    return made


def _by(detector: DetectorScores) -> str:
    return f" by {detector.name}" if detector.name else ""


def _example(
    kind: str,
    shown: Sequence[DetectorScores],
    keyword: str,
    cut: Cut,
    sample_rate: int,
    segment: Segment,
    score: float,
    at_s: float | None = None,
) -> Example:
    """An event, or a negative whose score at `at_s` matters."""
    offset = segment.offset_s
    if at_s is None:
        start = max(offset, segment.start_s - MARGIN_S)
        end = min(segment.end_s + MARGIN_S, start + LONGEST_S)
    else:
        start, end = max(offset, at_s - BEFORE_S), at_s + AFTER_S
    tracks, thresholds = {}, {}
    for one in shown:
        track = one.scores[keyword].positive if at_s is None else one.scores[keyword].negative
        a, b = np.searchsorted(track.times, (start, end))
        tracks[one.name or "detector"] = track.times[a:b] - offset, track.scores[a:b]
        thresholds[one.name or "detector"] = one.thresholds[keyword]
    facts = [segment.name, segment.speaker and f"speaker {segment.speaker}", segment.source]
    if segment.snr_db is not None:
        facts.append(f"{segment.snr_db:.1f} dB")
    # The time within the recording. A keyword in a composed stream is the whole recording and needs none.
    if at_s is not None:
        facts.insert(0, clock(max(0.0, at_s - segment.start_s)))
    elif segment.snr_db is None:
        facts.insert(0, clock(max(0.0, segment.start_s - offset)))
    return Example(
        kind,
        ", ".join(dict.fromkeys(filter(None, facts))),
        score,
        cut(segment.stream, start - offset, end - offset),
        sample_rate,
        start - offset,
        tracks,
        thresholds,
        (segment.start_s - offset, segment.end_s - offset) if at_s is None else None,
        None if at_s is None else at_s - offset,
    )


def _columns(
    shown: Sequence[DetectorScores], keyword: str, cut: Cut, sample_rate: int, refractory_s: float, limit: int
) -> tuple[Column, Column]:
    """Misses and false alarms of the first detector, with the scores of all of them."""
    example = partial(_example, shown=shown, keyword=keyword, cut=cut, sample_rate=sample_rate)
    scores, by = shown[0].scores[keyword], _by(shown[0]) if len(shown) > 1 else ""
    hit_at, alarm_times = match_events(scores, shown[0].thresholds[keyword], refractory_s)
    peaks = event_peaks(scores.positive, scores.spans)
    missed = sorted(np.flatnonzero(np.isnan(hit_at)).tolist(), key=lambda i: (peaks[i], i))
    misses = [example("miss", segment=scores.events[i], score=float(peaks[i])) for i in missed[:limit]]
    times = alarm_times.tolist()
    alarm_peaks = event_peaks(scores.negative, [(at, at + refractory_s) for at in times])
    causes = [scores.negatives[i] for i in attribute(scores.negatives, alarm_times)]
    order = sorted(range(len(causes)), key=lambda i: (-alarm_peaks[i], i))
    alarms = [
        example("false alarm", segment=causes[i], score=float(alarm_peaks[i]), at_s=times[i]) for i in order[:limit]
    ]
    return Column(f"missed{by}", misses, len(missed)), Column(f"false alarms{by}", alarms, len(times))


def cutter(sources: Sequence[StreamSource], sample_rate: int) -> Cut:
    """A function that returns the audio of a source between two seconds. A stream is composed again for it."""

    @lru_cache(maxsize=2)
    def stream(number: int) -> Stream:
        source = sources[number].audio
        assert not isinstance(source, Path)
        return source if isinstance(source, Stream) else source()

    def cut(number: int, start_s: float, end_s: float) -> NDArray[np.int16]:
        source = sources[number].audio
        if isinstance(source, Path):
            return audio.cut(source, sample_rate, start_s, end_s)
        return stream(number).pcm[max(0, round(start_s * sample_rate)) : round(end_s * sample_rate)]

    return cut


def clock(seconds: float) -> str:
    """A time as text: 1:02:03.4."""
    tenths = math.floor(seconds * 10 + 0.5)
    minutes, tenths = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02d}:{tenths / 10:04.1f}"


def plot_example(example: Example, colours: Mapping[str, int]) -> bytes:
    """PNG of the scores above the spectrogram, on one time axis.

    Args:
        example: to plot.
        colours: colour number of each detector.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.6), dpi=110)
    # Places for labels of known size: a layout by matplotlib draws each figure twice more, and a report has hundreds.
    figure.subplots_adjust(left=0.125, right=0.945, bottom=0.2, top=0.97, hspace=0.2)
    top, below = figure.subplots(2, 1, sharex=True)
    end_s = example.begin_s + len(example.pcm) / example.sample_rate
    for name, (times, scores) in example.tracks.items():
        top.plot(times, scores, color=colour(colours[name]), linewidth=1.2)
        top.axhline(min(1.0, example.thresholds[name]), color=colour(colours[name]), linestyle=":", linewidth=1)
    if example.span is not None:
        top.axvspan(*example.span, color="#009e73", alpha=0.15)
    if example.at_s is not None:
        top.axvline(example.at_s, color="#222", linewidth=0.8)
    top.set_ylim(-0.02, 1.02)
    top.set_ylabel("score")
    front_end = LogMel(example.sample_rate)
    x = torch.from_numpy(audio.to_float(example.pcm))
    if len(x) >= front_end.window_n:
        mels = front_end(x[None])[0].numpy()
        below.imshow(mels, origin="lower", aspect="auto", extent=(example.begin_s, end_s, 0, len(mels)), cmap="magma")
    below.set_xlim(example.begin_s, max(end_s, example.begin_s + 0.01))
    below.set_ylabel("mel band")
    below.set_xlabel("s")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
