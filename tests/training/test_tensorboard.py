"""TensorBoard shows the figures of the CSV files of a run, each step once, also after kills."""

import csv
import shutil
import threading
import time
from dataclasses import fields
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as Reader
from tensorboard.summary.writer import event_file_writer
from tensorboard.summary.writer.record_writer import RecordWriter
from tensorboard.util.tensor_util import make_ndarray

from kws.common.console import Console
from kws.training.metrics import MetricsLog, StepMetrics, ValidationMetrics

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


def log(folder: Path, step: int) -> MetricsLog:
    kinds = {"metrics": StepMetrics, "validation": ValidationMetrics}
    return MetricsLog(folder, step, kinds, True, Console(), lambda *_: None)


def row(step: int, loss: float) -> StepMetrics:
    return StepMetrics(step, loss, *[0] * (len(fields(StepMetrics)) - 2))


def test_steps_repeated_after_kills_stand_once_in_a_copied_folder_too(tmp_path, monkeypatch):
    """A kill leaves the log open and may cut the last event."""
    # Names of event files hold the second, and the number of the file in this process, which sort by digits up to 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    (place := tmp_path / "0").mkdir()
    for session, (begin, end) in enumerate([(0, 5), (0, 3), (2, 7), (5, 8)]):
        killed = log(place, begin)
        for step in range(begin, end):
            killed.step(row(step, 10 * session + step))
        copy = Path(shutil.copytree(place, tmp_path / f"{session + 1}"))
        killed.close()
        place = copy
        assert len(list((place / "tensorboard").iterdir())) == session + 1, "one file for each session"
        newest = max((place / "tensorboard").iterdir(), key=lambda file: file.stat().st_mtime_ns)
        newest.write_bytes(newest.read_bytes()[:-3])
    with log(place, 7) as last:
        last.step(row(7, 47))
    want = [(0, 10.0), (1, 11.0), (2, 22.0), (3, 23.0), (4, 24.0), (5, 35.0), (6, 36.0), (7, 47.0)]
    assert shown(place / "tensorboard")["train/loss"] == want
    assert of_csv(place)["train/loss"] == want


def test_a_folder_that_cannot_be_made_ends_the_event_files_alone(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("in the way")
    with log(tmp_path, 0) as made:
        made.step(row(0, 1.0))
    assert capsys.readouterr().err.count("TensorBoard stops here") == 1
    assert (tmp_path / "tensorboard").read_text() == "in the way"
    assert of_csv(tmp_path)["train/loss"] == [(0, 1.0)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_full_disk_ends_the_event_files_alone(tmp_path, monkeypatch, capsys):
    real, calls, threads = RecordWriter.write, [], threading.active_count()

    def write(self, data):
        calls.append(1)
        if len(calls) > 7:
            raise OSError(28, "No space left on device")
        real(self, data)

    monkeypatch.setattr(RecordWriter, "write", write)
    with log(tmp_path, 0) as made:
        for step in range(5):
            made.step(row(step, step))
    while threading.active_count() > threads:  # the thread that writes ends with the error
        time.sleep(0.01)
    assert capsys.readouterr().err.count("TensorBoard stops here ([Errno 28] No space left on device)") == 1
    assert of_csv(tmp_path)["train/loss"] == [(step, float(step)) for step in range(5)]
    monkeypatch.undo()
    assert shown(tmp_path / "tensorboard")["train/loss"][0][0] == 0


def test_keywords_of_any_spelling_have_their_rows_and_curves(tmp_path):
    words = ["hey, you", 'a"b', "ok/go", "ключ", "two\nlines"]
    for begun in (0, 2):  # the second time as a run that resumes at step 2
        with log(tmp_path, begun) as made:
            for n in range(begun, 4):
                figures = (0.5, 0.9, n, 40, 0, 0, 1, 1, 2.5, 0.4, 0, 2)
                made.validation([ValidationMetrics(n, word, *figures) for word in words], "")
    with (tmp_path / "validation.csv").open(newline="", encoding="utf-8") as file:
        rows = [(int(row["step"]), row["keyword"], int(row["misses"])) for row in csv.DictReader(file)]
    assert rows == [(n, word, n) for n in range(4) for word in words]
    found = shown(tmp_path / "tensorboard")
    for word in words:
        assert found[f"validation/{word}/misses"] == [(n, float(n)) for n in range(4)]
