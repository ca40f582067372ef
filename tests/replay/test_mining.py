"""Mining: the rows that each source chooses, and clips that score again as recorded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.data.audio import content_hash, to_float, to_int16
from kws.data.audio_cache import AudioCache, Entry
from kws.data.manifest import Recording, Source, Split
from kws.data.transcripts import Match
from kws.replay import mining
from kws.replay.buffer import Buffer, Kind, NewClip
from kws.replay.mining import (
    Candidates,
    MiningStream,
    Nearness,
    cut,
    false_triggers,
    mine,
    nearness,
    peaks,
    random_share,
    register_mining_source,
    spans_of,
)
from kws.replay.mining_streams import FileStreams, KnownRecording, MiningConfig, no_nearness, pool_streams
from tests.nets import random_detector

RATE, ROW_N, CLIP_N, POST_N = 16000, 320, 9600, 3200
CONFIG = MiningConfig(clips_per_hour=20000.0, score_bands=1, random_share=0.0, post_s=POST_N / RATE)
NOWHERE: Any = None
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
def test_each_high_row_is_a_peak_or_near_a_higher_peak(scores: list[float], apart_n: int) -> None:
    kept = peaks(np.array(scores, np.float32), 0.5, apart_n).tolist()
    assert all(abs(a - b) > apart_n for a in kept for b in kept if a != b)
    assert [scores[i] for i in kept] == sorted((scores[i] for i in kept), reverse=True)
    for i, score in enumerate(scores):
        assert score < 0.5 or any(abs(i - k) <= apart_n and scores[k] >= score for k in kept)


def candidates(
    scores: np.ndarray,
    recordings: np.ndarray,
    n: int,
    bands: int = 1,
    seed: int = 0,
    limit: int = 1,
    counts: Counter[tuple[int, int]] | None = None,
    apart_n: int = 0,
    **others: Any,
) -> Candidates:
    """Candidates of a stream of an hour, of which each false trigger or random clip is one row."""
    config = replace(CONFIG, clips_per_hour=n, score_bands=bands, min_score=0.0, **others)
    stream = MiningStream(
        np.zeros(0, np.int16), scores[:, None], scores, recordings, 0 * recordings, 1.0, limit, NOWHERE,
        np.random.default_rng(seed),
    )  # fmt: skip
    return Candidates(stream, 0, config, apart_n, np.zeros(0, np.int64), Counter() if counts is None else counts)


def pick(scores: np.ndarray, n: int, bands: int, seed: int = 0) -> np.ndarray:
    """The false triggers where every row lies in a recording of its own."""
    return false_triggers(candidates(scores, np.arange(len(scores)), n, bands, seed))


def test_each_score_band_gives_equally_many_clips() -> None:
    scores = np.array([0.99, 0.98, 0.97, 0.96, 0.95, 0.7, 0.3, 0.2, 0.1], np.float32)
    kept = scores[pick(scores, 5, 4)]
    assert kept.tolist() == sorted(kept.tolist(), reverse=True)
    assert (kept >= 0.75).sum() == 2, "the first of each band and then the second, the higher band first"
    assert np.float32(0.7) in kept
    assert np.float32(0.3) in kept
    assert (kept < 0.25).sum() == 1
    everything = pick(scores, 100, 4)
    assert sorted(everything.tolist()) == list(range(9))
    assert pick(scores[:0], 5, 4).tolist() == []


def test_one_band_keeps_the_highest_scores() -> None:
    scores = np.random.default_rng(1).random(50).astype(np.float32)
    assert pick(scores, 7, 1).tolist() == np.argsort(-scores)[:7].tolist()


def test_a_recording_at_its_limit_leaves_its_places_to_others() -> None:
    scores = np.concatenate([np.full(90, 0.9), np.full(30, 0.5)]).astype(np.float32)
    recordings = np.concatenate([np.zeros(90, int), np.arange(1, 31)])
    kept = false_triggers(candidates(scores, recordings, 30, 4, limit=3))
    assert (recordings[kept] == 0).sum() == 3
    assert len(kept) == 30
    assert len(false_triggers(candidates(scores, np.full(120, -1), 30, 4, limit=3))) == 0
    counts = Counter[tuple[int, int]]()
    for number in range(4):
        kept = false_triggers(candidates(scores, np.zeros(120, int), 2, seed=number, limit=3, counts=counts))
        assert len(kept) == (2, 1, 0, 0)[number], "a recording's limit holds over all streams"


def test_half_an_hour_is_mined_the_same_however_it_is_cut() -> None:
    """False triggers in bursts, as talk has them: as 1, 4 or 400 recordings, and from all parts of each."""
    n, rng = 90000, np.random.default_rng(3)
    scores = (rng.random(n) ** 12 * np.repeat(rng.random(90), 1000)).astype(np.float32)
    found = {}
    for cuts in (1, 4, 400):
        recordings = np.arange(n) * cuts // n
        begins = np.searchsorted(recordings, np.arange(cuts))[recordings]
        half_an_hour = candidates(scores, recordings, 300, 4, limit=3, apart_n=50)
        spans = spans_of((np.arange(n) - begins) * ROW_N, RATE)
        stream = replace(half_an_hour.stream, spans=spans, hours=0.5)
        config = replace(half_an_hour.config, min_score=0.05)
        found[cuts] = false_triggers(replace(half_an_hour, stream=stream, config=config))
        assert np.histogram(found[cuts], 9, (0, n))[0].min() >= 5, "from all of it"
        assert max(Counter(zip(recordings[found[cuts]], spans[found[cuts]], strict=True)).values()) <= 3
    assert len(found[1]) == pytest.approx(len(found[400]), rel=0.1)
    assert len(found[4]) == pytest.approx(len(found[400]), rel=0.1)
    assert len(found[400]) >= 140


def test_within_a_band_clips_are_sampled() -> None:
    scores = np.linspace(0.9, 1.0, 40).astype(np.float32)
    assert len({tuple(sorted(pick(scores, 5, 4, seed).tolist())) for seed in range(20)}) > 10


def test_a_stream_of_seconds_gives_one_clip_and_no_limit_gives_none() -> None:
    one = candidates(np.ones(9, np.float32), np.arange(9), 1)
    brief = replace(one, stream=replace(one.stream, hours=0.001))
    assert len(false_triggers(brief)) == 1
    assert (brief.n_clips(300), brief.n_clips(3000), brief.n_clips(0)) == (1, 3, 0)


def test_random_clips_lie_apart_from_each_other_and_from_false_triggers() -> None:
    nothing, taken = np.zeros(1000, np.float32), np.array([100, 500])
    anywhere = candidates(nothing, np.zeros(1000, int), 8, limit=99, apart_n=20, random_share=1.0)
    found = random_share(replace(anywhere, taken=taken)).tolist()
    assert len(found) == 8
    everything = sorted([*found, *taken.tolist()])
    assert min(b - a for a, b in pairwise(everything)) > 20
    assert random_share(candidates(nothing[:0], taken[:0], 8, random_share=1.0)).tolist() == []
    full = candidates(nothing[:30], np.zeros(30, int), 8, limit=99, apart_n=20, random_share=1.0)
    assert len(random_share(replace(full, taken=np.array([15])))) == 0, "there is no room"


def test_random_clips_skip_gaps_and_recordings_at_their_limit() -> None:
    rows = np.arange(4000)
    halves = np.where(rows % 100 < 50, rows // 100, -1)  # 40 recordings of 50 rows, with gaps between them
    found = random_share(candidates(np.zeros(4000, np.float32), halves, 20, apart_n=5, random_share=1.0))
    assert len(found) == 20
    assert len(set(halves[found].tolist())) == 20, "one of each"
    assert -1 not in halves[found]


def test_a_clip_ends_with_silence_where_its_stream_ends() -> None:
    pcm = np.arange(1, 101, dtype=np.int16)
    assert cut(pcm, 35, 20).tolist() == list(range(36, 56))
    assert cut(pcm, 85, 20).tolist() == [*range(86, 101), 0, 0, 0, 0, 0]


@dataclass
class FirstRows:
    n: int = 1


def test_a_registered_source_mines_with_its_settings(store: AudioCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mining, "SOURCES", dict(mining.SOURCES))

    @register_mining_source("first_rows", Kind.user, FirstRows)
    def first_rows(candidates: Candidates) -> np.ndarray:
        assert isinstance(candidates.settings, FirstRows)
        return candidates.first(np.flatnonzero(candidates.stream.recordings >= 0), candidates.settings.n)

    config = MiningConfig(**{**vars(CONFIG), "sources": mining.source_settings()})
    config.sources.first_rows.n = 2
    found = [clip for clip in mined(store, config) if clip.kind is Kind.user]
    assert [clip.keyword for clip in found] == ["alexa", "alexa", "computer", "computer"] * 2
    for clip in found:
        assert rescored(clip.pcm, ["alexa", "computer"].index(clip.keyword)) == pytest.approx(clip.score, abs=1e-5)


def rescored(pcm: np.ndarray, column: int, row: int = ROW) -> float:
    """The score that a fresh detector gives a clip from silence."""
    return float(random_detector()(torch.from_numpy(to_float(pcm)))[row, column])


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
    return AudioCache(RATE, entries, {}, [], np.concatenate(clips))


def mined(
    store: AudioCache,
    config: MiningConfig = CONFIG,
    round_: int = 1,
    noise: Sequence[int] = (6, 7),
    near: Nearness = no_nearness,
) -> list[NewClip]:
    detector = random_detector()
    streams = pool_streams(detector, store, range(6), noise, config, 0, 0.1, CLIP_N, round_, near)
    return [clip for some in mine(streams, detector, config, CLIP_N, "weights", "run", round_) for clip in some]


def near_to(store: AudioCache, i: int) -> Nearness:
    return nearness(random_detector(), [store.audio(i)])


def test_mined_clips_score_again_as_recorded(store: AudioCache) -> None:
    found = mined(store)
    assert {one.keyword for one in found} == {"alexa", "computer"}
    for one in found:
        column = ["alexa", "computer"].index(one.keyword)
        assert rescored(one.pcm, column) == pytest.approx(one.score, abs=1e-5)
        assert one.score >= 0.05
        assert (one.run, one.round, one.checkpoint) == ("run", 1, "weights")


def test_every_audible_recording_of_a_clip_is_named(store: AudioCache) -> None:
    found, named_n = mined(store, replace(CONFIG, snr_db=(5.0, 5.0))), []
    for one in found:
        # A tone that fills a tenth of the clip stands far above what the others leave at its place.
        spectrum = np.abs(np.fft.rfft(to_float(one.pcm) * np.hanning(CLIP_N)))
        places = [round(hz * CLIP_N / RATE) for hz in HZ]
        strength = np.array([spectrum[p - 2 : p + 3].max() for p in places])
        audible = {f"{hz}.wav" for hz, s in zip(HZ, strength, strict=True) if s > 0.05 * strength.max()}
        named = [one.source.name, *(s.name for s in one.mixed_with)]
        assert audible <= set(named)
        assert strength[HZ.index(int(one.source.name.removesuffix(".wav")))] > 0.02 * strength.max()
        assert len(set(named)) == len(named)
        assert all(s.split is Split.TRAIN for s in (one.source, *one.mixed_with))
        assert one.text == f"tone {one.source.name.removesuffix('.wav')}"
        assert one.mix == {"snr_db": pytest.approx(5.0)}
        named_n.append(len(named))
    assert min(named_n) < 4, "not simply all that there is"


def test_the_offset_of_a_clip_is_its_place_in_the_recording(store: AudioCache) -> None:
    found = mined(store, noise=())  # without noise: as it is
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
    assert not set(first) & set(second), "each round has other noise"


def test_no_recording_exceeds_its_limit(store: AudioCache) -> None:
    config = replace(CONFIG, passes=2, max_per_recording=1, neighbours_per_hour=5000.0, random_share=0.2)
    found = mined(store, config, near=near_to(store, 2))
    triggered = [(one.keyword, one.source.name) for one in found if one.kind is Kind.false_trigger]
    assert len(set(triggered)) == len(triggered) > 2, "in all passes together"
    near = [one.source.name for one in found if one.kind is Kind.neighbour]
    assert len(set(near)) == len(near) > 2
    more = [
        (one.keyword, one.source.name)
        for one in mined(store, replace(config, max_per_recording=2, neighbours_per_hour=0))
    ]
    assert max(more.count(name) for name in more) == 2
    high = max(one.score for one in mined(store))
    assert mined(store, replace(CONFIG, min_score=min(1.0, high + 1e-3))) == []


def test_the_buffer_stores_mined_clips(store: AudioCache, tmp_path: Path) -> None:
    found = mined(store)
    with Buffer(tmp_path / "buffer") as buffer:
        added = buffer.add(found)
        assert len(added.new) == len({content_hash(one.pcm) for one in found}) == len(buffer)
        np.testing.assert_array_equal(buffer.audio(added.new[0]), found[0].pcm)


def test_random_clips_may_score_below_the_threshold(store: AudioCache) -> None:
    nothing = replace(CONFIG, min_score=1.0, clips_per_hour=2000.0)
    assert mined(store, nothing) == []
    spare = mined(store, replace(nothing, random_share=1.0))
    assert len(spare) > 3
    assert all(one.score is not None and one.score < 1.0 for one in spare)


def test_neighbours_may_have_any_score(store: AudioCache) -> None:
    config = replace(CONFIG, min_score=1.0, neighbours_per_hour=5000.0, passes=1)
    found = mined(store, config, noise=(), near=near_to(store, 2))
    assert {one.kind for one in found} == {Kind.neighbour}
    first = found[0]
    assert first.source.name == f"{HZ[2]}.wav", "the recording itself is nearest to itself"
    for one in found:
        column = ["alexa", "computer"].index(one.keyword)
        assert rescored(one.pcm, column) == pytest.approx(one.score, abs=1e-5)


@pytest.mark.parametrize(
    ("label", "text", "match", "form"),
    [
        ("speech", "two computers", Match.word, "computers"),
        ("speech", "computerspiel", Match.word, ""),
        ("speech", "computerspiel", Match.prefix, "computerspiel"),
        ("Computer", "", Match.word, "label Computer"),
        ("hey computer", "", Match.word, "label hey computer"),
        ("hey computer", "hey commuter", Match.word, ""),
        ("not_computer", "", Match.word, ""),
    ],
)
def test_recordings_with_the_keyword_are_not_mined(label: str, text: str, match: Match, form: str) -> None:
    known = {"hash": KnownRecording(Source("hash", "a.wav", Split.TRAIN), label, text)}
    streams = FileStreams(random_detector(), [Path("a.wav")], known, CLIP_N, 3, match=match)
    streams._admit(0, "hash")
    assert streams.with_keyword == ({"a.wav": form} if form else {})
    assert list(streams.admitted) == ([] if form else ["0"])
