"""Recordings that are audible in a clip sample for sample."""

import numpy as np
import pytest

from kws.data import fingerprints as module
from kws.data.fingerprints import fingerprints

RATE = 16000


def noise(seed: int, seconds: float, level: float = 3000) -> np.ndarray:
    return np.int16(level * np.random.default_rng(seed).standard_normal(int(seconds * RATE)).clip(-8, 8))


KNOWN = fingerprints((name, noise(i, 2.0)) for i, name in enumerate(("a", "b", "c")))


@pytest.mark.parametrize("first", [0, 1, 399, 12345])
@pytest.mark.parametrize("offset", [0, -60])
def test_a_piece_of_a_recording_is_found_wherever_it_begins(first: int, offset: int) -> None:
    piece = noise(1, 2.0)[first : first + 4000]
    clip = np.concatenate([np.zeros(777, np.int16), piece, noise(9, 1.0)])
    assert KNOWN.audible(clip + np.int16(offset)) == "b"


def test_other_sound_and_too_little_of_a_recording_are_not_found() -> None:
    assert KNOWN.audible(noise(9, 4.0)) == ""
    assert KNOWN.audible(np.concatenate([noise(9, 1.0), noise(1, 2.0)[:1000]])) == ""
    assert KNOWN.audible(noise(1, 2.0)[:10]) == ""
    assert fingerprints([]).audible(noise(1, 1.0)) == ""


def test_silence_is_in_no_recording() -> None:
    silent = fingerprints([("silent", np.zeros(RATE, np.int16)), ("faint", noise(3, 1.0, 1.0))])
    assert silent.audible(np.zeros(RATE, np.int16)) == ""
    assert silent.audible(noise(3, 1.0, 1.0)) == ""


def test_the_recording_with_most_of_the_clip_is_named() -> None:
    clip = np.concatenate([noise(0, 2.0)[:6000], noise(2, 2.0)[:16000]])
    assert KNOWN.audible(clip) == "c"


@pytest.mark.parametrize("step_n", [1, 400])
def test_hashes_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch, step_n: int) -> None:
    pcm = noise(0, 0.5)
    (whole,) = module._hashes(pcm, step_n)
    assert len(whole) == len(range(0, len(pcm) - 31, step_n))
    for block_n in (400, 1200, len(pcm) - 31):
        monkeypatch.setattr(module, "_BLOCK_N", block_n)
        np.testing.assert_array_equal(np.concatenate([*module._hashes(pcm, step_n)]), whole)


def test_a_piece_across_two_blocks_of_a_long_clip_is_found() -> None:
    assert KNOWN.audible(np.concatenate([noise(9, 4.95), noise(1, 2.0)[:2000], noise(8, 6.0)])) == "b"


def test_a_window_counts_once_however_often_a_recording_repeats_it() -> None:
    beep = np.int16(8000 * np.sin(2 * np.pi * 400 / RATE * np.arange(RATE)))
    clip = noise(9, 1.0)
    clip[5000:5100] = beep[:100]
    assert fingerprints([("beep", beep)]).audible(clip) == ""


def test_clipped_sound_is_in_no_recording() -> None:
    clipped = [np.int16(32767 * np.sign(noise(i, 1.0, 1.0)[:400] + 0.5)).repeat(20) for i in (1, 2)]
    assert fingerprints([("clipped", clipped[0])]).audible(clipped[1]) == ""
