"""Settings as plain values: what help, completion and the first check of a command line need, without importing torch.

The dataclasses of the settings stand in modules that import torch, which takes seconds. settings.json holds the same as
they declare; `python -m kws.config.help` writes it, and a test compares both.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from kws.common.settings import number

FILE = Path(__file__).with_name("settings.json")
MISSING = "???"  # the default of a setting that must be given, as OmegaConf writes it
BASE_NET = "base"  # value of `init` that names the base net of the package, not a file
_SLACK_S = 10.0  # between the first and the last file of a checkout or an installation


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        key: dotted, as on the command line.
        default: plain value; `MISSING` where there is none.
        description: meaning; empty if the annotation has none.
        option: option of the group, such as a family of models, that has the setting; empty if all have it.
        kinds: of its value: int, float, bool, str, list, dict, any, null, enum.
        choices: names of an enum or of the words that are allowed.
        limits: lowest and highest number; None where there is none.
        pair: a list of two numbers, [low, high].
        mark: "" or the name of a `Text`: text, path, input (a path that must exist), output.
    """

    key: str
    default: Any = None
    description: str = ""
    option: str = ""
    kinds: Sequence[str] = ()
    choices: Sequence[str] = ()
    limits: Sequence[float | None] | None = None
    pair: bool = False
    mark: str = ""

    @property
    def is_group(self) -> bool:
        """Whether it is a group with options, such as model, or the recipe: a choice without a type."""
        return bool(self.choices) and not self.kinds

    @property
    def is_path(self) -> bool:
        """Whether ~ in it is the home folder."""
        return self.mark in ("path", "input", "output")

    @property
    def values(self) -> list[str]:
        """The values of an enum or a flag; empty for other types."""
        return list(self.choices) or ["true", "false"] * ("bool" in self.kinds)

    @property
    def allowed(self) -> str:
        """The possible values: a range or a list of names; empty if the type implies them."""
        if self.limits is not None:
            low, high = (None if limit is None else number(limit) for limit in self.limits)
            return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
        return "" if self.is_group else ", ".join(self.choices)

    @property
    def wanted(self) -> str:
        """What a value must be, for an error."""
        names = {"list": "a list such as [1,2]", "int": "a whole number", "float": "a number", "bool": "true or false"}
        named = [text for kind, text in names.items() if kind in self.kinds]
        if self.choices:
            named = [f"one of {', '.join(self.choices)}"]
        elif self.pair:
            named = ["[low,high], two numbers with low <= high"]
        return (named or ["a text"])[0] + " or null" * ("null" in self.kinds)


@dataclass(frozen=True)
class Command:
    """A command: the docstring of its dataclass, and its settings."""

    doc: str
    settings: Sequence[Setting] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """The first line of the help."""
        return self.doc.partition("\n")[0]


def dumped(commands: Mapping[str, Command]) -> str:
    """Content of settings.json, one line a setting, so that versions are merged line by line."""
    lines = []
    for name, one in commands.items():
        lines.append(json.dumps({"command": name, "doc": one.doc}, ensure_ascii=False))
        for setting in one.settings:
            given = {k: v for k, v in asdict(setting).items() if v or (k == "default" and v is not None)}
            lines.append(json.dumps(given, ensure_ascii=False))
    return "[\n" + ",\n".join(lines) + "\n]\n"


@cache
def stored() -> Mapping[str, Command] | None:
    """Content of settings.json; None where a module of kws is newer, so that it may declare other settings."""
    try:
        written = FILE.stat().st_mtime
        if any(file.stat().st_mtime > written + _SLACK_S for file in FILE.parents[1].rglob("*.py")):
            return None
        rows = json.loads(FILE.read_bytes())
    except (OSError, ValueError):
        return None
    found: dict[str, Command] = {}
    settings: list[Setting] = []
    for row in rows:
        if "command" in row:
            settings = []
            found[row["command"]] = Command(row["doc"], settings)
        else:
            settings.append(Setting(**row))
    return found
