"""The log-mel front end: agreement with librosa, and frames that depend on their own samples only."""

import math

import librosa
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.data.features import FLOOR, SCALE, SHIFT, UNITS_PER_DB, LogMel
from tests.nets import sound

LOG_MEL = LogMel()


def test_it_agrees_with_librosa() -> None:
    x = sound(32000)
    # librosa centres the window of 400 in its FFT of 512; ours begins with the frame.
    side = (512 - 400) // 2
    mel = librosa.feature.melspectrogram(
        y=np.pad(x.numpy(), side), sr=16000, n_fft=512, win_length=400, hop_length=160, center=False,
        n_mels=40, fmin=60, fmax=7600, htk=True, norm=None, power=2.0, dtype=np.float64,
    )  # fmt: skip
    ours = torch.exp(LOG_MEL(x[None])[0].double() * SCALE - SHIFT) - FLOOR
    assert ours.shape == mel.shape == (40, 198)
    np.testing.assert_allclose(ours, mel, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(LOG_MEL(x[None])[0], (np.log(mel + FLOOR) + SHIFT) / SCALE, atol=2e-5)


@given(n=st.integers(400, 4000), at=st.integers(0, 24))
@settings(max_examples=30, deadline=None)
def test_a_frame_depends_on_its_own_samples_alone(n: int, at: int) -> None:
    x = sound(n, seed=n)
    frames = LOG_MEL(x[None])
    assert frames.shape == (1, 40, (n - 400) // 160 + 1)
    i = at % frames.shape[2]
    alone = LOG_MEL(x[None, 160 * i : 160 * i + 400])
    torch.testing.assert_close(frames[:, :, i : i + 1], alone, rtol=0, atol=2e-6)


def test_clips_of_a_batch_are_independent() -> None:
    a, b = sound(8000, 1), 0.01 * sound(8000, 2)
    torch.testing.assert_close(LOG_MEL(torch.stack([a, b])), torch.cat([LOG_MEL(a[None]), LOG_MEL(b[None])]))


def test_digital_silence_is_the_floor() -> None:
    want = (math.log(FLOOR) + SHIFT) / SCALE
    torch.testing.assert_close(LOG_MEL(torch.zeros(1, 1600)), torch.full((1, 40, 8), want))


def test_a_db_of_gain_is_the_same_step_in_every_band() -> None:
    x = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    moved = LOG_MEL(x * 10 ** (-6 / 20)) - LOG_MEL(x)
    torch.testing.assert_close(moved, torch.full_like(moved, -6 * UNITS_PER_DB), rtol=0, atol=1e-4)


def test_a_tone_is_in_its_band() -> None:
    edges = librosa.mel_frequencies(42, fmin=60, fmax=7600, htk=True)
    for band in (8, 20, 35):
        t = torch.arange(1600) / 16000
        tone = torch.sin(2 * math.pi * float(edges[band + 1]) * t)[None]
        assert set(LOG_MEL(tone)[0].argmax(0).tolist()) == {band}


def test_window_and_hop_follow_the_sample_rate() -> None:
    at_8k = LogMel(sample_rate=8000, n_mels=20, window_s=0.03, hop_s=0.015)
    assert (at_8k.window_n, at_8k.hop_n, at_8k.context_n, at_8k.fft_n) == (240, 120, 120, 256)
    assert at_8k(torch.zeros(2, 240 + 3 * 120)).shape == (2, 20, 4)
