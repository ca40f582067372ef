"""False alarms on confusables, counted by hand."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from kws.common.errors import KwsError
from kws.data.audio import save_flac
from kws.evaluation.confusables import confusable_alarms, held_out_confusables, score_confusables
from kws.evaluation.intervals import wilson
from kws.evaluation.operating_points import OperatingPoint
from tests.nets import LABELS, random_detector, sound


def folder_of(place: Path, rows: list[tuple[str, str, str, str]]) -> Path:
    """A folder as `kws confuse` leaves it: path, label, keyword and part of each clip."""
    place.mkdir(exist_ok=True)
    (place / "arguments.json").write_text("{}")
    with (place / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "keyword", "part"), *rows])
    for n, (path, *_) in enumerate(rows):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        save_flac(place / path, (sound(8000 + 777 * n, n) * 32767).to(torch.int16).numpy(), 16000)
    return place


def at(threshold: float, wanted: float | None) -> OperatingPoint:
    return OperatingPoint(wanted, threshold, 0, 1.0, 0.0, 0.0, 1.0, 0, 1, 0.0, 0.0, 1.0)


def test_only_confusables_by_test_voices_are_scored(tmp_path):
    rows = [
        ("test/a.flac", "confusable", "alexa", "test"),
        ("test/b.flac", "confusable", "computer", "test"),
        ("train/c.flac", "confusable", "alexa", "train"),
        ("test/d.flac", "alexa", "alexa", "test"),
        ("validation/e.flac", "confusable", "alexa", "validation"),
    ]
    folder_of(tmp_path, rows)
    manifest = tmp_path / "manifest.csv"  # as a spreadsheet may save it
    manifest.write_bytes(manifest.read_bytes() + "other/caf\u00e9.flac,speech,,train\r\n".encode("cp1252"))
    (tmp_path / "other").mkdir()
    save_flac(tmp_path / "other" / "caf\u00e9.flac", np.ones(800, np.int16), 16000)
    found = held_out_confusables(tmp_path)
    names = {word: [file.relative_to(tmp_path).as_posix() for file in files] for word, files in found.items()}
    assert names == {"alexa": ["test/a.flac"], "computer": ["test/b.flac"]}


def test_clips_that_reach_the_threshold_are_counted(tmp_path):
    rows = [(f"test/{n}.flac", "confusable", "alexa", "test") for n in range(7)]
    detector = random_detector()
    files = held_out_confusables(folder_of(tmp_path, rows))
    ((word, found),) = score_confusables(detector, files, 0.08).items()
    assert word == "alexa"
    scores, spans = found
    assert len(spans) == 7
    lengths = [8000 + 777 * n for n in range(7)]
    assert [end - start for start, end in spans] == pytest.approx([n / 16000 + 0.5 for n in lengths])
    # A clip triggers where a row of it, or of the half second after it, reaches the threshold.
    peaks = [scores.scores[(scores.times >= start) & (scores.times <= end)].max() for start, end in spans]
    middle = float(np.sort(peaks)[3]) - 1e-6
    low, half, none = confusable_alarms(found, [at(0.0, 2.0), at(middle, 0.0), at(1.1, None)], 0.0)
    assert (low.fired, low.clips, none.fired) == (7, 7, 0)
    assert half.fired == 4
    assert (half.low, half.high) == pytest.approx(wilson(4, 7))
    assert (half.wanted_fa_per_hour, none.wanted_fa_per_hour) == (0.0, None)


def test_confusables_of_other_keywords_are_left_out(tmp_path):
    rows = [("test/a.flac", "confusable", "jarvis", "test")]
    assert score_confusables(random_detector(), held_out_confusables(folder_of(tmp_path, rows)), 0.08) == {}
    assert "jarvis" not in LABELS


@pytest.mark.parametrize("rows", [None, [], [("train/a.flac", "confusable", "alexa", "train")]])
def test_a_folder_without_test_confusables_is_refused(tmp_path, rows):
    folder = tmp_path if rows is None else folder_of(tmp_path, [*rows, ("test/k.flac", "alexa", "alexa", "test")])
    with pytest.raises(KwsError, match=rf"^confusables={re.escape(str(folder))}: must be a folder made by kws confuse"):
        held_out_confusables(folder)


def test_an_evaluation_reports_confusables(cli, run, tones, tiny, tmp_path):
    folder = folder_of(tmp_path, [(f"test/{n}.flac", "confusable", "beep", "test") for n in range(5)])
    words = [word for word in tiny if word.startswith("data.")]
    for name in ("model.pt", "detector.pt"):
        out = tmp_path / f"{name}.json"
        done = cli("evaluate", f"detector={run / name}", f"confusables={folder}", f"out={out}", *words)
        assert done.code == 0, done.err
        assert "Confusables by voices of the test split" in done.out
    ((one,), (other,)) = (
        json.loads((tmp_path / f"{n}.json").read_text())["outcomes"] for n in ("model.pt", "detector.pt")
    )
    for row, same in zip(one["confusables"], other["confusables"], strict=True):
        assert row == pytest.approx(same, abs=1e-5)
    assert {row["clips"] for row in one["confusables"]} == {5}
    elsewhere = folder_of(tmp_path / "x", [("test/a.flac", "confusable", "boop", "test")])
    refused = cli("evaluate", f"detector={run}/model.pt", f"confusables={elsewhere}", *words)
    assert (refused.code, refused.err.splitlines()[-1]) == (
        2,
        f"kws: confusables={elsewhere}: must be for beep, not boop",
    )
