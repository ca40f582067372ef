"""Counting against brute force, known detectors and the referee itself."""

import contextlib
import importlib.util
import io
import json
import os
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.detect import (
    Calibration,
    Span,
    Track,
    at_threshold,
    calibrate,
    fires,
    join,
    misses,
    operating_points,
    threshold_for,
)
from kws.errors import KwsError

RATES = (0.0, 0.1, 0.5, 1.0, 2.0)
REFEREE = Path(os.environ.get("KWS_DATA", "/nonexistent")).parent / "referee" / "referee.py"


@pytest.fixture(scope="module")
def referee() -> ModuleType:
    if not REFEREE.is_file():
        pytest.skip("no referee: KWS_DATA does not lie beside it")
    spec = importlib.util.spec_from_file_location("referee", REFEREE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def track(scores: Any, row_s: float = 0.01, duration_s: float | None = None) -> Track:
    """Rows every `row_s`, as a causal detector gives them."""
    values = np.asarray(scores, dtype=np.float32)
    times = np.arange(1, len(values) + 1, dtype=np.float64) * row_s
    return Track(times, values, float(times[-1:].sum()) if duration_s is None else duration_s)


@st.composite
def tracks(draw: st.DrawFn) -> Track:
    """Rows at 10 ms or at 80 ms chunk ends, where times repeat; scores with many ties, 0 and 1 among them."""
    n_rows, seed = draw(st.integers(1, 600)), draw(st.integers(0, 2**32 - 1))
    steps, smooth = draw(st.sampled_from([2, 10, 2**24])), draw(st.sampled_from([1, 8]))
    rng = np.random.default_rng(seed)
    scores = np.convolve(np.round(rng.random(n_rows) ** 4 * steps) / steps, np.ones(smooth) / smooth, "same")
    times = np.arange(1, n_rows + 1, dtype=np.float64) * 0.01
    if draw(st.booleans()):
        times = np.ceil(np.arange(1, n_rows + 1) / 8) * 0.08
    return Track(times, scores[:n_rows].astype(np.float32), float(times[-1]) + 0.003)


def fires_by_hand(times: np.ndarray, scores: np.ndarray, threshold: float, refractory_s: float = 1.0) -> list[float]:
    found: list[float] = []
    for t, s in zip(times, scores, strict=True):
        if float(s) >= threshold and (not found or t - found[-1] >= refractory_s):
            found.append(float(t))
    return found


@settings(deadline=None)
@given(tracks(), st.floats(0, 1.1), st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_fires_is_the_plain_loop(t: Track, threshold: float, refractory_s: float) -> None:
    found = fires(t.times, t.scores, threshold, refractory_s)
    assert found.tolist() == fires_by_hand(t.times, t.scores, threshold, refractory_s)


@settings(deadline=None)
@given(tracks(), st.data())
def test_alarms_never_rise_with_the_threshold(t: Track, data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.lists(st.floats(0, 1.1), min_size=2, max_size=2)))
    assert len(fires(t.times, t.scores, high)) <= len(fires(t.times, t.scores, low))


@settings(deadline=None)
@given(tracks(), st.sampled_from([0.0, 60.0, 600.0, 1800.0, 1e5]))
def test_threshold_for_is_the_smallest_of_all(negative: Track, rate: float) -> None:
    candidates = np.nextafter(np.unique(np.append(negative.scores.astype(np.float64), 0.0)), 2)
    kept = [c for c in candidates if len(fires_by_hand(negative.times, negative.scores, c)) <= rate * negative.hours]
    assert threshold_for(negative, rate) == min(kept)


def test_a_threshold_just_above_a_score_does_not_fire_at_it() -> None:
    """In float32 the threshold would round onto the score."""
    t = track([0.1, 0.7, 0.2])
    threshold = threshold_for(t, 0)
    assert threshold > float(t.scores[1])  # NumPy would compare with the float32 itself in float32
    assert len(fires(t.times, t.scores, threshold)) == 0
    assert len(fires(t.times, t.scores, float(t.scores[1]))) == 1


def test_refractory_time_to_the_row() -> None:
    t = track(np.ones(350))
    assert fires(t.times, t.scores, 0.5).tolist() == pytest.approx([0.01, 1.01, 2.01, 3.01])
    assert len(fires(t.times, t.scores, 0.5, refractory_s=0)) == 350


def test_misses_by_hand() -> None:
    found = np.array([1.0, 5.0])
    assert misses(found, [(0.5, 1.0), (1.0, 1.2), (1.01, 4.99), (4, 6), (5.1, 9)]) == 2  # both ends belong to a span
    assert misses(np.empty(0), [(0, 1), (2, 3)]) == 2
    assert misses(found, []) == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 20), max_size=8), st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=8))
def test_misses_is_the_plain_loop(found: list[float], starts: list[tuple[float, float]]) -> None:
    spans = [(a, a + length) for a, length in starts]
    hand = sum(not any(a <= t <= b for t in found) for a, b in spans)
    assert misses(np.sort(np.array(found)), spans) == hand


SPANS: list[Span] = [(10.0 * i, 10.0 * i + 2.0) for i in range(1, 21)]


def positive_track(peak: float) -> Track:
    scores = np.zeros(22_000)
    for a, _ in SPANS:
        scores[int(a * 100) + 100 : int(a * 100) + 130] = peak
    return track(scores)


def test_a_perfect_detector_misses_nothing() -> None:
    points = operating_points(positive_track(0.9), SPANS, track(np.zeros(360_000)))
    assert [(p.wanted_fa_per_hour, p.misses, p.false_alarms) for p in points] == [(r, 0, 0) for r in RATES]
    assert points[0].hours == 1
    assert points[0].fa_upper95 == pytest.approx(2.9957, abs=1e-4)
    assert (points[0].fa_low, points[0].miss_low) == (0, 0)


def test_a_blind_detector_misses_everything() -> None:
    """It scores keyword and noise alike, as loudness does on streams whose levels come from one rule."""
    negative = np.zeros(360_000)
    negative[::400] = 0.9  # a peak each 4 s
    for p in operating_points(positive_track(0.9), SPANS, track(negative)):
        assert (p.misses, p.miss_rate, p.miss_high, p.false_alarms) == (20, 1, 1, 0)


def test_operating_points_by_hand() -> None:
    """Three false triggers of 0.2, 0.4 and 0.6 in 2 h; half of the keywords score 0.5, half 0.9."""
    negative = np.zeros(720_000)
    negative[[1000, 50_000, 90_000]] = 0.2, 0.4, 0.6
    positive = positive_track(0.9)
    early = positive.times < SPANS[10][0]
    positive = Track(positive.times, np.where(early, positive.scores * (5 / 9), positive.scores), 220.0)
    points = operating_points(positive, SPANS, track(negative), rates=(0, 0.4, 0.5, 1, 2))
    assert [(p.false_alarms, p.misses) for p in points] == [(0, 10), (0, 10), (1, 0), (2, 0), (3, 0)]
    assert [p.fa_per_hour for p in points] == [0, 0, 0.5, 1, 1.5]
    one = at_threshold(positive, SPANS, track(negative), 0.55)
    assert (one.wanted_fa_per_hour, one.false_alarms, one.misses, one.miss_rate) == (None, 1, 10, 0.5)


def test_join_lays_streams_end_to_end() -> None:
    a, b = track([0.1, 0.2], duration_s=3600.0), track([0.3], duration_s=1800.0)
    joined = join([a, b])
    assert joined.times.tolist() == pytest.approx([10.01, 10.02, 3610.01])
    assert joined.scores.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert joined.hours == pytest.approx(1.5)
    with pytest.raises(KwsError, match="no negative stream"):
        join([])


def test_calibration_of_a_short_stream_says_what_it_cannot_know() -> None:
    negative = track(np.linspace(0, 0.8, 1000), duration_s=0.45 * 3600)
    c = calibrate(negative, positive_track(0.9), SPANS, 0.5)
    assert not c.supported
    assert c.note == (
        "0 alarms in 0.45 h shows only < 6.7/h; 6.0 h with no alarm are needed to show 0.5/h; 0 of 20 events missed"
    )
    assert 0.8 < c.threshold < 0.8 + 1e-6
    assert "no stream is long enough" in calibrate(negative, None, [], 0).note


def test_passes_over_the_same_recordings_are_no_new_hours() -> None:
    scores = np.zeros(360_000)
    scores[[1000, 90_000, 200_000]] = 0.2, 0.4, 0.6
    once, thrice = (calibrate(track(scores), None, [], 2.5, passes=n) for n in (1, 3))
    assert (thrice.threshold, thrice.false_alarms) == (once.threshold, 1)
    assert thrice.hours == pytest.approx(once.hours / 3)
    assert thrice.fa_upper95 > once.fa_upper95
    assert (once.supported, thrice.supported) == (True, False)
    assert "heard 3 times" in thrice.note


def test_calibration_of_a_long_stream() -> None:
    negative = np.zeros(720_000)
    negative[[1000, 50_000, 90_000]] = 0.2, 0.4, 0.6
    c = calibrate(track(negative), None, [], 0.5)
    above = float(np.nextafter(np.float32(0.4), np.float32(1)))
    assert c == Calibration(above, 0.5, 1, 2.0, c.fa_upper95, True, "1 alarm in 2.00 h shows only < 2.4/h")
    assert c.fa_upper95 == pytest.approx(4.7439 / 2, abs=1e-4)


@settings(deadline=None)
@given(tracks(), st.sampled_from([0.0, 600.0, 1800.0]))
def test_a_calibrated_threshold_counts_alike_in_both_precisions(negative: Track, rate: float) -> None:
    c = calibrate(negative, None, [], rate)
    assert float(np.float32(c.threshold)) == c.threshold
    exact = threshold_for(negative, rate)
    assert c.false_alarms == len(fires(negative.times, negative.scores, exact))
    assert ((negative.scores >= np.float32(c.threshold)) == (negative.scores >= np.float64(exact))).all()


@pytest.mark.parametrize(
    ("times", "scores", "duration_s", "message"),
    [
        ([0.1, 0.2], [0.5], 1.0, "must both be"),
        ([], [], 1.0, "no row"),
        ([0.1], [0.5], 0.0, "duration_s must be above 0"),
        ([0.1], [np.nan], 1.0, "non-finite"),
        ([0.2, 0.1], [0.5, 0.5], 1.0, "never fall"),
    ],
)
def test_a_broken_track_is_refused(times: list[float], scores: list[float], duration_s: float, message: str) -> None:
    with pytest.raises(KwsError, match=message):
        Track(np.array(times), np.array(scores, dtype=np.float32), duration_s)


def test_nothing_to_count_is_refused() -> None:
    t = track([0.5])
    with pytest.raises(KwsError, match="no keyword event"):
        at_threshold(t, [], t, 0.5)
    for rate in (-1, float("nan")):
        with pytest.raises(KwsError, match="0 or more per hour"):
            threshold_for(t, rate)


def test_a_million_rows_cost_no_time() -> None:
    """A loop over the crossings of every probe would take 10 s; the bound leaves room for a slow machine."""
    t = track(np.random.default_rng(1).random(1_000_000))
    start = time.process_time()
    threshold_for(t, 1.0)
    assert time.process_time() - start < 4


def referee_says(
    module: ModuleType, positive: Track, spans: list[Span], negatives: list[Track], threshold: float
) -> Any:
    """The figures that the referee prints when the detector's scores are these tracks."""
    streams = {f"{i}": t for i, t in enumerate([positive, *negatives])}
    model = SimpleNamespace(labels=["word"], thresholds=[threshold])
    model.eval = lambda: model

    def trace(_model: object, path: str, _column: int) -> tuple[Any, Any, float, float]:
        return streams[path].times, streams[path].scores, streams[path].duration_s, 1.0

    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr("sys.argv", ["referee", "model", "word", "0", "spans", *list(streams)[1:]])
        patch.setattr(module, "open", lambda _: io.StringIO(json.dumps(spans)), raising=False)
        patch.setattr(module.torch.jit, "load", lambda *_, **__: model)
        patch.setattr(module.torch, "set_num_threads", lambda _: None)
        patch.setattr(module, "trace", trace)
        module.main()
    return json.loads(out.getvalue())


@settings(deadline=None, max_examples=60)
@given(tracks(), st.lists(tracks(), min_size=1, max_size=3), st.floats(0, 1, width=32), st.data())
def test_our_figures_are_the_referees(
    referee: ModuleType,
    positive: Track,
    negatives: list[Track],
    threshold: float,
    data: st.DataObject,
) -> None:
    starts = data.draw(st.lists(st.floats(0, 6), min_size=1, max_size=5))
    spans: list[Span] = [(a, a + 0.7) for a in sorted(starts)]
    said = referee_says(referee, positive, spans, negatives, threshold)
    negative = join(negatives)
    for p in [
        *operating_points(positive, spans, negative, RATES),
        at_threshold(positive, spans, negative, threshold),
    ]:
        wanted = p.wanted_fa_per_hour
        expected = said["as_exported"] if wanted is None else said["at_fa_per_hour"][str(wanted)]
        assert {
            "threshold": round(p.threshold, 6),
            "false_alarms": p.false_alarms,
            "fa_per_hour": round(p.fa_per_hour, 3),
            "fa_per_hour_upper95": round(p.fa_upper95, 3),
            "miss_rate": round(p.miss_rate, 4),
            "miss_95": [round(p.miss_low, 4), round(p.miss_high, 4)],
        } == expected
    assert round(negative.hours, 3) == said["negative_hours"]


def test_our_figures_are_the_referees_over_hours(referee: ModuleType) -> None:
    """Long enough for rates to allow alarms: three negative streams of odd lengths, ties, 80 ms times."""
    rng = np.random.default_rng(3)

    def stream(seconds: float) -> Track:
        rows = int(seconds * 100)
        scores = np.convolve(rng.random(rows) ** 12, np.ones(20) / 20, "same").astype(np.float32)
        times = np.minimum(np.ceil(np.arange(1, rows + 1) / 8) * 0.08, seconds)
        return Track(times, np.round(scores, 3), seconds)

    negatives, positive = [stream(s) for s in (7000.04, 1234.56, 3600.0)], stream(300)
    said = referee_says(referee, positive, SPANS, negatives, 0.25)
    points = operating_points(positive, SPANS, join(negatives), RATES)
    assert [p.false_alarms for p in points][-1] > 0
    for p in points:
        expected = said["at_fa_per_hour"][str(p.wanted_fa_per_hour)]
        assert (round(p.threshold, 6), p.false_alarms) == (expected["threshold"], expected["false_alarms"])
        assert round(p.miss_rate, 4) == expected["miss_rate"]
