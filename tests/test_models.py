"""Every model: the same rows for a clip, a stream cut anywhere and an exported file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from nets import LABELS, as_if_trained, sound
from torch import Tensor, nn

from kws.detector import Detector
from kws.exporting import export, load_exported
from kws.features import LogMel
from kws.models import DSTCN, KeywordNet, WindowNet


class Averaging(WindowNet):
    """A net that pads in time and averages over its window, as small as it gets."""

    def __init__(self) -> None:
        super().__init__(40, len(LABELS), stride=4, window=30, width=6)
        self.conv, self.norm = nn.Conv1d(40, 6, 5, padding=2), nn.BatchNorm1d(6)
        self.head = nn.Conv1d(6, len(LABELS), 1)

    def embed(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x))).mean(2)


NETS: dict[str, Callable[[], KeywordNet]] = {
    "ds_tcn": lambda: DSTCN(40, len(LABELS), 8, 5, (1, 2), 2),
    "window": Averaging,
}


@pytest.mark.parametrize("name", NETS)
def test_clip_stream_and_exported_file_are_the_same(name: str, tmp_path: Path) -> None:
    net = as_if_trained(NETS[name], seed=1)
    row_n = 160 * net.stride
    pcm = sound(60 * 320)
    with torch.no_grad():
        logits, _ = net(LogMel().clips(pcm[None], row_n), net.initial_cache(1))
    want = torch.sigmoid(logits[0].t())
    assert want.amax() - want.amin() > 0.1, "a net whose scores do not move proves nothing"
    detector = Detector(LogMel(), net, LABELS, [0.5, 0.5], 1)
    export(detector, tmp_path / "x.pt", {})
    for face in (detector, load_exported(tmp_path / "x.pt")):
        for piece_n in (len(pcm), 1280, 777):
            face.reset()
            rows = torch.cat([face(piece) for piece in torch.split(pcm, piece_n)])
            torch.testing.assert_close(rows, want, rtol=0, atol=1e-5)
        torch.testing.assert_close(face.batch(torch.stack([pcm, pcm]))[1], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_classes_that_exclude_one_another_are_the_same_everywhere_too(name: str, tmp_path: Path) -> None:
    net = as_if_trained(NETS[name], seed=1)
    row_n = 160 * net.stride
    pcm = sound(60 * 320)
    with torch.no_grad():
        logits, _ = net(LogMel().clips(pcm[None], row_n), net.initial_cache(1))
        last = net.judge(LogMel().clips(pcm[None], row_n))
    torch.testing.assert_close(last, logits[:, :, -1], rtol=0, atol=1e-5)
    want = torch.softmax(logits[0].t(), 1)[:, :1]
    assert want.amax() - want.amin() > 0.05, "a net whose scores do not move proves nothing"
    detector = Detector(LogMel(), net, LABELS[:1], [0.5], 1, exclusive=True)
    export(detector, tmp_path / "x.pt", {})
    for face in (detector, load_exported(tmp_path / "x.pt")):
        for piece_n in (len(pcm), 1280, 777):
            face.reset()
            rows = torch.cat([face(piece) for piece in torch.split(pcm, piece_n)])
            torch.testing.assert_close(rows, want, rtol=0, atol=1e-5)
        torch.testing.assert_close(face.batch(torch.stack([pcm, pcm]))[1], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_clip_shorter_than_a_window_is_judged_as_it_ends(name: str) -> None:
    net = as_if_trained(NETS[name], seed=1)
    x = torch.randn(3, 40, 2 * net.stride, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net.judge(x), net(x, net.initial_cache(3))[0][:, :, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_row_depends_on_its_receptive_field_and_on_no_more(name: str) -> None:
    net = as_if_trained(NETS[name], seed=2)
    n = net.receptive_field + net.stride
    n += -n % net.stride
    x = torch.randn(1, 40, n, generator=torch.Generator().manual_seed(0)).requires_grad_()
    net(x, net.initial_cache(1))[0][0, :, -1].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(0).nonzero().flatten()
    assert n - int(reached[0]) == net.receptive_field
