"""Groups of settings with options, such as model, and the recipes: files of conf/ and recipes/. Imports no torch."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from kws.common.errors import KwsError
from kws.config.setting import Setting

WITH_GROUPS = ("train", "models")  # commands whose defaults list is a file of conf/


def folder(name: str) -> Path:
    """The folder `conf` or `recipes`: inside an installed wheel, or at the top of a checkout."""
    here = Path(__file__).parent.parent
    for place in (here / name, here.parent / name):
        if place.is_dir():
            return place.resolve()
    raise KwsError(f"{name}/: not found beside the package; the installation is incomplete")


def option_names(group: str, registered: Iterable[str] = ()) -> list[str]:
    """The options of a group of settings, such as model, or of recipe; `registered` are those of plugins."""
    root = folder("recipes") if group == "recipe" else folder("conf") / group
    return sorted({*(file.relative_to(root).with_suffix("").as_posix() for file in root.rglob("*.yaml")), *registered})


def groups_of(command: str, models: Iterable[str] = ()) -> list[Setting]:
    """The groups of a command that have options, such as model, and the recipes; `models` are those of plugins."""
    if command not in WITH_GROUPS:
        return []
    found = []
    for group in yaml.safe_load((folder("conf") / f"{command}.yaml").read_text("utf-8"))["defaults"]:
        for name, default in group.items() if isinstance(group, dict) else ():
            if len(options := option_names(name, models if name == "model" else ())) > 1:
                found.append(Setting(name, default, f"one of {', '.join(options)}", choices=options))
    return found


def recipe_content(recipe: str) -> dict[str, Any]:
    """The settings of a recipe by name or file, as texts; none of one that cannot be read, which Hydra refuses."""
    file = Path(recipe).expanduser() if recipe.endswith((".yaml", ".yml")) else folder("recipes") / f"{recipe}.yaml"
    try:
        content = yaml.load(file.read_text("utf-8"), yaml.BaseLoader)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
