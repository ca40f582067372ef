"""False triggers: which rows they are, and that each clip is all it takes to hear its score again."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.data.audio import content_hash, to_float, to_int16
from kws.data.audio_cache import AudioCache, Entry
from kws.data.manifest import Recording, Split
from kws.detector import streaming
from kws.detector.clip_scores import hear_clips
from kws.replay.buffer import Buffer, Kind, NewClip
from kws.replay.mining import Caps, by_lot, choose, nearness, peaks, triggers
from kws.replay.mining_rounds import Search, mine_pool
from tests.nets import random_detector, sound

RATE, ROW_N, CLIP_N, POST_N = 16000, 320, 9600, 3200
SEARCH = Search(0, 2, (0.0, 20.0), (-45.0, -20.0), 0.1, 20000.0, 0.05, 1, 0.0, 0.0, 3, CLIP_N, POST_N)
ROW = (CLIP_N - POST_N) // ROW_N - 1  # of a clip, where its trigger is


def test_peaks_by_hand() -> None:
    scores = np.array([0.1, 0.9, 0.8, 0.7, 0.95, 0.2, 0.2, 0.6, 0.6, 0.3], np.float32)
    assert peaks(scores, 0.5, 2).tolist() == [4, 1, 7]
    assert peaks(scores, 0.5, 3).tolist() == [4, 8]
    assert peaks(scores, 0.95, 0).tolist() == [4]
    assert peaks(scores, 0.65, 0).tolist() == [4, 1, 2, 3]
    assert peaks(scores, 0.96, 2).tolist() == []
    assert peaks(np.zeros(0, np.float32), 0.1, 2).tolist() == []


@given(scores=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), max_size=60), apart_n=st.integers(0, 10))
@settings(deadline=None)
def test_each_high_row_is_a_peak_or_beside_a_higher_one(scores: list[float], apart_n: int) -> None:
    kept = peaks(np.array(scores, np.float32), 0.5, apart_n).tolist()
    assert all(abs(a - b) > apart_n for a in kept for b in kept if a != b)
    assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)
    for i, score in enumerate(scores):
        assert score < 0.5 or any(abs(i - k) <= apart_n and scores[k] >= score for k in kept)


def pick(scores: np.ndarray, n: int, bands: int, rng: np.random.Generator) -> np.ndarray:
    """`choose` where every peak lies in a recording of its own."""
    return choose(scores, np.arange(len(scores)), n, 0.0, bands, Caps(1), rng)


def test_every_band_gives_as_much_until_it_is_empty() -> None:
    scores = np.array([0.99, 0.98, 0.97, 0.96, 0.95, 0.7, 0.3, 0.2, 0.1], np.float32)
    rng = np.random.default_rng(0)
    kept = scores[pick(scores, 5, 4, rng)]
    assert kept.tolist() == sorted(kept.tolist(), reverse=True)
    assert (kept >= 0.75).sum() == 2, "the first of each band and then the second, the higher band first"
    assert np.float32(0.7) in kept
    assert np.float32(0.3) in kept
    assert (kept < 0.25).sum() == 1
    everything = pick(scores, 100, 4, rng)
    assert sorted(everything.tolist()) == list(range(9))
    assert pick(scores[:0], 5, 4, rng).tolist() == []


def test_one_band_keeps_the_highest() -> None:
    scores = np.random.default_rng(1).random(50).astype(np.float32)
    kept = pick(scores, 7, 1, np.random.default_rng(0))
    assert kept.tolist() == np.argsort(-scores)[:7].tolist()


def test_a_noisy_recording_leaves_its_places_to_others() -> None:
    scores = np.concatenate([np.full(90, 0.9), np.full(30, 0.5)]).astype(np.float32)
    sources = np.concatenate([np.zeros(90, int), np.arange(1, 31)])
    kept = choose(scores, sources, 30, 0.0, 4, Caps(3), np.random.default_rng(0))
    assert (sources[kept] == 0).sum() == 3
    assert len(kept) == 30
    assert len(choose(scores, np.full(120, -1), 30, 0.0, 4, Caps(3), np.random.default_rng(0))) == 0
    caps = Caps(3)
    for number in range(4):
        kept = choose(scores, np.zeros(120, int), 2, 0.0, 1, caps, np.random.default_rng(number))
        assert len(kept) == (2, 1, 0, 0)[number], "what is kept takes places for good"


def test_within_a_band_it_is_drawn_by_lot() -> None:
    scores = np.linspace(0.9, 1.0, 40).astype(np.float32)
    drawn = {tuple(sorted(pick(scores, 5, 4, np.random.default_rng(n)).tolist())) for n in range(20)}
    assert len(drawn) > 10


def test_the_reserve_keeps_its_distance() -> None:
    taken = np.array([100, 500])
    anywhere = np.zeros_like
    found = by_lot(1000, taken, anywhere, 8, 20, Caps(99), np.random.default_rng(0)).tolist()
    assert len(found) == 8
    everything = sorted([*found, *taken.tolist()])
    assert min(b - a for a, b in pairwise(everything)) > 20
    assert by_lot(0, taken[:0], anywhere, 8, 20, Caps(99), np.random.default_rng(0)).tolist() == []
    assert len(by_lot(30, np.array([15]), anywhere, 8, 20, Caps(99), np.random.default_rng(0))) == 0, "there is no room"


def test_the_reserve_passes_over_gaps_and_full_recordings_and_is_whole_all_the_same() -> None:
    def halves(rows: np.ndarray) -> np.ndarray:
        return np.where(rows % 100 < 50, rows // 100, -1)  # 40 recordings of 50 rows, with gaps between them

    none = np.zeros(0, np.int64)
    rows = by_lot(4000, none, halves, 20, 5, Caps(1), np.random.default_rng(0))
    assert len(rows) == 20
    assert len(set(halves(rows).tolist())) == 20, "one of each"
    assert -1 not in halves(rows)


def test_triggers_by_hand() -> None:
    pcm = np.arange(1, 101, dtype=np.int16)  # rows of 5 samples: 20 of them
    scores = np.zeros(20, np.float32)
    scores[[1, 5, 9, 13, 19]] = [0.99, 0.6, 0.9, 0.8, 0.7]
    rows = peaks(scores, 0.5, 1)
    found = triggers(pcm, scores, rows, 20, 5, 5, lambda sample: -1 if 60 <= sample < 70 else sample // 50)
    # Row 1 has no past; row 13 lies in no recording; the others are the best of their recordings.
    assert [(t.start, t.source, t.row) for t in found] == [(35, 0, 2), (85, 1, 2), (15, 0, 2)]
    assert [t.score for t in found] == pytest.approx([0.9, 0.7, 0.6])
    assert found[0].pcm.tolist() == list(range(36, 56))
    assert found[1].pcm.tolist() == [*range(86, 101), 0, 0, 0, 0, 0], "what follows the stream is silence"
    assert [t.start for t in triggers(pcm, scores, rows, 20, 5, 5, lambda _: 0)] == [35, 55, 85, 15]


def rescored(pcm: np.ndarray, column: int, row: int = ROW) -> float:
    """What a fresh detector makes of a clip, from silence."""
    return float(random_detector()(torch.from_numpy(to_float(pcm)))[row, column])


def test_a_trigger_scores_again_as_it_did() -> None:
    assert random_detector().reach_n <= CLIP_N - POST_N
    pcm = to_int16(sound(80000).numpy())
    scores = streaming.scores(random_detector(), pcm, RATE)
    rows = peaks(scores[:, 1], 0.0, CLIP_N // ROW_N // 2)
    found = triggers(pcm, scores[:, 1], rows, CLIP_N, POST_N, ROW_N, lambda _: 0)
    assert len(found) >= 8
    beside = [abs(rescored(t.pcm, 1, t.row - 1) - t.score) for t in found]
    assert np.median(beside) > 1e-3, "a row beside must not pass for the right one"
    for t in found:
        assert t.row == ROW
        assert rescored(t.pcm, 1, t.row) == pytest.approx(t.score, abs=1e-5)
        assert t.score == pytest.approx(float(scores[t.start // ROW_N + t.row, 1]), abs=1e-6)


HZ = (500, 800, 1100, 1400, 1700, 2000, 3100, 3500)  # six recordings, two noises


@pytest.fixture(scope="module")
def store() -> AudioCache:
    """Recordings of tones, each of its own frequency; the last two are noise."""
    t = np.arange(12000) / RATE
    swell = 0.2 + np.abs(np.sin(2 * np.pi * 3 * t))
    clips = [to_int16((0.2 * swell * np.sin(2 * np.pi * hz * t)).astype(np.float32)) for hz in HZ]
    entries = [
        Entry(
            Recording(Path(), f"{hz}.wav", "speech", Split.TRAIN, text=f"tone {hz}"), content_hash(x), 12000 * i, 12000
        )
        for i, (hz, x) in enumerate(zip(HZ, clips, strict=True))
    ]
    return AudioCache(RATE, entries, [], [], np.concatenate(clips))


def mined(store: AudioCache, search: Search = SEARCH, round_: int = 1) -> list[NewClip]:
    return mine_pool(random_detector(), "weights", store, range(6), [6, 7], search, "run", round_)


def test_what_a_round_finds_can_be_heard_again(store: AudioCache) -> None:
    found = mined(store)
    assert {one.keyword for one in found} == {"alexa", "computer"}
    for one in found:
        column = ["alexa", "computer"].index(one.keyword)
        assert rescored(one.pcm, column) == pytest.approx(one.score, abs=1e-5)
        assert one.score >= 0.05
        assert (one.run, one.round, one.checkpoint) == ("run", 1, "weights")


def test_every_recording_in_a_clip_is_named(store: AudioCache) -> None:
    found, named_n = mined(store, replace(SEARCH, snr_db=(5.0, 5.0))), []
    for one in found:
        # A tone that fills a tenth of the clip stands far above what the others leave at its place.
        spectrum = np.abs(np.fft.rfft(to_float(one.pcm) * np.hanning(CLIP_N)))
        places = [round(hz * CLIP_N / RATE) for hz in HZ]
        strength = np.array([spectrum[p - 2 : p + 3].max() for p in places])
        heard = {f"{hz}.wav" for hz, s in zip(HZ, strength, strict=True) if s > 0.05 * strength.max()}
        named = [one.source.name, *(s.name for s in one.mixed_with)]
        assert heard <= set(named)
        assert strength[HZ.index(int(one.source.name.removesuffix(".wav")))] > 0.02 * strength.max()
        assert len(set(named)) == len(named)
        assert all(s.split is Split.TRAIN for s in (one.source, *one.mixed_with))
        assert one.text == f"tone {one.source.name.removesuffix('.wav')}"
        assert one.mix == {"snr_db": pytest.approx(5.0)}
        named_n.append(len(named))
    assert min(named_n) < 4, "not simply all that there is"


def test_a_clip_lies_in_its_source_where_it_says(store: AudioCache) -> None:
    found = mine_pool(random_detector(), "weights", store, range(6), [], SEARCH, "run", 1)  # without noise: as it is
    assert len(found) > 5
    for one in found:
        sound_of = {e.recording.name: store.audio(i) for i, e in enumerate(store.entries)}
        whole = np.concatenate([np.zeros(CLIP_N), sound_of[one.source.name], np.zeros(CLIP_N)])
        first = CLIP_N + round(one.offset_s * RATE)
        here = np.zeros(len(whole), bool)
        here[CLIP_N:-CLIP_N] = True
        inside = here[first : first + CLIP_N]
        assert inside.sum() > 1600
        np.testing.assert_array_equal(one.pcm[inside], whole[first : first + CLIP_N][inside])


def test_rounds_differ_and_repeat(store: AudioCache) -> None:
    first, again, second = (sorted(content_hash(f.pcm) for f in mined(store, round_=n)) for n in (1, 1, 2))
    assert first == again
    assert not set(first) & set(second), "each round hears other noise"


def test_a_recording_gives_no_more_than_it_may(store: AudioCache) -> None:
    search = replace(SEARCH, passes=2, max_per_recording=1, neighbours=5000.0, reserve=0.2)
    _, vectors = hear_clips(random_detector(), [store.audio(2)])
    found = mine_pool(random_detector(), "weights", store, range(6), [6, 7], search, "run", 1, nearness(vectors))
    triggered = [(one.keyword, one.source.name) for one in found if one.kind is Kind.FALSE_TRIGGER]
    assert len(set(triggered)) == len(triggered) > 2, "in all passes together"
    near = [one.source.name for one in found if one.kind is Kind.NEIGHBOUR]
    assert len(set(near)) == len(near) > 2
    more = [(one.keyword, one.source.name) for one in mined(store, replace(search, max_per_recording=2, neighbours=0))]
    assert max(more.count(name) for name in more) == 2
    high = max(one.score for one in mined(store))
    assert mined(store, replace(SEARCH, min_score=min(1.0, high + 1e-3))) == []


def test_the_buffer_takes_what_a_round_finds(store: AudioCache, tmp_path: Path) -> None:
    found = mined(store)
    with Buffer(tmp_path / "buffer") as buffer:
        added = buffer.add(found)
        assert len(added.new) == len({content_hash(one.pcm) for one in found}) == len(buffer)
        np.testing.assert_array_equal(buffer.audio(added.new[0]), found[0].pcm)


def test_the_reserve_brings_what_does_not_trigger(store: AudioCache) -> None:
    nothing = replace(SEARCH, min_score=1.0, per_hour=2000.0)
    assert mined(store, nothing) == []
    spare = mined(store, replace(nothing, reserve=1.0))
    assert len(spare) > 3
    assert all(one.score is not None and one.score < 1.0 for one in spare)


def test_neighbours_come_whatever_they_score(store: AudioCache) -> None:
    search = replace(SEARCH, min_score=1.0, neighbours=5000.0, passes=1)
    _, vectors = hear_clips(random_detector(), [store.audio(2)])
    found = mine_pool(random_detector(), "weights", store, range(6), [], search, "run", 1, nearness(vectors))
    assert {one.kind for one in found} == {Kind.NEIGHBOUR}
    first = found[0]
    assert first.source.name == f"{HZ[2]}.wav", "the recording itself is nearest to itself"
    for one in found:
        column = ["alexa", "computer"].index(one.keyword)
        assert rescored(one.pcm, column) == pytest.approx(one.score, abs=1e-5)
