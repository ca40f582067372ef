"""Table of runs: the settings that differ, misses, false alarms, duration and state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kws.common.errors import KwsError
from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.runs.folder import FREE
from kws.runs.results import Accuracy, Counts, Figures, Run, natural_key

MAX_COLUMNS = 6  # of settings that no command line names
SEED = "seed"
NONE = "-"


@dataclass(frozen=True)
class Row:
    """Row of the table.

    Args:
        runs: one run, or runs that differ in their seed only.
        figures: results of one keyword, one for each finished run.
    """

    runs: list[Run]
    figures: list[Figures]

    @property
    def name(self) -> str:
        """Name of the run, or of the first of several with the number of the others."""
        return self.runs[0].name + (f" and {len(self.runs) - 1} more" if len(self.runs) > 1 else "")

    @property
    def keyword(self) -> str:
        """Keyword of the row."""
        return self.figures[0].keyword if self.figures else NONE

    @property
    def seconds(self) -> float | None:
        """Duration of the run, or mean duration of several."""
        known = [run.seconds for run in self.runs if run.seconds is not None]
        return sum(known) / len(known) if known else None

    def total(self, fa_per_hour: float | None) -> Counts | None:
        """Sum of the counts at a rate of false alarms, or at the calibrated threshold (None)."""
        counts = self.counts(fa_per_hour)
        if not counts:
            return None
        return Counts(
            *(sum(getattr(one, name) for one in counts) for name in ("misses", "events", "false_alarms", "hours"))
        )

    def counts(self, fa_per_hour: float | None) -> list[Counts]:
        """Counts of each run at a rate of false alarms, or at the calibrated threshold (None)."""
        return [one.as_calibrated if fa_per_hour is None else one.at(fa_per_hour) for one in self.figures]


def shown(value: Any) -> str:
    """Value of a setting, as written on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def value_of(run: Run, key: str) -> str:
    """Value of a setting of a run; "default" for a config group without an override."""
    if key in run.settings:
        return shown(run.settings[key])
    if run.command is None:
        return NONE
    return run.command.get(key, "default" if run.settings else NONE)


def columns(runs: Sequence[Run]) -> tuple[list[str], list[str]]:
    """Settings that differ between runs.

    Returns:
        the settings to show: those of the command lines, and other ones if they are few; and the other ones if they are
        many, as between versions of kws or of a recipe.
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
    if "recipe" in taken:  # the recipe stands for all of them
        others = []
    return (taken + others, []) if len(others) <= MAX_COLUMNS else (taken, others)


def rows(runs: Sequence[Run], group: bool) -> list[Row]:
    """One row per run and keyword; grouped, one row for all seeds of equal settings."""
    sets: dict[Any, list[Run]] = {}
    for run in runs:
        same = [(key, shown(value)) for key, value in run.settings.items() if key not in (SEED, *FREE)]
        sets.setdefault((group and tuple(same)) or run.name, []).append(run)  # runs without settings stay alone
    found = []
    for some in sets.values():
        every = [one for run in some for one in run.figures]
        by_keyword = [[one for one in every if one.keyword == k] for k in dict.fromkeys(one.keyword for one in every)]
        found += [Row(some, figures) for figures in by_keyword or [[]]]
    return found


def ordered(lines: Sequence[Row], by: str | None, rates: Sequence[float], settings: Sequence[str]) -> list[Row]:
    """Sort rows by a column, ascending. Rows without a value come last.

    Raises:
        KwsError: there is no such column.
    """
    if by is None:
        return list(lines)
    first = rates[0] if rates else None
    known: Mapping[str, Callable[[Row], Any]] = {
        "run": lambda row: natural_key(row.runs[0].name),
        "misses": lambda row: None if (c := row.total(first)) is None else c.misses / max(1, c.events),
        "alarms": lambda row: None if (c := row.total(None)) is None else c.false_alarms / c.hours,
        "accuracy": lambda row: None if (total := accuracy(row)) is None else total.right / total.clips,
        "time": lambda row: row.seconds,
        "state": lambda row: row.runs[0].state,
    }
    every = dict.fromkeys(key for row in lines for run in row.runs for key in run.settings)
    if by not in (*known, *settings, *every):
        names = ", ".join((*known, *settings))
        raise KwsError(f"sort={by}: must be one of {names}, or the full name of another setting")

    def key(row: Row) -> Any:
        if by in known:
            return known[by](row)
        text = value_of(row.runs[0], by)
        try:
            return None if text == NONE else [(0, float(text), "")]
        except ValueError:
            return [(1, 0.0, ""), *natural_key(text)]

    known_rows = sorted((row for row in lines if key(row) is not None), key=key)
    return [*known_rows, *(row for row in lines if key(row) is None)]


def accuracy(row: Row) -> Accuracy | None:
    """Correctly classified clips of all runs of a row; None for a wake-word task."""
    each = [run.accuracy for run in row.runs if run.accuracy is not None]
    return Accuracy(sum(one.right for one in each), sum(one.clips for one in each)) if each else None


def with_range(text: str, each: Sequence[int]) -> str:
    """A cell, with the range over several runs."""
    return f"{text}, {min(each)} to {max(each)} a run" if len(each) > 1 else text


def misses_cell(row: Row, fa_per_hour: float | None) -> str:
    """Miss rate with counts and interval, and the range over several runs."""
    total = row.total(fa_per_hour)
    if total is None or not total.events:
        return NONE
    return with_range(proportion_text(total.misses, total.events), [one.misses for one in row.counts(fa_per_hour)])


def accuracy_cell(row: Row) -> str:
    """Accuracy on the test split with counts and interval, and the range over several runs."""
    total = accuracy(row)
    if total is None:
        return NONE
    each = [run.accuracy.right for run in row.runs if run.accuracy is not None]
    return with_range(proportion_text(total.right, total.clips), each)


def alarms_cell(row: Row) -> str:
    """False alarms at the calibrated threshold with hours and interval, and the range over several runs."""
    total = row.total(None)
    if total is None:
        return NONE
    return with_range(
        false_alarms_text(total.false_alarms, total.hours), [one.false_alarms for one in row.counts(None)]
    )


def time_cell(row: Row) -> str:
    """Duration, with "at least" if a session was killed, and the number of sessions."""
    if row.seconds is None:
        return NONE
    text = f"{row.seconds:.0f} s"
    if len(row.runs) > 1:
        return f"{text} a run"
    (run,) = row.runs
    text = f"at least {text}" if run.at_least else text
    return f"{text}, {len(run.sessions)} sessions" if len(run.sessions) > 1 else text


def state_cell(row: Row) -> str:
    """State of the runs, with the current step of an unfinished run."""
    if len(row.runs) == 1:
        (run,) = row.runs
        of = f" of {steps}" if isinstance(steps := run.settings.get("optim.steps"), int) else ""
        if run.state not in ("unfinished", "running"):
            return run.state
        step = "training is done, not the test" if run.step == steps else f"step {run.step}{of}"
        return f"running, {step}" if run.state == "running" else step
    states = [run.state for run in row.runs]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
