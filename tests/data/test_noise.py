"""Noise shorter than a clip is repeated: every window is full of it, without steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.data.noise import repeated
from kws.data.streams import compose

RATE = 16000


def hiss(seconds: float, seed: int = 0) -> np.ndarray:
    return (1000 * np.random.default_rng(seed).standard_normal(round(seconds * RATE))).astype(np.int16)


@pytest.mark.parametrize("seconds", [0.05, 0.3, 0.5, 1.0, 1.5])
def test_each_window_of_short_noise_is_as_loud_as_the_noise(seconds: float) -> None:
    x = repeated(hiss(seconds), 2 * RATE, RATE)
    assert len(x) >= 2 * RATE
    levels = x[: len(x) // 400 * 400].astype(float).reshape(-1, 400).std(axis=1)
    assert 800 < levels.min() <= levels.max() < 1250


def test_a_repeat_has_no_step_and_begins_anywhere() -> None:
    slow = (8000 * np.sin(2 * np.pi * 3.3 * np.arange(RATE // 2) / RATE)).astype(np.int16)
    x = repeated(slow, 2 * RATE, RATE).astype(int)
    steps = np.abs(np.diff(x))
    assert steps.max() < 60, "a cut would be a step of thousands"
    period_n = RATE // 2 - 800
    assert len(x) == 2 * RATE + period_n - 1
    assert np.array_equal(x[period_n:], x[: len(x) - period_n])


@given(st.integers(1, 300), st.integers(1, 400))
def test_any_length_is_filled_and_a_longer_noise_stays(t: int, n: int) -> None:
    x = np.arange(1, t + 1).astype(np.int16)
    made = repeated(x, n, RATE)
    assert len(made) >= n
    assert made.all(), "no silence"
    assert made is x or t < n


def test_a_stream_over_short_noise_is_as_loud_everywhere() -> None:
    stream = compose(
        [np.zeros(20 * RATE, np.int16)], [hiss(0.3), hiss(0.5, 1)], np.random.default_rng(0), 0, noise_db=(-30, -30)
    )
    levels = 20 * np.log10(stream.pcm.astype(float).reshape(-1, 800).std(axis=1) / 32768)
    assert levels.max() - levels.min() < 3
