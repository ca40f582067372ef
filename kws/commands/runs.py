"""kws runs: a table of the runs below a folder, and the recipe of one of them."""

import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.config.app import TAKES_ONE, verb
from kws.config.compose import settings
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

RECIPE_FILE = re.compile(r"[A-Za-z0-9_./-]+\.yaml")  # needs no quotes, neither for a shell nor for Hydra
SUMMED = "Seeds are summed as if their recordings differed. They are the same, so the intervals are too narrow."


def run(cfg: DictConfig) -> None:
    """Show the runs, or write the recipe of one run."""
    s, console = settings(cfg, RunsConfig), Console()
    out = None if s.out is None else Path(s.out)
    if s.recipe_of is not None and not RECIPE_FILE.fullmatch(s.out or "recipe.yaml"):
        raise KwsError(f"out={s.out}: must be NAME.yaml of letters, digits and ._-/ for a recipe")
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
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(csv_of(lines, keys, rates))
        write(out, text.getvalue().encode())
        console.say(f"{len(lines)} rows in {out}")
        return
    show(s, runs, lines, keys, more, rates, console)


def show(
    s: RunsConfig,
    runs: Sequence[Run],
    lines: Sequence[Row],
    keys: Sequence[str],
    more: Sequence[str],
    rates: Sequence[float],
    console: Console,
) -> None:
    """Print the table, errors of runs, and settings without a column."""
    several = any(len(run.figures) > 1 for run in runs)
    classes, keywords = any(run.accuracy for run in runs), any(run.figures for run in runs)
    header = ["run", *keys, *(["keyword"] * several), *(["right [95 %]"] * classes)]
    if keywords or not classes:
        header += [f"misses at {rate:g}/h [95 %]" for rate in rates]
        header += ["misses as set [95 %]", "false alarms as set [95 %]"]
    header += ["time", "state"]
    body = [
        (
            row.name,
            *(value_of(row.runs[0], key) for key in keys),
            *([row.keyword] * several),
            *([accuracy_cell(row)] * classes),
            *([*(misses_cell(row, rate) for rate in (*rates, None)), alarms_cell(row)] * (keywords or not classes)),
            time_cell(row),
            state_cell(row),
        )
        for row in lines
    ]
    console.table(f"{s.dir}: {len(runs)} runs", header, body)
    for one in runs:
        if one.error:
            console.say(f"{one.name} {one.state}: {one.error}")
    if more:
        console.say(f"{len(more)} other settings differ too: {', '.join(more)}")
    if any(len(row.figures) > 1 for row in lines):
        console.say(SUMMED)


def csv_of(lines: Sequence[Row], keys: Sequence[str], rates: Sequence[float]) -> list[list[Any]]:
    """Rows of the CSV file: one number per column, empty where unknown."""
    places = [(f"at_{rate:g}/h", rate) for rate in rates] + [("as_set", None)]
    counted = ["misses", "events", "miss_rate", "miss_low", "miss_high"]
    counted += ["false_alarms", "hours", "fa_per_hour", "fa_low", "fa_high"]
    header = ["run", "runs", "state", "step", "seconds", "at_least", "sessions", *keys, "keyword", "right", "clips"]
    table: list[list[Any]] = [[*header, *(f"{name}_{place}" for place, _ in places for name in counted)]]
    for row in lines:
        first = row.runs[0]
        cells: list[Any] = [first.name, len(row.runs), state_cell(row), first.step, row.seconds]
        cells += [any(run.at_least for run in row.runs), sum(len(run.sessions) for run in row.runs)]
        cells += [value_of(first, key) for key in keys]
        cells.append(row.figures[0].keyword if row.figures else "")
        total = accuracy(row)
        cells += [total.right, total.clips] if total else ["", ""]
        for _, rate in places:
            if (c := row.total(rate)) is None:
                cells += [""] * len(counted)
                continue
            share = c.misses / c.events if c.events else ""
            cells += [c.misses, c.events, share, *wilson(c.misses, c.events)]
            cells += [c.false_alarms, c.hours, c.false_alarms / c.hours, *poisson(c.false_alarms, c.hours)]
        table.append(cells)
    return table


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
    console.say(f"kws train recipe={out}{f' plugins={plugins}' if plugins != '[]' else ''}")


def write(out: Path, content: bytes) -> None:
    """Write a new file, atomically."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(content)


entry = verb("runs", run)


def main() -> None:
    """Entry point of `kws runs DIR key=value ...`, where DIR stands for the setting dir."""
    for i, word in enumerate(sys.argv[1:], start=1):
        if word[:1] in "-~+" or sys.argv[i - 1] in TAKES_ONE:
            continue
        if "=" not in word:
            sys.argv[i] = f"dir={quoted(word)}"
        elif word.startswith("recipe_of="):
            sys.argv[i] = f"recipe_of={quoted(word.removeprefix('recipe_of='))}"
    entry()


def quoted(text: str) -> str:
    """Quote a text for Hydra, which reads 007 and 1_0 as numbers. A quoted text stays."""
    if re.fullmatch(r"'.*'|\".*\"|null", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    main()
