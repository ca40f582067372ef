"""The processes of test_distributed.py: calls of `kws train`, one after another; no test of its own."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from hydra.core.global_hydra import GlobalHydra
from torch import distributed, nn

from kws.commands import train
from kws.data.batch import BatchSampler
from kws.detector import checkpoint
from kws.replay import buffer
from kws.training.distributed import Distributed
from kws.training.trainer import Trainer
from tests import pictures

ROWS = [[0, 1, 2, 3, 4], [5, 6]]  # of a batch of seven, by process


def norms_input() -> torch.Tensor:
    """A batch of seven. Shape: [7, 3, 5]."""
    return torch.randn(7, 3, 5, generator=torch.Generator().manual_seed(0)) * 2 + 3


def norms_net() -> nn.Module:
    """A batch norm within a net."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4), nn.Conv1d(4, 1, 2))


def variables(rank: int, port: int) -> dict[str, str]:
    """What torchrun gives the environment of one of two processes."""
    known = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    known |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "tests"}
    return {name: str(value) for name, value in known.items()}


def norms(ranks: Distributed) -> dict[str, Any]:
    """Two steps of this net; each process has some rows."""
    net = norms_net()
    model = ranks.setup(net)
    for _ in range(2):
        net.zero_grad()
        ranks.backward(model(norms_input()[ROWS[ranks.rank]]).square().sum() / 7)
    state = {name: value.tolist() for name, value in net.state_dict().items()}
    return {"state": state, "grad": [p.grad.tolist() for p in net.parameters() if p.grad is not None]}


def main(calls: Sequence[dict[str, Any]], rank: int, folder: Path) -> None:
    """Make the calls as a process of this rank, which writes records of them to `rank-0.json` or `rank-1.json`.

    Args:
        calls: "words", and "dies_at", the step at which the first process dies, or None.
        rank: of this process.
        folder: of the records.
    """
    records: list[dict[str, Any]] = []
    one: dict[str, Any] = {}
    make, opened, write, step, take = (
        BatchSampler.render,
        buffer.Buffer.__init__,
        checkpoint.write,
        Trainer.train_step,
        Distributed.__init__,
    )

    def made(self: BatchSampler, drawn: Any, replay: Any) -> Any:
        one["rows"].append(len(drawn))
        one["replayed"].append(drawn.replayed.index.tolist())
        return make(self, drawn, replay)

    def open_(self: buffer.Buffer, *args: Any, **more: Any) -> None:
        one["opened"] += 1
        opened(self, *args, **more)

    def written(path: Path, content: Any) -> None:
        one["written"] += 1
        write(path, content)

    def stepped(self: Trainer) -> Any:
        if rank == 0 and self.step == one["dies_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self)

    def taken(self: Distributed, *args: Any) -> None:
        take(self, *args)
        if "norms" not in records[0]:
            records[0]["norms"] = norms(self)

    BatchSampler.render, buffer.Buffer.__init__, checkpoint.write = made, open_, written  # type: ignore[method-assign]
    Trainer.train_step, Distributed.__init__ = stepped, taken  # type: ignore[method-assign]
    distributed.destroy_process_group = lambda: None  # the next call needs the group; new processes would take seconds
    for call in calls:
        one = {"rows": [], "replayed": [], "opened": 0, "written": 0, "code": 0, **call}
        records.append(one)
        GlobalHydra.instance().clear()
        sys.argv = ["kws train", *call["words"]]
        try:
            with pictures.repeated():
                train.main()
        except SystemExit as left:
            one["code"] = left.code
        (folder / f"rank-{rank}.json").write_text(json.dumps(records))
