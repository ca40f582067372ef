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
from kws.models import DSTCN, Fronted, KeywordNet, WindowNet, input_layer


class Averaging(WindowNet):
    """A net that pads in time and averages over its window, as small as it gets."""

    def __init__(self, n_rows: int = 40) -> None:
        super().__init__(n_rows, len(LABELS), stride=4, window=30, width=6)
        self.conv, self.norm = nn.Conv1d(n_rows, 6, 5, padding=2), nn.BatchNorm1d(6)
        self.head = nn.Conv1d(6, len(LABELS), 1)

    def embed(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x))).mean(2)


def ds_tcn(n_rows: int) -> KeywordNet:
    return DSTCN(n_rows, len(LABELS), 8, 5, (1, 2), 2)


def pcen(body: Callable[[int], KeywordNet], trained: bool) -> KeywordNet:
    shape = {"memory_n": 30, "keep": 0.97, "alpha": 0.98, "delta": 2.0, "r": 0.5, "trainable": trained}
    layer = input_layer("pcen", 40, shape)
    for each in layer.parameters():  # as if trained: each band its own
        each.data += 0.3 * torch.randn(40)
    return Fronted(layer, body(40))


def mfcc(body: Callable[[int], KeywordNet], n_mfcc: int) -> KeywordNet:
    return Fronted(input_layer("mfcc", 40, {"n_mfcc": n_mfcc}), body(n_mfcc))


NETS: dict[str, Callable[[], KeywordNet]] = {
    "ds_tcn": lambda: ds_tcn(40),
    "window": Averaging,
    "pcen": lambda: pcen(ds_tcn, False),
    "pcen, trained": lambda: pcen(ds_tcn, True),
    "pcen, window": lambda: pcen(Averaging, True),
    "mfcc": lambda: mfcc(ds_tcn, 13),
    "mfcc, window": lambda: mfcc(Averaging, 13),
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
def test_a_row_depends_on_its_receptive_field_and_on_no_more(name: str) -> None:
    net = as_if_trained(NETS[name], seed=2)
    n = net.receptive_field + net.stride
    n += -n % net.stride
    x = torch.randn(1, 40, n, generator=torch.Generator().manual_seed(0)).requires_grad_()
    net(x, net.initial_cache(1))[0][0, :, -1].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(0).nonzero().flatten()
    assert n - int(reached[0]) == net.receptive_field
