"""Every model: equal scores for clip, stream in any chunks and exported file; published weights and operations."""

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kws.commands import models
from kws.common.errors import KwsError
from kws.config import compose
from kws.data.features import LogMel
from kws.detector.detector import Detector
from kws.detector.files import Format, packed
from kws.detector.torchscript import load_exported
from kws.models.registry import DSTCN, FAMILIES, Ensemble, FrontEndNet, KeywordNet, WindowNet, input_layer, make
from kws.models.summary import measure, weights
from kws.models.windowed import same_padding
from tests import ROOT
from tests.nets import LABELS, as_if_trained, lively, sound


class Averaging(WindowNet):
    """A tiny net that pads in time and averages over its window."""

    def __init__(self, n_rows: int = 40) -> None:
        super().__init__(n_rows, len(LABELS), stride=4, window=30, width=6)
        self.conv, self.norm = nn.Conv1d(n_rows, 6, 5, padding=2), nn.BatchNorm1d(6)
        self.head = nn.Conv1d(6, len(LABELS), 1)

    def embed(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x))).mean(2)


def of(family: str, **shape: Any) -> Callable[[], KeywordNet]:
    return lambda: make(family, 40, len(LABELS), shape)


def ds_tcn(n_rows: int) -> KeywordNet:
    return DSTCN(n_rows, len(LABELS), 8, 5, (1, 2), 2)


def pcen(body: Callable[[int], KeywordNet], trained: bool) -> KeywordNet:
    shape = {"memory_n": 30, "keep": 0.97, "alpha": 0.98, "delta": 2.0, "r": 0.5, "trainable": trained}
    layer = input_layer("pcen", 40, shape)
    for each in layer.parameters():  # as after training: values differ between bands
        each.data += 0.3 * torch.randn(40)
    return FrontEndNet(layer, body(40))


def mfcc(body: Callable[[int], KeywordNet], n_mfcc: int) -> KeywordNet:
    return FrontEndNet(input_layer("mfcc", 40, {"n_mfcc": n_mfcc}), body(n_mfcc))


def beside(body: Callable[[int], KeywordNet]) -> KeywordNet:
    return Ensemble([body(40), pcen(body, False)])


NETS: dict[str, Callable[[], KeywordNet]] = {
    "ds_tcn": of("ds_tcn", channels=8, dilations=(1, 2)),
    "ds_tcn_2d": of("ds_tcn", channels=8, dilations=(1, 2), stem_2d=(3, 4)),
    "ds_tcn_2d of every frame": of("ds_tcn", channels=8, kernel=3, dilations=(1, 2), stem_2d=(3,), stride=1),
    "mdtc": of("mdtc", channels=8, dilations=(1, 2), stacks=2),
    "mdtc of every second frame": of("mdtc", channels=40, dilations=(1, 2), stacks=1, stride=2),
    "bc_resnet": of("bc_resnet", window=40, stride=8),
    "bc_resnet of one group": of("bc_resnet", groups=1, window=30, stride=3),
    "bc_resnet_causal": of("bc_resnet_causal"),
    "bc_resnet_causal of every fifth frame": of("bc_resnet_causal", stride=5),
    "tc_resnet": of("tc_resnet", window=40),
    "ds_cnn": of("ds_cnn", channels=8, window=30),
    "matchboxnet": of("matchboxnet", channels=8, window=40),
    "matchboxnet of even filters, repeated": of("matchboxnet", channels=8, kernels=(4, 6), repeats=2, window=40),
    "window": Averaging,
    "pcen": lambda: pcen(ds_tcn, False),
    "pcen, trained": lambda: pcen(ds_tcn, True),
    "pcen, window": lambda: pcen(Averaging, True),
    "log-mel and pcen": lambda: beside(ds_tcn),
    "log-mel and pcen, window": lambda: beside(Averaging),
    "mfcc": lambda: mfcc(ds_tcn, 13),
    "mfcc, window": lambda: mfcc(Averaging, 13),
}


def lively_detector(name: str) -> Detector:
    """A detector with one of these nets, whose scores vary along `sound`."""
    return Detector(LogMel(), lively(NETS[name]), LABELS, [0.5, 0.75], 5, smooth_k=2)


def test_every_family_is_tested() -> None:
    assert {type(build()) for build in NETS.values()} == {
        *(family.net for family in FAMILIES.values()),
        Averaging,
        Ensemble,
        FrontEndNet,
    }


@pytest.mark.parametrize(("name", "exclusive"), [*((name, False) for name in NETS), ("ds_tcn", True), ("window", True)])
def test_clip_stream_and_exported_file_give_equal_scores(name: str, exclusive: bool) -> None:
    net = lively(NETS[name])
    pcm = sound(60 * 320)
    with torch.no_grad():
        logits, _ = net(LogMel().clips(pcm[None], 160 * net.stride), net.initial_cache(1))
    want = torch.softmax(logits[0].t(), 1)[:, :1] if exclusive else torch.sigmoid(logits[0].t())
    assert (want.amax(0) - want.amin(0)).min() > 0.1, "constant scores would show nothing"
    labels = LABELS[:1] if exclusive else LABELS
    detector = Detector(LogMel(), net, labels, [0.5] * len(labels), 1, exclusive=exclusive)
    file = io.BytesIO(packed(detector, {}, Format.torchscript))  # what an export writes, which would compare it too
    for scorer in (detector, load_exported(file)):
        for chunk_n in (len(pcm), 1280, 777):
            scorer.reset()
            rows = torch.cat([scorer(chunk) for chunk in torch.split(pcm, chunk_n)])
            torch.testing.assert_close(rows, want, rtol=0, atol=1e-5)
        torch.testing.assert_close(scorer.batch(torch.stack([pcm, pcm]))[1], want, rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [2, 15])
@pytest.mark.parametrize("name", NETS)
def test_logits_of_a_clip_are_those_of_its_last_row_in_a_stream(name: str, rows: int) -> None:
    net = as_if_trained(NETS[name], seed=8)
    x = torch.randn(3, 40, rows * net.stride, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(net.last_logits(x), net(x, net.initial_cache(3))[0][:, :, -1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NETS)
def test_a_row_depends_on_its_receptive_field_only(name: str) -> None:
    net = as_if_trained(NETS[name], seed=2)
    n = net.receptive_field + net.stride
    n += -n % net.stride
    x = torch.randn(1, 40, n, generator=torch.Generator().manual_seed(0)).requires_grad_()
    net(x, net.initial_cache(1))[0][0, :, -1].sum().backward()
    assert x.grad is not None
    reached = x.grad[0].abs().sum(0).nonzero().flatten()
    assert n - int(reached[0]) == net.receptive_field


@pytest.mark.parametrize("name", NETS)
def test_a_folded_net_has_equal_scores_and_fewer_norms(name: str) -> None:
    net = as_if_trained(NETS[name], seed=3)
    folded = net.folded()
    x = torch.randn(2, 40, 12 * net.stride, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for made in (folded, folded.folded()):
            for got, want in zip(made(x, net.initial_cache(2)), net(x, net.initial_cache(2)), strict=True):
                torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-5)

    def norms(one: nn.Module) -> int:
        return sum(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in one.modules())

    # Sub-spectral norms, and a norm that `folds` does not list.
    left = (
        2
        if name.startswith("log-mel and pcen, w")
        else 1
        if name.endswith("window")
        else 12
        if name.startswith("bc_resnet")
        else 0
    )
    assert norms(folded) == left
    assert norms(net) > norms(folded) or name.endswith("window")


@pytest.mark.parametrize("name", NETS)
def test_training_mode_has_equal_scores_and_gradients_for_every_weight(name: str) -> None:
    net = as_if_trained(NETS[name], seed=4)
    x = torch.randn(3, 40, 60 * net.stride, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want, _ = net(x, net.initial_cache(3))
    net.train()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.Dropout | nn.Dropout1d):
            part.eval()
    got, _ = net(x, net.initial_cache(3))
    if isinstance(net, WindowNet) and name != "window":  # one row of four is scored, up to the last
        want = want[:, :, [3] * 3 + [row - (row + 1) % 4 for row in range(3, 60)]]
    torch.testing.assert_close(got.unflatten(0, (-1, 3)).mean(0), want, rtol=0, atol=1e-5)  # over members
    got.square().sum().backward()
    untouched = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert untouched == []


@pytest.mark.parametrize("whole", [True, False])
def test_members_of_an_ensemble_learn_from_their_own_logits_alone(whole: bool) -> None:
    net = beside(ds_tcn).train()
    assert isinstance(net, Ensemble)
    x = torch.randn(3, 40, 120, generator=torch.Generator().manual_seed(0))
    logits = net(x, net.initial_cache(3))[0] if whole else net.last_logits(x)
    assert len(logits) == 6
    logits[3:].square().sum().backward()  # those of the second
    first, second = ([p.grad is not None and bool(p.grad.any()) for p in one.parameters()] for one in net.nets)
    assert not any(first)
    assert all(second)


def test_an_ensemble_needs_linear_heads() -> None:
    other = ds_tcn(40)
    other.head = nn.Sequential(other.head)
    with pytest.raises(KwsError, match=r"^DSTCN: must have a head of one Conv1d"):
        Ensemble([ds_tcn(40), other])


@pytest.mark.parametrize(
    ("family", "n_mels", "columns", "shape", "published"),
    [
        ("bc_resnet", 40, 12, {"tau": 1}, 9_232),
        ("bc_resnet", 40, 12, {"tau": 2}, 27_284),
        ("bc_resnet", 40, 12, {"tau": 3}, 54_168),
        ("bc_resnet", 40, 12, {"tau": 8}, 321_068),
        ("bc_resnet_causal", 40, 12, {"tau": 3}, 54_168),
        # 156 k; 155,778 in the authors' code, with 3,280 biases that batch norms make redundant
        ("mdtc", 80, 2, {"channels": 64, "stacks": 4}, 155_778 - 3_280),
        # 66 k with the statistics of the batch norms: two numbers per channel
        ("tc_resnet", 40, 12, {}, 65_180),
        ("ds_cnn", 10, 12, {}, 23_180),
        ("matchboxnet", 64, 30, {}, 77_214),  # 77 k
        ("matchboxnet", 64, 30, {"repeats": 2}, 92_766),  # 93 k
    ],
)
def test_weights_are_the_published_ones(family: str, n_mels: int, columns: int, shape: Any, published: int) -> None:
    net = make(family, n_mels, columns, shape)
    assert weights(net) == published
    if family == "tc_resnet":
        assert round(sum(b.numel() for k, b in net.named_buffers() if "running" in k) + published, -3) == 66_000


@pytest.mark.parametrize(
    ("family", "n_mels", "shape", "operations"),
    [
        ("tc_resnet", 40, {"window": 98}, 3.0e6),
        ("ds_cnn", 10, {"window": 49}, 5.4e6),  # the published number includes other operations
    ],
)
def test_operations_are_the_published_ones(family: str, n_mels: int, shape: Any, operations: float) -> None:
    net = make(family, n_mels, 12, {**shape, "stride": 10})
    assert 2 * measure(net, 0.025, 0.01).macs_per_s / 10 == pytest.approx(operations, rel=0.02)


def test_figures_of_a_net_counted_by_hand() -> None:
    net = make("ds_tcn", 40, 3, {"channels": 8, "kernel": 5, "dilations": (1, 2), "stride": 2})
    found = measure(net, 0.025, 0.01)
    a_row = 40 * 8 * 5 + 2 * (8 * 5 + 8 * 8) + 8 * 3
    assert found.macs_per_s == pytest.approx(50 * a_row)
    assert found.weights == 80 + 40 * 8 * 5 + 16 + 2 * (8 * 5 + 8 * 8 + 16) + 8 * 3 + 3
    assert found.rows_per_s == pytest.approx(50)
    assert found.row_s == pytest.approx(0.02)
    assert found.context_s == pytest.approx(0.025 + 0.01 * (3 + 2 * (1 + 4 * 3) - 1))


def test_windows_cost_the_overlap_and_a_cache_costs_each_frame_once() -> None:
    windows, cache = (measure(make(family, 40, 1, {}), 0.025, 0.01) for family in ("bc_resnet", "bc_resnet_causal"))
    assert windows.weights == cache.weights
    assert 12 < windows.macs_per_s / cache.macs_per_s < 13.5  # there are 12.5 windows of a second a second
    assert (FAMILIES["bc_resnet"].net.streams_from, FAMILIES["bc_resnet_causal"].net.streams_from) == (
        "windows",
        "cache",
    )


class Largest(TorchDispatchMode):
    """Records the size of the largest result of any operation."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


def test_one_pass_over_twenty_seconds_equals_chunks_in_flat_memory() -> None:
    net = as_if_trained(of("bc_resnet"), seed=5)
    x = torch.randn(1, 40, 2000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        with Largest() as seen:
            rows, _ = net(x, net.initial_cache(1))
        cache, chunks = net.initial_cache(1), []
        for piece in torch.split(x, 40, 2):
            made, cache = net(piece, cache)
            chunks.append(made)
    assert rows.shape == (1, 2, 250)
    torch.testing.assert_close(torch.cat(chunks, 2), rows, rtol=0, atol=1e-5)
    assert seen.numbers == 32 * 16 * 20 * 100, "the output of the first convolution for 32 windows"


def test_dropout_acts_in_training_only() -> None:
    net, x = make("bc_resnet_causal", 40, 1, {"dropout": 0.5}), torch.randn(2, 40, 20)
    net.train()
    torch.manual_seed(1)
    first, _ = net(x, net.initial_cache(2))
    torch.manual_seed(1)
    again, _ = net(x, net.initial_cache(2))
    other, _ = net(x, net.initial_cache(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    net.eval()
    assert torch.equal(net(x, net.initial_cache(2))[0], net(x, net.initial_cache(2))[0])


@pytest.mark.parametrize(
    ("n", "kernel", "stride", "dilation", "want"),
    [
        (49, 10, 2, 1, (4, 5)),
        (10, 4, 2, 1, (1, 1)),
        (98, 9, 2, 1, (3, 4)),
        (49, 9, 2, 1, (4, 4)),
        (7, 29, 1, 2, (28, 28)),
    ],
)
def test_padding_equals_that_of_the_published_nets(
    n: int, kernel: int, stride: int, dilation: int, want: tuple[int, int]
) -> None:
    assert same_padding(n, kernel, stride, dilation) == want


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(KwsError, match=r"^rnn: unknown family.*bc_resnet.*plugins="):
        make("rnn", 40, 1, {})


FILES = sorted(file.stem for file in (compose.folder("conf") / "model").glob("*.yaml"))


def test_the_command_lists_every_model_with_its_figures(cli: Any) -> None:
    result = cli("models")
    assert result.code == 0, result.err
    lines = [line.split() for line in result.out.splitlines() if line.strip()]
    rows = {words[0]: words for words in lines if words[0] in FILES}
    assert sorted(rows) == FILES
    for name, size in re.findall(r"(\w+_(\d+)k)", " ".join(FILES)):
        assert int(rows[name][1].replace(",", "")) == pytest.approx(1000 * int(size), rel=0.05)
    assert rows["bc_resnet_8"][1:3] == ["318,241", "321,068"]
    page = (ROOT / "docs" / "models.md").read_text()
    assert all(words in [line.split() for line in page.splitlines()] for words in rows.values()), "docs/models.md"
    found = measure(make("bc_resnet", 40, 1, {"tau": 8}), 0.025, 0.01)
    assert rows["bc_resnet_8"][3:7] == [f"{found.macs_per_s / 1e6:.2f}", "12.5", "1.015", "80"]
    assert rows["bc_resnet_8"][7:] == ["windows", "Kim", "et", "al.,", "2021"]
    assert rows["bc_resnet_causal_1"][3:8] == ["2.40", "50", "1.185", "20", "cache"]


def test_the_command_shows_one_model_with_its_settings(cli: Any) -> None:
    result = cli("models", "model=matchboxnet_3x1x64", "features.n_mels=64", "model.repeats=2", "model.stride=10")
    words = result.out.split()
    at = words.index("matchboxnet_3x1x64")
    assert words[at + 1 : at + 3] == [f"{92_766 - 29 * 129:,}", f"{92_766 - 18 * 129:,}"]
    assert words[at + 4] == "10"
    assert "bc_resnet" not in result.out


def test_the_command_leaves_out_models_that_cannot_use_the_front_end(cli: Any, monkeypatch: Any) -> None:
    names = [name for name in FILES if name.startswith("bc_resnet") or name == "mdtc_30k"]
    monkeypatch.setattr(models, "option_names", lambda *_: names)
    result = cli("models", "features.n_mels=64")
    assert result.code == 0
    assert (
        "bc_resnet_8 is left out: model.groups=5: must be such that features.n_mels=64, or n_mfcc, is a multiple of 40"
        in result.err
    )
    assert "bc_resnet" not in result.out
    assert "mdtc_30k" in result.out


def test_settings_without_a_model_are_refused(cli: Any) -> None:
    result = cli("models", "model.channels=8")
    assert result.code == 2
    assert result.err.startswith("kws: model.channels: its group must be given")
