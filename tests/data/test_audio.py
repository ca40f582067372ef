import hashlib
import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kws.common.errors import KwsError
from kws.data.audio import (
    BadAudio,
    content_hash,
    keyword_bounds,
    load,
    loudest_rms,
    read_exactly,
    save_flac,
    to_float,
    to_int16,
)

RATE = 16000


def sine(hz: float, seconds: float, rate: int, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_stereo_of_another_rate_keeps_frequency_level_and_length(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "tone.wav"
    left = sine(1000, 1, rate)
    soundfile.write(path, np.stack([left, np.zeros_like(left)], axis=1), rate, subtype="FLOAT")
    x = load(path)
    assert x.dtype == np.float32
    assert x.shape == (RATE,)
    middle = x[2000:-2000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * RATE / len(middle) == pytest.approx(1000, abs=1)
    # the mean of a tone of peak 0.5 and silence is a tone of peak 0.25
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.25 / math.sqrt(2), rel=1e-3)


def test_tone_above_the_new_nyquist_is_gone(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(12000, 1, 48000), 48000)
    assert np.abs(load(tmp_path / "a.wav")[1000:-1000]).max() < 1e-3


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("a.wav", "PCM_U8", 1 / 128),
        ("a.wav", "PCM_16", 1 / 32768),
        ("a.wav", "PCM_24", 1e-6),
        ("a.wav", "ULAW", 0.02),
        ("a.aiff", "PCM_16", 1 / 32768),
        ("a.flac", "PCM_16", 1 / 32768),
        ("a.ogg", "VORBIS", 0.05),
        ("a.ogg", "OPUS", 0.05),
    ],
)
def test_formats_decode_to_the_same_samples(tmp_path: Path, name: str, subtype: str, tolerance: float) -> None:
    x = sine(440, 0.5, RATE)
    soundfile.write(tmp_path / name, x, RATE, subtype=subtype)
    assert np.abs(load(tmp_path / name)[: len(x)] - x)[800:-800].max() <= tolerance


def test_mp3_decodes(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.mp3", sine(440, 1, RATE), RATE)
    x = load(tmp_path / "a.mp3")[4000:12000]
    assert np.argmax(np.abs(np.fft.rfft(x))) * RATE / len(x) == pytest.approx(440, abs=2)


def test_the_format_is_found_by_content_not_by_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", sine(440, 0.1, RATE), RATE)
    (tmp_path / "a.flac").rename(tmp_path / "a.wav")
    assert len(load(tmp_path / "a.wav")) == 1600


def write_bad(path: Path, kind: str) -> None:
    if kind == "text":
        path.write_text("hello, I am no sound")
    elif kind == "zero bytes":
        path.write_bytes(b"")
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0, np.int16), RATE)
    elif kind == "folder":
        path.mkdir()
    elif kind in {"nan", "inf"}:
        x = sine(440, 0.1, RATE)
        x[800] = np.float32(kind)
        soundfile.write(path, x, RATE, subtype="FLOAT")
    elif kind == "1 Hz":
        soundfile.write(path, np.zeros(100, np.int16), 1)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "no such file"),
        ("folder", "a folder, not a file"),
        ("text", "not recognised"),
        ("zero bytes", "not recognised"),
        ("no samples", "empty"),
        ("nan", "NaN"),
        ("inf", "infinite"),
        ("1 Hz", "sample rate 1 Hz"),
    ],
)
def test_an_undecodable_file_is_named_with_a_reason(tmp_path: Path, kind: str, reason: str) -> None:
    path = tmp_path / "bad.wav"
    write_bad(path, kind)
    with pytest.raises(BadAudio, match=reason) as caught:
        load(path)
    assert isinstance(caught.value, KwsError)
    assert caught.value.name == path.as_posix()
    assert str(caught.value) == f"{path.as_posix()}: {caught.value.reason}"
    assert "\n" not in str(caught.value)


def test_a_raw_file_is_bad_not_a_crash(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"\0" * 100)
    with pytest.raises(BadAudio):
        load(tmp_path / "a.raw")


def test_a_flac_header_of_wrong_length_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, sine(440, 1, RATE), RATE)
    data = bytearray(path.read_bytes())
    data[21:26] = ((data[21] >> 4 << 36) | (1 << 36) - 1).to_bytes(5, "big")  # STREAMINFO's count of samples
    path.write_bytes(data)
    with pytest.raises(BadAudio):
        load(path)


@pytest.mark.parametrize("name", ["126.flac", "142.flac"])
def test_real_corrupt_files_are_bad_with_a_reason(name: str) -> None:
    if "KWS_DATA" not in os.environ:
        pytest.skip("KWS_DATA does not name the folder of real recordings")
    with pytest.raises(BadAudio, match=r"flac decoder") as caught:
        load(Path(os.environ["KWS_DATA"]) / "corrupt" / name)
    assert name in str(caught.value)


def test_every_int16_comes_back_through_float() -> None:
    pcm = np.arange(-32768, 32768).astype(np.int16)
    x = to_float(pcm)
    assert x.dtype == np.float32
    assert (x[0], x[-1]) == (-1, 32767 / 32768)
    assert np.array_equal(to_int16(x), pcm)


def test_to_int16_rounds_and_clips() -> None:
    x = np.array([2.0, 1.0, -1.5, 0.6 / 32768, -0.6 / 32768, 0.4 / 32768], np.float32)
    assert to_int16(x).tolist() == [32767, 32767, -32768, 1, -1, 0]


@given(hnp.arrays(np.int16, st.integers(1, 5000)))
def test_flac_is_lossless(tmp_path_factory: pytest.TempPathFactory, pcm: np.ndarray) -> None:
    path = tmp_path_factory.getbasetemp() / "clip.flac"
    save_flac(path, pcm, RATE)
    assert np.array_equal(read_exactly(path), pcm)
    assert soundfile.info(path).subtype == "PCM_16"


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "clip.flac"
    old, new = np.arange(100, dtype=np.int16), np.zeros(200, np.int16)
    save_flac(path, old, RATE)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            save_flac(path, new, RATE)
        assert np.array_equal(read_exactly(path), old)
        assert list(tmp_path.iterdir()) == [path]
    save_flac(path, new, RATE)
    assert np.array_equal(read_exactly(path), new)
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_depends_on_samples_not_on_the_container(tmp_path: Path) -> None:
    pcm = to_int16(sine(300, 0.3, RATE))
    for name in ("a.wav", "a.flac", "a.aiff"):
        soundfile.write(tmp_path / name, pcm, RATE)
    hashes = {content_hash(to_int16(load(path))) for path in tmp_path.iterdir()}
    assert hashes == {content_hash(pcm)}
    pcm[17] += 1
    assert content_hash(pcm) not in hashes


def test_hash_is_sha256_of_the_little_endian_samples_even_of_a_view() -> None:
    pcm = np.array([1, 9, 2, 9], np.int16)[::2]
    assert content_hash(pcm) == hashlib.sha256(bytes([1, 0, 2, 0])).hexdigest()


def test_loudest_rms_finds_the_burst() -> None:
    x = np.full(4000, 0.01, np.float32)
    x[1024:1536] = 0.5
    assert loudest_rms(x) == pytest.approx(0.5)
    assert loudest_rms(x, window=4000) == pytest.approx(math.sqrt((512 * 0.25 + 3488 * 1e-4) / 4000), rel=1e-5)
    assert loudest_rms(x[:511]) == 0
    assert loudest_rms(np.zeros(0, np.float32)) == 0


def test_a_keyword_is_found_in_silence() -> None:
    x = np.zeros(32000, np.float32)
    x[10000:20000] = sine(440, 10000 / RATE, RATE)
    start, end = keyword_bounds(x, RATE, 1.2)
    assert 10000 - 512 <= start <= 10000
    assert 20000 <= end <= 20000 + 512


def test_a_noisy_recording_is_trimmed_at_a_higher_threshold() -> None:
    x = (0.02 * np.random.default_rng(0).standard_normal(48000)).astype(np.float32)  # about 25 dB below the keyword
    x[20000:30000] += sine(440, 10000 / RATE, RATE)
    start, end = keyword_bounds(x, RATE, 1.2)
    assert abs(start - 20000) <= 512
    assert abs(end - 30000) <= 512


def test_in_constant_noise_the_loudest_window_is_the_keyword() -> None:
    x = sine(440, 3, RATE, 0.4)
    x[16000:24000] *= 1.5
    start, end = keyword_bounds(x, RATE, 1.0)
    assert end - start == RATE
    assert start <= 16000
    assert end >= 24000
