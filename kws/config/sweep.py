"""Runs of a sweep: a failed run does not end the sweep, and parallel runs write their output to files."""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from filelock import FileLock
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from kws.common.errors import KwsError, one_line

LOG = "log.txt"


@dataclass(frozen=True)
class RunEnd:
    """The end of a run of a sweep, as a line of text."""

    name: str
    text: str
    failed: bool

    def print(self) -> None:
        """Print the line: to standard output, or to standard error after a failure."""
        print(f"{'kws: ' * self.failed}{self.text}", file=sys.stderr if self.failed else sys.stdout, flush=True)


def place(out: str) -> Path:
    """The run folder for `out`; in a sweep, the numbered folder that Hydra made."""
    return Path(HydraConfig.get().runtime.output_dir) if in_sweep() else Path(out).absolute()


def in_sweep() -> bool:
    """True for a run of a sweep."""
    return HydraConfig.get().mode is RunMode.MULTIRUN


def launcher() -> str:
    """Name of the launcher of the sweep: basic, joblib, ray."""
    return str(HydraConfig.get().runtime.choices["hydra/launcher"])


def in_parallel() -> bool:
    """True for a run of a sweep whose launcher runs several at a time."""
    return in_sweep() and launcher() != "basic"


def run_in_sweep(run: Callable[[DictConfig], object], cfg: DictConfig, parent: int) -> RunEnd:
    """Run a command in a sweep that process `parent` started. Bad input is a failed run; other errors are raised."""
    begun, hydra = time.monotonic(), HydraConfig.get()
    name, out = f"run {hydra.job.num}", Path(hydra.runtime.output_dir)
    if in_parallel():
        print(f"{name} starts, output in {out / LOG}", flush=True)
    try:
        with output_to(out / LOG, parent):
            run(cfg)
    except (KwsError, OSError) as error:
        ended = RunEnd(name, f"{name}: {one_line(error)}", failed=True)
    else:
        ended = RunEnd(name, f"{name} finished after {time.monotonic() - begun:.0f} s", failed=False)
    if launcher() != "ray" and (ended.failed or in_parallel()):  # Ray prints it on the machine of the sweep
        ended.print()
    return ended


@contextmanager
def output_to(log: Path, parent: int) -> Iterator[None]:
    """Write the output of a parallel run to a file: progress bars of several runs would overwrite each other."""
    if not in_parallel():
        yield
        return
    if os.getppid() == parent:
        exit_with(parent)
    with log.open("a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            yield
        except Exception:
            traceback.print_exc()
            raise


@cache
def exit_with(parent: int) -> None:
    """Ignore Ctrl-C and exit with the parent process; otherwise a restarted sweep would collide with orphaned runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one of several parallel runs at a time use a folder that they share, such as data.cache."""
    if not in_parallel():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "sweep.lock"):
        yield
