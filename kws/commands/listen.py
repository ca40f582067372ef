"""kws listen: detect keywords live, from a microphone, a pipe or a file."""

import contextlib
import json
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray

from kws.commands import builders
from kws.common.console import Console
from kws.common.errors import KwsError, printable
from kws.common.text import plural
from kws.config.app import verb
from kws.config.compose import paths
from kws.config.deploy import ListenConfig
from kws.detector.files import open_detector
from kws.detector.streaming import StreamScorer
from kws.evaluation.recordings import display_names
from kws.runtime.kept import facts, write_kept
from kws.runtime.listener import Listener, Recorder, Trigger
from kws.runtime.sources import from_file, from_microphone, from_pipe, microphones

BAR_N = 40  # characters of the score bar


def run(s: ListenConfig) -> None:
    """Print the triggers of `detector` on a stream as they come, and keep their audio where `save` is given."""
    if s.device == "list":
        print(microphones())
        return
    console = Console()
    builders.threads(s.threads)
    files = paths(s.detector, "detector")
    detectors: dict[str, StreamScorer] = dict(zip(display_names(files), map(open_detector, files), strict=True))
    listener, begun = Listener(detectors, s.refractory_s, s.near), datetime.now().astimezone()
    recorder = Recorder(listener.sample_rate, late_s=s.refractory_s + s.chunk_s)
    folder = None if s.save is None else Path(s.save)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    shown, kept, n_samples, n_triggers = Bar(s.bar and sys.stderr.isatty()), 0, 0, 0
    try:
        for pcm in blocks(s, listener.sample_rate, console):
            triggers = listener.feed(pcm)
            n_samples, n_triggers = n_samples + len(pcm), n_triggers + sum(not one.near for one in triggers)
            shown.clear()
            for one in triggers:
                print(as_json(one, begun) if s.json else as_line(one, len(detectors) > 1), flush=True)
            shown.show(listener)
            if folder is not None:
                kept += write_kept(folder, recorder.feed(pcm, triggers), begun, recorder.sample_rate)
    finally:
        shown.clear()
        late = listener.rest()
        for one in late:
            print(as_json(one, begun) if s.json else as_line(one, len(detectors) > 1), flush=True)
        if folder is not None:
            kept += write_kept(folder, recorder.rest(late), begun, recorder.sample_rate)
            if kept:
                console.warn(f"{plural(kept, 'clip')} in {folder}: kws review {quote(str(folder))}")
    if s.input is not None and not n_triggers + sum(not one.near for one in late):
        console.warn(f"no trigger in {n_samples / listener.sample_rate:.1f} s")


def blocks(s: ListenConfig, sample_rate: int, console: Console) -> Iterator[NDArray[np.int16]]:
    """The audio, chunk by chunk."""
    block_n = round(s.chunk_s * sample_rate)
    if s.input is None:
        device = None if s.device is None else str(s.device)
        return from_microphone(device, sample_rate, block_n, console.warn)
    if s.input == "-":
        return from_pipe(sys.stdin.buffer, sample_rate, block_n)
    if not Path(s.input).is_file():
        raise KwsError(f"input={s.input}: no such file; must be a recording, or - for standard input")
    return from_file(Path(s.input), sample_rate, block_n)


def as_line(one: Trigger, several: bool) -> str:
    """A trigger for people."""
    name = f"  {one.detector}" if several else ""
    near = "  near miss" if one.near else ""
    return printable(f"{one.time_s:10.2f} s  {one.keyword}  {one.score:.4f}{near}{name}")


def as_json(one: Trigger, begun: datetime) -> str:
    """A trigger for programs, with the time of day."""
    return json.dumps(facts(one, begun), ensure_ascii=False)


class Bar:
    """The highest score, live, on one line of a terminal."""

    def __init__(self, on: bool) -> None:
        self.on, self.drawn = on, False

    def show(self, listener: Listener) -> None:
        """Draw it."""
        if self.on and listener.latest:
            (_, keyword), score = max(listener.latest.items(), key=lambda item: item[1])
            filled = "#" * round(score * BAR_N)
            with contextlib.suppress(OSError):
                print(
                    f"\r{printable(keyword):<16.16} [{filled:<{BAR_N}}] {score:.3f}",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
            self.drawn = True

    def clear(self) -> None:
        """Remove it, so that a line can be printed."""
        if self.drawn:
            with contextlib.suppress(OSError):
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self.drawn = False


main = verb("listen", run)
