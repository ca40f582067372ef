"""Recipe that reproduces a run: the settings that differ from the defaults, and the origin of the run."""

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
FILE = re.compile(r"[A-Za-z0-9_./-]+\.yaml")  # needs no quotes, neither for a shell nor for Hydra


def find_run(runs: Sequence[Run], name: str) -> Run:
    """Find a run by name. Raises KwsError if there is none, or if it failed before it had settings."""
    for run in runs:
        if run.name == name:
            if not run.settings:
                raise KwsError(f"recipe_of={name}: must be a run with settings, this one failed: {run.error}")
            return run
    raise KwsError(f"recipe_of={name}: must be one of {', '.join(run.name for run in runs)}")


def chosen_groups(run: Run, defaults: Mapping[str, str]) -> dict[str, str]:
    """Config groups with another option than the default. Raises KwsError if an option is no valid name."""
    last = next((one.choices for one in reversed(run.sessions) if one.choices), {})
    chosen = {group: name for group, name in last.items() if group in defaults and name != defaults[group]}
    if strange := [group for group, name in chosen.items() if not NAME.fullmatch(name)]:
        raise KwsError(f"{run.folder}: {strange[0]}={chosen[strange[0]]}: no run writes such a value")
    return chosen


def recipe_text(
    run: Run, groups: Mapping[str, str], defaults: Mapping[str, Any], file: Path, rates: Sequence[float]
) -> tuple[str, dict[str, Any]]:
    """Comment and settings of the recipe file.

    Args:
        run: the run to reproduce.
        groups: see `chosen_groups`.
        defaults: all settings of kws train with these groups, dotted.
        file: path of the recipe.
        rates: false alarms per hour at which the comment names misses.

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
    if last is not None:  # other threads and devices change the rounding
        taken |= {"device": last.device, "threads": last.threads}
    elif run.settings.get("threads"):
        taken["threads"] = run.settings["threads"]
    lines = [*provenance(run, rates), *caveats(run, defaults), f"kws train {words(file)} reproduces it."]
    comment = "".join(f"# {printable(line)}\n" for line in lines)
    tree = {"defaults": [{f"override /{group}": name} for group, name in groups.items()]} if groups else {}
    return comment, tree | nested(taken)


def words(file: Path) -> str:
    """Arguments of `kws train` that reproduce the run, quoted for a shell."""
    out, n = Path("runs") / file.stem, 1
    while out.exists():
        n += 1
        out = Path("runs") / f"{file.stem}-{n}"
    return f"recipe={shlex.quote(str(file))} out={shlex.quote(str(out))}"


def provenance(run: Run, rates: Sequence[float]) -> list[str]:
    """Origin and results of a run, as lines of a comment."""
    facts = versions(run)
    when = f", {run.sessions[-1].date}" if run.sessions else ""
    lines = [f"Run {run.name} ({run.folder}){when}{''.join(f', {name} {value}' for name, value in facts.items())}"]
    if run.sessions and run.sessions[-1].command:
        lines.append(f"Given: {' '.join(run.sessions[-1].command)}")
    for row in rows([run], False):
        figures = [f"misses {misses_cell(row, rate)} at {rate:g}/h" for rate in rates]
        figures += [f"as set {misses_cell(row, None)}", f"false alarms {alarms_cell(row)}"]
        lines.append(f"{row.keyword}: {'; '.join(figures)}" if row.figures else f"No figures: {run.state}")
    return lines


def versions(run: Run) -> dict[str, str]:
    """Version, commit and hash of the recordings from the checkpoint; empty if it cannot be read."""
    try:
        facts = checkpoint.read(run.folder / "model.pt").get("facts")
    except KwsError:
        return {}
    known = facts if isinstance(facts, dict) else {}
    found = {"kws": known.get("version"), "commit": known.get("commit"), "recordings": str(known.get("data"))[:16]}
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def caveats(run: Run, defaults: Mapping[str, Any]) -> list[str]:
    """Reasons why the reproduced run may not be equal to the bit."""
    found = []
    used = {(one.threads, one.device) for one in run.sessions if one.threads is not None}
    if len(used) != 1:
        found.append("Threads and device are unknown" if not used else "Its sessions differ in threads or device")
    if missing := [key for key in defaults if key not in run.settings]:
        found.append(f"Its version had no {', '.join(missing)}")
    if run.settings.get("replay.buffer"):
        found.append("It replayed from a buffer that may have changed")
    if (root := run.settings.get("data.root")) and not Path(str(root)).is_absolute():
        found.append(f"data.root={root} is relative to the folder where it was run")
    return [f"{one}." for one in found]


def same(value: Any) -> Any:
    """Comparison key of a value: 1 equals 1.0, and true differs from 1."""
    return (type(value).__name__ if isinstance(value, bool | str) else "", value)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries from dotted keys."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *groups, name = key.split(".")
        at = tree
        for group in groups:
            at = at.setdefault(group, {})
        at[name] = value
    return tree
