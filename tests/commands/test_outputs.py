"""What commands write: never over what they read, and with the figures that they showed."""

import json
import os
import shutil
from pathlib import Path

import pytest

from kws.commands.export import targets
from kws.detector.files import Format
from tests.commands.conftest import figures


@pytest.fixture
def place(streams, tones, run, tmp_path):
    """A detector, streams with their events, recordings and a checkpoint, for a command to spoil."""
    shutil.copytree(Path(streams[0].removeprefix("positive=")).parent, tmp_path, dirs_exist_ok=True)
    shutil.copytree(tones, tmp_path / "DIR")
    shutil.copy(run / "detector.pt", tmp_path / "d.pt")
    shutil.copy(run / "model.pt", tmp_path / "model.pt")
    return tmp_path


EVALUATE = ("evaluate", "detector=d.pt", "positive=p.flac", "events=p.json", "negative=[n1.flac,n2.flac]")


@pytest.mark.parametrize(
    "words",
    [
        (*EVALUATE, "out=p.json"),
        (*EVALUATE, "out=p.flac"),
        (*EVALUATE, "out=./n2.flac"),
        (*EVALUATE, "report=d.pt"),
        (*EVALUATE, "out=r.json", "report=r.json"),
        ("data", "check", "DIR", "keyword=beep", "json=DIR/manifest.csv"),
        ("data", "check", "DIR", "keyword=beep", "checkpoint=model.pt", "out=model.pt"),
        ("export", "checkpoint=model.pt", "out=model.pt", "force=true"),
    ],
)
def test_no_output_replaces_what_the_command_reads(cli, place, monkeypatch, words):
    monkeypatch.chdir(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    said = cli(*words)
    assert (said.code, len(said.err.splitlines())) == (2, 1), said.err
    assert "must be another file" in said.err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_reports_may_be_written_again_beside_the_recordings(cli, place, monkeypatch):
    monkeypatch.chdir(place)
    for _ in range(2):
        said = cli("data", "check", "DIR", "keyword=beep", "json=DIR/check.json", "out=DIR/check.html")
        assert "must be another file" not in said.err
        assert (place / "DIR/check.html").is_file()


def test_a_threshold_of_an_evaluation_counts_the_same_once_exported(cli, run, streams, tmp_path):
    point = figures(cli, run / "detector.pt", tmp_path / "a.json", *streams)["beep"]["at_fa_per_hour"]["0.0"]
    words = (f"checkpoint={run}/model.pt", f"out={tmp_path}/d.pt", f"thresholds={point['threshold']!r}")
    assert cli("export", *words).code == 0
    again = figures(cli, tmp_path / "d.pt", tmp_path / "b.json", *streams)["beep"]["as_calibrated"]
    assert (again["false_alarms"], again["misses"]) == (point["false_alarms"], point["misses"])


def test_one_format_after_the_other_replaces_the_card_alone(cli, run, tmp_path):
    assert cli("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/d.pt").code == 0
    said = cli("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/d.onnx")
    assert said.code == 0, said.err
    (tmp_path / "e.card.md").write_text("# Notes of mine\n")
    said = cli("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/e.pt")
    assert (said.code, "e.card.md: the file exists" in said.err) == (2, True)


def test_the_suffix_of_another_kind_stays_in_the_name():
    kinds = [Format.torchscript, Format.onnx]
    assert list(targets(Path("a/d.v2"), [str(kind) for kind in kinds])) == [Path("a/d.v2.pt"), Path("a/d.v2.onnx")]
    assert list(targets(Path("a/d.pt"), [str(kind) for kind in kinds])) == [Path("a/d.pt"), Path("a/d.onnx")]


def test_paths_that_are_no_utf8_are_read_and_written(cli, run, streams, tmp_path):
    folder = Path(os.fsdecode(bytes(tmp_path / "caf") + b"\xe9"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 alone")
    shutil.copy(run / "detector.pt", folder / "d.pt")
    shutil.copy(streams[2].removeprefix("negative=[").partition(",")[0], folder / "n.flac")
    words = (f"detector={folder}/d.pt", f"negative={folder}/n.flac", f"out={tmp_path}/o.json", "threads=1")
    said = cli("evaluate", *words)
    assert said.code == 0, said.err
    assert json.loads((tmp_path / "o.json").read_text())["model"].endswith("caf\u00e9/d.pt")


def test_a_recording_or_an_event_that_is_there_twice_is_refused(cli, run, streams, tmp_path):
    positive, events = (word.partition("=")[2] for word in streams[:2])
    words = (f"detector={run}/detector.pt", f"positive=[{positive},{positive}]", f"events=[{events},{events}]")
    said = cli("evaluate", *words)
    assert (said.code, "is there twice, and its keywords would count twice" in said.err) == (2, True), said.err
