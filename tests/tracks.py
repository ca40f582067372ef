"""Score tracks, streams in files, and plain counting, for tests."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from kws.data.audio import save_flac
from kws.data.streams import Span, Stream, spans
from kws.detector.streaming import ScoreTrack


def track(scores: Any, row_s: float = 0.01, duration_s: float | None = None) -> ScoreTrack:
    """Rows every `row_s`, as a causal detector gives them."""
    values = np.asarray(scores, dtype=np.float32)
    times = np.arange(1, len(values) + 1, dtype=np.float64) * row_s
    return ScoreTrack(times, values, float(times[-1:].sum()) if duration_s is None else duration_s)


def save_stream(stream: Stream, flac_path: Path, events_path: Path | None = None) -> None:
    """Write a stream as FLAC and, if `events_path` is given, the spans of its pieces as JSON."""
    save_flac(flac_path, stream.pcm, stream.sample_rate)
    if events_path is not None:
        events_path.write_text(json.dumps(spans(stream)))


@st.composite
def tracks(draw: st.DrawFn) -> ScoreTrack:
    """Rows at 10 ms or at 80 ms chunk ends, where times repeat; scores with many ties, 0 and 1 among them."""
    n_rows, seed = draw(st.integers(1, 600)), draw(st.integers(0, 2**32 - 1))
    steps, smooth = draw(st.sampled_from([2, 10, 2**24])), draw(st.sampled_from([1, 8]))
    rng = np.random.default_rng(seed)
    scores = np.convolve(np.round(rng.random(n_rows) ** 4 * steps) / steps, np.ones(smooth) / smooth, "same")
    times = np.arange(1, n_rows + 1, dtype=np.float64) * 0.01
    if draw(st.booleans()):
        times = np.ceil(np.arange(1, n_rows + 1) / 8) * 0.08
    return ScoreTrack(times, scores[:n_rows].astype(np.float32), float(times[-1]) + 0.003)


def fires_by_hand(times: np.ndarray, scores: np.ndarray, threshold: float, refractory_s: float = 1.0) -> list[float]:
    found: list[float] = []
    for t, s in zip(times, scores, strict=True):
        if float(s) >= threshold and (not found or t - found[-1] >= refractory_s):
            found.append(float(t))
    return found


def misses_by_hand(found: list[float], spans: list[Span]) -> int:
    return sum(not any(a <= t <= b for t in found) for a, b in spans)
