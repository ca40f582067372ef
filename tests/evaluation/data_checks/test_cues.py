"""Cues: features of known sounds, and classes that are, or are not, told apart by them."""

import numpy as np
import pytest

from kws.evaluation.data_checks.cues import FEWEST, cue, features, told_apart
from kws.evaluation.data_checks.finding import Level

RATE = 16000


def burst(rng: np.random.Generator, noise: float) -> np.ndarray:
    """A second of noise at an amplitude, with half a second of louder sound in it."""
    x = noise * rng.standard_normal(RATE)
    x[4000:12000] += rng.uniform(0.1, 0.4) * np.sin(2 * np.pi * rng.uniform(300, 3000) * np.arange(8000) / RATE)
    return x.astype(np.float32)


def test_features_of_known_sounds():
    rng = np.random.default_rng(0)
    quiet, loud = (features(burst(rng, level), RATE) for level in (0.001, 0.01))
    assert loud["level of the noise, dBFS"] - quiet["level of the noise, dBFS"] == pytest.approx(20, abs=1)
    assert quiet["bandwidth, kHz"] == pytest.approx(8, abs=0.1)
    spectrum = np.fft.rfft(burst(rng, 0.01))
    spectrum[4000:] = 0
    narrow = features(np.fft.irfft(spectrum).astype(np.float32), RATE)
    assert narrow["bandwidth, kHz"] == pytest.approx(4, abs=0.3)
    gated = burst(rng, 0.01)
    gated[:3200] = 0
    assert features(gated, RATE)["digital silence, share"] == pytest.approx(0.2, abs=0.03)


def test_features_of_short_and_silent_sounds_are_finite():
    for x in (np.zeros(100, np.float32), np.zeros(RATE, np.float32), np.ones(1, np.float32)):
        assert np.isfinite(list(features(x, RATE).values())).all()


def test_another_noise_level_tells_classes_apart_and_the_same_does_not():
    rng = np.random.default_rng(0)
    first, second, other = (
        [features(burst(rng, level * rng.uniform(0.8, 1.2)), RATE) for _ in range(40)] for level in (0.001, 0.001, 0.01)
    )
    same, apart = cue(first, second), cue(first, other)
    assert same is not None
    assert apart is not None
    assert same.low < 0.5
    assert apart.auc > 0.99
    assert apart.feature == "level of the noise, dBFS"
    assert apart.medians[1] - apart.medians[0] == pytest.approx(20, abs=2)
    assert [one.level for one in (*told_apart(first, second), *told_apart(first, other))] == [Level.note, Level.warning]


def test_few_recordings_show_nothing():
    few = [{"level, dBFS": 1.0}] * (FEWEST - 1)
    assert cue(few, few * 2) is None
    assert told_apart(few, few) == []
