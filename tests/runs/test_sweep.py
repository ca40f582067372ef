"""Sweeps: a failed run ends no other, parallel runs have the same weights, a killed sweep resumes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from joblib import cpu_count

from kws.detector import checkpoint
from kws.runs import folder
from tests.kill import Killed

PROCESS = "from kws.cli import main; main()"
PARALLEL = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("kws: ")]


def weights(run: Path) -> str:
    return checkpoint.read_model(run / "model.pt").hash


def times(folder: Path) -> dict[Path, int]:
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file() and file.name != "log.txt"}


def test_a_failed_run_ends_no_other(cli, tiny, run, tmp_path):
    words = [word for word in tiny if not word.startswith("replay.share=")]
    sweep = ("-m", *words, "replay.share=0.6,0.2", f"out={tmp_path}/new")
    said = cli("train", *sweep)
    assert said.code == 2
    first, last = lines(said.err)
    assert first == "kws: run 0: replay.share=0.6: must be between 0 and 0.5"
    assert last == "kws: 1 of 2 runs failed, see above: run 0"
    assert said.err.endswith(last + "\n")
    assert "Traceback" not in said.err
    assert "Error executing job" not in said.err
    assert weights(tmp_path / "new/1") == weights(run)
    (failed,) = folder.read(tmp_path / "new/0")
    assert (failed.ended, failed.error) == ("failed", "replay.share=0.6: must be between 0 and 0.5")
    before = times(tmp_path / "new/1")
    assert cli("train", *sweep).code == 2
    assert times(tmp_path / "new/1") == before, "the finished run is skipped"
    assert len(folder.read(tmp_path / "new/0")) == 2


def test_a_sweep_does_not_change_the_runs_of_another(cli, tiny, tmp_path):
    tiny = (*tiny, "optim.steps=2", "mining.rounds=0")
    assert cli("train", "-m", *tiny, "seed=0", f"out={tmp_path}/new").code == 0
    before = times(tmp_path / "new/0")
    said = cli("train", "-m", *tiny, "seed=5", f"out={tmp_path}/new")
    assert said.code == 2
    assert "a run with seed=0 began there" in lines(said.err)[0]
    assert times(tmp_path / "new/0") == before


def test_parallel_runs_have_the_same_weights_and_divide_the_cores(cli, tiny, run, tmp_path, monkeypatch, capfd):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    words = [word for word in tiny if not word.startswith("threads=")]
    sweep = ("-m", *words, *PARALLEL, "threads=0,1,2000", f"out={tmp_path}")
    done = cli("train", *sweep)
    others = capfd.readouterr()  # of the other processes
    assert done.code == 2, done.err
    assert lines(others.err) == ["kws: run 2: threads=2000: must be between 0 and 1024"]
    assert lines(done.err) == ["kws: 1 of 3 runs failed, see above: run 2"]
    assert "Traceback" not in others.err + done.err
    assert sum("finished after" in line for line in others.out.splitlines()) == 2
    assert "Training" not in others.out + done.out, "progress bars of several runs would overwrite each other"
    assert "Training" in (tmp_path / "1/log.txt").read_text()
    (shared,), (single,) = (folder.read(tmp_path / name) for name in ("0", "1"))
    assert shared.threads == max(1, cpu_count() // 2)
    assert single.threads == 1
    assert weights(tmp_path / "1") == weights(run)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL on this system")
def test_the_processes_of_a_killed_sweep_end(tiny, tmp_path):
    long = [word for word in tiny if not word.startswith(("replay.share=", "optim.steps="))]
    command = [sys.executable, "-c", PROCESS, "train", "-m", *long, *PARALLEL, f"out={tmp_path}"]
    sweep = [*command, "replay.share=0.2,0", "optim.steps=4000"]
    process = subprocess.Popen(sweep, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    curves, deadline = [tmp_path / name / "metrics.csv" for name in ("0", "1")], time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if all(curve.is_file() and curve.read_text().count("\n") > 4 for curve in curves):
            break
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.communicate(timeout=60)  # returns when all processes with the pipe have ended
    assert not list(tmp_path.glob("*/results.json"))
    steps = [curve.read_text() for curve in curves]
    assert all(0 < text.count("\n") < 4000 for text in steps)
    for place in (tmp_path / "0", tmp_path / "1"):
        (killed,) = folder.read(place)
        assert killed.ended == ""
        assert (folder.closed(killed, place).seconds or 0) > 0


def test_n_jobs_0_is_refused(cli, tiny, tmp_path):
    said = cli(
        "train", "-m", *tiny, "hydra/launcher=joblib", "hydra.launcher.n_jobs=0", "seed=0,1", f"out={tmp_path}/a"
    )
    assert said.code == 2
    assert lines(said.err) == ["kws: hydra.launcher.n_jobs=0: must be 1 or more, or -1 for the number of cores"]


def session(place: Path, threads: int, error: BaseException | None = None) -> None:
    """Record a session that ends with this error."""
    with folder.SessionRecorder(["seed=1"], None) as kept:
        kept.begin(place, threads, "cpu")
        if error is not None:
            raise error


def test_sessions_are_recorded_and_a_resume_closes_a_killed_one(tmp_path):
    session(tmp_path, 2)
    (tmp_path / "metrics.csv").write_text("step\n")
    began = 1000.0
    folder.write(tmp_path, [*folder.read(tmp_path), folder.Session(began, ["seed=1"], 2, "cpu")])
    os.utime(tmp_path / "metrics.csv", (began + 70, began + 70))
    with pytest.raises(ZeroDivisionError):
        session(tmp_path, 1, ZeroDivisionError("nothing"))
    with pytest.raises(KeyboardInterrupt):
        session(tmp_path, 1, KeyboardInterrupt())
    with pytest.raises(Killed):
        session(tmp_path, 1, Killed())
    found = folder.read(tmp_path)
    assert [one.ended for one in found] == ["finished", "killed", "failed", "stopped", ""]
    assert found[1].seconds == 70
    assert found[2].error == "ZeroDivisionError: nothing"
    assert [one.threads for one in found] == [2, 2, 1, 1, 1]


def test_a_refused_run_leaves_no_session(tmp_path):
    (tmp_path / "config.yaml").write_text("# of another run")
    for place in (None, tmp_path):
        with pytest.raises(ZeroDivisionError), folder.SessionRecorder([], place):
            raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[1]", '[{"began": "x"}]', '[{"began": 1, "command": [5]}]', "[" * 100_000]
    + [json.dumps([{"began": 1, field: value}]) for field, value in [("seconds", "1"), ("ended", 1), ("threads", "2")]]
    + ['[{"began": 1, "seconds": NaN}]', "null", '{"began": 1}'],
)
def test_a_damaged_file_of_sessions_is_ignored(tmp_path, text):
    (tmp_path / folder.FILE).write_text(text)
    assert folder.read(tmp_path) == []
