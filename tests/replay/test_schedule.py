"""Share of replayed clips: schedules, and the steering of an adaptive share by validation results."""

import csv
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.evaluation.validation import ValidationCounts
from kws.replay.schedule import MIN_SHARE, Schedule, ScheduleConfig, share_at, steered, stochastic_round
from kws.training.metrics import Curves, ShareMetrics

CONFIG = ScheduleConfig(target_fa_per_hour=2.0, max_miss_rate=0.1, share_step=0.02, max_share=0.25)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def read_rows(folder: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / name).read_text().splitlines()))


def test_stochastic_rounding_is_exact_in_the_mean() -> None:
    source = rng()
    rounded = torch.tensor([stochastic_round(8.3, source) for _ in range(4000)], dtype=torch.double)
    assert set(rounded.tolist()) == {8.0, 9.0}
    assert float(rounded.mean()) == pytest.approx(8.3, abs=0.03)
    assert {stochastic_round(8.0, source) for _ in range(200)} == {8}
    assert {stochastic_round(0.0, source) for _ in range(200)} == {0}


def test_each_schedule_by_hand() -> None:
    def shares(schedule: str, ramp_steps: int = 100) -> list[float]:
        config = ScheduleConfig(schedule=Schedule(schedule), ramp_steps=ramp_steps)
        return [share_at(step, 50, 0.2, config) for step in (0, 49, 50, 75, 100, 150, 900)]

    assert shares("constant") == [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2]
    assert shares("linear") == pytest.approx([0, 0, 0, 0.05, 0.1, 0.2, 0.2])
    assert shares("cosine") == pytest.approx([0, 0, 0, 0.2 * (1 - 0.5**0.5) / 2, 0.1, 0.2, 0.2])
    assert shares("linear", 0) == shares("cosine", 0) == shares("constant")
    assert shares("adaptive") == shares("constant"), "an adaptive share has no ramp"


@pytest.mark.parametrize(
    ("share", "seen", "after", "reason"),
    [
        # Many false alarms, few misses: the share rises, up to its maximum.
        (0.05, ValidationCounts(21, 10.0, 1, 10), 0.07, "21 false alarms in 10.00 h, above 2/h: rises"),
        (0.0, ValidationCounts(21, 10.0, 0, 10), 0.02, "21 false alarms in 10.00 h, above 2/h: rises"),
        (0.24, ValidationCounts(21, 10.0, 1, 10), 0.25, "21 false alarms in 10.00 h, above 2/h: rises"),
        (
            0.25,
            ValidationCounts(21, 10.0, 1, 10),
            0.25,
            "21 false alarms in 10.00 h, above 2/h, but the share is at its maximum",
        ),
        # Many misses: the share falls, whatever the false alarms, at last to 0.
        (
            0.2,
            ValidationCounts(999, 10.0, 2, 10),
            0.1,
            "2 of 10 validation keywords missed, above max_miss_rate of 10.0%: falls",
        ),
        (
            0.2,
            ValidationCounts(0, 10.0, 2, 10),
            0.1,
            "2 of 10 validation keywords missed, above max_miss_rate of 10.0%: falls",
        ),
        (
            0.004,
            ValidationCounts(0, 10.0, 9, 10),
            0.002,
            "9 of 10 validation keywords missed, above max_miss_rate of 10.0%: falls",
        ),
        (
            0.0039,
            ValidationCounts(0, 10.0, 9, 10),
            0.0,
            "9 of 10 validation keywords missed, above max_miss_rate of 10.0%: falls",
        ),
        (
            0.0,
            ValidationCounts(0, 10.0, 9, 10),
            0.0,
            "9 of 10 validation keywords missed, above max_miss_rate of 10.0%: stays at 0",
        ),
        # A value at its bound is within the bound.
        (0.1, ValidationCounts(20, 10.0, 1, 10), 0.1, "20 false alarms in 10.00 h, 1 of 10 validation keywords missed"),
    ],
)
def test_the_share_rises_and_falls(share: float, seen: ValidationCounts, after: float, reason: str) -> None:
    got, why = steered(share, seen, CONFIG)
    assert got == pytest.approx(after)
    assert why.startswith(reason)


@given(
    seen=st.lists(
        st.builds(ValidationCounts, st.integers(0, 50), st.just(10.0), st.integers(0, 10), st.just(10)), max_size=60
    ),
    share=st.floats(0, 0.25),
)
@settings(deadline=None)
def test_an_adaptive_share_stays_within_its_bounds(seen: list[ValidationCounts], share: float) -> None:
    for one in seen:
        before = share
        share, reason = steered(before, one, CONFIG)
        assert share == 0 or MIN_SHARE <= share <= CONFIG.max_share or share == before
        missed, alarmed = one.misses > 1, one.false_alarms > 20
        assert (share < before) <= missed
        assert (share > before) <= (alarmed and not missed)
        assert f"{one.misses} of 10 validation keywords" in reason or f"{one.false_alarms} false alarms" in reason


def test_the_share_rises_again_after_a_fall() -> None:
    alarmed, missing = ValidationCounts(100, 1.0, 0, 10), ValidationCounts(100, 1.0, 5, 10)
    shares, share = [], 0.03
    for seen in (alarmed, missing, missing, missing, missing, alarmed, alarmed):
        share, _ = steered(share, seen, CONFIG)
        shares.append(share)
    assert shares == pytest.approx([0.05, 0.025, 0.0125, 0.00625, 0.003125, 0.023125, 0.043125])


def test_validations_are_stored_as_rows(tmp_path: Path) -> None:
    rows = [
        ShareMetrics(9, 0.05, 0.07, 21, 10.0, 1, 10, "a, b: rises"),
        ShareMetrics(19, 0.07, 0.035, 0, 10.0, 5, 10, 'so "it" falls'),
    ]
    for step in (0, 25):  # the second time as a run that resumes at step 25
        with Curves(tmp_path / "share.csv", step, ShareMetrics) as curves:
            for row in rows if step == 0 else ():
                curves.add(row)
    with Curves(tmp_path / "share.csv", 19, ShareMetrics):  # at step 19 the second validation is repeated
        pass
    (kept,) = read_rows(tmp_path, "share.csv")
    assert kept == {name: str(value) for name, value in asdict(rows[0]).items()} | {"hours": "10"}


@pytest.mark.parametrize(
    ("words", "after"),
    [
        # Every row is a trigger: no keyword is missed, all else is a false alarm.
        (["replay.steer_at_score=0", "replay.target_fa_per_hour=0"], [0.22, 0.24, 0.25, 0.25]),
        # No row is a trigger.
        (["replay.steer_at_score=1", "replay.target_fa_per_hour=0"], [0.1, 0.05, 0.025, 0.0125]),
    ],
)
def test_an_adaptive_run_is_steered(cli, tiny, tmp_path, words, after):
    adaptive = ["replay.schedule=adaptive", "replay.steer_every=3", *words]
    said = cli("train", *tiny, *adaptive, f"out={tmp_path}/a")
    assert said.code == 0, said.err
    rows = read_rows(tmp_path / "a", "share.csv")
    assert [int(row["step"]) for row in rows] == [12, 15, 18, 21], "every third step from the first round at step 10"
    assert [float(row["after"]) for row in rows] == pytest.approx(after)
    assert [float(row["before"]) for row in rows] == pytest.approx([0.2, *after[:-1]])
    for row in rows:
        assert row["events"] == "6"
        counts = re.findall(r"(\d+) of 6 validation keywords missed|(\d+) false alarms", row["reason"])
        assert counts
        assert all(a in ("", row["misses"]) and b in ("", row["false_alarms"]) for a, b in counts)
        assert f"share {float(row['before']):.3f} -> {float(row['after']):.3f}" in said.err + said.out
    steps = read_rows(tmp_path / "a", "metrics.csv")
    want = [0.0] * 10 + [0.2] * 3 + [x for x in after[:3] for _ in range(3)] + [after[3]] * 2
    assert [float(row["share"]) for row in steps] == pytest.approx(want)
    for row in steps[12:]:
        assert abs(int(row["replayed"]) - 16 * float(row["share"])) < 1, "rounded up or down"


def test_a_fixed_share_is_not_validated(run):
    assert read_rows(run, "share.csv") == []
