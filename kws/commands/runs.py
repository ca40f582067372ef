"""kws runs: a table of the runs below a folder, and the recipe of one of them."""

import csv
import io
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.common.text import plural
from kws.config.app import verb
from kws.config.schema import RunsConfig
from kws.evaluation.intervals import poisson, wilson
from kws.runs.folder import RECIPE
from kws.runs.results import Run, find
from kws.runs.table import (
    Row,
    accuracy,
    accuracy_cell,
    alarms_cell,
    columns,
    misses_cell,
    ordered,
    rows,
    shown,
    state_cell,
    time_cell,
    value_of,
)

COUNTED = (
    *("misses", "events", "miss_rate", "miss_low", "miss_high"),
    *("false_alarms", "hours", "fa_per_hour", "fa_low", "fa_high"),
)
SUMMED = "Seeds are summed as if their recordings differed. They are the same, so the intervals are too narrow."


def run(s: RunsConfig) -> None:
    """Print or write the table of the runs, or the recipe of one run."""
    console = Console()
    out = None if s.out is None else Path(s.out)
    if s.recipe_of is not None and out is not None and out.suffix != ".yaml":
        raise KwsError(f"out={s.out}: must end in .yaml for a recipe")
    if out is not None and out.exists():
        raise KwsError(f"out={out}: must be a new file, it exists already")
    runs = find(Path(s.dir))
    if s.recipe_of is not None:
        show_recipe(runs, s.recipe_of, out, console)
        return
    rates = s.at_fa_per_hour
    if rates is None:  # the rates of their calibration
        own = {rate for run in runs if isinstance(rate := run.settings.get("threshold.at_fa_per_hour"), int | float)}
        rates = sorted(float(rate) for rate in own if 0 <= rate <= 20)
    keys, more = columns(runs)
    if s.group:
        keys = [key for key in keys if key != "seed"]
    lines = ordered(rows(runs, s.group), s.sort, rates, keys)
    if out is not None:
        text, table = io.StringIO(newline=""), [csv_row(row, keys, rates) for row in lines]
        writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        write(out, text.getvalue().encode(errors="replace"))  # a path need not be UTF-8
        console.say(f"{plural(len(lines), 'row')} in {out}")
        return
    table = [table_row(row, keys, rates, runs) for row in lines]
    console.table(
        f"{s.dir}: {plural(len(runs), 'run')}", list(table[0]), [list(row.values()) for row in table], blocks=True
    )
    for one in runs:
        if one.error:
            console.say(f"{one.name} {one.state}: {one.error}")
    if more:
        console.say(f"{len(more)} other settings differ too: {', '.join(more)}")
    if any(len(row.figures) > 1 for row in lines):
        console.say(SUMMED)


def table_row(row: Row, keys: Sequence[str], rates: Sequence[float], runs: Sequence[Run]) -> dict[str, str]:
    """Cells of a row in the terminal, by column; `runs` of the whole table decide on the columns."""
    cells = {"run": row.name} | {key: value_of(row.runs[0], key) for key in keys}
    if any(len(run.figures) > 1 for run in runs):
        cells["keyword"] = row.keyword
    if any(run.accuracy for run in runs):
        cells["right [95 %]"] = accuracy_cell(row)
    if any(run.figures for run in runs) or not any(run.accuracy for run in runs):
        cells |= {f"misses at {rate:g}/h [95 %]": misses_cell(row, rate) for rate in rates}
        cells |= {
            "misses, calibrated [95 %]": misses_cell(row, None),
            "false alarms, calibrated [95 %]": alarms_cell(row),
        }
    return cells | {"time": time_cell(row), "state": state_cell(row)}


def csv_row(row: Row, keys: Sequence[str], rates: Sequence[float]) -> dict[str, Any]:
    """Cells of a row in the CSV file, by column: one number per column, empty where unknown."""
    first, total = row.runs[0], accuracy(row)
    cells: dict[str, Any] = {"run": first.name, "runs": len(row.runs), "state": state_cell(row), "step": first.step}
    cells |= {"seconds": row.seconds, "at_least": any(run.at_least for run in row.runs)}
    cells["sessions"] = sum(len(run.sessions) for run in row.runs)
    cells |= {key: value_of(first, key) for key in keys}
    cells["keyword"] = row.figures[0].keyword if row.figures else ""
    cells |= {"right": total.right, "clips": total.clips} if total else {"right": "", "clips": ""}
    for rate in (*rates, None):
        counts: list[Any] = [""] * len(COUNTED)
        if (c := row.total(rate)) is not None:
            counts = [c.misses, c.events, c.misses / c.events if c.events else "", *wilson(c.misses, c.events)]
            counts += [c.false_alarms, c.hours, c.false_alarms / c.hours, *poisson(c.false_alarms, c.hours)]
        place = "as_set" if rate is None else f"at_{rate:g}/h"
        cells |= {f"{name}_{place}": value for name, value in zip(COUNTED, counts, strict=True)}
    return cells


def show_recipe(runs: Sequence[Run], name: str, out: Path | None, console: Console) -> None:
    """Print the recipe of a run, or copy it to `out` and print the command that trains the run again."""
    run = next((run for run in runs if run.name == name), None)
    if run is None:
        raise KwsError(f"recipe_of={name}: must be one of {', '.join(run.name for run in runs)}")
    if not (run.folder / RECIPE).is_file():
        why = run.error or "an earlier version of kws trained it"
        raise KwsError(f"recipe_of={name}: must be a run with a {RECIPE}, this one has none: {why}")
    recipe = (run.folder / RECIPE).read_bytes()
    if out is None:
        for line in recipe.decode(errors="replace").splitlines():
            console.say(line)
        return
    write(out, recipe)
    plugins = shown(run.settings.get("plugins") or [])
    words = [f"recipe={out}", *([f"plugins={plugins}"] if plugins != "[]" else [])]
    console.say(f"kws train {shlex.join(words)}")


def write(out: Path, content: bytes) -> None:
    """Write a new file, atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(content)


main = verb("runs", run)
