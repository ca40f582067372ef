"""False triggers: which rows they are, and that each clip is all it takes to hear its score again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import random_detector, sound

from kws import stream
from kws.audio import content_hash, to_float, to_int16
from kws.detect import Track, fires
from kws.manifest import Part, Recording
from kws.replay.buffer import Buffer, Found
from kws.replay.mine import mining_threshold, peaks, triggers
from kws.replay.rounds import Search, mine_pool
from kws.store import Entry, Store

RATE, ROW_N, CLIP_N, POST_N = 16000, 320, 9600, 3200
SEARCH = Search(0, 2, (0.0, 20.0), (-45.0, -20.0), 0.1, 20000.0, 0.05, 3, CLIP_N, POST_N)
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


def test_the_threshold_finds_so_many_but_not_below_the_lowest() -> None:
    scores = np.random.default_rng(0).random(9000).astype(np.float32)
    track = Track(np.linspace(0.02, 180.0, 9000), scores, 180.0)
    threshold = mining_threshold(track, 400, 0.05)
    assert 18 <= len(fires(track.times, scores, threshold)) <= 20
    assert mining_threshold(track, 400, 0.9999) == 0.9999


def test_triggers_by_hand() -> None:
    pcm = np.arange(1, 101, dtype=np.int16)  # rows of 5 samples: 20 of them
    scores = np.zeros(20, np.float32)
    scores[[1, 5, 9, 13, 19]] = [0.99, 0.6, 0.9, 0.8, 0.7]
    found = triggers(pcm, scores, 0.5, 20, 5, 5, lambda sample: -1 if 60 <= sample < 70 else sample // 50, 2)
    # Row 1 has no past; row 13 lies in no recording; the others are the best of their recordings.
    assert [(t.start, t.source, t.row) for t in found] == [(35, 0, 2), (85, 1, 2), (15, 0, 2)]
    assert [t.score for t in found] == pytest.approx([0.9, 0.7, 0.6])
    assert found[0].pcm.tolist() == list(range(36, 56))
    assert found[1].pcm.tolist() == [*range(86, 101), 0, 0, 0, 0, 0], "what follows the stream is silence"
    assert [t.start for t in triggers(pcm, scores, 0.5, 20, 5, 5, lambda _: 0, 2)] == [35, 55]


def rescored(pcm: np.ndarray, column: int, row: int = ROW) -> float:
    """What a fresh detector makes of a clip, from silence."""
    return float(random_detector()(torch.from_numpy(to_float(pcm)))[row, column])


def test_a_trigger_scores_again_as_it_did() -> None:
    assert random_detector().reach_n <= CLIP_N - POST_N
    pcm = to_int16(sound(80000).numpy())
    scores = stream.scores(random_detector(), pcm, RATE)
    found = triggers(pcm, scores[:, 1].copy(), 0.0, CLIP_N, POST_N, ROW_N, lambda _: 0, 100)
    assert len(found) >= 8
    beside = [abs(rescored(t.pcm, 1, t.row - 1) - t.score) for t in found]
    assert np.median(beside) > 1e-3, "a row beside must not pass for the right one"
    for t in found:
        assert t.row == ROW
        assert rescored(t.pcm, 1, t.row) == pytest.approx(t.score, abs=1e-5)
        assert t.score == pytest.approx(float(scores[t.start // ROW_N + t.row, 1]), abs=1e-6)


HZ = (500, 800, 1100, 1400, 1700, 2000, 3100, 3500)  # six recordings, two noises


@pytest.fixture(scope="module")
def store() -> Store:
    """Recordings of tones, each of its own frequency; the last two are noise."""
    t = np.arange(12000) / RATE
    swell = 0.2 + np.abs(np.sin(2 * np.pi * 3 * t))
    clips = [to_int16((0.2 * swell * np.sin(2 * np.pi * hz * t)).astype(np.float32)) for hz in HZ]
    entries = [
        Entry(
            Recording(Path(), f"{hz}.wav", "speech", Part.TRAIN, text=f"tone {hz}"), content_hash(x), 12000 * i, 12000
        )
        for i, (hz, x) in enumerate(zip(HZ, clips, strict=True))
    ]
    return Store(RATE, entries, [], [], np.concatenate(clips))


def mined(store: Store, search: Search = SEARCH, round_: int = 1) -> list[Found]:
    return mine_pool(random_detector(), "weights", store, range(6), [6, 7], search, "run", round_)


def test_what_a_round_finds_can_be_heard_again(store: Store) -> None:
    found = mined(store)
    assert {one.keyword for one in found} == {"alexa", "computer"}
    for one in found:
        column = ["alexa", "computer"].index(one.keyword)
        assert rescored(one.pcm, column) == pytest.approx(one.score, abs=1e-5)
        assert one.score >= 0.05
        assert (one.run, one.round, one.checkpoint) == ("run", 1, "weights")


def test_every_recording_in_a_clip_is_named(store: Store) -> None:
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
        assert all(s.part is Part.TRAIN for s in (one.source, *one.mixed_with))
        assert one.text == f"tone {one.source.name.removesuffix('.wav')}"
        assert one.mix == {"snr_db": pytest.approx(5.0)}
        named_n.append(len(named))
    assert min(named_n) < 4, "not simply all that there is"


def test_a_clip_lies_in_its_source_where_it_says(store: Store) -> None:
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


def test_rounds_differ_and_repeat(store: Store) -> None:
    first, again, second = (sorted(content_hash(f.pcm) for f in mined(store, round_=n)) for n in (1, 1, 2))
    assert first == again
    assert not set(first) & set(second), "each round hears other noise"


def test_a_recording_gives_no_more_than_it_may(store: Store) -> None:
    found = mined(store, replace(SEARCH, passes=1, max_per_recording=1))
    pairs = [(one.keyword, one.source.name) for one in found]
    assert len(set(pairs)) == len(pairs) > 2
    high = max(one.score for one in mined(store))
    assert mined(store, replace(SEARCH, min_score=min(1.0, high + 1e-3))) == []


def test_the_buffer_takes_what_a_round_finds(store: Store, tmp_path: Path) -> None:
    found = mined(store)
    with Buffer(tmp_path / "buffer") as buffer:
        added = buffer.add(found)
        assert len(added.new) == len({content_hash(one.pcm) for one in found}) == len(buffer)
        np.testing.assert_array_equal(buffer.audio(added.new[0]), found[0].pcm)
