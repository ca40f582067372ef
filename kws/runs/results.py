"""The runs under a folder, read off their files; none of what these hold is believed or executed."""

import csv
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kws.common.errors import KwsError
from kws.runs.folder import FILE, Session, closed, read, run_id, settings_of
from kws.training.metrics import complete

RESULTS, STEPS = "results.json", "metrics.csv"


@dataclass(frozen=True)
class Counts:
    """What was counted at one threshold."""

    misses: int
    events: int
    false_alarms: int
    hours: float


@dataclass(frozen=True)
class Figures:
    """What the test part showed of one keyword, by one arm of a run: at its own threshold, and at every other.

    Args:
        curve: false alarms and misses at each threshold at which either changes, from the lowest.
    """

    arm: str
    keyword: str
    own: Counts
    curve: list[tuple[int, int]]

    def at(self, fa_per_hour: float) -> Counts:
        """At the lowest threshold with no more than so many false alarms an hour, 0 to 20."""
        allowed = fa_per_hour * self.own.hours
        alarms, misses = next(
            ((a, m) for a, m in self.curve if a <= allowed), (0, self.own.events)
        )  # above every score there is none
        return Counts(misses, self.own.events, alarms, self.own.hours)


@dataclass(frozen=True)
class Told:
    """Of the clips of the test part, those whose class a run told right."""

    right: int
    clips: int


@dataclass(frozen=True)
class Run:
    """One run folder.

    Args:
        name: the path below the folder that was searched; "." is that folder itself.
        settings: dotted, all of them; empty where it failed before it began.
        damaged: why its figures cannot be read; empty where they can.
    """

    name: str
    folder: Path
    settings: dict[str, Any]
    sessions: list[Session]
    figures: list[Figures] = field(default_factory=list)
    finished: bool = False
    damaged: str = ""
    told: Told | None = None  # of a run with task=classes

    @property
    def state(self) -> str:
        """finished, failed, damaged or unfinished: whether that is still at work, no file tells."""
        if self.damaged:
            return "damaged"
        if self.finished:
            return "finished"
        return "failed" if self.sessions and self.sessions[-1].ended == "failed" else "unfinished"

    @property
    def error(self) -> str:
        """Why it failed or cannot be read; empty where neither is so."""
        return self.damaged or (self.sessions[-1].error if self.state == "failed" else "")

    @cached_property
    def step(self) -> int:
        """Steps that are done."""
        try:
            with (self.folder / STEPS).open(newline="", encoding="utf-8") as file:
                rows = [row for row in csv.DictReader(file) if complete(row, ["step", "loss"])]
            return int(rows[-1]["step"]) + 1 if rows else 0
        except (OSError, ValueError, csv.Error):
            return 0

    @property
    def seconds(self) -> float | None:
        """Time of all its sessions together, what a resume does again included; None where none is known."""
        known = [one.seconds for one in self.sessions if one.seconds is not None]
        return sum(known) if known else None

    @property
    def at_least(self) -> bool:
        """Was a session killed? Its time is known to its last sign of life."""
        return any(one.ended == "killed" for one in self.sessions)

    @property
    def command(self) -> dict[str, str] | None:
        """The overrides that it was given, by key; None where they are not known."""
        if not self.sessions:
            return None
        words = [re.sub(r"^[+~]+", "", word).partition("=") for word in self.sessions[-1].command]
        return {key.partition("@")[0]: value for key, _, value in words}


def find(root: Path) -> list[Run]:
    """Every run under a folder, in the order that people count: 2 comes before 10; raises KwsError where none is."""
    if not root.is_dir():
        raise KwsError(f"dir={root}: no such folder; a folder of runs is wanted, such as runs")
    found = [_read(folder, folder.relative_to(root).as_posix()) for folder in _folders(root)]
    if not found:
        raise KwsError(f"dir={root}: no run lies there; a run is a folder that kws train made")
    return sorted(found, key=lambda run: counted(run.name))


def counted(name: str) -> list[tuple[int, int, str]]:
    """A key to sort names by, in which numbers count as numbers."""
    return [(0, int(x[:15]), x) if x.isascii() and x.isdigit() else (1, 0, x) for x in re.findall(r"\d+|\D+", name)]


def _folders(root: Path) -> Iterator[Path]:
    """Folders of runs; what a run holds is none."""
    for place, below, files in os.walk(root):
        folder = Path(place)
        if FILE in files or run_id(folder):
            below[:] = [name for name in below if (folder / name / FILE).is_file() or run_id(folder / name)]
            yield folder


def _read(folder: Path, name: str) -> Run:
    sessions = [closed(one, folder) for one in read(folder)]
    settings, figures, finished, damaged = dict[str, Any](), list[Figures](), False, ""
    told: Told | None = None
    try:
        if (folder / "config.yaml").is_file():
            settings = settings_of(folder / "config.yaml")
        if settings and (folder / RESULTS).is_file():
            finished, (figures, told) = True, _figures(folder / RESULTS)
    except KwsError as error:
        damaged = str(error)
    return Run(name, folder, settings, sessions, figures, finished, damaged, told)


def _figures(file: Path) -> tuple[list[Figures], Told | None]:
    """What results.json holds; raises KwsError for anything that no run wrote."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        outcomes, part = content["outcomes"], content.get("test")
        told = None if part is None else Told(*(_number(part["accuracy"][key]) for key in ("right", "clips")))
        if told is not None and not told.right <= told.clips > 0:
            raise ValueError
        return [
            Figures(
                _text(one["arm"]),
                _text(one["keyword"]),
                _counts(one["as_calibrated"]),
                [
                    (_number(alarms), _number(misses))
                    for alarms, misses in zip(one["curve"]["false_alarms"], one["curve"]["misses"], strict=True)
                ],
            )
            for one in outcomes
        ], told
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise KwsError(f"{file}: no figures of a run can be read; it is damaged, or another version wrote it") from None


def _counts(point: dict[str, Any]) -> Counts:
    misses, events, alarms = (_number(point[key]) for key in ("misses", "events", "false_alarms"))
    hours = point["hours"]
    if misses > events or not isinstance(hours, int | float) or not 0 < hours < 1e9:
        raise ValueError
    return Counts(misses, events, alarms, float(hours))


def _number(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value < 10**12:
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value
