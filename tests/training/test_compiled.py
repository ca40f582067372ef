"""torch.compile: the same training but for rounding."""

import shutil

import pytest
import torch

from kws.common import seeding
from kws.common.errors import KwsError
from kws.models.registry import DSTCN
from kws.training import distributed
from kws.training.distributed import compiled as faster


def losses(called: torch.nn.Module, net: DSTCN) -> list[float]:
    """Losses of five steps of SGD on random frames."""
    optimizer, found = torch.optim.SGD(net.parameters(), lr=0.003), []
    for step in range(5):
        x = torch.randn(4, 40, 40, generator=seeding.generator(0, "frames", step))
        logits, _ = called(x, net.initial_cache(4))
        loss = (logits.mean((1, 2)) - torch.tensor([1.0, -1.0, 1.0, -1.0])).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    return found


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_net_trains_like_a_plain_one() -> None:
    torch.manual_seed(0)
    plain = DSTCN(40, 1, 8, 5, (2,), 2).train()
    other = DSTCN(40, 1, 8, 5, (2,), 2).train()
    other.load_state_dict(plain.state_dict())
    want = losses(plain, plain)
    assert want[-1] < 0.9 * want[0]
    assert losses(faster(other, torch.device("cpu")), other) == pytest.approx(want, abs=1e-5)
    for name, value in other.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], rtol=0, atol=1e-5)


def test_without_a_compiler_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed.shutil, "which", lambda name: None)
    with pytest.raises(KwsError, match=r"^compile=true: must be false on a CPU without a C"):
        faster(torch.nn.Identity(), torch.device("cpu"))
