"""A recipe that reproduces a run: what differs from the defaults, and where it came from."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kws.common.errors import KwsError, printable
from kws.detector import checkpoint
from kws.runs.folder import FREE
from kws.runs.results import Run
from kws.runs.table import alarms_cell, misses_cell, rows, shown

NAME = re.compile(r"[A-Za-z0-9_/-]+")
FILE = re.compile(r"[A-Za-z0-9_./-]+\.yaml")  # what stands on a command line without quotes, for a shell and for Hydra


def chosen(runs: Sequence[Run], name: str) -> Run:
    """The run of that name; raises KwsError where none is, or where it did not come far enough to have settings."""
    for run in runs:
        if run.name == name:
            if not run.settings:
                raise KwsError(f"recipe_of={name}: the run failed before it began, it has no settings: {run.error}")
            return run
    raise KwsError(f"recipe_of={name}: no such run; allowed are {', '.join(run.name for run in runs)}")


def others(run: Run, usual: Mapping[str, str]) -> dict[str, str]:
    """The config groups of which it chose another option than the usual; raises KwsError for what is no name of one."""
    last = next((one.choices for one in reversed(run.sessions) if one.choices), {})
    chosen = {group: name for group, name in last.items() if group in usual and name != usual[group]}
    if strange := [group for group, name in chosen.items() if not NAME.fullmatch(name)]:
        raise KwsError(f"{run.folder}: {strange[0]}={chosen[strange[0]]}: no run writes such a value")
    return chosen


def recipe_text(
    run: Run, groups: Mapping[str, str], defaults: Mapping[str, Any], file: Path, rates: Sequence[float]
) -> tuple[str, dict[str, Any]]:
    """The recipe file: its comment, and its settings.

    Args:
        run: what it reproduces.
        groups: of `others`.
        defaults: every setting of kws train with those, dotted.
        file: where it will stand.
        rates: false alarms an hour at which its figures are told.

    Raises:
        KwsError: the run has settings that this version of kws does not have.
    """
    if strange := [key for key in run.settings if key not in defaults]:
        raise KwsError(
            f"{run.folder}: {strange[0]}={shown(run.settings[strange[0]])}: this version has no such setting"
        )
    taken = {
        key: value for key, value in run.settings.items() if key not in FREE and same(value) != same(defaults[key])
    }
    if strange := [key for key, value in taken.items() if "${" in str(value)]:
        raise KwsError(f"{run.folder}: {strange[0]}={taken[strange[0]]}: no run writes such a value")
    last = next((one for one in reversed(run.sessions) if one.threads is not None), None)
    if last is not None:  # sums are rounded otherwise by other threads and devices
        taken |= {"device": last.device, "threads": last.threads}
    elif run.settings.get("threads"):
        taken["threads"] = run.settings["threads"]
    lines = [*about(run, rates), *doubts(run, defaults), f"kws train {words(file)} makes it again."]
    comment = "".join(f"# {printable(line)}\n" for line in lines)
    tree = {"defaults": [{f"override /{group}": name} for group, name in groups.items()]} if groups else {}
    return comment, tree | nested(taken)


def words(file: Path) -> str:
    """The words after `kws train` that make the run again, as a shell takes them."""
    out, n = Path("runs") / file.stem, 1
    while out.exists():
        n += 1
        out = Path("runs") / f"{file.stem}-{n}"
    return f"recipe={shlex.quote(str(file))} out={shlex.quote(str(out))}"


def about(run: Run, rates: Sequence[float]) -> list[str]:
    """Where it came from, and what it measured."""
    facts = made_by(run)
    when = f", {run.sessions[-1].date}" if run.sessions else ""
    lines = [f"Run {run.name} ({run.folder}){when}{''.join(f', {name} {value}' for name, value in facts.items())}"]
    if run.sessions and run.sessions[-1].command:
        lines.append(f"Given: {' '.join(run.sessions[-1].command)}")
    for row in rows([run], False):
        figures = [f"misses {misses_cell(row, rate)} at {rate:g}/h" for rate in rates]
        figures += [f"as set {misses_cell(row, None)}", f"false alarms {alarms_cell(row)}"]
        lines.append(f"{row.heard}: {'; '.join(figures)}" if row.figures else f"No figures: {run.state}")
    return lines


def made_by(run: Run) -> dict[str, str]:
    """Version, commit and recordings, as the checkpoint has them; empty where there is none that can be read."""
    try:
        facts = checkpoint.read(run.folder / "model.pt").get("facts")
    except KwsError:
        return {}
    known = facts if isinstance(facts, dict) else {}
    told = {"kws": known.get("version"), "commit": known.get("commit"), "recordings": str(known.get("data"))[:16]}
    return {name: value for name, value in told.items() if isinstance(value, str) and value}


def doubts(run: Run, defaults: Mapping[str, Any]) -> list[str]:
    """Why it may not come out the same to the bit."""
    found = []
    used = {(one.threads, one.device) for one in run.sessions if one.threads is not None}
    if len(used) != 1:
        found.append("Threads and device are not known" if not used else "Its sessions had other threads or devices")
    if missing := [key for key in defaults if key not in run.settings]:
        found.append(f"Its version had no {', '.join(missing)}")
    if run.settings.get("replay.buffer"):
        found.append("It replayed from a buffer that others may have changed")
    if (root := run.settings.get("data.root")) and not Path(str(root)).is_absolute():
        found.append(f"data.root={root} is seen from the folder where it was run")
    return [f"{one}." for one in found]


def same(value: Any) -> Any:
    """A value to compare: 1 and 1.0 are one setting, true and 1 are not."""
    return (type(value).__name__ if isinstance(value, bool | str) else "", value)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as a tree."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[name] = value
    return tree
