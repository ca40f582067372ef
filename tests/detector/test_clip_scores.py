"""Scores of clips in batches equal those of each clip as a stream."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.data.audio import to_float, to_int16
from kws.detector import clip_scores
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from tests.nets import LABELS, random_detector, sound


def clip(n_samples: int, seed: int) -> np.ndarray:
    return to_int16(sound(n_samples, seed).numpy())


def streamed(detector: Detector, pcm: np.ndarray, chunk_n: int) -> tuple[np.ndarray, np.ndarray]:
    """The highest score of each keyword in a stream, and the embeddings of the rows within 1e-5 of the highest score.

    Silence completes the last row.
    """
    detector.reset()
    rows_n = max(1, -(-len(pcm) // detector.block_n))
    padded = np.zeros(rows_n * detector.block_n, np.float32)
    padded[: len(pcm)] = to_float(pcm)
    outputs = [
        detector.score_and_embed(torch.from_numpy(padded[i : i + chunk_n])) for i in range(0, len(padded), chunk_n)
    ]
    scores = torch.cat([scores for scores, _ in outputs]).numpy()
    hidden = torch.cat([hidden for _, hidden in outputs]).numpy()
    assert len(scores) == rows_n
    return scores.max(0), hidden[scores.max(1) > scores.max() - 1e-5]


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9000) | st.sampled_from([320, 3200, 6400]), min_size=1, max_size=6),
    smooth_n=st.integers(1, 7),
    at_once=st.integers(1, 4),
)
def test_a_batch_scores_each_clip_as_a_stream_does(lengths: list[int], smooth_n: int, at_once: int) -> None:
    detector = random_detector(1, smooth_n)
    clips = [clip(n, seed) for seed, n in enumerate(lengths)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip_scores, "CLIPS_PER_BATCH", at_once)
        scores, embeddings = score_clips(detector, clips)
    assert scores.dtype == embeddings.dtype == np.float32
    assert scores.shape == (len(clips), len(LABELS))
    for i, pcm in enumerate(clips):
        highest, hidden = streamed(detector, pcm, 1111)
        np.testing.assert_allclose(scores[i], highest, atol=1e-5)
        assert np.abs(hidden - embeddings[i]).max(1).min() < 1e-4


def test_the_clips_of_these_tests_differ() -> None:
    scores, embeddings = score_clips(random_detector(1), [clip(8000, seed) for seed in range(20)])
    assert np.ptp(scores, axis=0).min() > 0.02
    assert len(np.unique(embeddings, axis=0)) == 20


def test_no_clips_and_an_empty_clip() -> None:
    detector = random_detector()
    scores, embeddings = score_clips(detector, [])
    assert scores.shape == (0, len(LABELS))
    assert embeddings.shape == (0, detector.model.head.in_channels)
    silence, _ = score_clips(detector, [np.zeros(detector.block_n, np.int16)])
    np.testing.assert_array_equal(score_clips(detector, [np.zeros(0, np.int16)])[0], silence)


def test_a_batch_does_not_change_the_state_of_the_stream() -> None:
    detector, x = random_detector(), sound(8000)
    detector.reset()
    whole = detector(x)
    detector.reset()
    first = detector(x[:3000])
    score_clips(detector, [clip(5000, 1)])
    torch.testing.assert_close(torch.cat([first, detector(x[3000:])]), whole)
