"""Clip, stream and exported file give equal scores, for any chunks of the stream."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kws.data.features import LogMel
from kws.detector.detector import Detector
from kws.detector.files import export
from kws.detector.torchscript import load_exported
from kws.models.ds_tcn import DSTCNConfig
from kws.models.registry import DSTCN
from tests.nets import LABELS, random_detector, random_net, sound


@pytest.fixture(scope="module")
def scorers(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """A detector, and its exported file."""
    detector = random_detector()
    path: Path = tmp_path_factory.mktemp("export") / "detector.pt"
    export(detector, path, {})
    return [detector, load_exported(path)]


def as_clip(net: DSTCN, pcm: Tensor, smooth_n: int) -> Tensor:
    """Scores of a clip by the net of training, smoothed by hand; rows before the clip score 0."""
    with torch.no_grad():
        logits, _ = net(LogMel().clips(pcm[None], 320), net.initial_cache(1))
    scores = torch.sigmoid(logits[0].t())
    rows = [scores[max(0, i + 1 - smooth_n) : i + 1].sum(0) / smooth_n for i in range(len(scores))]
    return torch.stack(rows)


@pytest.mark.parametrize("smooth_n", [1, 5])
def test_clip_and_stream_give_equal_scores(smooth_n: int) -> None:
    pcm = sound(16000)
    detector = random_detector(smooth_n=smooth_n)
    rows = detector(pcm)
    assert rows.shape == (50, 2)
    assert rows.dtype == torch.float32
    assert rows[10:].amax() - rows[10:].amin() > 0.4, "constant scores would show nothing"
    torch.testing.assert_close(rows, as_clip(random_net(), pcm, smooth_n), rtol=0, atol=1e-5)


def test_the_default_net_streams_exactly_and_is_small() -> None:
    model = DSTCNConfig()
    net = random_net(3, model.channels, model.kernel, tuple(model.dilations))
    assert sum(p.numel() for p in net.parameters()) <= 60_000
    detector = Detector(LogMel(), net, LABELS, [0.5, 0.5], 5)
    pcm = sound(40000)
    rows = torch.cat([detector(piece) for piece in torch.split(pcm, 1280)])
    assert rows[70:].std() > 0.02
    torch.testing.assert_close(rows, as_clip(net, pcm, 5), rtol=0, atol=1e-5)


sizes = st.one_of(st.integers(0, 2), st.integers(159, 161), st.integers(319, 321), st.integers(0, 5000))


@given(cuts=st.lists(sizes, max_size=40))
@example(cuts=[0, 0, 1, 0, 319, 1, 0])
@example(cuts=[1] * 700)
@settings(max_examples=25, deadline=None)
def test_chunks_do_not_change_scores(scorers: list[Any], cuts: list[int]) -> None:
    pcm = sound(9000)
    want = as_clip(random_net(), pcm, 5)
    for detector in scorers:
        detector.reset()
        rows, at = [], 0
        for n in [*cuts, len(pcm)]:
            piece = pcm[at : at + n]
            before, at = at // 320, min(len(pcm), at + n)
            rows.append(detector(piece))
            assert rows[-1].shape == (at // 320 - before, 2), "a row is returned with the chunk that completes it"
        torch.testing.assert_close(torch.cat(rows), want, rtol=0, atol=1e-5)


def test_reset_restores_silence(scorers: list[Any]) -> None:
    first, second = sound(5000, 1), sound(5000, 2)
    for detector in scorers:
        detector.reset()
        fresh = detector(first)
        detector.reset()
        detector(second)
        stale = detector(first)[: len(fresh)]
        assert (stale - fresh).abs().max() > 1e-2, "without a reset the past changes scores"
        detector.reset()
        assert torch.equal(detector(first), fresh)


def scores_of(detector: Any, pcm: Tensor) -> Tensor:
    detector.reset()
    rows: Tensor = detector(pcm)
    return rows


def test_samples_of_any_type_and_shape_are_audio(scorers: list[Any]) -> None:
    pcm16 = (32767 * sound(5000)).to(torch.int16)
    pcm = pcm16 / 32768
    bytes_ = (128 + 127 * sound(5000)).to(torch.uint8)
    for detector in scorers:
        want = scores_of(detector, pcm)
        int32 = pcm16.to(torch.int32) * 2**16
        for same in (pcm[None], pcm[:, None], pcm.double(), pcm16, pcm16[:, None], int32):
            assert torch.equal(scores_of(detector, same), want)
        assert torch.equal(scores_of(detector, bytes_), scores_of(detector, (bytes_.float() - 128) / 128))
        half = scores_of(detector, pcm.half())
        assert half.dtype == torch.float32
        torch.testing.assert_close(half, want, rtol=0, atol=1e-3)
        assert torch.equal(detector.batch(pcm16[None]), detector.batch(pcm[None]))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e30, -2e3])
def test_a_sample_beyond_all_measure_is_silence(scorers: list[Any], value: float) -> None:
    pcm = sound(5000)
    broken, quiet = pcm.clone(), pcm.clone()
    broken[[7, 2000, 2001]], quiet[[7, 2000, 2001]] = value, 0
    for detector in scorers:
        assert torch.equal(scores_of(detector, broken), scores_of(detector, quiet))
        assert torch.equal(detector.batch(broken[None]), detector.batch(quiet[None]))


@pytest.mark.parametrize("shape", [(), (2, 100), (100, 2), (0, 2), (1, 1, 100)])
def test_other_shapes_are_refused(scorers: list[Any], shape: tuple[int, ...]) -> None:
    for detector in scorers:
        with pytest.raises((ValueError, torch.jit.Error), match=r"pcm: must be one channel of audio, \[n\], \[1, n\]"):
            detector(torch.zeros(shape))
        with pytest.raises((ValueError, torch.jit.Error), match=r"pcm: must be samples of type float32"):
            detector(torch.zeros(100, dtype=torch.int64))


def test_a_row_depends_on_its_receptive_field_only() -> None:
    detector = random_detector(seed=11)
    pcm, end = sound(12800), 30 * detector.block_n
    oldest = end - detector.reach_n
    pcm[: oldest + 240] = 0  # after silence, audio is a large change

    def row(at: int, n: int) -> Tensor:
        """Row 29 with `n` other samples from `at`."""
        changed = pcm.clone()
        changed[at : at + n] = 0.5 * torch.randn(n, generator=torch.Generator().manual_seed(5))
        detector.reset()
        rows: Tensor = detector(changed)
        return rows[29]

    want = row(0, 0)
    assert oldest > 0
    torch.testing.assert_close(row(0, oldest), want, rtol=0, atol=1e-6)
    torch.testing.assert_close(row(end, 300), want, rtol=0, atol=1e-6)
    assert (row(oldest, 160) - want).abs().max() > 1e-4
    assert (row(end - 160, 160) - want).abs().max() > 1e-4


def test_the_detector_is_a_copy() -> None:
    net, pcm = random_net(), sound(4000)
    detector = Detector(LogMel(), net, LABELS, [0.5, 0.5], 5)
    want = detector(pcm)
    with torch.no_grad():
        for weight in net.parameters():
            weight.zero_()
    detector.reset()
    assert torch.equal(detector(pcm), want)
    assert isinstance(net.norm, nn.BatchNorm1d), "the trained net keeps its batch norms"
