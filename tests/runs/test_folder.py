"""Run folders: claim and resume, curves after a kill, results as JSON."""

import csv
import json
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kws.common.errors import KwsError
from kws.detector.streaming import ScoreTrack
from kws.evaluation.results import as_json, outcomes_of, write_json
from kws.evaluation.scoring import DetectorScores, KeywordScores, Segment
from kws.runs.folder import claim
from kws.training.metrics import Curves, StepMetrics

CONFIG = {
    "keyword": ["alexa"], "seed": 0, "out": "runs/a", "device": "cpu", "threads": 2,
    "data": {"root": "x", "cache": "c"}, "model": {"dilations": [1, 2]},
}  # fmt: skip


def yaml(**changed: object) -> str:
    return OmegaConf.to_yaml(OmegaConf.merge(CONFIG, changed))


def test_the_same_settings_resume_the_run(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    run = claim(out, yaml())
    assert claim(out, yaml()) == run
    # These change place and speed of the training only.
    assert claim(out, yaml(device="cuda", threads=0, out="./runs/a", data={"cache": "d"})) == run
    assert OmegaConf.to_container(OmegaConf.load(out / "config.yaml")) == CONFIG, "unchanged"
    assert claim(tmp_path / "b", yaml()) != run
    assert claim(tmp_path / "c", yaml(seed=1)) != claim(tmp_path / "d", yaml(seed=1))


def test_a_run_that_lacks_a_setting_resumes_with_the_value_that_it_had(tmp_path: Path) -> None:
    run = claim(tmp_path, yaml())
    assert claim(tmp_path, yaml(model={"stem_2d": []})) == run
    with pytest.raises(
        KwsError, match=r"a run with model.stem_2d=null began there, and this one has model.stem_2d=\[8\]"
    ):
        claim(tmp_path, yaml(model={"stem_2d": [8]}))
    assert claim(tmp_path, yaml(data={"synthetic": {"spliced": 0}})) == run
    with pytest.raises(KwsError, match=r"a run with data\.synthetic\.spliced=null began there"):
        claim(tmp_path, yaml(data={"synthetic": {"spliced": 1500}}))


def test_the_id_moves_with_the_folder_and_is_unique(tmp_path: Path) -> None:
    run = claim(tmp_path / "a", yaml())
    (tmp_path / "a").rename(tmp_path / "b")
    assert claim(tmp_path / "b", yaml()) == run
    assert claim(tmp_path / "a", yaml()) != run, "another run in the same place"
    (tmp_path / "a" / "config.yaml").write_text(yaml())
    with pytest.raises(KwsError, match="no run id"):
        claim(tmp_path / "a", yaml())


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 1}, "seed=0 began there, and this one has seed=1"),
        ({"data": {"root": "y"}}, "data.root=x began there, and this one has data.root=y"),
        ({"model": {"dilations": [1]}}, r"model.dilations=\[1, 2\] began there"),
        ({"extra": {"threads": 1}}, "extra.threads=null began there, and this one has extra.threads=1"),
    ],
)
def test_other_settings_are_refused(tmp_path: Path, changed: dict[str, object], named: str) -> None:
    run = claim(tmp_path, yaml())
    with pytest.raises(KwsError, match=named):
        claim(tmp_path, yaml(**changed))
    assert (tmp_path / "config.yaml").read_text() == f"# run {run}\n{yaml()}"


@pytest.mark.parametrize("content", ["a: [", "- 1\n- 2\n", ""])
def test_a_damaged_configuration_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(KwsError, match=r"config\.yaml"):
        claim(tmp_path, yaml())


def step(n: int) -> StepMetrics:
    return StepMetrics(n, 0.5 / (n + 1), 1 / 3, 0.25, 0.0, 0.05, 8, 160, 100 + n, 0.003, 0.5, 0.3, 0.2)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@given(first=st.integers(0, 12), resumed=st.integers(0, 12), kept=st.integers(0, 70))
@example(first=12, resumed=5, kept=1)  # of step 11, a 1 is left
@settings(max_examples=40, deadline=None)
def test_a_resumed_run_has_the_curves_of_an_uninterrupted_one(
    tmp_path_factory: pytest.TempPathFactory, first: int, resumed: int, kept: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "curves.csv"
    with Curves(path, 0, StepMetrics) as curves:
        for n in range(first):
            curves.add(step(n))
    *lines, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + (last[:kept] if first else last))  # a kill cut the last line
    resumed = min(resumed, max(0, first - 1))
    with Curves(path, resumed, StepMetrics) as curves:
        for n in range(resumed, 15):
            curves.add(step(n))
    found = rows(path)
    assert [int(row["step"]) for row in found] == list(range(15))
    for n, row in enumerate(found):
        assert {k: float(v) for k, v in row.items()} == pytest.approx(asdict(step(n)), rel=1e-5)


def test_each_row_is_written_at_once(tmp_path: Path) -> None:
    with Curves(tmp_path / "curves.csv", 0, StepMetrics) as curves:
        curves.add(step(0))
        assert [row["step"] for row in rows(tmp_path / "curves.csv")] == ["0"]


def test_results_are_plain_json(tmp_path: Path) -> None:
    write_json(tmp_path / "x" / "r.json", {"a": [1.5, math.inf, (math.nan, "é")], "b": {"c": -math.inf, "d": 3}})
    assert json.loads((tmp_path / "x" / "r.json").read_text("utf-8")) == {
        "a": [1.5, None, [None, "é"]],
        "b": {"c": None, "d": 3},
    }


def test_results_count_misses_and_false_alarms_at_each_rate() -> None:
    times = np.linspace(2.0, 3600.0, 1800)
    positive, negative = np.zeros(1800, np.float32), np.zeros(1800, np.float32)
    positive[[10, 20]], negative[[100, 200, 300]] = [0.9, 0.6], [0.8, 0.7, 0.5]
    spans = [(21.0, 23.0), (41.0, 43.0), (61.0, 63.0), (81.0, 83.0)]
    scores = {
        "alexa": KeywordScores(
            ScoreTrack(times, positive, 3600.0), [Segment(*span) for span in spans], ScoreTrack(times, negative, 3600.0)
        )
    }
    (result,) = as_json(outcomes_of(DetectorScores(scores, {"alexa": 0.55}, name="b"), 1.0))
    assert (result["detector"], result["keyword"], result["calibration"]) == ("b", "alexa", None)
    own, at = result["as_calibrated"], result["at_fa_per_hour"]
    assert (own["misses"], own["events"], own["false_alarms"]) == (2, 4, 2)
    assert {k: (p["misses"], p["false_alarms"]) for k, p in at.items()} == {
        "0.0": (3, 0), "0.1": (3, 0), "0.5": (3, 0), "1.0": (3, 1), "2.0": (2, 2),
    }  # fmt: skip
