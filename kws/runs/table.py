"""Runs in rows: what differs between their settings, what they missed, how long they took."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kws.common.errors import KwsError
from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.runs.folder import FREE
from kws.runs.results import Counts, Figures, Run, counted

MOST = 6  # columns of settings that no command names
SEED = "seed"
NONE = "-"


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        runs: one, or those that differ in their seed alone.
        figures: of one keyword and arm, by those of the runs that are finished.
    """

    runs: list[Run]
    figures: list[Figures]

    @property
    def name(self) -> str:
        """The run; of several the first, and how many more."""
        return self.runs[0].name + (f" and {len(self.runs) - 1} more" if len(self.runs) > 1 else "")

    @property
    def heard(self) -> str:
        """Keyword and arm."""
        return ", ".join(filter(None, (self.figures[0].keyword, self.figures[0].arm))) if self.figures else NONE

    @property
    def seconds(self) -> float | None:
        """Time of a run; of several the mean."""
        known = [run.seconds for run in self.runs if run.seconds is not None]
        return sum(known) / len(known) if known else None

    def total(self, fa_per_hour: float | None) -> Counts | None:
        """What all of them counted at a rate, or as set."""
        counts = self.counts(fa_per_hour)
        if not counts:
            return None
        return Counts(
            *(sum(getattr(one, name) for one in counts) for name in ("misses", "events", "false_alarms", "hours"))
        )

    def counts(self, fa_per_hour: float | None) -> list[Counts]:
        """What each counted at a rate, or as set."""
        return [one.own if fa_per_hour is None else one.at(fa_per_hour) for one in self.figures]


def shown(value: Any) -> str:
    """A setting as a person writes it."""
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def value_of(run: Run, key: str) -> str:
    """A setting of a run; of a group that it did not choose from, "default"."""
    if key in run.settings:
        return shown(run.settings[key])
    if run.command is None:
        return NONE
    return run.command.get(key, "default" if run.settings else NONE)


def columns(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """The settings that differ between runs.

    Returns:
        those that are shown: what was given on the command line, and a few more. And those that differ too, where they
        are too many: as between versions of kws, or where a recipe was changed.
    """

    def differ(key: str) -> bool:
        return len({value_of(run, key) for run in runs if run.settings or run.command}) > 1

    given = dict.fromkeys(key for run in runs for key in run.command or ())
    taken = [key for key in given if key not in FREE and not key.startswith("hydra") and differ(key)]
    groups = [f"{key}." for key in taken]
    known = dict.fromkeys(key for run in runs for key in run.settings)
    others = [
        key
        for key in known
        if key not in (*FREE, *taken)
        and not key.startswith(tuple(groups))
        and len({shown(run.settings[key]) if key in run.settings else NONE for run in runs if run.settings}) > 1
    ]
    if "recipe" in taken:  # which says all of it
        others = []
    return (taken + others, []) if len(others) <= MOST else (taken, others)


def rows(runs: Sequence[Run], group: bool) -> list[Row]:
    """A row a run and keyword; grouped, one for all seeds of the same settings."""
    sets = list(seeds_together(runs).values()) if group else [[run] for run in runs]
    return [row for some in sets for row in _rows_of(some)]


def seeds_together(runs: Sequence[Run]) -> dict[Any, list[Run]]:
    """Runs by all their settings but the seed; those without settings stand alone."""
    found: dict[Any, list[Run]] = {}
    for run in runs:
        same = [(key, shown(value)) for key, value in run.settings.items() if key not in (SEED, *FREE)]
        found.setdefault(tuple(same) or run.name, []).append(run)
    return found


def _rows_of(runs: list[Run]) -> Iterator[Row]:
    heard = dict.fromkeys((one.keyword, one.arm) for run in runs for one in run.figures)
    if not heard:
        yield Row(runs, [])
    for keyword, arm in heard:
        yield Row(runs, [one for run in runs for one in run.figures if (one.keyword, one.arm) == (keyword, arm)])


def ordered(lines: Sequence[Row], by: str | None, rates: Sequence[float], settings: Sequence[str]) -> list[Row]:
    """Rows by a column, the least first; those without a value come last.

    Raises:
        KwsError: there is no such column.
    """
    if by is None:
        return list(lines)
    first = rates[0] if rates else None
    known: Mapping[str, Callable[[Row], Any]] = {
        "run": lambda row: counted(row.runs[0].name),
        "misses": lambda row: None if (c := row.total(first)) is None else c.misses / max(1, c.events),
        "alarms": lambda row: None if (c := row.total(None)) is None else c.false_alarms / c.hours,
        "accuracy": right_share,
        "time": lambda row: row.seconds,
        "state": lambda row: row.runs[0].state,
    }
    every = dict.fromkeys(key for row in lines for run in row.runs for key in run.settings)
    if by not in (*known, *settings, *every):
        names = ", ".join((*known, *settings))
        raise KwsError(f"sort={by}: allowed are {names}, or another setting of the runs by its full name")

    def key(row: Row) -> Any:
        if by in known:
            return known[by](row)
        text = value_of(row.runs[0], by)
        try:
            return None if text == NONE else [(0, float(text), "")]
        except ValueError:
            return [(1, 0.0, ""), *counted(text)]

    known_rows = sorted((row for row in lines if key(row) is not None), key=key)
    return [*known_rows, *(row for row in lines if key(row) is None)]


def right_share(row: Row) -> float | None:
    """The share of clips told right; None where none were asked."""
    told = [run.told for run in row.runs if run.told is not None]
    return sum(one.right for one in told) / sum(one.clips for one in told) if told else None


def misses_cell(row: Row, fa_per_hour: float | None) -> str:
    """Misses with counts and interval; of several runs with their range."""
    counts, total = row.counts(fa_per_hour), row.total(fa_per_hour)
    if total is None or not total.events:
        return NONE
    text = proportion_text(total.misses, total.events)
    each = [one.misses for one in counts]
    return f"{text}, {min(each)} to {max(each)} a run" if len(each) > 1 else text


def accuracy_cell(row: Row) -> str:
    """How many clips of the test part were told right, with interval; of several runs with their range."""
    told = [run.told for run in row.runs if run.told is not None]
    if not told:
        return NONE
    right, clips = sum(one.right for one in told), sum(one.clips for one in told)
    text = proportion_text(right, clips)
    each = [one.right for one in told]
    return f"{text}, {min(each)} to {max(each)} a run" if len(each) > 1 else text


def alarms_cell(row: Row) -> str:
    """False alarms as set, with hours and interval; of several runs with their range."""
    counts, total = row.counts(None), row.total(None)
    if total is None:
        return NONE
    text = false_alarms_text(total.false_alarms, total.hours)
    each = [one.false_alarms for one in counts]
    return f"{text}, {min(each)} to {max(each)} a run" if len(each) > 1 else text


def time_cell(row: Row) -> str:
    """How long it took; with "at least" where a session was killed, and how many sessions there were."""
    if row.seconds is None:
        return NONE
    text = f"{row.seconds:.0f} s"
    if len(row.runs) > 1:
        return f"{text} a run"
    (run,) = row.runs
    text = f"at least {text}" if run.at_least else text
    return f"{text}, {len(run.sessions)} sessions" if len(run.sessions) > 1 else text


def state_cell(row: Row) -> str:
    """Finished, failed, or how far it is."""
    if len(row.runs) == 1:
        (run,) = row.runs
        of = f" of {steps}" if isinstance(steps := run.settings.get("optim.steps"), int) else ""
        return f"step {run.step}{of}" if run.state == "unfinished" else run.state
    states = [run.state for run in row.runs]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
