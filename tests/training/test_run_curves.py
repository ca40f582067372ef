"""The curves of a run's page: what metrics.csv and validation.csv hold."""

import io
from dataclasses import fields
from pathlib import Path

import pytest
from matplotlib.image import imread

from kws.evaluation.report.curves import plot_curves
from kws.training.metrics import StepMetrics, ValidationMetrics
from kws.training.run_curves import classification_curves, wake_word_curves


def write(file: Path, names: list[str], rows: list[list[object]]) -> None:
    file.write_text("\n".join(",".join(map(str, row)) for row in [names, *rows]) + "\n")


def wake_word_run(folder: Path, replayed: list[int]) -> None:
    names = [field.name for field in fields(StepMetrics)]
    rows = [[i, 1, 2, 0.5, 0.7, 0.1, n, 20, 9, 0.01, 0.6, 0.3, 0.1] for i, n in enumerate(replayed)]
    write(folder / "metrics.csv", names, rows)
    write(folder / "validation.csv", [field.name for field in fields(ValidationMetrics)], [])


def test_replayed_rows_are_shown_from_the_first_one_on(tmp_path: Path) -> None:
    wake_word_run(tmp_path, [0, 0, 2, 1])
    curves = wake_word_curves(tmp_path, [2])
    assert [panel.label for panel in curves.panels] == ["loss", "gradient, %", "batch, %"]
    loss, gradient, batch = (panel.lines for panel in curves.panels)
    assert loss["replayed"] == ([2, 3], [0.7, 0.7])
    assert gradient["keywords"] == ([0, 1, 2, 3], pytest.approx([60] * 4))
    assert batch["replayed"][1] == [0, 0, 10, 5]
    assert imread(io.BytesIO(plot_curves(curves))).shape[1] == 880


def test_a_run_without_replay_has_no_curves_of_it(tmp_path: Path) -> None:
    wake_word_run(tmp_path, [0, 0])
    panels = wake_word_curves(tmp_path, []).panels
    assert [list(panel.lines) for panel in panels] == [["keywords", "fresh negatives"]] * 2


def test_validation_misses_are_those_of_all_keywords(tmp_path: Path) -> None:
    wake_word_run(tmp_path, [0])
    names = [field.name for field in fields(ValidationMetrics)]
    rows = [
        [step, word, 0.5, 0.9, misses, 10, *[0] * 8] for step, word, misses in ((9, "a", 3), (9, "b", 1), (19, "a", 2))
    ]
    write(tmp_path / "validation.csv", names, rows)
    panel = wake_word_curves(tmp_path, []).panels[-1]
    assert panel.lines == {"misses": ([9, 19], [20, 20])}


def test_a_classification_shows_errors(tmp_path: Path) -> None:
    write(tmp_path / "metrics.csv", ["step", "loss", "right", "batch"], [[0, 1.5, 10, 40], [1, 1.0, 20, 40]])
    write(tmp_path / "validation.csv", ["step", "accuracy"], [[1, 0.9]])
    curves = classification_curves(tmp_path)
    assert imread(io.BytesIO(plot_curves(curves))).shape[1] == 880
    panels = curves.panels
    assert panels[1].lines["train"] == ([0, 1], [75, 50])
    assert panels[2].lines["validation"] == ([1], pytest.approx([10]))
