"""kws runs: the runs under a folder in one table, and the recipe of one of them."""

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
from kws.runs.recipe import FILE, chosen, others, recipe_text, words
from kws.runs.results import Run, find
from kws.runs.table import (
    Row,
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

SUMMED = "Seeds are summed as if each had heard other recordings; they share them: the intervals are too narrow."


def run(cfg: DictConfig) -> None:
    """Show the runs, or write the recipe of one."""
    s, console = settings(cfg, RunsConfig), Console()
    out = None if s.out is None else Path(s.out)
    if s.recipe_of is not None and (out is None or not FILE.fullmatch(s.out or "")):
        raise KwsError(f"out={s.out or '...'}: allowed is NAME.yaml of plain letters, digits and ._-/, for the recipe")
    if out is not None and out.exists():
        raise KwsError(f"out={out}: there already, and not overwritten; name another file")
    runs = find(Path(s.dir))
    rates = s.at_fa_per_hour
    if rates is None:  # what they were calibrated for
        own = {rate for run in runs if isinstance(rate := run.settings.get("threshold.at_fa_per_hour"), int | float)}
        rates = sorted(float(rate) for rate in own if 0 <= rate <= 20)
    if s.recipe_of is not None and out is not None:
        write_recipe(chosen(runs, s.recipe_of), rates, out, console)
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
    """The table in the terminal, and below it what has no room there."""
    several = any(len(run.figures) > 1 for run in runs)
    classes, keywords = any(run.told for run in runs), any(run.figures for run in runs)
    header = ["run", *keys, *(["keyword"] * several), *(["right [95 %]"] * classes)]
    if keywords or not classes:
        header += [f"misses at {rate:g}/h [95 %]" for rate in rates]
        header += ["misses as set [95 %]", "false alarms as set [95 %]"]
    header += ["time", "state"]
    body = [
        (
            row.name,
            *(value_of(row.runs[0], key) for key in keys),
            *([row.heard] * several),
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
        console.say(f"{len(more)} settings that no command names differ too: {', '.join(more)}")
    if any(len(row.figures) > 1 for row in lines):
        console.say(SUMMED)


def csv_of(lines: Sequence[Row], keys: Sequence[str], rates: Sequence[float]) -> list[list[Any]]:
    """The table for programs: plain numbers, a column each; what is not known is empty."""
    places = [(f"at_{rate:g}/h", rate) for rate in rates] + [("as_set", None)]
    counted = ["misses", "events", "miss_rate", "miss_low", "miss_high"]
    counted += ["false_alarms", "hours", "fa_per_hour", "fa_low", "fa_high"]
    header = [
        "run",
        "runs",
        "state",
        "step",
        "seconds",
        "at_least",
        "sessions",
        *keys,
        "keyword",
        "arm",
        "right",
        "clips",
    ]
    table: list[list[Any]] = [[*header, *(f"{name}_{place}" for place, _ in places for name in counted)]]
    for row in lines:
        first = row.runs[0]
        cells: list[Any] = [first.name, len(row.runs), state_cell(row), first.step, row.seconds]
        cells += [any(run.at_least for run in row.runs), sum(len(run.sessions) for run in row.runs)]
        cells += [value_of(first, key) for key in keys]
        cells += [row.figures[0].keyword, row.figures[0].arm] if row.figures else ["", ""]
        told = [run.told for run in row.runs if run.told is not None]
        cells += [sum(one.right for one in told), sum(one.clips for one in told)] if told else ["", ""]
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
    """The CSV file, whole or not at all."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(text.getvalue().encode())


def write_recipe(run: Run, rates: Sequence[float], out: Path, console: Console) -> None:
    """The recipe of a run, and the command that trains it."""
    usual = hydra.compose("train", return_hydra_config=True).hydra.runtime.choices
    groups = others(run, {group: name for group, name in usual.items() if name and "/" not in group})
    composed = hydra.compose("train", [f"{group}={name}" for group, name in groups.items()])
    defaults = dotted(OmegaConf.to_container(OmegaConf.create(OmegaConf.to_yaml(composed, resolve=True))))
    comment, tree = recipe_text(run, groups, defaults, out, rates)
    text = comment + OmegaConf.to_yaml(OmegaConf.create(tree))
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as file:
        file.write(text.encode())
    console.say(f"the recipe of run {run.name} is in {out}; what trains it again:")
    console.say(f"kws train {words(out)}")


entry = verb("runs", run)


def main() -> None:
    """`kws runs DIR key=value ...`: the folder is a setting like any other, written as a word."""
    for i, word in enumerate(sys.argv[1:], start=1):
        if word[:1] in "-~+" or sys.argv[i - 1] in TAKES_ONE:
            continue
        if "=" not in word:
            sys.argv[i] = f"dir={quoted(word)}"
        elif word.startswith("recipe_of="):
            sys.argv[i] = f"recipe_of={quoted(word.removeprefix('recipe_of='))}"
    entry()


def quoted(text: str) -> str:
    """A text for Hydra, which reads 007 and 1_0 as numbers; what is quoted already stays."""
    if re.fullmatch(r"'.*'|\".*\"|null", text):
        return text
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


if __name__ == "__main__":
    main()
