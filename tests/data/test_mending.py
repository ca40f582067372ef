"""Sound as people have it: what is mended gives the same samples whole and in blocks, what is not is named."""

import math
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data import audio
from kws.data.audio import BadAudio, cut, length_s, load, pcm_blocks, to_int16
from kws.data.audio_cache import pack
from kws.data.manifest import Recording, Split
from kws.data.mending import Fault, listed, silent_samples

RATE = 16000
T = np.arange(RATE) / RATE
WORD = (0.5 * np.sin(2 * np.pi * 440 * T) * np.sin(np.pi * T) ** 2).astype(np.float32)


def written(path: Path, x: np.ndarray, subtype: str = "PCM_16", rate: int = RATE) -> Path:
    soundfile.write(path, x, rate, subtype=subtype)
    return path


def read(path: Path) -> tuple[np.ndarray, set[Fault]]:
    """The samples of a recording, which are the same in blocks, and its faults."""
    faults, again = set[Fault](), set[Fault]()
    x = load(path, RATE, faults)
    blocks = list(pcm_blocks(path, RATE, 700, again))
    assert np.array_equal(np.concatenate(blocks), to_int16(x))
    assert again == faults
    return x, faults


def test_mostly_digital_silence_is_noted(tmp_path: Path) -> None:
    word, silence = np.concatenate([WORD, 0 * WORD]), np.zeros(20 * RATE, np.float32)
    assert read(written(tmp_path / "a.wav", np.concatenate([silence, word, silence])))[1] == {Fault.silence}
    assert read(written(tmp_path / "b.wav", np.concatenate([silence, np.tile(word, 15)])))[1] == set()
    hum = np.tile(np.float32([0, 4]) / 32768, 5 * RATE)
    assert silent_samples(hum, RATE, 1.0) == silent_samples(to_int16(hum), RATE) == len(hum)
    assert silent_samples(to_int16(1.25 * hum), RATE) == 0


@pytest.mark.parametrize("block_n", [1 << 20, 5000])
@pytest.mark.parametrize(
    ("change", "subtype", "faults"),
    [
        (lambda x: x, "PCM_16", set()),
        (lambda x: np.stack([x, -x], 1), "PCM_16", {Fault.antiphase}),
        (lambda x: np.stack([x, 0 * x, -x, 0 * x], 1), "PCM_16", {Fault.antiphase}),
        (lambda x: np.stack([x, x], 1), "PCM_16", set()),
        (lambda x: x + 0.05, "PCM_16", {Fault.offset}),
        (lambda x: np.stack([x + 0.05, 0.05 - x], 1), "PCM_16", {Fault.antiphase, Fault.offset}),
        (lambda x: x * 32768, "FLOAT", {Fault.scaled}),
        (lambda x: x * 2.0**31, "DOUBLE", {Fault.scaled}),
        (lambda x: x * 32768 + 1500, "FLOAT", {Fault.scaled, Fault.offset}),
    ],
)
def test_a_mended_recording_has_the_samples_of_the_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change, subtype: str, faults: set[Fault], block_n: int
) -> None:
    monkeypatch.setattr(audio, "_BLOCK_N", block_n)
    x, found = read(written(tmp_path / "a.wav", change(WORD), subtype))
    assert found == faults
    np.testing.assert_allclose(x, WORD, atol=1e-3 if Fault.offset in faults else 4e-5)


def test_half_of_a_pair_of_channels_is_at_half_the_level(tmp_path: Path) -> None:
    x, faults = read(written(tmp_path / "a.wav", np.stack([WORD, 0 * WORD], 1)))
    np.testing.assert_allclose(x, WORD / 2, atol=4e-5)
    assert not faults


def test_a_mix_beyond_full_scale_is_brought_down_and_a_few_spikes_are_clipped(tmp_path: Path) -> None:
    x, faults = read(written(tmp_path / "a.wav", 6 * WORD, "FLOAT"))
    np.testing.assert_allclose(x, WORD / np.abs(WORD).max(), atol=1e-5)
    assert faults == {Fault.scaled}
    spiked = WORD.copy()
    spiked[[5000, 9000]] = 1e6
    x, faults = read(written(tmp_path / "b.wav", spiked, "FLOAT"))
    assert (x.max(), faults) == (1, set())
    np.testing.assert_allclose(np.delete(x, [5000, 9000]), np.delete(WORD, [5000, 9000]), atol=1e-5)


def test_quiet_and_clipped_recordings_are_read_and_noted(tmp_path: Path) -> None:
    x, faults = read(written(tmp_path / "quiet.wav", WORD / 1000, "PCM_24"))
    np.testing.assert_allclose(x, WORD / 1000, atol=4e-5)
    assert faults == {Fault.quiet}
    x, faults = read(written(tmp_path / "loud.wav", np.clip(9 * WORD, -1, 1)))
    assert faults == {Fault.clipped}


@pytest.mark.parametrize(
    ("x", "subtype", "reason"),
    [
        (0 * WORD, "PCM_16", "silent"),
        (0 * WORD + 0.1, "PCM_16", "silent"),
        (np.repeat(np.float32([0.1, -0.2]), 10 * RATE), "PCM_16", "silent"),
        ((np.random.default_rng(0).integers(-1, 2, RATE) / 32768).astype(np.float32), "PCM_16", "silent"),
        (np.where(T[99] == T, np.nan, WORD), "FLOAT", "NaN"),
        (WORD * 1e30, "FLOAT", "beyond the range of any format"),
    ],
)
def test_unusable_sound_is_bad(tmp_path: Path, x: np.ndarray, subtype: str, reason: str) -> None:
    path = written(tmp_path / "a.wav", x, subtype)
    for reading in (load, lambda path: list(pcm_blocks(path, RATE, 700)), lambda path: list(pcm_blocks(path, 8000, 7))):
        with pytest.raises(BadAudio, match=reason):
            reading(path)


def wav(path: Path, pcm: np.ndarray, riff: int, data: int, after: bytes = b"") -> Path:
    """A WAV file with these sizes in its header."""
    form = struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + form + b"data" + struct.pack("<I", data)
    path.write_bytes(head + pcm.astype("<i2").tobytes() + after)
    return path


PCM = to_int16(np.tile(WORD, 3))


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0x7FFFFFFF, 2 * len(PCM) + 100, 20000])
def test_a_header_that_was_never_finished_is_not_the_end(tmp_path: Path, size: int) -> None:
    path = wav(tmp_path / "a.wav", PCM, size, size)
    x, faults = read(path)
    assert faults == {Fault.unfinished}
    assert np.array_equal(to_int16(x), PCM)
    assert length_s(path) == 3
    assert np.array_equal(cut(path, RATE, 1, 2), PCM[RATE : 2 * RATE])


def edited(path: Path, *edits: tuple[int, bytes]) -> Path:
    """A file with some bytes replaced."""
    content = bytearray(path.read_bytes())
    for at, new in edits:
        content[at : at + len(new)] = new
    path.write_bytes(content)
    return path


ZEROS, ONES, OLD = bytes(8), b"\xff" * 8, struct.pack("<Q", 20000)


@pytest.mark.parametrize(
    ("format_", "edits"),  # where the headers of libsndfile have their lengths
    [
        *[("RF64", [(20, size), (28, size), (36, size)]) for size in (ZEROS, ONES, OLD)],
        *[("W64", [(16, size), (96, size)]) for size in (ZEROS, ONES, OLD)],
        ("AU", [(8, ZEROS[:4])]),
        ("AU", [(8, ONES[:4])]),
        *[("CAF", [(4084, size)]) for size in (ZEROS, ONES)],
        *[("AIFF", [(4, size[:4]), (22, size[:4]), (42, size[:4])]) for size in (ZEROS, ONES)],
        ("FLAC", [(21, b"\xf0" + ZEROS[:4])]),
        ("FLAC", [(21, b"\xf0" + ZEROS[:4]), (26, 2 * ZEROS)]),
    ],
)
def test_formats_of_other_recorders_are_read_to_the_end(tmp_path: Path, format_: str, edits: list) -> None:
    path = tmp_path / f"a.{format_.lower()}"
    soundfile.write(path, PCM, RATE, format=format_, subtype="PCM_16")
    x, faults = read(edited(path, *edits))
    assert np.array_equal(to_int16(x), PCM)
    assert faults <= {Fault.unfinished}
    assert bool(faults) or format_ in ("W64", "AIFF", "AU"), "libsndfile reads these by itself"
    assert np.array_equal(cut(path, RATE, 1, 2), PCM[RATE : 2 * RATE])
    assert length_s(path) == (0 if format_ == "FLAC" else 3), "the header of FLAC does not give it"


@pytest.mark.parametrize("subtype", ["PCM_24", "FLOAT", "ULAW"])
def test_unfinished_samples_of_other_types(tmp_path: Path, subtype: str) -> None:
    for format_, at in (("RF64", 28), ("AU", 8), ("CAF", 4084)):
        path = tmp_path / f"a.{format_.lower()}"
        soundfile.write(path, np.stack([WORD, WORD / 2], 1), RATE, format=format_, subtype=subtype)
        whole = load(path)
        x, faults = read(edited(path, (at, ZEROS[: 4 if format_ == "AU" else 8])))
        assert np.array_equal(x, whole), format_
        assert faults == {Fault.unfinished}


def caf(rate: float = RATE, channels: int = 1) -> bytes:
    desc = struct.pack(">d4s5I", rate, b"lpcm", 2, 2, 1, channels, 16)
    chunk = b"desc" + struct.pack(">q", len(desc)) + desc
    return b"caff\0\1\0\0" + chunk + b"data" + struct.pack(">qI", -1, 0) + PCM.tobytes()


def test_a_header_with_a_rate_beyond_measure_is_bad(tmp_path: Path) -> None:
    path = tmp_path / "a.caf"
    path.write_bytes(caf())
    assert np.array_equal(to_int16(read(path)[0]), PCM)
    au = [struct.pack(">4s5I", b".snd", 24, 0, 3, *one) + PCM.tobytes() for one in ((2**32 - 1, 1), (RATE, 2**32 - 1))]
    rates = [caf(rate) for rate in (math.inf, -math.inf, 1e300, -1.0, 0.0, math.nan)]
    for content in (*rates, caf(channels=0), caf(channels=2**32 - 1), *au):
        path.write_bytes(content)
        with pytest.raises(BadAudio):
            load(path)


def test_a_cut_of_a_file_of_unknown_length_holds_no_more_than_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.tile(PCM, 40), RATE)
    edited(path, (21, b"\xf0" + ZEROS[:4]))
    tracemalloc.start()
    assert np.array_equal(cut(path, RATE, 61, 62), PCM[RATE : 2 * RATE])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6, "4 bytes for each of 1,920,000 samples are more"
    assert len(cut(path, RATE, 121, 122)) == 0


def test_flac_of_a_recorder_that_was_killed_is_read_to_its_last_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    hiss = np.random.default_rng(0).integers(-9000, 9000, 10 * RATE).astype(np.int16)
    soundfile.write(path, hiss, RATE)
    edited(path, (21, b"\xf0" + ZEROS[:4]))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    x, faults = read(path)
    assert faults == {Fault.unfinished}
    assert len(x) > 4.4 * RATE
    assert np.array_equal(to_int16(x), hiss[: len(x)])
    assert np.array_equal(cut(path, RATE, 1, 9), hiss[RATE : len(x)])


@pytest.mark.parametrize("after", [b"", b"LIST\x04\0\0\0INFO", b"TAG" + b"\0" * 125])
def test_what_follows_the_samples_is_not_sound(tmp_path: Path, after: bytes) -> None:
    x, faults = read(wav(tmp_path / "a.wav", PCM, 36 + 2 * len(PCM) + len(after), 2 * len(PCM), after))
    assert (len(x), faults) == (len(PCM), set())
    with pytest.raises(BadAudio, match="empty"):
        load(wav(tmp_path / "b.wav", PCM[:0], 36 + len(after), 0, after if after[:1] != b"T" else b""))


def test_faults_are_counted_and_kept_with_the_sound(tmp_path: Path) -> None:
    made = [WORD + 0.05, WORD / 2 + 0.05, WORD / 1000, WORD]
    recordings = [
        Recording(written(tmp_path / f"{i}.wav", x, "PCM_24"), f"{i}.wav", "word", Split.TRAIN)
        for i, x in enumerate(made)
    ]
    for _ in range(2):
        faults = pack(recordings, tmp_path / "cache").faults
        assert faults == {"0.wav": [Fault.offset], "1.wav": [Fault.offset], "2.wav": [Fault.quiet]}
    assert listed({Fault.offset: 2, Fault.quiet: 1}) == "2 with a constant offset (removed), 1 quieter than -54 dBFS"
