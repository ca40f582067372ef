"""What a detector got wrong, to look at and to hear: score tracks and spectrograms around misses and false alarms."""

import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data.audio import to_float
from kws.data.features import LogMel
from kws.data.streams import Span
from kws.evaluation.breakdown import cause, found_at
from kws.evaluation.events import event_peaks
from kws.evaluation.report.det import colour
from kws.evaluation.scoring import KeywordScores, Passage

MOST = 20  # of each kind and keyword
BEFORE_S, AFTER_S = 2.0, 0.7  # around a false alarm
AROUND_S = 0.5  # around an event
LONGEST_S = 8.0

Cut = Callable[[int, float, float], NDArray[np.int16]]  # of a take, from and to a second


@dataclass(frozen=True, eq=False)
class Example:
    """One miss or false alarm.

    Args:
        kind: "miss" or "false alarm".
        what: where it happened and what is known of it, for people.
        score: the highest in the event, or of the alarm.
        pcm: the sound around it.
        sample_rate: Hz.
        begin_s: when that begins in the stream.
        lines: rows of each detector's track there, by name: times in seconds and scores.
        thresholds: of each detector.
        span: within which an event may be answered.
        at_s: when the alarm was.

    Shape: pcm int16 [T].
    """

    kind: str
    what: str
    score: float
    pcm: NDArray[np.int16]
    sample_rate: int
    begin_s: float
    lines: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float32]]]
    thresholds: Mapping[str, float]
    span: Span | None = None
    at_s: float | None = None


@dataclass(frozen=True)
class Examples:
    """The examples of one detector and keyword, and how many there are in all."""

    misses: list[Example]
    misses_n: int
    alarms: list[Example]
    alarms_n: int


@dataclass(frozen=True)
class Judged:
    """A detector on one keyword's streams, as examples are drawn of it."""

    name: str
    keyword: str
    heard: KeywordScores
    threshold: float
    cut: Cut
    sample_rate: int
    others: list["Judged"] = field(default_factory=list)  # detectors on the same streams, to be drawn beside it


def examples(one: Judged, refractory_s: float, most: int = MOST) -> Examples:
    """The events it missed, the lowest first, and its false alarms, the highest first; at most `most` of each."""
    heard = one.heard
    answered, alarms = found_at(heard, one.threshold, refractory_s)
    peaks = event_peaks(heard.positive, heard.spans)
    missed = sorted(np.flatnonzero(np.isnan(answered)).tolist(), key=lambda i: (peaks[i], i))
    scored = event_peaks(heard.negative, [(at, at + refractory_s) for at in alarms.tolist()])
    order = sorted(range(len(alarms)), key=lambda i: (-scored[i], i))
    causes = cause(heard.negatives, alarms)
    return Examples(
        [_miss(one, heard.events[i], float(peaks[i])) for i in missed[:most]],
        len(missed),
        [_alarm(one, float(alarms[i]), float(scored[i]), heard.negatives[causes[i]]) for i in order[:most] if causes],
        len(alarms),
    )


def _miss(one: Judged, event: Passage, peak: float) -> Example:
    start, end = max(event.offset_s, event.start_s - AROUND_S), event.end_s + AROUND_S
    end = min(end, start + LONGEST_S)
    return _example(one, "miss", event, peak, (start, end), "positive", span=event.span)


def _alarm(one: Judged, at_s: float, score: float, passage: Passage) -> Example:
    window = max(passage.offset_s, at_s - BEFORE_S), at_s + AFTER_S
    return _example(one, "false alarm", passage, score, window, "negative", at_s=at_s)


def _example(
    one: Judged,
    kind: str,
    passage: Passage,
    score: float,
    window: Span,
    side: str,
    span: Span | None = None,
    at_s: float | None = None,
) -> Example:
    offset = passage.offset_s
    lines = {}
    for each in (one, *one.others):
        track = getattr(each.heard, side)
        a, b = np.searchsorted(track.times, window)
        lines[each.name] = track.times[a:b] - offset, track.scores[a:b]
    # Where in the recording: of one that lies in a stream, a keyword is all of it.
    when = at_s - passage.start_s if at_s is not None else passage.start_s - offset if passage.snr_db is None else None
    known = [] if when is None else [clock(max(0.0, when))]
    known += [passage.name, passage.speaker and f"speaker {passage.speaker}", passage.source]
    if passage.snr_db is not None:
        known.append(f"{passage.snr_db:.1f} dB")
    return Example(
        kind,
        ", ".join(dict.fromkeys(filter(None, known))),
        score,
        one.cut(passage.take, window[0] - offset, window[1] - offset),
        one.sample_rate,
        window[0] - offset,
        lines,
        {each.name: each.threshold for each in (one, *one.others)},
        None if span is None else (span[0] - offset, span[1] - offset),
        None if at_s is None else at_s - offset,
    )


def clock(seconds: float) -> str:
    """A time in a stream for people: 1:02:03.4."""
    tenths = math.floor(seconds * 10 + 0.5)
    minutes, tenths = divmod(tenths, 600)
    return f"{minutes // 60}:{minutes % 60:02d}:{tenths / 10:04.1f}"


def draw(example: Example, colours: Mapping[str, int]) -> bytes:
    """PNG of the scores over the spectrogram of the sound, on one axis of time.

    Args:
        example: what to draw.
        colours: number of each detector's colour.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6, 2.6), dpi=80, layout="constrained")
    top, below = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1))
    end_s = example.begin_s + len(example.pcm) / example.sample_rate
    for name, (times, scores) in example.lines.items():
        top.plot(times, scores, color=colour(colours[name]), linewidth=1.2)
        top.axhline(min(1.0, example.thresholds[name]), color=colour(colours[name]), linestyle=":", linewidth=1)
    if example.span is not None:
        top.axvspan(*example.span, color="#009e73", alpha=0.15)
    if example.at_s is not None:
        top.axvline(example.at_s, color="#222", linewidth=0.8)
    top.set_ylim(-0.02, 1.02)
    top.set_ylabel("score")
    front = LogMel(example.sample_rate)
    x = torch.from_numpy(to_float(example.pcm))
    if len(x) >= front.window_n:
        mels = front(x[None])[0].numpy()
        below.imshow(mels, origin="lower", aspect="auto", extent=(example.begin_s, end_s, 0, len(mels)), cmap="magma")
    below.set_xlim(example.begin_s, max(end_s, example.begin_s + 0.01))
    below.set_ylabel("mel band")
    below.set_xlabel("s")
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
