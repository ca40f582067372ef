"""The weight of negatives that false alarms steer: its rule by hand, and runs that are steered."""

import csv
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kws.detector import checkpoint
from kws.evaluation.validation import ValidationCounts
from kws.training.balance import Tie, next_weight
from kws.training.run_log import RunLog
from kws.training.trainer import Trainer
from tests.kill import death

TIE = Tie(every=50, target_fa_per_hour=2.0, miss_rate=0.1, factor=1.5, least=0.8, most=3.0)
QUIET, LOUD, DEAF = (
    ValidationCounts(20, 10.0, 1, 10),
    ValidationCounts(21, 10.0, 1, 10),
    ValidationCounts(99, 10.0, 2, 10),
)


@pytest.mark.parametrize(
    ("weight", "seen", "after", "reason"),
    [
        (1.0, LOUD, 1.5, "21 false alarms in 10.00 h, above 2/h: rises"),
        (2.5, LOUD, 3.0, "21 false alarms in 10.00 h, above 2/h: rises"),
        (3.0, LOUD, 3.0, "21 false alarms in 10.00 h, above 2/h, but the weight is at its most"),
        # Misses go first, whatever the false alarms.
        (1.5, DEAF, 1.0, "2 of 10 held-out positives missed, above the guard of 10.0%: falls"),
        (0.9, DEAF, 0.8, "2 of 10 held-out positives missed, above the guard of 10.0%: falls"),
        (0.8, DEAF, 0.8, "2 of 10 held-out positives missed, above the guard of 10.0%: stays at its least"),
        # What stands just at a bound is within it, and needs no more weight than at first.
        (3.0, QUIET, 2.0, "20 false alarms in 10.00 h, 1 of 10 held-out positives missed: both within bounds, falls"),
        (0.8, QUIET, 0.8, "20 false alarms in 10.00 h, 1 of 10 held-out positives missed: both within bounds, stays"),
    ],
)
def test_the_weight_rises_and_falls(weight, seen, after, reason):
    got, why = next_weight(weight, seen, TIE)
    assert got == pytest.approx(after)
    assert why.startswith(reason)


def test_a_weight_goes_back_the_way_it_came():
    weights, weight = [], TIE.least
    for seen in (LOUD, LOUD, LOUD, LOUD, QUIET, DEAF, QUIET, QUIET):
        weight, _ = next_weight(weight, seen, TIE)
        weights.append(weight)
    assert weights == pytest.approx([1.2, 1.8, 2.7, 3.0, 2.0, 4 / 3, 8 / 9, 0.8])


@given(
    looks=st.lists(
        st.builds(ValidationCounts, st.integers(0, 50), st.just(10.0), st.integers(0, 10), st.just(10)), max_size=60
    ),
    weight=st.floats(TIE.least, TIE.most),
)
@settings(deadline=None)
def test_whatever_is_seen_the_weight_stays_within_its_limits(looks, weight):
    for seen in looks:
        before = weight
        weight, reason = next_weight(before, seen, TIE)
        alarmed, missing = seen.false_alarms > 20, seen.misses > 1
        assert TIE.least <= weight <= TIE.most
        assert (weight > before) == (alarmed and not missing and before < TIE.most)
        assert (weight < before) == ((missing or not alarmed) and before > TIE.least)
        assert f"{seen.misses} of 10 held-out" in reason or f"{seen.false_alarms} false alarms" in reason


def rows(out: Path, name: str = "negative_weight.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((out / name).read_text().splitlines()))


TIED = ["optim.tied.check_every=5", "optim.tied.factor=2", "optim.tied.most=3"]


@pytest.mark.parametrize(
    ("words", "after"),
    [
        # Everything fires: no keyword is missed, all else is a false alarm.
        (["replay.at_score=0", "optim.tied.target_fa_per_hour=0"], [2, 3, 3, 3]),
        (["replay.at_score=0", "optim.tied.target_fa_per_hour=100000"], [1, 1, 1, 1]),
        # Nothing fires.
        (["replay.at_score=1", "optim.tied.target_fa_per_hour=0"], [1, 1, 1, 1]),
    ],
)
def test_a_run_is_steered(cli, tiny, run, tmp_path, words, after):
    said = cli("train", *tiny, *TIED, *words, f"out={tmp_path}/a")
    assert said.code == 0, said.err
    looks = rows(tmp_path / "a")
    assert [int(row["step"]) for row in looks] == [4, 9, 14, 19]
    assert [float(row["after"]) for row in looks] == after
    assert [float(row["before"]) for row in looks] == [1, *after[:-1]]
    for row in looks:
        assert row["events"] == "6"
        assert row["reason"] in said.err + said.out
        assert row["misses"] in row["reason"] or row["false_alarms"] in row["reason"]
    a, b = (checkpoint.read(out / "model.pt")["model"] for out in (run, tmp_path / "a"))
    assert all(torch.equal(a[name], b[name]) for name in a) == (after[0] == 1), "the weight is that of the loss"
    shown = EventAccumulator(str(tmp_path / "a" / "tensorboard"), {"scalars": 0})
    shown.Reload()
    assert [(e.step, e.value) for e in shown.Scalars("negative_weight/after")] == [
        (step, weight) for step, weight in zip((4, 9, 14, 19), after, strict=True)
    ]
    first, second = ([float(row["loss"]) for row in rows(out, "metrics.csv")] for out in (run, tmp_path / "a"))
    assert first[:5] == second[:5], "up to the first look they are one"


def test_a_weight_is_nothing_but_a_weight(cli, tiny, run, tmp_path):
    """After the first look the loss of a step is that of the two parts, weighted as the log says."""
    said = cli(
        "train", *tiny, *TIED, "replay.at_score=0", "optim.tied.target_fa_per_hour=0", "replay.share=0",
        f"out={tmp_path}/a",
    )  # fmt: skip
    assert said.code == 0, said.err
    steps = rows(tmp_path / "a", "metrics.csv")
    for n, weight in ((4, 1.0), (5, 2.0), (10, 3.0), (23, 3.0)):
        row = {name: float(value) for name, value in steps[n].items()}
        # 0.25 of 16 clips hold the keyword.
        assert row["loss"] == pytest.approx(0.25 * row["loss_positive"] + weight * 0.75 * row["loss_fresh"], rel=1e-4)


def test_nobody_looks_where_nothing_is_tied(run):
    assert rows(run) == []


def test_a_killed_run_goes_on_with_its_weight(cli, tiny, tmp_path):
    words = (*tiny, *TIED, "replay.at_score=0", "optim.tied.target_fa_per_hour=0", "optim.save_every=4")
    said = cli("train", *words, f"out={tmp_path}/whole")
    assert said.code == 0, said.err
    for place, name, call, first in [
        (Trainer, "_step", 4, True),
        (RunLog, "weight", 1, False),  # its row is there, the state does not know
        (Trainer, "_weigh", 2, False),  # the weight has changed, the state does not know
        (Trainer, "_step", 4, True),  # the state knows
    ]:
        with death(place, name, call, first):
            cli("train", *words, f"out={tmp_path}/killed")
    said = cli("train", *words, f"out={tmp_path}/killed")
    assert said.code == 0, said.err
    a, b = (checkpoint.read(tmp_path / name / "model.pt") for name in ("whole", "killed"))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    for name in ("negative_weight.csv", "metrics.csv", "validation.csv"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "killed" / name).read_text()
