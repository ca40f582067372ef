"""kws runs: a table of the runs below a folder, and the recipe of one of them."""

import csv
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.config.app import TAKES_ONE, verb
from kws.config.compose import settings
from kws.config.schema import RunsConfig
from kws.evaluation.intervals import poisson, wilson
from kws.runs.folder import dotted
from kws.runs.recipe import FILE, chosen_groups, find_run, recipe_text, words
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
    state_cell,
    time_cell,
    value_of,
)

SUMMED = "Seeds are summed as if their recordings differed. They are the same, so the intervals are too narrow."


def run(cfg: DictConfig) -> None:
    """Show the runs, or write the recipe of one run."""
    s, console = settings(cfg, RunsConfig), Console()
    out = None if s.out is None else Path(s.out)
    if s.recipe_of is not None and (out is None or not FILE.fullmatch(s.out or "")):
        raise KwsError(f"out={s.out or '...'}: must be NAME.yaml of letters, digits and ._-/ for a recipe")
    if out is not None and out.exists():
        raise KwsError(f"out={out}: must be a new file, it exists already")
    runs = find(Path(s.dir))
    rates = s.at_fa_per_hour
    if rates is None:  # the rates of their calibration
        own = {rate for run in runs if isinstance(rate := run.settings.get("threshold.at_fa_per_hour"), int | float)}
        rates = sorted(float(rate) for rate in own if 0 <= rate <= 20)
    if s.recipe_of is not None and out is not None:
        write_recipe(find_run(runs, s.recipe_of), rates, out, console)
        return
    keys, more = columns(runs)
    if s.group:
        keys = [key for key in keys if key != "seed"]
    lines = ordered(rows(runs, s.group), s.sort, rates, keys)
    if out is not None:
        write(out, csv_of(lines, keys, rates))
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


def write(out: Path, table: Sequence[Sequence[Any]]) -> None:
    """Write the CSV file, atomically."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(text.getvalue().encode())


def write_recipe(run: Run, rates: Sequence[float], out: Path, console: Console) -> None:
    """Write the recipe of a run, and print the command that reproduces it."""
    usual = hydra.compose("train", return_hydra_config=True).hydra.runtime.choices
    groups = chosen_groups(run, {group: name for group, name in usual.items() if name and "/" not in group})
    composed = hydra.compose("train", [f"{group}={name}" for group, name in groups.items()])
    defaults = dotted(OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(composed, resolve=True))))
    comment, tree = recipe_text(run, groups, defaults, out, rates)
    text = comment + OmegaConf.to_yaml(OmegaConf.create(tree))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(text.encode())
    console.say(f"the recipe of run {run.name} is in {out}. The command to reproduce the run:")
    console.say(f"kws train {words(out)}")


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
