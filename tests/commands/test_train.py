"""Training end to end: the files of a run, the same seed, and resume to the same weights, buffer and results."""

import csv
import json
import os
import re
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from kws.commands import training_run
from kws.detector import checkpoint
from kws.replay.buffer import Buffer, BufferClip, Decision
from kws.replay.snapshot import Snapshot
from kws.training.hard_negatives import HardNegativeMiner
from kws.training.metrics import Curves, MetricsLog
from kws.training.trainer import Trainer
from kws.training.validation import Validator
from kws.training.wake_word import WakeWordTask
from tests import ROOT
from tests.forks import forked
from tests.kill import all_steps, death

SHORT = ("optim.steps=3", "mining.rounds=0", "validate_every=null")


def rows(out: Path) -> list[BufferClip]:
    """All clips of the buffer, evicted ones too."""
    with Buffer(out / "buffer") as buffer:
        assert buffer.check() == []
        return buffer.rows(None)


def known(out: Path) -> list[dict[str, Any]]:
    """Records of all clips of the buffer, without the id of the run and the times."""

    def timeless(value: Any) -> Any:
        if isinstance(value, list):
            return [timeless(one) for one in value]
        if isinstance(value, dict):
            return {name: timeless(one) for name, one in value.items() if name not in ("run", "added_at")}
        return value

    with Buffer(out / "buffer") as buffer:
        assert buffer.check() == []
        return [timeless(record) for _, record in buffer.records()]


def curves(out: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((out / name).read_text().splitlines()))


def same(out: Path, other: Path) -> None:
    """Assert that two runs have the same weights, thresholds, buffer, curves and results."""
    a, b = (checkpoint.read(folder / "model.pt") for folder in (out, other))
    assert a["model"].keys() == b["model"].keys()
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert a["thresholds"] == b["thresholds"]
    assert known(out) == known(other)
    for name in ("metrics.csv", "share.csv", "validation.csv"):
        assert (out / name).read_text() == (other / name).read_text()
    first, second = (json.loads((folder / "results.json").read_text()) for folder in (out, other))
    assert first == second


def train_in(cli, out: Path, *words: str) -> None:
    said = cli("train", *words, f"out={out}")
    assert said.code == 0, said.err


def train_on(cli, out: Path, *words: str) -> None:
    """Train to the last step alone."""
    with all_steps():
        train_in(cli, out, *words)


def test_a_run_writes_the_files_that_the_documentation_lists(run):
    page = (ROOT / "docs" / "runs.md").read_text()
    table = page.split("## The run folder")[1].split("##")[0]
    listed = re.findall(
        "`(.*?)`", " ".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    )
    assert {"model.pt", "detector.pt", "report.html", "results.json", "config.yaml", "recipe.yaml"} <= set(listed)
    assert {"metrics.csv", "share.csv", "validation.csv", "tensorboard/"} <= set(listed)
    assert {"buffer/", "checkpoints/"} <= set(listed)
    listed.remove("init.pt")  # of runs with init=, see test_init.py
    for name in listed:
        assert (run / name).is_dir() if name.endswith("/") else (run / name).stat().st_size > 0
    assert [row["step"] for row in curves(run)] == [str(i) for i in range(24)]


def test_mined_clips_are_replayed_in_the_share_of_the_settings(run):
    replayed = [int(row["replayed"]) for row in curves(run)]
    first = next(i for i, row in enumerate(curves(run)) if int(row["buffer"]))
    assert sum(replayed[:first]) == 0
    assert all(n in (3, 4) for n in replayed[first + 2 :])  # 0.2 of 16 is 3.2
    assert sum(row.times_drawn for row in rows(run)) == sum(replayed)
    states = Counter(row.state for row in rows(run))
    assert states["active"] == 10  # the capacity
    assert states["evicted"] > 0, "both rounds together found more"


def test_another_seed_gives_another_run(cli, tiny, run, tmp_path):
    """tests/config/test_recipe.py trains the same run again."""
    train_on(cli, tmp_path / "a", *tiny, *SHORT, "seed=1")
    assert curves(tmp_path / "a")[0] != curves(run)[0]


def test_with_share_0_the_buffer_is_filled_and_not_sampled(cli, tiny, run, tmp_path):
    train_on(cli, tmp_path / "a", *tiny, "replay.share=0")
    assert {row["replayed"] for row in curves(tmp_path / "a")} == {"0"}
    assert rows(tmp_path / "a")
    assert {row.times_drawn for row in rows(tmp_path / "a")} == {0}
    assert curves(tmp_path / "a")[-1]["loss"] != curves(run)[-1]["loss"]


def test_without_mining_the_buffer_is_empty(cli, tiny, tmp_path):
    train_on(cli, tmp_path / "a", *tiny, *SHORT)
    assert rows(tmp_path / "a") == []


def test_a_round_after_all_steps_comes_before_the_last_step(cli, tiny, tmp_path):
    train_on(cli, tmp_path / "a", *tiny, *SHORT, "mining.rounds=1", "mining.first_at=1", "mining.last_at=1")
    assert curves(tmp_path / "a")[-1]["buffer"] != "0"


def test_a_run_killed_at_each_point_resumes_to_the_same_results(cli, tiny, run, tmp_path):
    """Checkpoints come every 5 steps, validation at steps 8 and 16, mining at steps 10 and 17."""
    out = tmp_path / "killed"
    for place, name, call, first in [
        (Trainer, "train_step", 8, True),  # between two checkpoints
        (Curves, "add", 2, True),  # a step is done, its row is missing
        (MetricsLog, "validation", 1, True),  # validation is done, its row is missing
        (MetricsLog, "validation", 1, False),  # the row is written, the checkpoint is older
        (Trainer, "save", 1, False),  # after a checkpoint
        (Buffer, "add", 1, True),  # a round found clips, the buffer is empty
        (Buffer, "add", 1, False),  # the clips are in the buffer, the checkpoint is older
        (training_run, "export", 1, True),  # after training
    ]:
        with death(place, name, call, first):
            cli("train", *tiny, f"out={out}")
        assert not (out / "results.json").exists()
    train_in(cli, out, *tiny)
    same(run, out)


# A small net of the default model and of each other family.
SMALL = {
    "ds_tcn_2d": ["model.channels=8", "model.dilations=[1,2,4]", "model.stem_2d=[2,4]"],
    "mdtc_10k": ["model.channels=8", "model.dilations=[1,2,4]", "model.stacks=1"],
    "bc_resnet_1": ["model.window=40", "model.stride=16", "model.groups=1", "features.n_mels=16"],
    "bc_resnet_causal_1": ["batch.clip_s=1.6", "model.stride=4", "model.groups=1", "features.n_mels=16"],
    "tc_resnet8": [],
    "ds_cnn_s": ["model.channels=8", "model.window=40"],
    "matchboxnet_3x1x64": ["model.channels=8", "model.window=40"],
}


@pytest.mark.parametrize("model", SMALL)
def test_every_family_trains_and_mines_and_some_resume(cli, tiny, tmp_path, model):
    """tests/models exports every family."""
    words = [word for word in tiny if not word.startswith("model.")]
    words += [f"model={model}", *SMALL[model], "optim.steps=4", "optim.save_every=2", "batch.size=8"]
    words += ["mining.rounds=1", "validate_every=null"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    resumes = model in ("ds_tcn_2d", "tc_resnet8")  # the latter has dropout, which samples at each step
    (train_in if resumes else train_on)(cli, whole, *words)
    assert rows(whole)
    if resumes:
        assert (whole / "detector.pt").is_file()
        with death(Trainer, "train_step", 4, True):
            cli("train", *words, f"out={out}")
        train_in(cli, out, *words)
        same(whole, out)


# All sources and all ways out of the buffer at once, and a learning rate so high that scores move.
EVERY = [
    "optim.lr=0.1",
    "optim.warmup=4",
    "augment.snr_db=[0,25]",  # under the noise of the default no clip of this run is solved
    "replay.capacity=6",
    "replay.duplicate_overlap=0.5",
    "replay.duplicate_cosine=0.99999",
    "replay.quarantine_above=1.2",
    "replay.retire_below=0.1",
    "replay.recheck_retired=4",
    "replay.batch_mining=true",
    "replay.batch_mining_every=3",
    "replay.batch_mining_clips=8",
    "replay.schedule=adaptive",
    "replay.steer_every=3",
    "mining.rounds=3",
    "mining.min_score=0.1",
    "mining.neighbours_per_hour=2000",
]
# Variants of sampling and eviction, and the points at which each run is killed, one after another.
# Rounds come at steps 10, 13 (the pool, then the batch), 16, 17, 19 and 22; the share is steered from 13 on every 3.
ADDED, BETWEEN_ROUNDS = (Buffer, "add", 2, False), (Snapshot, "write_back", 2, False)
VARIED = {
    "hardest": (
        ["replay.sampling=rank", "replay.mix={neighbour:0.5,batch_hard:0.25,false_trigger:0.25}"],
        [
            (HardNegativeMiner, "fill", 1, True),  # after a checkpoint, nothing is in the buffer
            (Validator, "counts", 1, False),  # the streams were scored, the share is as it was
            (WakeWordTask, "_steer", 3, False),  # the share has changed, the checkpoint is older
            (Buffer, "rescored", 1, False),  # between the two transactions of one round
            BETWEEN_ROUNDS,
            (HardNegativeMiner, "fill", 1, False),
            (WakeWordTask, "validate", 3, False),  # at step 16 both are due: the share has changed, a row is written
            (HardNegativeMiner, "fill", 1, True),
            ADDED,
            (WakeWordTask, "_steer", 2, False),
            (Snapshot, "write_back", 3, False),  # the last step is done
        ],
    ),
}


@pytest.mark.parametrize("eviction", VARIED)
def test_a_run_killed_again_and_again_resumes_to_the_same_results(cli, tiny, tmp_path, eviction):
    settings, kills = VARIED[eviction]
    words = (*tiny, *EVERY, f"replay.eviction={eviction}", *settings)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    train_in(cli, whole, *words)
    ways = {
        (line["state"], line["reason"].split(":")[0].split(" ")[0]) for clip in known(whole) for line in clip["history"]
    }
    found, suspect, released, solved = (
        ("active", ""),
        ("quarantined", "scores"),
        ("active", "scores"),
        ("retired", "solved"),
    )
    assert {found, suspect, released, solved, ("evicted", "")} <= ways
    assert {row.kind for row in rows(whole)} == {"false_trigger", "batch_hard", "neighbour"}
    assert sum(row.times_drawn for row in rows(whole)) > 15
    assert len({row["share"] for row in curves(whole)}) > 3
    for place, name, call, first in kills:
        with death(place, name, call, first):
            cli("train", *words, f"out={out}")
    train_in(cli, out, *words)
    same(whole, out)


def test_a_run_resumes_after_sigkill(cli, tiny, run, tmp_path):
    """The process ends after a round was written to the buffer; no exit handler or `finally` runs."""
    out = tmp_path / "killed"

    def killed():
        add = Buffer.add
        Buffer.add = lambda *clips: (add(*clips), os.kill(os.getpid(), signal.SIGKILL))
        cli("train", *tiny, f"out={out}")

    codes = forked([killed], [{}], tmp_path / "log")
    assert codes == [-signal.SIGKILL], (tmp_path / "log").read_text()
    said = cli("train", *tiny, f"out={out}")
    assert said.code == 0, said.err
    assert re.search(r"resumes after step \d+ of 24\n", said.out)
    same(run, out)


def test_a_killed_run_resumes_after_a_move_and_a_rejected_clip(cli, tiny, tmp_path):
    with all_steps():
        cli("train", *tiny, f"out={tmp_path}/a")
    (tmp_path / "a").rename(tmp_path / "b")
    with Buffer(tmp_path / "b" / "buffer") as buffer:
        gone = buffer.rows()[0].hash
        buffer.decide([gone], Decision.rejected)
    said = cli("train", *tiny, f"out={tmp_path}/b")
    assert said.code == 0, said.err
    assert "resumes without 1 clip that left the buffer" in said.err
    assert (tmp_path / "b/results.json").is_file()
    assert {row.hash: row.decision for row in rows(tmp_path / "b")}[gone] is Decision.rejected


def test_a_run_that_only_replays_writes_its_counts_back(cli, tiny, run, tmp_path):
    buffer = Path(shutil.copytree(run / "buffer", tmp_path / "buffer"))
    with Buffer(buffer) as before:
        drawn = sum(row.times_drawn for row in before.rows())
    words = ("mining.rounds=0", f"replay.buffer={buffer}")
    train_on(cli, tmp_path / "a", *tiny, *words)
    replayed = sum(int(row["replayed"]) for row in curves(tmp_path / "a"))
    assert replayed > 24 * 2, "from the first step on"
    with Buffer(buffer) as after:
        assert sum(row.times_drawn for row in after.rows()) == drawn + replayed


def test_an_adaptive_share_of_zero_stays_and_steering_starts_with_the_first_round(cli, tiny, run, tmp_path):
    buffer = Path(shutil.copytree(run / "buffer", tmp_path / "buffer"))
    words = ("mining.rounds=0", "replay.schedule=adaptive", "replay.steer_every=2", f"replay.buffer={buffer}")
    train_on(cli, tmp_path / "a", *tiny, *words, "replay.share=0")
    assert curves(tmp_path / "a", "share.csv") == []
    assert {row["replayed"] for row in curves(tmp_path / "a")} == {"0"}
    train_on(cli, tmp_path / "b", *tiny, *words)
    steps = [int(row["step"]) for row in curves(tmp_path / "b", "share.csv")]
    assert steps[0] == 11, "first_at is 0.4 of 24 steps"
    assert len(steps) > 3


def test_settings_of_replay_change_nothing_before_the_first_round(cli, tiny, run, tmp_path):
    changed = ["replay.share=0.4", "replay.max_share=0.5", "replay.sampling=rank", "replay.schedule=adaptive"]
    words = [word for word in tiny if not word.startswith("replay.share=")] + changed
    with death(HardNegativeMiner, "fill", 1, True):
        cli("train", *words, f"out={tmp_path}/a")
    rows = curves(tmp_path / "a")
    assert len(rows) == 10
    assert rows == curves(run)[:10]


def test_a_run_keeps_no_other_checkpoints(run):
    assert {file.name for file in run.rglob("*.pt")} == {
        *("state.pt", "model.pt", "detector.pt", "round-1.pt", "round-2.pt"),
    }


def test_a_finished_run_is_not_changed(cli, tiny, run):
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    train_in(cli, run, *tiny)
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}


@pytest.mark.parametrize(
    ("word", "key"), [("optim.lr=0.001", "optim.lr"), ("seed=7", "seed"), ("model.dilations=[1,2]", "model.dilations")]
)
def test_other_settings_in_the_same_folder_are_refused(cli, tiny, run, word, key):
    before = {p: p.stat().st_mtime_ns for p in run.iterdir()}
    said = cli("train", *tiny, word, f"out={run}")
    assert said.code == 2
    (line,) = [x for x in said.err.splitlines() if x.startswith("kws: ")]
    assert f"with {key}=" in line
    assert said.err.endswith(line + "\n")
    assert before == {p: p.stat().st_mtime_ns for p in run.iterdir()}
