"""What TensorBoard shows of a run: the figures of its CSV files, each step once, also after kills."""

import csv
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as Reader
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_ndarray

from kws.commands import wake_word
from kws.common.console import Console
from kws.training import hard_negatives
from kws.training.metrics import MetricsLog, StepMetrics, ValidationMetrics
from kws.training.trainer import Trainer
from tests.kill import death

Shown = dict[str, list[tuple[int, float]]]


def shown(folder: Path) -> Shown:
    """The points of each curve, as both of TensorBoard's own readers give them: they know a restart by other signs."""
    old, new = EventAccumulator(str(folder), {"scalars": 0}), Reader(str(folder), {"tensors": 0})
    old.Reload()
    new.Reload()
    tags = old.Tags()["scalars"]
    assert sorted(tags) == sorted(new.Tags()["tensors"])
    found = {tag: [(event.step, event.value) for event in old.Scalars(tag)] for tag in tags}
    for tag in tags:
        assert found[tag] == [(e.step, float(make_ndarray(e.tensor_proto))) for e in new.Tensors(tag)]
    return found


def of_csv(out: Path) -> Shown:
    """The same curves out of the CSV files."""
    found: Shown = {}
    for name, group in (("metrics.csv", "train"), ("validation.csv", "validation/{keyword}")):
        for row in csv.DictReader((out / name).read_text().splitlines()):
            for key in row.keys() - {"step", "keyword"}:
                point = int(row["step"]), float(row[key])
                found.setdefault(f"{group.format_map(row)}/{key}", []).append(point)
    return found


def same(a: Shown, b: Shown) -> None:
    assert a.keys() == b.keys()
    for tag, points in a.items():
        assert [step for step, _ in points] == [step for step, _ in b[tag]], tag
        assert [value for _, value in points] == pytest.approx([value for _, value in b[tag]], rel=1e-5), tag


def test_a_run_shows_what_its_csv_files_hold(run):
    found = shown(run / "tensorboard")
    same(found, of_csv(run))
    assert {"loss", "loss_positive", "loss_fresh", "loss_replayed", "share", "replayed", "buffer", "lr"} <= {
        tag.removeprefix("train/") for tag in found
    }
    assert {"misses", "events", "miss_rate", "threshold", "false_alarms", "hours"} <= {
        tag.removeprefix("validation/beep/") for tag in found
    }
    assert [step for step, _ in found["train/loss"]] == list(range(24))
    assert [step for step, _ in found["validation/beep/misses"]] == [7, 15, 23]


def test_after_kills_each_step_stands_once(cli, tiny, run, tmp_path):
    out = tmp_path / "killed"
    for place, name, call, first in [
        (Trainer, "train_step", 4, False),  # before the first state: all is done again
        (MetricsLog, "validation", 1, False),  # a row is told, the state does not know
        (hard_negatives, "mine", 1, True),
        (MetricsLog, "validation", 1, True),  # a step is told, its row is not
        (Trainer, "train_step", 7, True),
        (wake_word, "finish", 1, True),
    ]:
        with death(place, name, call, first):
            cli("train", *tiny, f"out={out}")
        assert of_csv(out).keys() <= shown(out / "tensorboard").keys()
    assert cli("train", *tiny, f"out={out}").code == 0
    assert len(list((out / "tensorboard").iterdir())) == 7, "one for each session"
    same(shown(out / "tensorboard"), of_csv(out))
    same(shown(out / "tensorboard"), shown(run / "tensorboard"))


def log(folder: Path, step: int) -> MetricsLog:
    kinds = {"metrics": StepMetrics, "validation": ValidationMetrics}
    return MetricsLog(folder, step, kinds, True, Console(), lambda *_: None)


def test_what_a_kill_cut_is_left_out(tmp_path):
    def row(step: int, loss: float) -> StepMetrics:
        return StepMetrics(step, loss, 0, 0, 0, 0, 0, 16, 0, 0.1)

    with log(tmp_path, 0) as first:
        for step in range(5):
            first.step(row(step, step))
    (path,) = (tmp_path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    with log(tmp_path, 2) as second:
        for step in (2, 3):
            second.step(row(step, 10 * step))
    assert shown(tmp_path / "tensorboard")["train/loss"] == [(0, 0.0), (1, 1.0), (2, 20.0), (3, 30.0)]


def test_a_folder_that_cannot_be_made_does_not_end_the_run(cli, tiny, run, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/tensorboard").write_text("in the way")
    said = cli("train", *tiny, f"out={tmp_path}/a")
    assert said.code == 0, said.err
    assert said.err.count("TensorBoard stops here") == 1
    assert (tmp_path / "a/tensorboard").read_text() == "in the way"
    for name in ("metrics.csv", "validation.csv"):
        assert (tmp_path / "a" / name).read_text() == (run / name).read_text()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_disk_that_fails_ends_the_curves_and_not_the_run(cli, tiny, run, tmp_path, monkeypatch):
    real, calls = RecordWriter.write, []

    def write(self, data):
        calls.append(1)
        if len(calls) > 7:
            raise OSError(28, "No space left on device")
        real(self, data)

    monkeypatch.setattr(RecordWriter, "write", write)
    said = cli("train", *tiny, f"out={tmp_path}/a")
    assert said.code == 0, said.err
    assert said.err.count("TensorBoard stops here ([Errno 28] No space left on device)") == 1
    assert (tmp_path / "a/metrics.csv").read_text() == (run / "metrics.csv").read_text()
    monkeypatch.undo()
    assert shown(tmp_path / "a/tensorboard")["train/loss"][0][0] == 0


def test_curves_go_on_in_a_folder_that_was_copied(cli, tiny, tmp_path):
    with death(Trainer, "train_step", 18, True):
        cli("train", *tiny, f"out={tmp_path}/a")
    out = Path(shutil.copytree(tmp_path / "a", tmp_path / "b"))
    assert cli("train", *tiny, f"out={out}").code == 0
    same(shown(out / "tensorboard"), of_csv(out))


def test_keywords_of_any_spelling_have_their_rows_and_curves(tmp_path):
    words = ["hey, you", 'a"b', "ok/go", "ключ", "two\nlines"]
    for begun in (0, 2):  # the second time as a run that goes on at step 2
        with log(tmp_path, begun) as made:
            for n in range(begun, 4):
                row = (0.5, 0.9, n, 40, 0, 0, 1, 1, 2.5, 0.4, 0, 2)
                made.validation([ValidationMetrics(n, word, *row) for word in words], "")
    with (tmp_path / "validation.csv").open(newline="", encoding="utf-8") as file:
        rows = [(int(row["step"]), row["keyword"], int(row["misses"])) for row in csv.DictReader(file)]
    assert rows == [(n, word, n) for n in range(4) for word in words]
    found = shown(tmp_path / "tensorboard")
    for word in words:
        assert found[f"validation/{word}/misses"] == [(n, float(n)) for n in range(4)]
