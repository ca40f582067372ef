"""Processes forked from the tests' own: a new one takes seconds to import torch, a forked one has it already."""

import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from signal import SIGKILL, SIGTERM

LIMIT_S = 300


def forked(works: Sequence[Callable[[], object]], environments: Sequence[Mapping[str, str]], log: Path) -> list[int]:
    """Run each of `works` in a process of its own, all at once; return exit codes, negative for a signal.

    As under torchrun, the first process that fails ends the others.

    Args:
        works: what each process does; an exception is exit code 1 with a traceback.
        environments: variables of each process.
        log: file that gets the output and the errors of all.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads; the work uses none of them
        waiting = {_start(*each, log): i for i, each in enumerate(zip(works, environments, strict=True))}
    codes, deadline = [0] * len(works), time.monotonic() + LIMIT_S
    while waiting:
        for pid in list(waiting):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            code = codes[waiting.pop(pid)] = os.waitstatus_to_exitcode(status)
            for other in waiting if code else ():
                os.kill(other, SIGTERM)
        if waiting and time.monotonic() > deadline:
            for pid in waiting:
                os.kill(pid, SIGKILL)
        time.sleep(0.01)
    return codes


def _start(work: Callable[[], object], environment: Mapping[str, str], log: Path) -> int:
    if pid := os.fork():
        return pid
    code = 1
    try:
        os.environ.update(environment)
        warnings.resetwarnings()
        # Line by line: processes that write at once share the file, and a killed one loses nothing.
        sys.stdout = sys.stderr = log.open("a", buffering=1, encoding="utf-8")
        os.dup2(sys.stderr.fileno(), 2)
        work()
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
