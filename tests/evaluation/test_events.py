"""Triggers, misses and joined streams, against brute force and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.detector.streaming import ScoreTrack
from kws.evaluation.events import hit_times, join_offsets, join_tracks, misses, trigger_times
from tests.tracks import fires_by_hand, misses_by_hand, track, tracks


@settings(deadline=None)
@given(tracks(), st.floats(0, 1.1), st.sampled_from([0.0, 0.3, 1.0, 5.0]))
def test_triggers_equal_a_plain_loop(t: ScoreTrack, threshold: float, refractory_s: float) -> None:
    found = trigger_times(t, threshold, refractory_s)
    assert found.tolist() == fires_by_hand(t.times, t.scores, threshold, refractory_s)


@settings(deadline=None)
@given(tracks(), st.data())
def test_triggers_never_rise_with_the_threshold(t: ScoreTrack, data: st.DataObject) -> None:
    low, high = sorted(data.draw(st.lists(st.floats(0, 1.1), min_size=2, max_size=2)))
    assert len(trigger_times(t, high)) <= len(trigger_times(t, low))


def test_refractory_time_to_the_row() -> None:
    t = track(np.ones(350))
    assert trigger_times(t, 0.5).tolist() == pytest.approx([0.01, 1.01, 2.01, 3.01])
    assert len(trigger_times(t, 0.5, refractory_s=0)) == 350


def test_misses_by_hand() -> None:
    found = np.array([1.0, 5.0])
    assert misses(found, [(0.5, 1.0), (1.0, 1.2), (1.01, 4.99), (4, 6), (5.1, 9)]) == 2  # both ends belong to a span
    assert misses(np.empty(0), [(0, 1), (2, 3)]) == 2
    assert misses(found, []) == 0


@settings(deadline=None)
@given(st.lists(st.floats(0, 20), max_size=8), st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=8))
def test_misses_equal_a_plain_loop(found: list[float], starts: list[tuple[float, float]]) -> None:
    spans = [(a, a + length) for a, length in starts]
    assert misses(np.sort(np.array(found)), spans) == misses_by_hand(found, spans)


@settings(deadline=None)
@given(st.lists(st.floats(0, 20), max_size=8), st.lists(st.tuples(st.floats(0, 20), st.floats(0, 5)), max_size=8))
def test_a_hit_is_the_first_trigger_within_a_span(found: list[float], starts: list[tuple[float, float]]) -> None:
    spans = [(a, a + length) for a, length in starts]
    hand = [min((t for t in found if a <= t <= b), default=np.nan) for a, b in spans]
    np.testing.assert_array_equal(hit_times(np.sort(np.array(found)), spans), hand)


def test_joined_streams_follow_one_another() -> None:
    a, b = track([0.1, 0.2], duration_s=3600.0), track([0.3], duration_s=1800.0)
    joined = join_tracks([a, b])
    assert joined.times.tolist() == pytest.approx([10.01, 10.02, 3610.01])
    assert joined.scores.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert joined.hours == pytest.approx(1.5)
    assert [offset.start_s for offset in join_offsets([a, b])] == [10.0, 3610.0]
    with pytest.raises(KwsError, match="no negative stream"):
        join_tracks([])


def test_joined_times_round_as_the_referees() -> None:
    """A gap of exactly 1 s is long enough for a second trigger, and one that rounding shortens is not."""
    first, second = track([0.5] * 11, duration_s=0.11), track([0.5] * 1000)
    joined = join_tracks([first, second]).times[11:]
    np.testing.assert_array_equal(joined, second.times + first.duration_s / 3600 * 3600 + 10)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_trigger_on_the_edge_of_a_span_is_a_hit_in_each_joined_stream(number: int) -> None:
    streams = [track(np.zeros(n)) for n in (700, 6000, 6000)]
    offset, rows = join_offsets(streams, gap_s=1.1)[number], streams[number].times.tolist()
    found = np.split(join_tracks(streams, gap_s=1.1).times, [700, 6700])[number]
    assert misses(found, [(offset.shift(t), offset.shift(t)) for t in rows]) == 0


@pytest.mark.parametrize(
    ("times", "scores", "duration_s", "message"),
    [
        ([0.1, 0.2], [0.5], 1.0, "must both be"),
        ([], [], 1.0, "no row"),
        ([0.1], [0.5], -1.0, "duration_s=-1.0: must be 0 or more"),
        ([0.1], [np.nan], 1.0, "not finite"),
        ([0.2, 0.1], [0.5, 0.5], 1.0, "must not decrease"),
    ],
)
def test_a_broken_track_is_refused(times: list[float], scores: list[float], duration_s: float, message: str) -> None:
    with pytest.raises(KwsError, match=message):
        ScoreTrack(np.array(times), np.array(scores, dtype=np.float32), duration_s)
