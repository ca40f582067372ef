"""kws runs: known figures in one table, and no harm from damaged or forged files."""

import csv
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.operating_points import RATES
from kws.runs import folder as run_folder
from kws.runs import table
from kws.runs.lock import locked
from kws.runs.results import Counts, Curve, Figures, find, natural_key

KEYS = {"keyword": "beep", "threshold": {"at_fa_per_hour": 0.5}, "optim": {"steps": 100}}


def outcome(misses: list[int], alarms: list[int], own: tuple[int, int], events: int = 40, hours: float = 2.0) -> Any:
    """An outcome of results.json; `own` are misses and false alarms at the calibrated threshold."""
    point = {"misses": own[0], "events": events, "false_alarms": own[1], "hours": hours}
    curve = {"false_alarms": alarms, "misses": misses, "thresholds": [0.5] * len(misses)}
    return {"keyword": "beep", "as_calibrated": point, "curve": curve}


def make(folder: Path, seconds: list[float] | None = None, figures: list[Any] | None = None, **settings: Any) -> Path:
    """A run folder with the files that the table reads."""
    folder.mkdir(parents=True)
    tree = OmegaConf.to_yaml(OmegaConf.create(KEYS | settings))
    (folder / "config.yaml").write_text(f"# run {len(folder.name):012x}\n{tree}")
    words = [f"{key}={value}" for key, value in settings.items()]
    done = [run_folder.Session(1e9, words, 1, "cpu", one, "finished") for one in seconds or []]
    if done:
        run_folder.write(folder, done)
    if figures is not None:
        (folder / "results.json").write_text(json.dumps({"outcomes": figures}))
    return folder


def accuracy_json(right: Any, clips: Any) -> str:
    """Content of results.json of a run with task=classification."""
    return json.dumps({"outcomes": [], "test": {"accuracy": {"right": right, "clips": clips}}})


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two settings by two seeds, and a run that failed before training."""
    for i, (rate, seed, misses) in enumerate([(0.1, 0, 2), (0.1, 1, 4), (0.02, 0, 9), (0.02, 1, 1)]):
        make(tmp_path / str(i), [10.0 + i], [outcome([0, misses, 40], [9, 1, 0], (misses + 1, 1))], lr=rate, seed=seed)
    failed = run_folder.Session(1e9, ["lr=7", "seed=0"], None, None, 0.1, "failed", "lr=7: must be between 0 and 1")
    (tmp_path / "10").mkdir()
    run_folder.write(tmp_path / "10", [failed])
    return tmp_path


def cells(text: str) -> list[list[str]]:
    """The rows of a table in the terminal."""
    lines = [line.strip() for line in text.splitlines()]
    rule = next(i for i, line in enumerate(lines) if line.startswith("──"))
    body = lines[rule + 1 : lines.index("", rule) if "" in lines[rule:] else None]
    return [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in body]


def test_the_table_has_differing_settings_misses_false_alarms_and_time(cli, sweep):
    said = cli("runs", sweep)
    assert said.code == 0, said.err
    found = cells(said.out)
    assert [row[0] for row in found] == ["0", "1", "2", "3", "10"]
    assert found[0][1:] == [
        "0.1",
        "0",
        "2/40 = 5.0 % [1.4, 16.5]",
        "3/40 = 7.5 % [2.6, 19.9]",
        "1 in 2.00 h = 0.50/h [0.01, 2.8]",
        "10 s",
        "finished",
    ]
    assert found[4] == ["10", "7", "0", "-", "-", "-", "0 s", "failed"]
    assert "10 failed: lr=7: must be between 0 and 1" in said.out
    header = next(line for line in said.out.splitlines() if "misses, calibrated" in line).split()
    assert header[:3] == ["run", "lr", "seed"]
    assert "misses at 0.5/h" in said.out
    assert "keyword" not in said.out


def in_terminal(cli, monkeypatch, width: int, *words: object) -> list[str]:
    """The lines of a command in a terminal of this width."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    said = cli(*words)
    assert said.code == 0, said.err
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.out).splitlines()


def test_a_table_that_is_wider_than_the_terminal_is_a_block_for_each_run(cli, sweep, monkeypatch):
    long = "2026-11-26_15-28-57_a_name_of_a_run_that_nobody_may_cut"
    make(sweep / long, [5.0], [outcome([0, 40], [9, 0], (40, 0))], lr=0.5, seed=0)
    lines = in_terminal(cli, monkeypatch, 80, "runs", sweep)
    assert "…" not in "".join(lines)
    at = lines.index(long)
    assert lines[at - 1] == ""
    assert [line.split("  ")[-1].strip() for line in lines[at + 1 : at + 4]] == [
        "0.5",
        "0",
        "40/40 = 100.0 % [91.2, 100.0]",
    ]
    assert all(len(line) <= 80 for line in lines)
    assert [line for line in lines if line.endswith("finished")]
    wide = in_terminal(cli, monkeypatch, 300, "runs", sweep)
    assert any(line.split()[:2] == [long, "0.5"] for line in wide), "a table"


@pytest.mark.parametrize("width", [80, 100, 300])
def test_the_models_are_readable_at_any_width(cli, monkeypatch, width):
    lines = in_terminal(cli, monkeypatch, width, "models", "model=matchboxnet_3x1x64")
    row = next(line for line in lines if line.split()[:1] == ["matchboxnet_3x1x64"])
    assert len(row) <= width
    assert not any("…" in word for word in row.split()[:7])
    assert any("windows" in line and "matchboxnet_3x1x64" in line for line in lines)


def test_a_run_at_work_is_running(cli, sweep):
    make(sweep / "a" / "b")
    (sweep / "a/b/metrics.csv").write_text("step,loss\n" + "".join(f"{i},0.5\n" for i in range(100)))
    assert next(row for row in cells(cli("runs", sweep).out) if row[0] == "a/b")[-1] == "training is done, not the test"
    with locked(sweep / "a/b"):
        found = next(row for row in cells(cli("runs", sweep).out) if row[0] == "a/b")
    assert found[-1] == "running, training is done, not the test"


def test_seeds_are_summed_with_their_range(cli, sweep):
    said = cli("runs", sweep, "group=true", "sort=misses", "at_fa_per_hour=[0.5,4.5]")
    assert said.code == 0, said.err
    first, second, last = cells(said.out)
    assert first[:3] == ["0 and 1 more", "0.1", "6/80 = 7.5 % [3.5, 15.4], 2 to 4 a run"]
    assert second[:3] == ["2 and 1 more", "0.02", "10/80 = 12.5 % [6.9, 21.5], 1 to 9 a run"]
    assert first[3] == "0/80 = 0.0 % [0.0, 4.6], 0 to 0 a run", "9 alarms in 2 h are 4.5/h"
    assert first[5] == "2 in 4.00 h = 0.50/h [0.06, 1.8], 1 to 1 a run"
    assert first[6:] == ["10 s a run", "2 finished"]
    assert last[0] == "10"
    assert "too narrow" in said.out


def test_the_csv_file_holds_plain_numbers(cli, sweep, tmp_path):
    out = tmp_path / "deep/table.csv"
    said = cli("runs", sweep, f"out={out}", "sort=lr")
    assert said.code == 0, said.err
    found = list(csv.DictReader(out.read_text().splitlines()))
    assert [row["run"] for row in found] == ["2", "3", "0", "1", "10"]
    third = found[2]
    assert (third["lr"], third["seed"], third["state"], float(third["seconds"])) == ("0.1", "0", "finished", 10.0)
    assert (third["misses_at_0.5/h"], third["events_at_0.5/h"]) == ("2", "40")
    low, high = wilson(2, 40)
    assert (float(third["miss_low_at_0.5/h"]), float(third["miss_high_at_0.5/h"])) == (low, high)
    assert (third["misses_as_set"], third["false_alarms_as_set"]) == ("3", "1")
    low, high = poisson(1, 2.0)
    assert (float(third["fa_low_as_set"]), float(third["fa_high_as_set"])) == (low, high)
    assert found[4]["misses_as_set"] == ""
    before = out.read_text()
    refused = cli("runs", sweep, f"out={out}")
    assert refused.code == 2
    assert f"out={out}: must be a new file" in refused.err
    assert out.read_text() == before


@pytest.mark.parametrize(
    ("by", "order"),
    [
        ("run", ["0", "1", "2", "3", "10"]),
        ("misses", ["3", "0", "1", "2", "10"]),
        ("time", ["10", "0", "1", "2", "3"]),
        ("seed", ["0", "2", "10", "1", "3"]),
        ("state", ["10", "0", "1", "2", "3"]),
        ("optim.steps", ["0", "1", "2", "3", "10"]),
    ],
)
def test_the_table_is_sorted_by_any_column(sweep, by, order):
    runs = find(sweep)
    keys, _ = table.columns(runs)
    assert [row.name for row in table.ordered(table.rows(runs, False), by, [0.5], keys)] == order


def test_an_unfinished_run_shows_its_step_and_a_killed_one_its_least_time(cli, tmp_path):
    at_work = make(tmp_path / "a", [100.0])
    run_folder.write(at_work, [*run_folder.read(at_work), run_folder.Session(2e9, [], 1, "cpu")])
    (at_work / "metrics.csv").write_text("step,loss\n0,1\n1,1\n2,")
    os.utime(at_work / "metrics.csv", (2e9 + 30, 2e9 + 30))
    said = cli("runs", tmp_path)
    assert said.code == 0, said.err
    (row,) = cells(said.out)
    assert row == ["a", "-", "-", "-", "at least 130 s, 2 sessions", "step 2 of 100"]


def test_a_few_settings_of_no_command_are_shown(tmp_path):
    many = {f"key{i}": i for i in range(9)}
    make(tmp_path / "a", **many)
    make(tmp_path / "b", **(many | {"key3": 0}))
    assert table.columns(find(tmp_path)) == (["key3"], [])
    make(tmp_path / "c", **dict.fromkeys(many, 7))
    assert table.columns(find(tmp_path))[0] == []
    assert table.columns(find(tmp_path))[1] == [name for name in many if name != "key7"], "key7 is 7 in all runs"


def test_an_option_of_a_group_replaces_its_settings(tmp_path):
    make(tmp_path / "a", [1.0], model={"channels": 8, "kernel": 3})
    other = make(tmp_path / "b", model={"channels": 16, "kernel": 5})
    run_folder.write(other, [run_folder.Session(1e9, ["model=large"], 1, "cpu", 1.0, "finished")])
    run_folder.write(tmp_path / "a", [run_folder.Session(1e9, ["threads=2"], 1, "cpu", 1.0, "finished")])
    runs = find(tmp_path)
    assert table.columns(runs) == (["model"], [])
    assert [table.value_of(run, "model") for run in runs] == ["default", "large"]


def test_the_figures_are_those_of_the_run_at_every_rate(run):
    (found,) = find(run)
    assert found.name == "."
    assert (found.state, found.step, found.at_least) == ("finished", 24, False)
    assert (found.seconds or 0) > 0
    (one,) = json.loads((run / "results.json").read_text())["outcomes"]
    for rate in RATES:
        point = one["at_fa_per_hour"][str(rate)]
        expected = Counts(point["misses"], point["events"], point["false_alarms"], point["hours"])
        assert found.figures[0].at(rate) == expected


def test_a_threshold_above_all_scores_misses_all_events():
    figures = Figures("beep", Counts(0, 5, 3, 1.0), Curve([3, 2], [0, 1]))
    assert figures.at(2.5) == Counts(1, 5, 2, 1.0)
    assert figures.at(1.0) == Counts(5, 5, 0, 1.0)


def test_numbers_in_names_sort_as_numbers():
    names = ["10", "2", "a/10", "a/9", ".", "²"]
    assert sorted(names, key=natural_key) == ["2", "10", ".", "a/9", "a/10", "²"]


@pytest.mark.parametrize(
    "results",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"outcomes": 5}',
        '{"outcomes": [{}]}',
        json.dumps({"outcomes": [outcome([1], [1], (-1, 0))]}),
        json.dumps({"outcomes": [outcome([1], [1], (1, 0), hours=0)]}),
        json.dumps({"outcomes": [outcome([1], [1], (1, 0), events=0)]}),
        json.dumps({"outcomes": [outcome([1, 2], [1], (1, 0))]}),
        json.dumps({"outcomes": [outcome(["1"], [1], (1, 0))]}),  # type: ignore[list-item]
        '{"outcomes": [{"keyword": 1, "as_calibrated": {}, "curve": {}}]}',
    ],
)
def test_a_damaged_run_is_named_and_the_others_are_shown(cli, tmp_path, results):
    make(tmp_path / "good", [1.0], [outcome([1], [1], (1, 1))])
    (make(tmp_path / "bad", [1.0]) / "results.json").write_text(results)
    said = cli("runs", tmp_path)
    assert said.code == 0, said.err
    assert [row[0] for row in cells(said.out)] == ["bad", "good"]
    assert f"bad damaged: {tmp_path}/bad/results.json: unreadable results" in said.out


def test_names_and_errors_drive_no_terminal(cli, tmp_path):
    evil = "\x1b[2J[red]x"
    folder = tmp_path / evil
    folder.mkdir()
    run_folder.write(
        folder, [run_folder.Session(1.0, [f"lr={evil}"], None, None, 1.0, "failed", f"no {evil}\nkws: fine")]
    )
    make(tmp_path / "b", lr=evil)
    said = cli("runs", tmp_path)
    assert said.code == 0, said.err
    assert "\x1b" not in said.out + said.err
    assert "[2J[red]x failed: no" in said.out, "rich markup is escaped"
    assert "\nkws: fine" not in said.out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["none_such"], ["dir=none_such", "no such file or folder; expected: folder of runs"]),
        (["empty"], ["dir=empty", "must contain runs"]),
        ([], ["dir=... must be given", "kws runs DIR"]),
        (["{sweep}", "sort=lrr"], ["sort=lrr", "misses", "lr"]),
        (["{sweep}", "at_fa_per_hour=[1001]"], ["at_fa_per_hour=[1001.0]", "between 0 and 1000"]),
        (["{sweep}", "recipe_of=0", "out=a.txt"], ["out=a.txt", "must end in .yaml"]),
        (["{sweep}", "recipe_of=007", "out=a.yaml"], ["recipe_of=007", "0, 1, 2, 3, 10"]),
        (["{sweep}", "recipe_of=10", "out=a.yaml"], ["recipe_of=10", "recipe.yaml", "lr=7: must be"]),
        (["{sweep}", "recipe_of=0"], ["recipe_of=0", "recipe.yaml", "an earlier version of kws"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(cli, sweep, tmp_path_factory, monkeypatch, words, named):
    here = tmp_path_factory.mktemp("here")
    (here / "empty").mkdir()
    monkeypatch.chdir(here)
    said = cli("runs", *(word.replace("{sweep}", str(sweep)) for word in words))
    assert said.code == 2
    assert said.err.startswith("kws: ")
    assert said.err.count("\n") == 1
    for text in named:
        assert text in said.err
    assert [file.name for file in here.iterdir()] == ["empty"]


def test_runs_of_a_classification_show_their_accuracy(cli, tmp_path):
    for seed, right in enumerate((30, 36)):
        (make(tmp_path / str(seed), [1.0], [], seed=seed) / "results.json").write_text(accuracy_json(right, 40))
    said = cli("runs", tmp_path, "sort=accuracy")
    assert said.code == 0, said.err
    assert [row[2] for row in cells(said.out)] == ["30/40 = 75.0 % [59.8, 85.8]", "36/40 = 90.0 % [76.9, 96.0]"]
    assert "misses" not in said.out
    assert "66/80 = 82.5 % [72.7, 89.3], 30 to 36 a run" in cli("runs", tmp_path, "group=true").out
    assert cli("runs", tmp_path, "group=true", f"out={tmp_path}/x.csv").code == 0
    (row,) = csv.DictReader((tmp_path / "x.csv").read_text().splitlines())
    assert (row["right"], row["clips"], row["misses_as_set"]) == ("66", "80", "")
    (tmp_path / "1" / "results.json").write_text(accuracy_json(41, 40))
    assert "1 damaged: " in cli("runs", tmp_path).out
