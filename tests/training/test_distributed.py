"""Training with two processes: the same weights as with one, one writer, resume with another number."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kws.common.errors import KwsError
from kws.detector import checkpoint
from kws.training.distributed import Distributed, fabric, lacks_bfloat16, together
from kws.training.trainer import Trainer
from tests import ROOT, under_torchrun
from tests.commands.test_train import EVERY, curves, known, rows, train_in
from tests.forks import forked
from tests.kill import death
from tests.nets import random_net
from tests.under_torchrun import norms_input, norms_net, variables

CPU = torch.device("cpu")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


@dataclass(frozen=True)
class Ended:
    """Exit codes of two processes, what they printed, and their records for each call."""

    codes: list[int]
    out: str
    ranks: list[list[dict[str, Any]]]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def call(*words: str, dies_at: int | None = None) -> dict[str, Any]:
    return {"words": words, "dies_at": dies_at}


@pytest.fixture(scope="module")
def uneven(tiny) -> tuple[str, ...]:
    """An ensemble, batches that two processes cannot divide evenly, all sources and ways out of the buffer."""
    return (*[w for w in tiny if not w.startswith("batch.size")], "batch.size=17", "features=log_mel_pcen", *EVERY)


@pytest.fixture(scope="module")
def two(cli, tiny, uneven, tmp_path_factory) -> tuple[Path, Ended]:
    """Runs of two processes: uninterrupted, with all of replay, resumed from one process, and one that dies."""
    folder = tmp_path_factory.mktemp("two")
    with death(Trainer, "train_step", 14, True):
        cli("train", *tiny, f"out={folder}/begun_by_one")
    calls = [
        call(*tiny, f"out={folder}/refused", "optim.lr=high"),
        call(*tiny, f"out={folder}/whole"),
        call(*uneven, f"out={folder}/uneven"),
        call(*tiny, f"out={folder}/begun_by_one"),
        call(*tiny, f"out={folder}/begun_by_two", dies_at=13),
    ]
    works = [partial(under_torchrun.main, calls, rank, folder) for rank in range(2)]
    codes = forked(works, [variables(rank, port) for port in [free_port()] for rank in range(2)], folder / "log")
    records = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(2)]
    return folder, Ended(codes, (folder / "log").read_text(), records)


def alike(out: Path, other: Path, clips: float = 1.0) -> None:
    """Assert that two runs have equal losses, weights as near as AdamW leaves them, and equal buffers.

    Losses agree to 1e-4 in the first four steps, and to 2e-2 later: AdamW can enlarge a rounding difference a
    hundredfold in one step, which depends on the processor. Counts and rates agree to 1e-6.

    `clips` is the share of clips that must be equal: rounding decides between clips of nearly equal scores.
    """
    a, b = (checkpoint.read(folder / "model.pt")["model"] for folder in (out, other))
    assert a.keys() == b.keys()
    for name in a:
        # Where a gradient is next to nothing, AdamW makes a whole step of its rounding. A variance sums what follows.
        rtol = 2e-2 if name.endswith("running_var") else 1e-3
        torch.testing.assert_close(a[name], b[name], rtol=rtol, atol=1e-3, msg=lambda text, at=name: f"{at}: {text}")
    for mine, theirs in zip(curves(out), curves(other), strict=True):
        for column, value in mine.items():
            near = (1e-4 if int(mine["step"]) < 4 else 2e-2) if column.startswith(("loss", "gradient")) else 1e-6
            assert float(value) == pytest.approx(float(theirs[column]), rel=near, abs=near), (mine["step"], column)
    if clips < 1:
        first, second = ({clip["hash"] for clip in known(folder)} for folder in (out, other))
        assert len(first & second) >= clips * max(len(first), len(second))
        return
    for mine, theirs in zip(known(out), known(other), strict=True):
        assert mine["hash"] == theirs["hash"]
        assert mine["times_drawn"] == theirs["times_drawn"]
        assert [(h["round"], h["state"]) for h in mine["history"]] == [
            (h["round"], h["state"]) for h in theirs["history"]
        ]


def test_two_processes_train_like_one(run, two):
    folder, done = two
    assert [[one["code"] for one in rank[1:4]] for rank in done.ranks] == [[0, 0, 0]] * 2, done.out
    alike(run, folder / "whole")


def test_each_clip_is_replayed_by_one_process(run, two):
    first, second = (rank[1] for rank in two[1].ranks)
    replayed = [int(row["replayed"]) for row in curves(run)]
    for mine, theirs, n in zip(first["replayed"], second["replayed"], replayed, strict=True):
        assert not set(mine) & set(theirs)
        assert len(mine) + len(theirs) == n
    assert sum(map(len, second["replayed"])) > 10
    assert {a + b for a, b in zip(first["rows"], second["rows"], strict=True)} == {16}


def test_only_rank_0_writes(two):
    first, second = two[1].ranks
    assert all(one["opened"] == one["written"] == 0 for one in second)
    assert [one["opened"] for one in first] == [0, 3, 3, 3], "the run's, the model's and the report's"
    assert all(one["written"] > 3 for one in first[1:])


def test_uneven_batches_with_all_of_replay(cli, uneven, two, tmp_path):
    train_in(cli, tmp_path / "one", *uneven)
    alike(tmp_path / "one", two[0] / "uneven", clips=0.8)
    sizes = [one["rows"] for one in (two[1].ranks[0][2], two[1].ranks[1][2])]
    assert [set(some) for some in sizes] == [{9}, {8}]
    assert {row.kind for row in rows(two[0] / "uneven")} == {"false_trigger", "batch_hard", "neighbour"}
    first, second = (curves(f, "share.csv") for f in (tmp_path / "one", two[0] / "uneven"))
    assert [(row["step"], row["after"]) for row in first] == [(row["step"], row["after"]) for row in second]


def test_two_processes_resume_a_run_of_one(run, two):
    alike(run, two[0] / "begun_by_one")
    first, second = (rank[3]["rows"] for rank in two[1].ranks)
    assert len(first) == len(second) == 14, "from the checkpoint of step 10 on"


def test_one_process_resumes_a_killed_run_of_two(cli, tiny, run, two):
    folder, done = two
    assert done.codes[0] == -signal.SIGKILL
    assert done.codes[1] != 0
    assert len(done.ranks[0]) == 4, "the last call did not end"
    out = Path(shutil.copytree(folder / "begun_by_two", folder / "goes_on"))
    assert not (out / "model.pt").exists()
    train_in(cli, out, *tiny)
    alike(run, out)


def test_fewer_rows_than_processes_are_refused(cli, tiny, tmp_path, monkeypatch):
    for name, value in (("TORCHELASTIC_RUN_ID", "x"), ("RANK", "0"), ("WORLD_SIZE", "32")):
        monkeypatch.setenv(name, value)
    said = cli("train", *tiny, f"out={tmp_path}/a")
    assert said.code == 2
    assert "batch.size=16: must be at least 32, a row for each process" in said.err
    monkeypatch.setenv("RANK", "1")
    assert cli("train", *tiny, f"out={tmp_path}/a").err == "", "rank 0 prints it"


def test_an_error_in_the_settings_is_printed_once(two):
    assert [rank[0]["code"] for rank in two[1].ranks] == [2, 2]
    lines = [line for line in two[1].out.splitlines() if line.startswith("kws: ")]
    assert lines == ["kws: optim.lr=high: must be a number"]


def test_an_error_of_rank_0_ends_both_processes_with_one_line(tiny, tmp_path):
    """Rank 1 waits for the first batch."""
    (tmp_path / "file").touch()
    word = "replay.buffer={}/file"
    done = subprocess.run(
        [*TORCHRUN, "-m", "kws", "train", *tiny, word.format(tmp_path), f"out={tmp_path}/a"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("kws: ")]
    assert word.format(tmp_path).split("=")[1] in line
    codes = dict(re.findall(r"rank +: (\d).*\n +exitcode +: (-?\d+)", done.stderr))
    assert codes["0"] == "2", done.stderr
    assert codes.get("1", "2") in ("2", "-15"), done.stderr
    assert "kws/" not in done.stderr, "no traceback"


def test_batch_norms_use_the_rows_of_all_ranks(two):
    net, x = norms_net(), norms_input()
    for _ in range(2):
        net.zero_grad()
        (net(x).square().sum() / 7).backward()
    for rank in two[1].ranks:
        found = rank[0]["norms"]
        assert found["state"].keys() == net.state_dict().keys()
        for name, value in net.state_dict().items():
            torch.testing.assert_close(torch.tensor(found["state"][name]).to(value.dtype), value)
        for grad, parameter in zip(found["grad"], net.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(grad), parameter.grad)


def test_mixed_precision_affects_the_forward_pass_alone():
    net = random_net()
    ranks = Distributed(fabric(CPU, "bf16-mixed", 1, 1), CPU)
    model, kinds = ranks.setup(net), []
    net.blocks[0].norm.register_forward_hook(lambda _, inputs, __: kinds.append(inputs[0].dtype))
    logits, _ = model(torch.randn(2, 40, 60, generator=torch.Generator().manual_seed(0)), net.initial_cache(2))
    ranks.backward(logits.square().mean())
    assert kinds == [torch.bfloat16]
    assert logits.dtype == torch.float32
    assert {(p.dtype, p.grad.dtype) for p in net.parameters()} == {(torch.float32, torch.float32)}


def test_mixed_precision_is_refused_on_other_devices(cli, tiny, tmp_path):
    with (
        pytest.raises(KwsError, match="precision=bf16-mixed: must be 32-true with device=mps"),
        together(torch.device("mps"), "bf16-mixed"),
    ):
        pass
    said = cli("train", *tiny, "precision=bf16", f"out={tmp_path}/a")
    assert said.code == 2
    assert "precision=bf16: must be 32-true or bf16-mixed" in said.err
    assert not (tmp_path / "a").exists()


def test_which_cpus_lack_bfloat16(monkeypatch):
    for found, lacks in (
        ({"avx512_bf16": True}, False), ({"amx_bf16": True}, False), ({"bf16": True}, False),
        ({"avx512_f": True, "avx512_bf16": False}, True), ({}, True),
    ):  # fmt: skip
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: found, raising=False)
        assert lacks_bfloat16(CPU) is lacks
        assert not lacks_bfloat16(torch.device("cuda"))
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)  # torch cannot tell
    assert not lacks_bfloat16(CPU)


def tensors(one: object) -> Iterator[torch.Tensor]:
    """All tensors of a checkpoint."""
    if isinstance(one, torch.Tensor):
        yield one
    elif isinstance(one, dict | list | tuple):
        for part in one.values() if isinstance(one, dict) else one:
            yield from tensors(part)


def test_a_run_in_bfloat16_keeps_float32_and_warns_where_it_is_slow(cli, tiny, run, tmp_path, monkeypatch):
    hashes = [checkpoint.read_model(run / "model.pt").hash]
    for able in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"avx512_bf16": able}, raising=False)
        out = tmp_path / str(able)
        said = cli("train", *tiny, "precision=bf16-mixed", f"out={out}")
        assert said.code == 0
        assert ("this CPU has no instructions for bfloat16" in said.err) is not able
        hashes.append(checkpoint.read_model(out / "model.pt").hash)
        for name in ("model.pt", "state.pt"):
            kinds = {one.dtype for one in tensors(checkpoint.read(out / name))}
            assert torch.float32 in kinds
            assert torch.bfloat16 not in kinds
        first, expected = (float(curves(folder)[0]["loss"]) for folder in (out, run))
        assert first == pytest.approx(expected, rel=0.01)
    assert hashes[0] != hashes[1] == hashes[2]


def test_one_process_needs_no_process_group():
    with together(CPU, "32-true") as ranks:
        net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
        assert ranks.is_main
        assert ranks.size == 1
        assert ranks.on_main(lambda: 3) == ranks.main_first(lambda: 3) == 3
        assert ranks.local_rows(4).tolist() == [0, 1, 2, 3]
        assert ranks.all_gather([1]) == [1]
        ranks.setup(net)
        assert type(net[1]) is nn.BatchNorm1d
        ranks.leave()
