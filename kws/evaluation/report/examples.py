"""Examples of misses and false alarms: audio, score tracks and spectrogram of each."""

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data.audio import to_float
from kws.data.features import LogMel
from kws.data.streams import Span
from kws.evaluation.breakdown import attribute, match_events
from kws.evaluation.events import event_peaks
from kws.evaluation.report.det import colour
from kws.evaluation.scoring import KeywordScores, Segment

LIMIT = 20  # examples of each kind, keyword and detector
BEFORE_S, AFTER_S = 2.0, 0.7  # around a false alarm
MARGIN_S = 0.5  # around an event
LONGEST_S = 8.0

Cut = Callable[[int, float, float], NDArray[np.int16]]  # samples of a stream (by number), between two seconds


@dataclass(frozen=True, eq=False)
class Example:
    """One miss or false alarm.

    Args:
        kind: "miss" or "false alarm".
        description: recording, time and other facts.
        score: the highest in the event, or of the false alarm.
        pcm: the audio around it.
        sample_rate: Hz.
        begin_s: start of the audio in the stream.
        tracks: score rows of each detector, by its name: times in seconds and scores.
        thresholds: of each detector.
        span: of the event.
        at_s: time of the false alarm.

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


@dataclass(frozen=True)
class ExampleSource:
    """One detector on the streams of one keyword, from which examples are taken."""

    name: str
    keyword: str
    scores: KeywordScores
    threshold: float
    cut: Cut
    sample_rate: int
    others: Sequence["ExampleSource"] = field(default_factory=list)  # other detectors, plotted on the same axes


def examples(one: ExampleSource, refractory_s: float, limit: int = LIMIT) -> tuple[Column, Column]:
    """Misses, the lowest score first, and false alarms, the highest score first; at most `limit` of each."""
    scores = one.scores
    hit_at, alarms = match_events(scores, one.threshold, refractory_s)
    peaks = event_peaks(scores.positive, scores.spans)
    missed = sorted(np.flatnonzero(np.isnan(hit_at)).tolist(), key=lambda i: (peaks[i], i))
    alarm_peaks = event_peaks(scores.negative, [(at, at + refractory_s) for at in alarms.tolist()])
    order = sorted(range(len(alarms)), key=lambda i: (-alarm_peaks[i], i))
    causes = attribute(scores.negatives, alarms)
    by = f" by {one.name}" if one.others else ""
    misses = [_miss(one, scores.events[i], float(peaks[i])) for i in missed[:limit]]
    false_alarms = [
        _false_alarm(one, float(alarms[i]), float(alarm_peaks[i]), scores.negatives[causes[i]])
        for i in order[:limit]
        if causes
    ]
    return Column(f"missed{by}", misses, len(missed)), Column(f"false alarms{by}", false_alarms, len(alarms))


def galleries(sources: Sequence[ExampleSource], refractory_s: float) -> list[Gallery]:
    """Misses and false alarms of each keyword, a column for each detector."""
    made = []
    for keyword in dict.fromkeys(one.keyword for one in sources):
        columns = [examples(one, refractory_s) for one in sources if one.keyword == keyword]
        misses, alarms = zip(*columns, strict=True)
        made += [Gallery(f"{keyword}: misses", misses), Gallery(f"{keyword}: false alarms", alarms)]
    return made


def _miss(one: ExampleSource, event: Segment, peak: float) -> Example:
    start, end = max(event.offset_s, event.start_s - MARGIN_S), event.end_s + MARGIN_S
    return _example(one, "miss", event, peak, (start, min(end, start + LONGEST_S)), "positive", span=event.span)


def _false_alarm(one: ExampleSource, at_s: float, score: float, segment: Segment) -> Example:
    window = max(segment.offset_s, at_s - BEFORE_S), at_s + AFTER_S
    return _example(one, "false alarm", segment, score, window, "negative", at_s=at_s)


def _example(
    one: ExampleSource,
    kind: str,
    segment: Segment,
    score: float,
    window: Span,
    side: str,
    span: Span | None = None,
    at_s: float | None = None,
) -> Example:
    offset = segment.offset_s
    tracks = {}
    for each in (one, *one.others):
        track = getattr(each.scores, side)
        a, b = np.searchsorted(track.times, window)
        tracks[each.name] = track.times[a:b] - offset, track.scores[a:b]
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
        one.cut(segment.stream, window[0] - offset, window[1] - offset),
        one.sample_rate,
        window[0] - offset,
        tracks,
        {each.name: each.threshold for each in (one, *one.others)},
        None if span is None else (span[0] - offset, span[1] - offset),
        None if at_s is None else at_s - offset,
    )


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

    figure = Figure(figsize=(4.6, 2.6), dpi=80, layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
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
    x = torch.from_numpy(to_float(example.pcm))
    if len(x) >= front_end.window_n:
        mels = front_end(x[None])[0].numpy()
        below.imshow(mels, origin="lower", aspect="auto", extent=(example.begin_s, end_s, 0, len(mels)), cmap="magma")
    below.set_xlim(example.begin_s, max(end_s, example.begin_s + 0.01))
    below.set_ylabel("mel band")
    below.set_xlabel("s")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
