"""The sweep counts at every threshold as plain loops do."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kws.data.streams import Span
from kws.detector.streaming import ScoreTrack
from kws.evaluation import threshold_sweep
from kws.evaluation.events import misses, trigger_times
from kws.evaluation.operating_points import curve
from kws.evaluation.threshold_sweep import sweep
from tests.tracks import fires_by_hand, misses_by_hand, track, tracks

SPANS = st.lists(st.tuples(st.floats(0, 6), st.floats(0, 2)), max_size=6)


def between(t: ScoreTrack) -> list[float]:
    """A threshold at each score, just above each, and beyond both ends."""
    scores = np.unique(t.scores.astype(np.float64))
    return [0.0, *scores.tolist(), *np.nextafter(scores, 2).tolist(), 2.0]


@settings(deadline=None)
@given(tracks(), SPANS, st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_counts_at_every_threshold_equal_a_plain_loop(
    t: ScoreTrack, drawn: list[tuple[float, float]], refractory_s: float
) -> None:
    spans = [(a, a + length) for a, length in drawn]
    swept = sweep(t, refractory_s, spans)
    tried = between(t)
    for threshold in tried[:: max(1, len(tried) // 100)] + tried[-2:]:
        found = fires_by_hand(t.times, t.scores, threshold, refractory_s)
        assert swept.at(threshold) == (len(found), misses_by_hand(found, spans))


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 5, 40]), st.sampled_from([0.0, 0.5, 1.0]))
def test_counts_of_long_smooth_tracks_equal_a_plain_loop(seed: int, smooth: int, refractory_s: float) -> None:
    """Minutes of rows that rise and fall together, as a detector's do, at chunk ends that repeat."""
    rng = np.random.default_rng(seed)
    scores = np.convolve(rng.random(8000 + smooth - 1) ** 3, np.ones(smooth) / smooth, "valid").astype(np.float32)
    t = ScoreTrack(np.ceil(np.arange(1, 8001) / 4) * 0.08, scores, 160.0)
    spans: list[Span] = [(float(a), float(a) + 1.5) for a in rng.uniform(0, 160, 30)]
    swept = sweep(t, refractory_s, spans)
    for threshold in rng.choice(swept.scores, 60):
        found = trigger_times(t, threshold, refractory_s)
        assert swept.at(threshold) == (len(found), misses(found, spans))


def test_a_trigger_before_a_span_silences_the_trigger_in_it() -> None:
    """So misses may fall as the threshold rises: at 0.4 the row before the span triggers, at 0.5 the one within it."""
    t = track([0.0, 0.4, 0.0, 0.9, 0.0], row_s=0.3)
    swept = sweep(t, 1.0, [(1.0, 1.3)])
    assert [swept.at(x) for x in (0.4, 0.5, 0.95)] == [(1, 1), (1, 0), (0, 1)]


def test_thresholds_for_a_number_of_triggers_by_hand() -> None:
    swept = sweep(track([0.2, 0.0, 0.4, 0.0, 0.6], row_s=2.0))
    above = [float(np.nextafter(np.float64(np.float32(x)), 1)) for x in (0.0, 0.2, 0.4, 0.6)]
    assert [swept.threshold_for(n) for n in (3, 2.9, 1, 0.5)] == above
    assert sweep(track([0.3, 0.5])).threshold_for(1) == np.nextafter(0.0, 1), "one firing at any threshold above 0"


@settings(deadline=None)
@given(tracks(), tracks(), SPANS.filter(bool))
@example(track([0.0]), track([0.0]), [(0.0, 1.0)])
def test_the_curve_has_every_count(
    positive: ScoreTrack, negative: ScoreTrack, drawn: list[tuple[float, float]]
) -> None:
    spans = [(a, a + length) for a, length in drawn]
    swept = sweep(positive, 1.0, spans), sweep(negative)
    made = curve(*swept)
    drawn_counts = list(zip(made.false_alarms.tolist(), made.misses.tolist(), strict=True))
    assert all(a != b for a, b in pairwise(drawn_counts)), "each entry is a change"

    def counts(threshold: float) -> tuple[int, int]:
        return swept[1].at(threshold)[0], swept[0].at(threshold)[1]

    tried = [threshold for threshold in between(positive) + between(negative) if threshold > 0]
    assert set(drawn_counts) == set(map(counts, tried))
    assert [counts(threshold) for threshold in made.thresholds] == drawn_counts
    assert drawn_counts[-1] == (0, len(spans))


def test_hours_of_a_track_are_kept() -> None:
    assert sweep(track([0.1], duration_s=7200.0)).hours == pytest.approx(2.0)


def test_only_one_signature_is_compiled_and_cached() -> None:
    """Processes that compile two signatures at once may store them under one name in Numba's cache."""
    times, scores = np.arange(1.0, 9.0), np.linspace(0, 1, 8, dtype=np.float32)
    read_only = times.copy()
    read_only.flags.writeable = False
    results = [
        sweep(ScoreTrack(t, scores, 9.0), 1.0, [(2.0, 4.0)]) for t in (times, read_only, np.repeat(times, 2)[::2])
    ]
    assert all(np.array_equal(one.triggers, results[0].triggers) for one in results)
    assert len(threshold_sweep._remove_rows.signatures) == 1
    for helper in (threshold_sweep._next, threshold_sweep._touch, threshold_sweep._after_silence):
        assert not helper.stats.cache_path, "compiled inside the cached function"
