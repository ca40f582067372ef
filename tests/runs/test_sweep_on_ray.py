"""A sweep on a Ray cluster of two workers: the same weights after a lost worker, and a failed run ends no other."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kws.detector import checkpoint
from kws.runs import folder

ray = pytest.importorskip("ray", reason="the extra kws[ray] is not installed")


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    """A local Ray of two workers."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


def test_a_lost_worker_changes_no_weights_and_a_failed_run_ends_no_other(cli, tiny, run, tmp_path, monkeypatch):
    """The first worker is killed at a step, like a lost machine; its run resumes on another. Another run fails."""
    from kws.commands import train
    from kws.config.app import verb
    from kws.training.trainer import Trainer

    lost, real = tmp_path / "lost", train.run

    def deadly(cfg):
        step = Trainer.train_step

        def dies(self):
            if self.step == 17 and not lost.exists():
                lost.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return step(self)

        Trainer.train_step = dies
        try:
            real(cfg)
        finally:
            Trainer.train_step = step

    monkeypatch.setattr(train, "main", verb("train", deadly))
    monkeypatch.chdir(tmp_path)
    words = [word for word in tiny if not word.startswith("threads=")]
    said = cli("train", "-m", *words, "hydra/launcher=ray", "threads=0,2000", "out=new")
    assert said.code == 2
    wrong = [line for line in said.err.splitlines() if line.startswith("kws: ")]
    assert wrong == [
        "kws: run 1: threads=2000: must be between 0 and 1024",
        "kws: 1 of 2 runs failed, see above: run 1",
    ]
    assert "run 0 finished after" in said.out
    assert lost.exists()
    new = Path("new/0")  # in the folder of the sweep, not of the workers
    assert checkpoint.read_model(new / "model.pt").hash == checkpoint.read_model(run / "model.pt").hash
    sessions = folder.read(new)
    assert [one.ended for one in sessions] == ["killed", "finished"]
    assert {one.threads for one in sessions} == {1}, "one core of a run"
    assert "Training" in (new / "log.txt").read_text()


def test_more_resources_than_the_cluster_has_are_refused(cli, tiny, tmp_path):
    said = cli("train", "-m", *tiny, "hydra/launcher=ray", "hydra.launcher.num_gpus=9", f"out={tmp_path}/new")
    assert said.code == 2
    wrong = [line for line in said.err.splitlines() if line.startswith("kws: ")]
    assert wrong == ["kws: hydra.launcher.num_gpus=9: must be between 0 and 0, the size of the cluster"]
