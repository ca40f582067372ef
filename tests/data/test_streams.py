"""Composed streams: exact levels and positions, and the mixing rule of the referee."""

import importlib.util
import json
import math
import os
import tracemalloc
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import load, loudest_rms, to_float, to_int16
from kws.data.streams import Piece, Stream, compose, spans
from kws.evaluation.annotations import read_annotations
from tests.tracks import save_stream

RATE = 16000
DATA = Path(os.environ.get("KWS_DATA", "/nonexistent"))
Pcm = NDArray[np.int16]


def hiss(seconds: float, rms: float = 0.05, seed: int = 0) -> Pcm:
    """Noise whose every 32 ms have the same RMS, so that a level is one number wherever it is measured."""
    x = np.sign(np.random.default_rng(seed).standard_normal(round(seconds * RATE))) * rms
    return to_int16(x.astype(np.float32))


def db(x: NDArray[np.float32]) -> float:
    return 20 * math.log10(loudest_rms(x))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_snr_is_exact() -> None:
    """With silent speech only the bed remains; the difference is the speech, 20 dB above it."""
    speech, noise = [hiss(1, 0.3, 1), hiss(0.7, 0.01, 2)], [hiss(3, 0.2, 3)]
    silent = [np.zeros_like(x) for x in speech]
    mixed = compose(speech, noise, rng(), 0.5, snr_db=(20, 20), noise_db=(-40, -40))
    bed = compose(silent, noise, rng(), 0.5, snr_db=(20, 20), noise_db=(-40, -40))
    assert mixed.pieces == bed.pieces
    assert db(to_float(bed.pcm)) == pytest.approx(-40, abs=0.05)
    for p in mixed.pieces:
        at = slice(p.start, p.start + p.n_samples)
        speech_part = to_float(mixed.pcm[at]) - to_float(bed.pcm[at])
        assert db(speech_part) - db(to_float(bed.pcm[at])) == pytest.approx(20, abs=0.05)
        assert p.snr_db == 20
    gaps = np.ones(len(bed.pcm), bool)
    for p in mixed.pieces:
        gaps[p.start : p.start + p.n_samples] = False
    assert (mixed.pcm[gaps] == bed.pcm[gaps]).all()


def test_sampled_levels_fill_their_ranges() -> None:
    stream = compose([hiss(0.1)] * 200, [hiss(0.2)], rng(), 0.0, snr_db=(0, 12), noise_db=(-60, -20))
    snrs = [p.snr_db for p in stream.pieces]
    assert (min(snrs) >= 0, max(snrs) <= 12, max(snrs) - min(snrs) > 11) == (True, True, True)
    bed = compose([np.zeros(400 * RATE, np.int16)], [hiss(2)], rng(), 0.0, noise_db=(-60, -20))
    levels = [db(x) for x in to_float(bed.pcm).reshape(-1, 2 * RATE)]
    assert (min(levels) > -60.5, max(levels) < -19.5, max(levels) - min(levels) > 35) == (True, True, True)


def test_levels_of_the_recordings_do_not_matter() -> None:
    """The same words shouted or whispered, under noise recorded loud or soft, give the same stream."""
    loud = compose([hiss(1, 0.5, 1)], [hiss(2, 0.4, 2)], rng(), 0.5, snr_db=(5, 15))
    soft = compose([hiss(1, 0.005, 1)], [hiss(2, 0.02, 2)], rng(), 0.5, snr_db=(5, 15))
    assert np.abs(loud.pcm.astype(int) - soft.pcm).max() <= 1 + 0.01 * np.abs(loud.pcm).max()


def test_positions_and_spans() -> None:
    stream = compose([hiss(1), hiss(0.5)], [hiss(0.3)], rng(), 0.25, lead_s=2)
    assert [(p.start, p.n_samples, p.index) for p in stream.pieces] == [(32000, 16000, 0), (52000, 8000, 1)]
    assert len(stream.pcm) == round((2 + 1 + 0.25 + 0.5 + 0.25) * RATE)
    assert spans(stream) == [(2.0, 3.5), (3.25, 4.25)]
    assert stream.noises == [0, 0]  # a short noise is repeated for two seconds
    assert stream.noise_ends == [2 * RATE, 4 * RATE]


def test_without_noise_the_speech_is_unchanged() -> None:
    speech = [hiss(0.4, 0.123)]
    stream = compose(speech, [], rng(), 0.1, lead_s=0.1)
    assert (stream.pcm[1600:8000] == speech[0]).all()
    assert not stream.pcm[:1600].any()
    assert not stream.pcm[8000:].any()
    assert (stream.pieces, stream.noises) == ([Piece(1600, 6400, 0, math.inf)], [])


def test_same_seed_same_stream() -> None:
    speech, noise = [hiss(0.5, seed=i) for i in range(4)], [hiss(0.3, seed=i) for i in range(9)]
    one, two, other = (compose(speech, noise, rng(seed), 0.3, (0, 20)) for seed in (1, 1, 2))
    assert (one.pcm == two.pcm).all()
    assert (one.pieces, one.noises) == (two.pieces, two.noises)
    assert one.noises != other.noises
    assert len(set(one.noises)) > 1


def test_silent_noise_is_never_used() -> None:
    stream = compose([hiss(5)], [np.zeros(100, np.int16), hiss(0.3), np.zeros(8000, np.int16)], rng(), 0.0)
    assert set(stream.noises) == {1}
    with pytest.raises(KwsError, match="all 1 noise recordings are silent"):
        compose([hiss(1)], [np.zeros(8000, np.int16)], rng(), 0.0)


def test_loud_mixes_clip_and_do_not_wrap() -> None:
    x = to_int16(np.full(8000, 0.5, np.float32))
    stream = compose([x], [x], rng(), 0.0, snr_db=(60, 60), noise_db=(0, 0))
    assert (stream.pcm == 32767).all()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(1, 3000), max_size=6),
    st.lists(st.integers(512, 2000), max_size=3),
    st.floats(0, 0.2),
    st.floats(0, 0.2),
    st.integers(0, 99),
)
def test_pieces_tile_the_stream(lengths: list[int], noises: list[int], gap_s: float, lead_s: float, seed: int) -> None:
    speech = [hiss(n / RATE, seed=n) for n in lengths]
    stream = compose(speech, [hiss(n / RATE) for n in noises], rng(seed), gap_s, (0, 20), lead_s=lead_s)
    at = round(lead_s * RATE)
    for p, n in zip(stream.pieces, lengths, strict=True):
        assert (p.start, p.n_samples) == (at, n)
        assert (0 <= p.snr_db <= 20) == bool(noises)
        at += n + round(gap_s * RATE)
    assert len(stream.pcm) == at
    assert all(0 <= i < len(noises) for i in stream.noises)


def test_memory_is_the_result() -> None:
    """Ten minutes are 19 MB; float32 copies of the whole would show as 38 MB each."""
    speech, noise = [hiss(10)] * 60, [hiss(5)]
    tracemalloc.start()
    stream = compose(speech, noise, rng(), 0.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < stream.pcm.nbytes + 8e6


def test_written_streams_and_events_are_read(tmp_path: Path) -> None:
    stream = compose([hiss(0.5), hiss(0.7)], [hiss(1)], rng(), 0.3)
    save_stream(stream, tmp_path / "p.flac", tmp_path / "p.json")
    save_stream(stream, tmp_path / "n.flac")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["n.flac", "p.flac", "p.json"]
    pcm, rate = soundfile.read(tmp_path / "p.flac", dtype="int16")
    assert (rate, (pcm == stream.pcm).all()) == (RATE, True)
    assert [mark.span for mark in read_annotations(tmp_path / "p.json", "computer")] == spans(stream)


@pytest.fixture(scope="module")
def make_streams() -> ModuleType:
    path = DATA.parent / "referee" / "make_streams.py"
    if not path.is_file():
        pytest.skip("no referee: KWS_DATA does not lie beside it")
    spec = importlib.util.spec_from_file_location("make_streams", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_real_recordings_mix_as_in_the_referees_streams(
    make_streams: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one noise recording at one level, samples agree up to rounding."""
    words = [to_int16(load(p)) for p in sorted((DATA / "speech_commands" / "cat").glob("*.flac"))[:5]]
    noise = to_int16(load(min((DATA / "noise").rglob("*.flac"))))
    monkeypatch.setattr(make_streams, "NOISE_DB", (-30.0, -30.0))
    generator = np.random.default_rng(0)
    theirs, events = make_streams.positive_stream([to_float(x) for x in words], lambda: to_float(noise), generator)
    ours: Stream = compose(words, [noise], rng(), gap_s=1.0, noise_db=(-30, -30))
    assert spans(ours) == events
    assert json.loads(json.dumps(spans(ours))) == [list(e) for e in events]
    assert np.abs(to_float(ours.pcm) - theirs).max() < 1.01 / 32768


def test_the_bounds_of_a_keyword_give_its_level_and_the_span_of_a_hit() -> None:
    x = np.zeros(8 * RATE, np.int16)
    x[4 * RATE : 5 * RATE] = hiss(1.0, 0.1)
    x[: RATE // 2] = hiss(0.5, 0.8)  # louder than the keyword
    bed = compose([np.zeros_like(x)], [hiss(1)], rng(), 0.0, (10, 10))
    mixed = compose([x], [hiss(1)], rng(), 0.0, (10, 10), keywords=[(4 * RATE, 5 * RATE)])
    spoken = to_float(mixed.pcm - bed.pcm)[4 * RATE : 5 * RATE]
    under = to_float(bed.pcm)
    assert loudest_rms(spoken) / loudest_rms(under) == pytest.approx(10 ** (10 / 20), rel=0.1)
    assert spans(mixed) == [(3.5, 6.0)]
    whole = compose([x], [], rng(), 0.0, keywords=[(100, len(x) - 100)])
    assert spans(whole) == [(0.0, 8.5)], "as without bounds where they are near the ends"
