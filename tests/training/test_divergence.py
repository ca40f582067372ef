"""Training stops at the first loss, gradient or weight that is not finite, and keeps the last good state."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kws.detector import checkpoint
from kws.training.optim import OptimConfig
from kws.training.trainer import DivergedError, Task, Trainer
from kws.training.wake_word import WakeWordTask
from tests.commands.test_train import curves

ALONE: Any = SimpleNamespace(
    is_main=True,
    rank=0,
    on_main=lambda work: work(),
    local_rows=torch.arange,
    all_reduce_rows=lambda rows, n: rows,
    backward=lambda loss: loss.backward(),
)


class Diverging(Task):
    """Its loss, its gradient or its weight is not finite at a step."""

    max_grad_norm = 5.0

    def __init__(self, what: str, at: int) -> None:
        self.what, self.at = what, at

    def setup(self, net: nn.Module, dist: Any, compile: bool) -> nn.Module:
        self.net = net
        return net

    def sample(self, step: int) -> range:
        self.step = step
        return range(2)

    def render(self, plan: range, rows: Tensor) -> Tensor:
        return torch.ones(len(rows), 1)

    def loss(self, model: nn.Module, batch: Tensor) -> tuple[Tensor, Tensor]:
        y = model(batch)
        if self.step == self.at and self.what == "loss":
            y = y * math.nan
        if self.step == self.at and self.what == "gradient":
            y = (y * 0).abs().sqrt()
        return y.square().mean() if self.what == "loss" else y.mean(), y.detach()

    def after_step(self, plan: range, batch: Tensor, losses: Tensor, lr: float) -> int:
        if self.step == self.at and self.what == "weight":
            with torch.no_grad():
                next(self.net.parameters()).fill_(math.inf)
        return self.step

    def validate(self, weights: Mapping[str, Tensor], step: int, log: Any) -> None:
        pass


@pytest.mark.parametrize(("what", "saved"), [("loss", 6), ("gradient", 6), ("weight", 6)])
def test_the_last_good_state_is_kept(tmp_path: Path, what: str, saved: int) -> None:
    config, file = OptimConfig(steps=20, warmup=0, save_every=3), tmp_path / "state.pt"
    net, task, rows = nn.Linear(1, 1), Diverging(what, 8), list[int]()
    trainer = Trainer(net, task, config, 0, ALONE, file)  # type: ignore[arg-type]
    with pytest.raises(DivergedError, match=f"^step 8: (the|a) {what} is not finite, at learning rate 0.00"):
        trainer.run(SimpleNamespace(step=rows.append))  # type: ignore[arg-type]
    state = checkpoint.read(file)
    assert state["step"] == saved
    assert all(value.isfinite().all() for value in [*state["net"].values(), *state["average"].values()])
    assert rows == list(range(9 if what == "weight" else 8)), "no row of a step that diverged"


def test_a_run_that_diverged_resumes_with_a_lower_learning_rate(cli, tiny, tmp_path, monkeypatch):
    words = (*tiny, "optim.steps=8", "optim.save_every=3", "mining.rounds=0", "validate_every=null")
    words = (*words, f"out={tmp_path}/run")
    real = WakeWordTask.loss

    def loss(self: WakeWordTask, model: nn.Module, batch: Any) -> tuple[Tensor, Tensor]:
        objective, losses = real(self, model, batch)
        steps.append(len(steps))
        if len(steps) == 7:
            raise KeyboardInterrupt
        return objective, losses * (math.nan if len(steps) == 6 else 1.0)

    steps: list[int] = []
    with monkeypatch.context() as patch:
        patch.setattr(WakeWordTask, "loss", loss)
        said = cli("train", *words)
        assert cli("train", *words).code == 130, "the same command once more, and Ctrl-C"
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("kws: step 5: the loss is not finite, at learning rate 0.00")
    assert "optim.lr below 0.003" in said.err
    refused = cli("train", *words, "seed=1")
    assert (refused.code, "seed=0" in refused.err) == (2, True)
    resumed = cli("train", *words, "optim.lr=0.001")
    assert resumed.code == 0, resumed.err
    assert [row["step"] for row in curves(tmp_path / "run")] == [str(i) for i in range(8)]
    assert "lr: 0.001" in (tmp_path / "run/recipe.yaml").read_text()
    assert "optim.lr=0.002" in cli("train", *words, "optim.lr=0.002").err, "only after it diverged"
