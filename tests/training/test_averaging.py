"""The best validated weights and their mean: ranking, mean, and runs with optim.average=best."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kws.commands import wake_word
from kws.detector import checkpoint
from kws.evaluation.operating_points import OperatingPoint
from kws.training.metrics import MetricsLog
from kws.training.optim import ValidatedWeights, keep_best, mean_weights
from kws.training.trainer import Trainer
from kws.training.validation import Validator
from kws.training.wake_word import WakeWordTask
from tests.kill import death


def validated(
    step: int, misses: int, false_alarms: int = 0, weights: dict[str, torch.Tensor] | None = None
) -> ValidatedWeights:
    return ValidatedWeights(step, misses, 40, false_alarms, 0.5, weights or {})


def best(validations: list[ValidatedWeights], n: int) -> list[int]:
    kept: list[ValidatedWeights] = []
    for one in validations:
        kept = keep_best(kept, one, n)
    return [one.step for one in kept]


def test_fewest_misses_then_false_alarms_then_the_latest():
    validations = [
        validated(99, 40),
        validated(199, 3, 1),
        validated(299, 2, 5),
        validated(399, 3, 0),
        validated(499, 3, 1),
        validated(599, 9),
    ]
    assert best(validations, 1) == [299]
    assert best(validations, 2) == [299, 399]
    assert best(validations, 3) == [299, 399, 499], "of two alike the later"
    assert best(validations, 4) == [199, 299, 399, 499]
    assert best(validations, 10) == [99, 199, 299, 399, 499, 599]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_validations_does_not_matter(counts, n, random):
    validations = [validated(step, *of) for step, of in enumerate(counts)]
    steps = best(validations, n)
    assert len(steps) == min(n, len(validations))
    assert steps == sorted(steps)
    # No discarded weights are better than kept ones.
    worst = max((validations[step].misses, validations[step].false_alarms) for step in steps)
    assert all((one.misses, one.false_alarms) >= worst for one in validations if one.step not in steps)
    random.shuffle(validations)
    assert best(validations, n) == steps


def test_validated_weights_count_all_keywords_and_copy_the_weights():
    def point(alarms: int, missed: int, events: int) -> OperatingPoint:
        return OperatingPoint(0.5, 0.9, alarms, 2.5, 0, 0, 0, missed, events, 0, 0, 0)

    weights = {"w": torch.ones(2)}
    made = ValidatedWeights.of(99, {"a": point(1, 2, 30), "b": point(0, 3, 20)}, weights)
    weights["w"].zero_()
    assert made.counts() == {"step": 99, "misses": 5, "events": 50, "false_alarms": 1, "hours": 2.5}
    assert made.weights["w"].tolist() == [1, 1]
    assert str(made) == "99 (5 of 50 missed, 1 false alarms)"


def test_the_mean_of_three_by_hand():
    validations = [
        validated(
            step, 0, 0, {"weight": torch.tensor([x, 2 * x]), "variance": torch.tensor([x]), "n": torch.tensor(step)}
        )
        for step, x in ((9, 1.0), (19, 2.0), (29, 6.0))
    ]
    got = mean_weights(validations)
    assert got["weight"].tolist() == [3.0, 6.0]
    assert got["variance"].tolist() == [3.0]
    assert got["n"] == 29, "integers are not averaged"
    assert got["weight"].dtype == torch.float32
    assert got["n"].dtype == torch.int64


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=6))
def test_a_mean_lies_between_its_weights_and_of_equal_weights_is_equal_to_the_bit(values):
    validations = [validated(step, 0, 0, {"w": torch.tensor([x, values[0]])}) for step, x in enumerate(values)]
    of, same = mean_weights(validations)["w"].tolist()
    assert min(values) <= of <= max(values)
    assert same == values[0]


def test_a_linear_net_with_mean_weights_gives_the_mean_output():
    nets = [nn.Linear(3, 2) for _ in range(3)]
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    validations = [validated(n, 0, 0, dict(net.state_dict())) for n, net in enumerate(nets)]
    mean = nn.Linear(3, 2)
    mean.load_state_dict(mean_weights(validations))
    torch.testing.assert_close(mean(x), torch.stack([net(x) for net in nets]).mean(0))


def rows(out: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((out / name).read_text().splitlines()))


BEST = ["optim.average=best", "optim.best_n=2", "validate_every=4"]


def words_of(tiny: tuple[str, ...], *words: str) -> list[str]:
    """Settings of `tiny`, replaced by these where given."""
    keys = {word.split("=")[0] for word in words}
    return [word for word in tiny if word.split("=")[0] not in keys] + list(words)


MISSES = {3: 6, 7: 1, 11: 5, 15: 0, 19: 4, 23: 1}  # a net this small would be best at its last steps


@pytest.fixture(scope="module")
def ups_and_downs(run):
    """Replace the misses of each validation. The session's `run` is trained before."""
    real = Validator.points

    def points(self, weights, step, rate):
        return {k: replace(point, misses=MISSES[step - 1]) for k, point in real(self, weights, step, rate).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "points", points)
        yield


@pytest.fixture(scope="module")
def whole(cli, tiny, ups_and_downs, tmp_path_factory):
    """Folder of a run with average=best, its moving average after each step, and its output."""
    out, averages, real = tmp_path_factory.mktemp("best") / "whole", {}, WakeWordTask.validate

    def validate(self, weights, step, log):
        averages[step] = {name: value.clone() for name, value in weights.items()}
        real(self, weights, step, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WakeWordTask, "validate", validate)
        said = cli("train", *words_of(tiny, *BEST), f"out={out}")
    assert said.code == 0, said.err
    return out, averages, said


def test_a_run_ends_with_the_mean_of_its_best_weights(whole):
    out, averages, said = whole
    validations = rows(out, "validation.csv")
    assert {int(row["step"]): int(row["misses"]) for row in validations} == MISSES
    assert {row["false_alarms"] for row in validations} == {"0"}
    steps = [15, 23]
    written = checkpoint.read(out / "model.pt")
    for name, value in written["model"].items():
        first, second = (averages[step][name] for step in steps)
        want = (first.double() + second.double()).div(2).float() if value.dtype.is_floating_point else second
        assert torch.equal(value, want), name
    assert [one["step"] for one in written["facts"]["averaged"]] == steps
    counted = {int(row["step"]): row for row in validations}
    for one in written["facts"]["averaged"]:
        row = counted[one["step"]]
        assert (one["misses"], one["events"]) == (int(row["misses"]), int(row["events"]))
        assert f"{one['step']} ({row['misses']} of 6 missed, {row['false_alarms']} false alarms)" in said.err + said.out


def test_the_kept_weights_do_not_change_the_training(whole, run):
    out, *_ = whole
    assert (out / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
    a, b = (checkpoint.read(folder / "state.pt") for folder in (out, run))
    assert all(torch.equal(a["average"][name], b["average"][name]) for name in a["average"])
    assert b["task"]["best"] == []
    assert checkpoint.read(run / "model.pt")["facts"]["averaged"] == []


def test_the_test_split_does_not_choose_the_weights(whole, cli, tiny, tones, tmp_path):
    """Without the test recordings a run keeps the same weights."""
    root = Path(shutil.copytree(tones, tmp_path / "tones"))
    lines = (root / "manifest.csv").read_text().splitlines()
    (root / "manifest.csv").write_text("\n".join(line for line in lines if not line.endswith(",test")) + "\n")
    said = cli("train", *words_of(tiny, *BEST, f"data.root={root}"), f"out={tmp_path}/a")
    assert said.code == 0, said.err
    a, b = (checkpoint.read(folder / "model.pt") for folder in (whole[0], tmp_path / "a"))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert a["facts"]["averaged"] == b["facts"]["averaged"]


def test_a_killed_run_resumes_to_the_same_mean(whole, cli, tiny, tmp_path):
    words = words_of(tiny, *BEST)
    for place, name, call, first in [
        (MetricsLog, "validation", 2, False),  # the row is written, the weights are not kept yet
        (WakeWordTask, "validate", 4, False),  # the weights are kept, the checkpoint is older
        (Trainer, "save", 6, False),  # the checkpoint has them
        (wake_word, "finish", 1, True),  # after the last step
    ]:
        with death(place, name, call, first):
            cli("train", *words, f"out={tmp_path}/killed")
    said = cli("train", *words, f"out={tmp_path}/killed")
    assert said.code == 0, said.err
    a, b = (checkpoint.read(folder / "model.pt") for folder in (whole[0], tmp_path / "killed"))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert a["facts"]["averaged"] == b["facts"]["averaged"]
    assert a["thresholds"] == b["thresholds"]
    assert (whole[0] / "validation.csv").read_text() == (tmp_path / "killed" / "validation.csv").read_text()
