"""A run of a sweep: it ends no other when it fails, and where others run beside it, it keeps its words to itself."""

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
class Ended:
    """What became of a run of a sweep, in words."""

    name: str
    text: str
    failed: bool

    def say(self) -> None:
        """One line: on standard output, or on standard error where it failed."""
        print(f"{'kws: ' * self.failed}{self.text}", file=sys.stderr if self.failed else sys.stdout, flush=True)


def place(out: str) -> Path:
    """The run folder for `out`. In a sweep Hydra has numbered it; otherwise nothing is made before it is checked."""
    return Path(HydraConfig.get().runtime.output_dir) if in_sweep() else Path(out).absolute()


def in_sweep() -> bool:
    """Is this a run of a sweep?"""
    return HydraConfig.get().mode is RunMode.MULTIRUN


def launcher() -> str:
    """What launches the runs of the sweep: basic, joblib, ray."""
    return str(HydraConfig.get().runtime.choices["hydra/launcher"])


def beside_others() -> bool:
    """May other runs of the sweep be at work at the same time?"""
    return in_sweep() and launcher() != "basic"


def run_in_sweep(run: Callable[[DictConfig], object], cfg: DictConfig, parent: int) -> Ended:
    """One run of a sweep.

    Args:
        run: the verb.
        cfg: its configuration.
        parent: the process that began the sweep.

    Returns:
        what became of it. Bad input is a run that failed; what no person can mend is raised.
    """
    begun, hydra = time.monotonic(), HydraConfig.get()
    name, out = f"run {hydra.job.num}", Path(hydra.runtime.output_dir)
    if beside_others():
        print(f"{name} begins, it tells what it does in {out / LOG}", flush=True)
    try:
        with kept_to_itself(out / LOG, parent):
            run(cfg)
    except (KwsError, OSError) as error:
        ended = Ended(name, f"{name}: {one_line(error)}", failed=True)
    else:
        ended = Ended(name, f"{name} ended well after {time.monotonic() - begun:.0f} s", failed=False)
    if launcher() != "ray" and (ended.failed or beside_others()):  # from another machine nobody would hear it
        ended.say()
    return ended


@contextmanager
def kept_to_itself(log: Path, parent: int) -> Iterator[None]:
    """Where runs are side by side, each speaks to a file: bars of several would draw over one another."""
    if not beside_others():
        yield
        return
    if os.getppid() == parent:
        follow(parent)
    with log.open("a", encoding="utf-8", buffering=1) as file, redirect_stdout(file), redirect_stderr(file):
        try:
            yield
        except Exception:
            traceback.print_exc()
            raise


@cache
def follow(parent: int) -> None:
    """Leave Ctrl-C to the parent, and do not outlive it: else the same command would meet its own runs at work."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Among runs side by side, one at a time works on a folder that they share, such as data.cache."""
    if not beside_others():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "sweep.lock"):
        yield
