"""What `kws VERB --help` shows: the files of conf/ as they stand, with their comments, and the names of recipes."""

import re
from pathlib import Path

from kws.config.compose import folder

_FOOTER = """Any setting is an override: key=value. --cfg job shows the composed settings, -m sweeps over lists
(replay.share=0,0.05), --info defaults-tree shows where each comes from."""


def help_of(verb: str) -> str:
    """The settings of a verb, and what it does."""
    file = folder("conf") / f"{verb}.yaml"
    blocks = _blocks(file.read_text(encoding="utf-8"))
    defaults = "".join(block for block in blocks if block.startswith("defaults:"))
    own = "".join(block for block in blocks if not block.startswith(("defaults:", "hydra:")))
    parts = [f"kws {verb}", own.strip()]
    for group, option in re.findall(r"^  - (\w+): (\w+)$", defaults, re.MULTILINE):
        if option != "null":
            parts.append(_group(folder("conf") / group, group, option))
        elif group == "recipe":
            parts.append(_recipes())
    return "\n\n".join([*parts, _FOOTER])


def _blocks(text: str) -> list[str]:
    """A file cut before each line that begins a key."""
    return re.split(r"^(?=\S)", text, flags=re.MULTILINE)


def _group(place: Path, group: str, option: str) -> str:
    """A config group: the file that is the default, indented below its name, and which others there are."""
    blocks = _blocks((place / f"{option}.yaml").read_text(encoding="utf-8"))
    text = "".join(block for block in blocks if not block.startswith("defaults:"))
    others = sorted(file.stem for file in place.glob("*.yaml") if file.stem != option)
    named = f"{group}:  # {group}={option}" + (f"; also {', '.join(others)}" if others else "")
    return named + "\n" + re.sub(r"^(?=.)", "  ", text.strip(), flags=re.MULTILINE)


def _recipes() -> str:
    root = folder("recipes")
    names = sorted(file.relative_to(root).with_suffix("").as_posix() for file in root.rglob("*.yaml"))
    return f"recipe: null  # what differs from the above: {', '.join(names)}"
