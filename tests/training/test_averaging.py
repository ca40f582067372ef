"""The best looks and their average: which they are, what is averaged, and runs that end with it."""

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


def seen(
    step: int, misses: int, false_alarms: int = 0, weights: dict[str, torch.Tensor] | None = None
) -> ValidatedWeights:
    return ValidatedWeights(step, misses, 40, false_alarms, 0.5, weights or {})


def best(looks: list[ValidatedWeights], n: int) -> list[int]:
    kept: list[ValidatedWeights] = []
    for one in looks:
        kept = keep_best(kept, one, n)
    return [one.step for one in kept]


def test_fewest_misses_then_false_alarms_then_the_latest():
    looks = [seen(99, 40), seen(199, 3, 1), seen(299, 2, 5), seen(399, 3, 0), seen(499, 3, 1), seen(599, 9)]
    assert best(looks, 1) == [299]
    assert best(looks, 2) == [299, 399]
    assert best(looks, 3) == [299, 399, 499], "of two alike the later"
    assert best(looks, 4) == [199, 299, 399, 499]
    assert best(looks, 10) == [99, 199, 299, 399, 499, 599]


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
)
def test_the_order_in_which_they_come_does_not_matter(counts, n, random):
    looks = [seen(step, *of) for step, of in enumerate(counts)]
    steps = best(looks, n)
    assert len(steps) == min(n, len(looks))
    assert steps == sorted(steps)
    # None that is left out is better than one that is kept.
    worst = max((looks[step].misses, looks[step].false_alarms) for step in steps)
    assert all((one.misses, one.false_alarms) >= worst for one in looks if one.step not in steps)
    random.shuffle(looks)
    assert best(looks, n) == steps


def test_a_look_counts_all_keywords_and_copies_the_weights():
    def point(alarms: int, missed: int, events: int) -> OperatingPoint:
        return OperatingPoint(0.5, 0.9, alarms, 2.5, 0, 0, 0, 0, missed, events, 0, 0, 0)

    weights = {"w": torch.ones(2)}
    made = ValidatedWeights.of(99, {"a": point(1, 2, 30), "b": point(0, 3, 20)}, weights)
    weights["w"].zero_()
    assert made.counts() == {"step": 99, "misses": 5, "events": 50, "false_alarms": 1, "hours": 2.5}
    assert made.weights["w"].tolist() == [1, 1]
    assert str(made) == "99 (5 of 50 missed, 1 false alarms)"


def test_the_average_by_hand():
    looks = [
        seen(step, 0, 0, {"weight": torch.tensor([x, 2 * x]), "variance": torch.tensor([x]), "n": torch.tensor(step)})
        for step, x in ((9, 1.0), (19, 2.0), (29, 6.0))
    ]
    got = mean_weights(looks)
    assert got["weight"].tolist() == [3.0, 6.0]
    assert got["variance"].tolist() == [3.0]
    assert got["n"] == 29, "what counts is not averaged"
    assert got["weight"].dtype == torch.float32
    assert got["n"].dtype == torch.int64


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=6))
def test_an_average_lies_between_and_of_equals_is_the_same_to_the_bit(values):
    looks = [seen(step, 0, 0, {"w": torch.tensor([x, values[0]])}) for step, x in enumerate(values)]
    of, same = mean_weights(looks)["w"].tolist()
    assert min(values) <= of <= max(values)
    assert same == values[0]


def test_of_a_linear_net_the_average_answers_as_the_nets_do_on_average():
    nets = [nn.Linear(3, 2) for _ in range(3)]
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    looks = [seen(n, 0, 0, dict(net.state_dict())) for n, net in enumerate(nets)]
    mean = nn.Linear(3, 2)
    mean.load_state_dict(mean_weights(looks))
    torch.testing.assert_close(mean(x), torch.stack([net(x) for net in nets]).mean(0))


def rows(out: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((out / name).read_text().splitlines()))


BEST = ["optim.average=best", "optim.best_n=2", "validate_every=4"]


def words_of(tiny: tuple[str, ...], *words: str) -> list[str]:
    """`tiny` with these in place of its own."""
    keys = {word.split("=")[0] for word in words}
    return [word for word in tiny if word.split("=")[0] not in keys] + list(words)


MISSES = {3: 6, 7: 1, 11: 5, 15: 0, 19: 4, 23: 1}  # so small a net is best at its last steps: that would show little


@pytest.fixture(scope="module")
def ups_and_downs(run):
    """The validation streams tell these misses; not to the `run` of all tests, which is there before."""
    real = Validator.points

    def told(self, weights, step, rate):
        return {k: replace(point, misses=MISSES[step - 1]) for k, point in real(self, weights, step, rate).items()}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "points", told)
        yield


@pytest.fixture(scope="module")
def whole(cli, tiny, ups_and_downs, tmp_path_factory):
    """A run that keeps its best looks, what its moving averages were at each, and what it said."""
    out, heard, real = tmp_path_factory.mktemp("best") / "whole", {}, WakeWordTask.validate

    def listened(self, weights, step, log):
        heard[step] = {name: value.clone() for name, value in weights.items()}
        real(self, weights, step, log)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WakeWordTask, "validate", listened)
        said = cli("train", *words_of(tiny, *BEST), f"out={out}")
    assert said.code == 0, said.err
    return out, heard, said


def test_a_run_ends_with_the_mean_of_its_best_looks(whole):
    out, heard, said = whole
    told = rows(out, "validation.csv")
    assert {int(row["step"]): int(row["misses"]) for row in told} == MISSES
    assert {row["false_alarms"] for row in told} == {"0"}
    steps = [15, 23]
    written = checkpoint.read(out / "model.pt")
    for name, value in written["model"].items():
        first, second = (heard[step][name] for step in steps)
        want = (first.double() + second.double()).div(2).float() if value.dtype.is_floating_point else second
        assert torch.equal(value, want), name
    assert [one["step"] for one in written["facts"]["averaged"]] == steps
    counted = {int(row["step"]): row for row in told}
    for one in written["facts"]["averaged"]:
        row = counted[one["step"]]
        assert (one["misses"], one["events"]) == (int(row["misses"]), int(row["events"]))
        assert f"{one['step']} ({row['misses']} of 6 missed, {row['false_alarms']} false alarms)" in said.err + said.out


def test_what_is_kept_changes_nothing_of_what_is_learned(whole, run):
    out, *_ = whole
    assert (out / "metrics.csv").read_text() == (run / "metrics.csv").read_text()
    a, b = (checkpoint.read(folder / "state.pt") for folder in (out, run))
    assert all(torch.equal(a["average"][name], b["average"][name]) for name in a["average"])
    assert b["task"]["best"] == []
    assert checkpoint.read(run / "model.pt")["facts"]["averaged"] == []


def test_the_test_part_has_no_say(whole, cli, tiny, tones, tmp_path):
    """Without its test recordings a run keeps the same."""
    root = Path(shutil.copytree(tones, tmp_path / "tones"))
    lines = (root / "manifest.csv").read_text().splitlines()
    (root / "manifest.csv").write_text("\n".join(line for line in lines if not line.endswith(",test")) + "\n")
    said = cli("train", *words_of(tiny, *BEST, f"data.root={root}"), f"out={tmp_path}/a")
    assert said.code == 0, said.err
    a, b = (checkpoint.read(folder / "model.pt") for folder in (whole[0], tmp_path / "a"))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    assert a["facts"]["averaged"] == b["facts"]["averaged"]


def test_a_killed_run_goes_on_to_the_same_average(whole, cli, tiny, tmp_path):
    words = words_of(tiny, *BEST)
    for place, name, call, first in [
        (MetricsLog, "validation", 2, False),  # a row is there, the look is not kept
        (WakeWordTask, "validate", 4, False),  # it is kept, the state does not know
        (Trainer, "save", 6, False),  # the state knows
        (wake_word, "finish", 1, True),  # all steps are done
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
