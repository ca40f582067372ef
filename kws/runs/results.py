"""Runs below a folder, read from their files. The content of the files is checked and never executed."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from kws.common.errors import KwsError
from kws.runs.folder import FILE, Session, closed, read, run_id, settings_of
from kws.runs.lock import working
from kws.training.metrics import read_rows

RESULTS, STEPS = "results.json", "metrics.csv"

Count = Annotated[int, Field(ge=0, lt=10**12)]


@dataclass(frozen=True)
class Counts:
    """Counts at one threshold."""

    misses: Count
    events: Count
    false_alarms: Count
    hours: Annotated[float, Field(gt=0, lt=1e9)]


@dataclass(frozen=True)
class Curve:
    """Counts at each threshold at which one of them changes, from the lowest."""

    false_alarms: list[Count]
    misses: list[Count]


@dataclass(frozen=True)
class Figures:
    """Results of one keyword on the test split, at the calibrated threshold and at all others."""

    keyword: str
    as_calibrated: Counts
    curve: Curve

    def __post_init__(self) -> None:
        if self.as_calibrated.misses > self.as_calibrated.events:
            raise ValueError("more misses than events")
        if len(self.curve.misses) != len(self.curve.false_alarms):
            raise ValueError("columns of different lengths")

    def at(self, fa_per_hour: float) -> Counts:
        """Counts at the lowest threshold with at most this rate of false alarms, 0 or more per hour."""
        own, points = self.as_calibrated, zip(self.curve.false_alarms, self.curve.misses, strict=True)
        # A threshold above every score misses all events.
        alarms, misses = next((point for point in points if point[0] <= fa_per_hour * own.hours), (0, own.events))
        return Counts(misses, own.events, alarms, own.hours)


@dataclass(frozen=True)
class Accuracy:
    """Correctly classified clips of the test split."""

    right: Count
    clips: Annotated[int, Field(gt=0, lt=10**12)]

    def __post_init__(self) -> None:
        if self.right > self.clips:
            raise ValueError("more correct clips than clips")


@dataclass(frozen=True)
class _Test:
    accuracy: Accuracy


@dataclass(frozen=True)
class _Results:
    """Content of results.json: keywords of a wake-word task, or the test split of a classification task."""

    outcomes: list[Figures]
    test: _Test | None = None


_RESULTS = TypeAdapter(_Results)


@dataclass(frozen=True)
class Run:
    """One run folder.

    Args:
        name: path below the searched folder; "." is that folder itself.
        settings: all settings, dotted; empty if the run failed before training.
        damaged: reason why its results cannot be read; empty if they can.
        accuracy: of a classification task.
    """

    name: str
    folder: Path
    settings: dict[str, Any]
    sessions: list[Session]
    figures: list[Figures] = field(default_factory=list)
    finished: bool = False
    damaged: str = ""
    accuracy: Accuracy | None = None

    @property
    def state(self) -> str:
        """finished, failed, damaged, running, or unfinished: killed, or stopped by Ctrl-C."""
        if self.damaged:
            return "damaged"
        if self.finished:
            return "finished"
        if working(self.folder) is not None:
            return "running"
        return "failed" if self.sessions and self.sessions[-1].ended == "failed" else "unfinished"

    @property
    def error(self) -> str:
        """Reason of a failed or damaged run, else empty."""
        return self.damaged or (self.sessions[-1].error if self.state == "failed" else "")

    @cached_property
    def step(self) -> int:
        """Number of completed steps."""
        try:
            rows = read_rows(self.folder / STEPS, ["step", "loss"])
        except KwsError:
            return 0
        return int(rows[-1]["step"]) + 1 if rows else 0

    @property
    def seconds(self) -> float | None:
        """Total duration of all sessions, including repeated steps; None if unknown."""
        known = [one.seconds for one in self.sessions if one.seconds is not None]
        return sum(known) if known else None

    @property
    def at_least(self) -> bool:
        """Whether `seconds` is a lower bound, because a session was killed."""
        return any(one.ended == "killed" for one in self.sessions)

    @property
    def command(self) -> dict[str, str] | None:
        """Overrides on the command line, by key; None if unknown."""
        if not self.sessions:
            return None
        words = [re.sub(r"^[+~]+", "", word).partition("=") for word in self.sessions[-1].command]
        return {key.partition("@")[0]: value for key, _, value in words}


def find(root: Path) -> list[Run]:
    """Find all runs below a folder, in natural order (2 before 10). Raises KwsError if there is none."""
    if not root.is_dir():
        raise KwsError(f"dir={root}: must be a folder of runs, such as runs")
    found = [_read(folder, folder.relative_to(root).as_posix()) for folder in _folders(root)]
    if not found:
        raise KwsError(f"dir={root}: must contain runs, folders that kws train made")
    return sorted(found, key=lambda run: natural_key(run.name))


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key of a name, in which digits compare as numbers."""
    return [(0, int(x[:15]), x) if x.isascii() and x.isdigit() else (1, 0, x) for x in re.findall(r"\d+|\D+", name)]


def _folders(root: Path) -> Iterator[Path]:
    """Run folders. A folder inside a run counts only if it is a run itself."""
    for place, below, files in os.walk(root):
        folder = Path(place)
        if FILE in files or run_id(folder):
            below[:] = [name for name in below if (folder / name / FILE).is_file() or run_id(folder / name)]
            yield folder


def _read(folder: Path, name: str) -> Run:
    sessions = [closed(one, folder) for one in read(folder)]
    settings, figures, finished, damaged = dict[str, Any](), list[Figures](), False, ""
    accuracy: Accuracy | None = None
    try:
        if (folder / "config.yaml").is_file():
            settings = settings_of(folder / "config.yaml")
        if settings and (folder / RESULTS).is_file():
            finished, results = True, _results(folder / RESULTS)
            figures, accuracy = results.outcomes, results.test.accuracy if results.test else None
    except KwsError as error:
        damaged = str(error)
    return Run(name, folder, settings, sessions, figures, finished, damaged, accuracy)


def _results(file: Path) -> _Results:
    try:
        return _RESULTS.validate_json(file.read_bytes(), strict=True)  # the file may come from anybody
    except (OSError, ValueError):
        raise KwsError(f"{file}: unreadable results; the file is damaged, or another version wrote it") from None
