"""The note below the progress bar of a run."""

import io
import re

import pytest
from rich.console import Console as RichConsole

from kws.common.console import Console
from kws.training.metrics import MetricsLog, StepMetrics, ValidationMetrics, gradient_shares, summary

KINDS = {"metrics": StepMetrics, "validation": ValidationMetrics}


def validation(
    step: int, keyword: str, misses: int, events: int, rate: float = 0.5, hours: float = 2.5
) -> ValidationMetrics:
    return ValidationMetrics(
        step, keyword, rate, 0.75, misses, events, misses / events, 0.0, 1.0, 1, hours, 1 / hours, 0.0, 2.0
    )


def step(n: int) -> StepMetrics:
    return StepMetrics(n, 0.5 / (n + 1), 0.125, 0.25, 0.0, 0.05, 16, 160, 397, 0.003, 0.5, 0.3, 0.2)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([validation(0, "a", 3, 40)], "misses 3/40 at 0.5/h"),
        ([validation(0, "a", 3, 40), validation(0, "b", 1, 30)], "misses 4/70 at 0.5/h"),
        ([validation(0, "a", 3, 40, rate=2, hours=0.5)], "misses 3/40 at 2/h"),
        ([validation(0, "a", 3, 40, hours=1.9)], "misses 3/40 with no alarm in 1.90 h"),
        ([validation(0, "a", 0, 4, rate=0)], "misses 0/4 with no alarm in 2.50 h"),
    ],
)
def test_a_validation_is_summarised(rows, words):
    assert summary(rows) == words


def test_the_note_has_loss_replay_and_the_last_misses(tmp_path):
    notes = []
    with MetricsLog(tmp_path, 0, KINDS, False, Console(), lambda done, note: notes.append((done, note))) as log:
        log.step(step(0))
        log.validation([validation(0, "a", 3, 40)], summary([validation(0, "a", 3, 40)]))
        log.step(step(1))
        log.validation([validation(1, "a", 2, 40)], summary([validation(1, "a", 2, 40)]))
    replay = "16 of 397 replayed"
    assert notes == [
        (1, f"loss 0.500, {replay}"),
        (1, f"loss 0.500, {replay}, misses 3/40 at 0.5/h"),
        (2, f"loss 0.250, {replay}, misses 3/40 at 0.5/h"),
        (2, f"loss 0.250, {replay}, misses 2/40 at 0.5/h"),
    ]
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.parametrize("width", [72, 80, 120])
def test_the_note_stands_below_the_bar(width):
    console, note = Console(), "loss 0.093, 16 of 397 replayed, misses 17/45 with no alarm in 0.51 h"
    console.out = RichConsole(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.progress("Training", 1500) as tick:
        tick(300, note)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.out.file.getvalue()).splitlines()
    assert shown[-2].startswith("Training  ")
    assert " 300/1500 0:00:00 left " in shown[-2]
    assert shown[-1].strip() == note


def test_the_gradient_shares_are_those_of_the_batches_that_replay(tmp_path):
    file = tmp_path / "metrics.csv"
    file.write_text(
        "step,batch,replayed,gradient_positive,gradient_fresh,gradient_replayed\n"
        "0,100,0,0.9,0.1,0\n1,100,10,0.5,0.3,0.2\n2,100,30,0.3,0.3,0.4\n"
    )
    assert gradient_shares(file) == "keywords 40%, fresh negatives 30%, replayed 30% (20% of the rows)"
    file.write_text(file.read_text().splitlines()[0] + "\n0,100,0,0.9,0.1,0\n")
    assert gradient_shares(file) == ""
