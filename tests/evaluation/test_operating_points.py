"""Operating points, against brute force, known detectors and the referee itself."""

import contextlib
import io
import json
from collections.abc import Sequence
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data.streams import Span
from kws.detector.streaming import NO_STREAM, ScoreTrack
from kws.evaluation import operating_points
from kws.evaluation.events import join_tracks, trigger_times
from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.operating_points import (
    OperatingPoint,
    threshold_for,
    useless,
)
from kws.evaluation.threshold_sweep import sweep
from tests.tracks import fires_by_hand, track, tracks

RATES = (0.0, 0.1, 0.5, 1.0, 2.0)


def points(
    positive: ScoreTrack, spans: list[Span], negative: ScoreTrack, rates: Sequence[float] = RATES
) -> list[OperatingPoint]:
    return operating_points.operating_points(sweep(positive, spans=spans), sweep(negative), rates)


def at(positive: ScoreTrack, spans: list[Span], negative: ScoreTrack, threshold: float) -> OperatingPoint:
    return operating_points.at_threshold(sweep(positive, spans=spans), sweep(negative), threshold)


@settings(deadline=None)
@given(tracks(), st.sampled_from([0.0, 60.0, 600.0, 1800.0, 1e5]))
def test_threshold_for_is_the_smallest_of_all(negative: ScoreTrack, rate: float) -> None:
    candidates = np.nextafter(np.unique(np.append(negative.scores.astype(np.float64), 0.0)), 2)
    kept = [c for c in candidates if len(fires_by_hand(negative.times, negative.scores, c)) <= rate * negative.hours]
    assert threshold_for(sweep(negative), rate) == min(kept)


def test_a_threshold_just_above_a_score_does_not_trigger() -> None:
    """In float32 the threshold would round onto the score."""
    t = track([0.1, 0.7, 0.2])
    threshold = threshold_for(sweep(t), 0)
    assert threshold > float(t.scores[1])  # NumPy would compare with the float32 itself in float32
    assert len(trigger_times(t, threshold)) == 0
    assert len(trigger_times(t, float(t.scores[1]))) == 1


@pytest.mark.parametrize(
    ("misses", "events", "false_alarms", "hours", "why"),
    [
        (10, 10, 0, 1.0, "useless at its threshold: misses 10 of 10 keywords"),
        (4, 10, 0, 1.0, ""),
        (1, 2, 0, 1.0, ""),  # half of them, but perhaps 9 in 100
        (55, 100, 0, 1.0, "useless at its threshold: misses 55 of 100 keywords"),
        (0, 10, 4, 0.004, "useless at its threshold: triggers 1000 times an hour without the keyword"),
        (0, 10, 1, 0.008, ""),  # 125 an hour, but perhaps 3
        (0, 10, 99, 1.0, ""),
        (9, 10, 200, 1.0, "useless at its threshold: misses 9 of 10 keywords and triggers 200 times an hour without"),
    ],
)
def test_a_detector_that_nobody_can_use_is_useless(
    misses: int, events: int, false_alarms: int, hours: float, why: str
) -> None:
    rates = false_alarms / hours, *poisson(false_alarms, hours)
    share = misses / events, *wilson(misses, events)
    point = OperatingPoint(None, 0.5, false_alarms, hours, *rates, misses, events, *share)
    assert useless(point).startswith(why)
    assert bool(useless(point)) == bool(why)


SPANS: list[Span] = [(10.0 * i, 10.0 * i + 2.0) for i in range(1, 21)]


def positive_track(peak: float) -> ScoreTrack:
    scores = np.zeros(22_000)
    for a, _ in SPANS:
        scores[int(a * 100) + 100 : int(a * 100) + 130] = peak
    return track(scores)


def test_a_perfect_detector_misses_nothing() -> None:
    found = points(positive_track(0.9), SPANS, track(np.zeros(360_000)))
    assert [(p.wanted_fa_per_hour, p.misses, p.false_alarms) for p in found] == [(r, 0, 0) for r in RATES]
    assert found[0].hours == 1
    assert found[0].fa_high == pytest.approx(3.6889, abs=1e-4)
    assert (found[0].fa_low, found[0].miss_low) == (0, 0)


def test_a_blind_detector_misses_everything() -> None:
    """It scores keyword and noise alike, as loudness does on streams whose levels come from one rule."""
    negative = np.zeros(360_000)
    negative[::400] = 0.9  # a peak each 4 s
    for p in points(positive_track(0.9), SPANS, track(negative)):
        assert (p.misses, p.miss_rate, p.miss_high, p.false_alarms) == (20, 1, 1, 0)


def test_operating_points_by_hand() -> None:
    """Three false triggers of 0.2, 0.4 and 0.6 in 2 h; half of the keywords score 0.5, half 0.9."""
    negative = np.zeros(720_000)
    negative[[1000, 50_000, 90_000]] = 0.2, 0.4, 0.6
    positive = positive_track(0.9)
    early = positive.times < SPANS[10][0]
    positive = ScoreTrack(positive.times, np.where(early, positive.scores * (5 / 9), positive.scores), 220.0)
    found = points(positive, SPANS, track(negative), rates=(0, 0.4, 0.5, 1, 2))
    assert [(p.false_alarms, p.misses) for p in found] == [(0, 10), (0, 10), (1, 0), (2, 0), (3, 0)]
    assert [p.fa_per_hour for p in found] == [0, 0, 0.5, 1, 1.5]
    one = at(positive, SPANS, track(negative), 0.55)
    assert (one.wanted_fa_per_hour, one.false_alarms, one.misses, one.miss_rate) == (None, 1, 10, 0.5)


def test_one_side_alone_has_no_rate_of_the_other() -> None:
    t = track([0.5], duration_s=1.0)
    radio = at(NO_STREAM, [], t, 0.5)
    assert (radio.false_alarms, radio.events, radio.misses, radio.miss_low, radio.miss_high) == (1, 0, 0, 0, 1)
    assert np.isnan(radio.miss_rate)
    spoken = at(t, [(0.0, 2.0)], NO_STREAM, 0.6)
    assert (spoken.misses, spoken.events, spoken.hours, spoken.fa_high) == (1, 1, 0, np.inf)
    assert points(t, [(0.0, 2.0)], NO_STREAM) == []


def test_a_rate_below_zero_is_refused() -> None:
    t = track([0.5])
    for rate in (-1, float("nan")):
        with pytest.raises(KwsError, match="0 or more per hour"):
            threshold_for(sweep(t), rate)


def run_referee(
    module: ModuleType, positive: ScoreTrack, spans: list[Span], negatives: list[ScoreTrack], threshold: float
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
def test_operating_points_equal_the_referees(
    referee: ModuleType,
    positive: ScoreTrack,
    negatives: list[ScoreTrack],
    threshold: float,
    data: st.DataObject,
) -> None:
    starts = data.draw(st.lists(st.floats(0, 6), min_size=1, max_size=5))
    spans: list[Span] = [(a, a + 0.7) for a in sorted(starts)]
    referee_figures = run_referee(referee, positive, spans, negatives, threshold)
    negative = join_tracks(negatives)
    for p in [
        *points(positive, spans, negative, RATES),
        at(positive, spans, negative, threshold),
    ]:
        wanted = p.wanted_fa_per_hour
        expected = referee_figures["as_exported"] if wanted is None else referee_figures["at_fa_per_hour"][str(wanted)]
        assert {
            "threshold": round(p.threshold, 6),
            "false_alarms": p.false_alarms,
            "fa_per_hour": round(p.fa_per_hour, 3),
            "miss_rate": round(p.miss_rate, 4),
            "miss_95": [round(p.miss_low, 4), round(p.miss_high, 4)],
        } == {key: value for key, value in expected.items() if key != "fa_per_hour_upper95"}  # one-sided
    assert round(negative.hours, 3) == referee_figures["negative_hours"]


@pytest.mark.parametrize(("first_s", "rows", "false_alarms"), [(12.3, 16, 2), (0.323, 114, 1)])
def test_false_alarms_1_s_apart_count_as_the_referees(
    referee: ModuleType, first_s: float, rows: int, false_alarms: int
) -> None:
    """Rounding shortens a gap of exactly 1 s, or not."""
    second = np.zeros(rows + 200)
    second[[rows, rows + 100]] = 0.9
    negatives, positive = [track([0.0], duration_s=first_s), track(second)], positive_track(0.9)
    assert run_referee(referee, positive, SPANS, negatives, 0.5)["as_exported"]["false_alarms"] == false_alarms
    assert at(positive, SPANS, join_tracks(negatives), 0.5).false_alarms == false_alarms


def test_operating_points_equal_the_referees_over_hours(referee: ModuleType) -> None:
    """Long enough for rates to allow alarms: three negative streams of odd lengths, ties, 80 ms times."""
    rng = np.random.default_rng(3)

    def stream(seconds: float) -> ScoreTrack:
        rows = int(seconds * 100)
        scores = np.convolve(rng.random(rows) ** 12, np.ones(20) / 20, "same").astype(np.float32)
        times = np.minimum(np.ceil(np.arange(1, rows + 1) / 8) * 0.08, seconds)
        return ScoreTrack(times, np.round(scores, 3), seconds)

    negatives, positive = [stream(s) for s in (7000.04, 1234.56, 3600.0)], stream(300)
    referee_figures = run_referee(referee, positive, SPANS, negatives, 0.25)
    found = points(positive, SPANS, join_tracks(negatives), RATES)
    assert [p.false_alarms for p in found][-1] > 0
    for p in found:
        expected = referee_figures["at_fa_per_hour"][str(p.wanted_fa_per_hour)]
        assert (round(p.threshold, 6), p.false_alarms) == (expected["threshold"], expected["false_alarms"])
        assert round(p.miss_rate, 4) == expected["miss_rate"]
