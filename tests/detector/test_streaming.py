"""One pass in large chunks gives the scores and times of the referee, which feeds small chunks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.data.audio import to_float, to_int16
from kws.detector import streaming
from tests.nets import random_detector, sound


def refereed(pcm: np.ndarray, chunk_s: float) -> tuple[list[float], np.ndarray]:
    """Times and scores as the referee records them."""
    detector, step = random_detector(), int(chunk_s * 16000)
    times: list[float] = []
    rows = []
    for i in range(0, len(pcm), step):
        rows.append(detector(torch.from_numpy(to_float(pcm[i : i + step]))))
        times += [min(i + step, len(pcm)) / 16000] * len(rows[-1])
    return times, torch.cat(rows).numpy()


@given(n=st.integers(400, 20000), chunk_s=st.sampled_from([0.01, 0.02, 0.05, 0.08, 0.3]))
@settings(max_examples=20, deadline=None)
def test_scores_and_times_are_the_referees(n: int, chunk_s: float) -> None:
    pcm = to_int16(sound(n, seed=n).numpy())
    times, rows = refereed(pcm, chunk_s)
    tracks = streaming.score_tracks(random_detector(), pcm, 16000, chunk_s)
    for column, keyword in enumerate(("alexa", "computer")):
        np.testing.assert_allclose(tracks[keyword].scores, rows[:, column], rtol=0, atol=1e-5)
        np.testing.assert_array_equal(tracks[keyword].times, times)
        assert tracks[keyword].duration_s == n / 16000


def test_each_pass_begins_in_silence() -> None:
    detector, pcm = random_detector(), to_int16(sound(16000).numpy())
    whole = streaming.score_pcm(detector, pcm, 16000)
    assert whole.shape == (50, 2)
    np.testing.assert_allclose(streaming.score_pcm(detector, pcm, 16000, chunk_s=0.0137), whole, rtol=0, atol=1e-5)


def test_a_row_is_known_at_the_end_of_its_chunk() -> None:
    # 80 ms chunks of 1280 samples hold 4 rows of 320; the stream ends within the third.
    times = streaming.row_times(10, 320, 3300, 16000, 0.08)
    np.testing.assert_array_equal(times, [0.08] * 4 + [0.16] * 4 + [3300 / 16000] * 2)


@pytest.mark.parametrize("n", [0, 1, 319])
def test_a_stream_shorter_than_a_row_has_none(n: int) -> None:
    assert streaming.score_pcm(random_detector(), np.zeros(n, np.int16), 16000).shape == (0, 2)
