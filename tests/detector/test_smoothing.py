"""Smoothing against plain loops, in the stream, in the export and in the loss."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data.audio import to_int16
from kws.data.features import LogMel
from kws.detector import streaming
from kws.detector.detector import Detector
from kws.detector.files import export
from kws.detector.smoothing import smoothed
from kws.detector.torchscript import load_exported
from kws.training.loss import max_pooling_loss
from tests.nets import LABELS, random_net, sound


@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.integers(1, 8), st.data())
def test_k_of_n_reaches_a_threshold_where_k_of_the_last_n_rows_do(
    values: list[int], n: int, data: st.DataObject
) -> None:
    k, threshold = data.draw(st.integers(1, n)), data.draw(st.integers(1, 9))
    rows = torch.tensor([0.0] * (n - 1) + [float(v) for v in values])[:, None]
    by_hand = [sum(v >= threshold for v in values[max(0, i - n + 1) : i + 1]) >= k for i in range(len(values))]
    assert (smoothed(rows, n, k)[:, 0] >= threshold).tolist() == by_hand


def test_the_mean_by_hand() -> None:
    assert smoothed(torch.tensor([[0.0], [3.0], [6.0], [0.0]]), 3, 0)[:, 0].tolist() == [3.0, 3.0]


def detector(n: int, k: int) -> Detector:
    return Detector(LogMel(), random_net(), LABELS, [0.5, 0.5], n, k)


def test_k_of_n_gives_equal_scores_in_chunks_in_batches_and_exported(tmp_path) -> None:
    pcm = to_int16(sound(40_000).numpy())
    raw = streaming.score_pcm(detector(1, 0), pcm, 16000)
    padded = np.concatenate([np.zeros((4, 2), np.float32), raw])
    want = np.stack([np.sort(padded[i : i + 5], axis=0)[-2] for i in range(len(raw))])
    export(detector(5, 2), tmp_path / "d.pt", {})
    for scorer in (detector(5, 2), load_exported(tmp_path / "d.pt")):
        for chunk_s in (20.0, 0.0137):
            np.testing.assert_allclose(streaming.score_pcm(scorer, pcm, 16000, chunk_s), want, rtol=0, atol=1e-5)
        np.testing.assert_allclose(streaming.score_batch(scorer, [pcm])[0], want, rtol=0, atol=1e-5)


def test_the_loss_requires_k_rows() -> None:
    logits = torch.full((1, 1, 12), -8.0)
    logits[0, 0, 6:8] = 8.0  # two rows

    def loss(k: int) -> float:
        rows = torch.tensor([4]), torch.tensor([7])
        return float(max_pooling_loss(logits, torch.tensor([[1.0]]), *rows, 1, 2, 5, k)[0])

    assert loss(2) < 0.01
    assert loss(3) > 5


def test_smooth_k_above_smooth_n_is_refused(cli, tiny, run, tmp_path) -> None:
    with pytest.raises(KwsError, match="smooth_k=6: must be between 0"):
        detector(5, 6)
    result = cli("train", *tiny, "model.smooth_k=9", f"out={tmp_path}/run")
    assert (result.code, result.err) == (
        2,
        "kws: model.smooth_k=9: must be between 0 and 5, the rows of 20 ms in model.smooth_s=0.1\n",
    )
    for name in "pen":
        (tmp_path / name).touch()
    files = [f"{key}={tmp_path}/{key[0]}" for key in ("positive", "events", "negative")]
    result = cli("evaluate", f"detector={run}/detector.pt", "smooth_k=2", *files)
    assert result.code == 2
    assert result.err.startswith("kws: smooth_s, smooth_k: need a checkpoint")
    result = cli("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/d.pt", "smooth_k=2")
    assert result.code == 2
    assert "thresholds=... must be given" in result.err
    result = cli("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/d.pt", "smooth_k=2", "thresholds=0.4")
    assert result.code == 0, result.err
    exported = load_exported(tmp_path / "d.pt")
    assert (exported.smooth_k, exported.smooth_n) == (2, 5)
