"""A Ray cluster of two workers, which may be lost: equal scores of recordings, equal weights of a sweep."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data.audio import BadAudio, to_int16
from kws.data.streams import Stream
from kws.detector import checkpoint
from kws.detector.detector import Detector
from kws.evaluation.scoring import Result, ScoredStream, StreamSource, file_source, score_all
from kws.runs import folder
from tests.nets import random_detector, sound

ray = pytest.importorskip("ray", reason="the extra kws[ray] is not installed")
RATE = 16000


@pytest.fixture(scope="module", autouse=True)
def workers() -> Iterator[None]:
    """A local Ray of two workers."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture
def sources(tmp_path: Path) -> list[StreamSource]:
    """Long, short and broken files, and a composed stream."""
    files = []
    for i, length_s in enumerate([25.0, 1.0, 2.5, 31.0, 0.7]):
        files.append(tmp_path / f"{i}.flac")
        soundfile.write(files[-1], to_int16(sound(round(length_s * RATE), i).numpy()), RATE, subtype="PCM_16")
    (tmp_path / "broken.flac").write_bytes(b"fLaC")
    made = Stream(to_int16(sound(RATE * 3, 9).numpy()), [], [], RATE)

    def of_a_broken_file() -> Stream:
        raise BadAudio("alone.wav", "no sound")

    streams = [StreamSource(lambda: made, 3.0), StreamSource(of_a_broken_file, 2.0)]
    return [*map(file_source, files), file_source(tmp_path / "broken.flac"), *streams]


def same(ours: list[Result], theirs: list[Result]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(one, BadAudio):
            assert str(one) == str(other)
            continue
        assert isinstance(other, ScoredStream)
        for label, track in one.tracks.items():
            np.testing.assert_array_equal(track.scores, other.tracks[label].scores)
            np.testing.assert_array_equal(track.times, other.tracks[label].times)


def test_a_cluster_gives_the_same_scores_also_after_a_lost_worker(sources: list[StreamSource], tmp_path: Path) -> None:
    from kws.evaluation.ray import score_all_on_ray

    lost, scored_s = tmp_path / "lost", list[float]()

    def opened() -> Detector:
        """Kill the first worker that loads the detector, as if its machine went away."""
        try:
            lost.touch(exist_ok=False)
        except FileExistsError:
            return random_detector()
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    found = score_all_on_ray(opened)(random_detector(), sources, 0.08, scored_s.append)
    assert lost.is_file()
    same(score_all(random_detector(), sources, 0.08), found)
    assert scored_s == sorted(scored_s)
    assert scored_s[-1] == pytest.approx(25 + 1 + 2.5 + 31 + 0.7 + 3 + 2)


def test_the_command_gives_the_same_figures_on_a_cluster(
    cli, run: Path, sources: list[StreamSource], tmp_path: Path
) -> None:
    (tmp_path / "events.json").write_text("[[1, 2], [10, 12]]")
    words = [f"detector={run}/model.pt", f"positive={tmp_path}/0.flac", f"events={tmp_path}/events.json"]
    words += [f"negative=[{tmp_path}/1.flac,{tmp_path}/3.flac]"]
    for engine in ("local", "ray"):
        done = cli("evaluate", *words, f"engine={engine}", f"out={tmp_path}/{engine}.json")
        assert done.code == 0, done.err
    assert (tmp_path / "local.json").read_text() == (tmp_path / "ray.json").read_text()


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
