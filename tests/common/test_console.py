"""Progress in a log, and tables in a narrow terminal."""

import io
import re
import time

import pytest
from rich.console import Console as RichConsole

from kws.common import console as module
from kws.common.console import Console, audio_progress


def in_file() -> tuple[Console, io.StringIO]:
    """A console that writes to a file."""
    console, file = Console(), io.StringIO()
    console.out = RichConsole(file=file, highlight=False)
    return console, file


def test_progress_in_a_file_is_a_line_every_so_often_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.05)
    console, file = in_file()
    with console.progress("Training", 1000, "steps") as tick:
        tick(400, "loss 0.500")  # resumed at step 400
        tick(401, "loss 0.450")
        tick(500, "loss 0.412")
        time.sleep(0.17)  # nothing is done, and the lines go on
        tick(1000)
    *lines, last = file.getvalue().splitlines()
    assert 1 <= len(lines) <= 3
    for line in lines:
        assert re.fullmatch(r"Training: 500 of 1000 steps \(50%\), \d+:\d\d left; loss 0\.412", line), line
    assert last == "Training: 1000 of 1000 steps in 0:00"


def test_the_first_steps_give_no_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOG_EVERY_S", 0.05)
    console, file = in_file()
    with console.progress("Training", 1000, "steps") as tick:
        tick(0)
        tick(49)
        time.sleep(0.17)
    assert "Training: 49 of 1000 steps (5%)\n" in file.getvalue()


def test_a_failed_command_logs_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    console, file = in_file()
    with pytest.raises(ValueError, match="x"), console.progress("Mining", 2):
        raise ValueError("x")
    assert file.getvalue() == ""


def test_progress_of_audio_is_in_seconds() -> None:
    console, file = in_file()
    with audio_progress(console, "Testing", 7200.2) as report:
        report(3600.0)
    assert file.getvalue() == "Testing: 7200 of 7200 s in 0:00\n"


@pytest.mark.parametrize(("seconds", "text"), [(4.6, "0:05"), (59.6, "1:00"), (750, "12:30"), (3723, "1:02:03")])
def test_a_duration(seconds: float, text: str) -> None:
    assert module._clock(seconds) == text
