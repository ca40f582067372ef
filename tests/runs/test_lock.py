"""One session at a time in a run folder."""

import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from kws.common.errors import KwsError
from kws.runs import lock
from kws.runs.lock import HOLDER, LOCK, locked, refuse_busy, working
from tests import ROOT


def test_a_second_session_is_refused_and_names_the_first(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "a"
    with locked(out):
        me = working(out)
        assert me is not None
        assert (me.pid, me.host) == (os.getpid(), platform.node())
        with pytest.raises(KwsError, match=rf"^out={out}: must be another folder: .*process {os.getpid()} on "):
            refuse_busy(out)
        with pytest.raises(KwsError, match=f"process {os.getpid()}"), locked(out):
            pass
        with locked(tmp_path / "runs" / "b"):
            pass
    refuse_busy(out)
    assert working(out) is None
    with locked(out):
        pass
    assert {file.name for file in out.iterdir()} == {LOCK}


def test_the_lock_of_a_killed_session_is_taken_over(tmp_path: Path) -> None:
    source = (
        "import sys, time; from pathlib import Path; from kws.runs.lock import locked\n"
        "with locked(Path(sys.argv[1])): print('holds', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", source, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "holds\n"
        with pytest.raises(KwsError, match=f"process {session.pid} on "):
            refuse_busy(tmp_path)
        session.send_signal(signal.SIGKILL)
    assert json.loads((tmp_path / HOLDER).read_text())["pid"] == session.pid
    assert working(tmp_path) is None
    with locked(tmp_path):
        assert json.loads((tmp_path / HOLDER).read_text())["pid"] == os.getpid()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """File of a session on another machine. Its lock may be invisible on a network file system."""
    (tmp_path / HOLDER).write_text(json.dumps({"pid": 7, "host": "elsewhere", "since": 1.7e9}))
    return tmp_path / HOLDER


def clock(monkeypatch: pytest.MonkeyPatch, sleep: Callable[[float], None]) -> list[float]:
    """A stand-in for the clock of the lock: a sleep takes no time. Returns the seconds of each sleep."""
    slept: list[float] = []

    def asleep(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    now = time.time()
    stand_in = SimpleNamespace(sleep=asleep, monotonic=lambda: sum(slept), time=lambda: now + sum(slept))
    monkeypatch.setattr(lock, "time", stand_in)
    return slept


def test_a_session_on_another_machine_works_while_it_touches_its_file(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock(monkeypatch, lambda _: os.utime(elsewhere, (1.0, 1.0)))
    with pytest.raises(KwsError, match="process 7 on elsewhere, since 2023-11-14"), locked(elsewhere.parent):
        pass


def test_a_session_on_another_machine_is_over_when_its_file_is_not_touched(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept = clock(monkeypatch, lambda _: None)
    with locked(elsewhere.parent):
        assert json.loads(elsewhere.read_text())["host"] == platform.node()
    assert 30 <= sum(slept) < 31


def test_a_file_that_was_not_touched_for_hours_needs_no_wait(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept = clock(monkeypatch, lambda _: None)
    os.utime(elsewhere, (time.time() - 7200,) * 2)
    with locked(elsewhere.parent):
        assert json.loads(elsewhere.read_text())["host"] == platform.node()
    assert slept == []


@pytest.mark.parametrize("content", ["", "{", '{"pid": "x"}', '{"pid": 0, "host": "a", "since": 1}'])
def test_a_damaged_holder_is_no_session(tmp_path: Path, content: str) -> None:
    (tmp_path / HOLDER).write_text(content)
    with locked(tmp_path):
        assert working(tmp_path) is not None


def test_a_run_at_work_is_neither_joined_nor_changed(cli, tiny, tmp_path: Path) -> None:
    with locked(tmp_path / "run"):
        before = {file: file.read_bytes() for file in (tmp_path / "run").iterdir()}
        said = cli("train", *tiny, f"out={tmp_path}/run")
        assert (said.code, len(said.err.splitlines())) == (2, 1)
        assert f"process {os.getpid()} on {platform.node()}" in said.err
        assert before == {file: file.read_bytes() for file in (tmp_path / "run").iterdir()}
