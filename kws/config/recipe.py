"""The recipe of a run: its settings that differ from the defaults."""

from contextlib import nullcontext
from functools import cache
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from kws import __version__
from kws.common.errors import printable
from kws.config.compose import folder
from kws.runs.folder import commit, dotted, own


def recipe_text(config: str, threads: int, device: str) -> str:
    """Content of recipe.yaml: options of groups and settings that differ from the defaults, and the origin of the run.

    Args:
        config: the resolved configuration of the run, YAML.
        threads, device: of the run; other threads and devices change the rounding of sums.
    """
    defaults = OmegaConf.load(folder("conf") / "train.yaml").defaults
    usual = {str(group): name for one in defaults if isinstance(one, DictConfig) for group, name in one.items()}
    choices = HydraConfig.get().runtime.choices
    groups = {group: choices[group] for group in usual if group != "recipe" and choices[group] != usual[group]}
    default = settings_with(tuple(groups.items()))
    options = [{f"override /{group}": name} for group, name in groups.items()]
    tree = OmegaConf.create({"defaults": options} if options else {})
    own_settings = settings_in(OmegaConf.create(config))
    for key, value in own_settings.items():
        if own_settings["init"] is not None and key.startswith(("model.", "features.")):
            continue  # they are those of the model that the run started from
        if key not in default or value != default[key]:
            OmegaConf.update(tree, key, value, force_add=True)
    tree.device, tree.threads = device, threads
    origin = f"kws {__version__}{f', commit {known}' if (known := commit()) else ''}"
    words = " ".join(HydraConfig.get().overrides.task)
    comment = "".join(f"# {printable(line)}\n" for line in (origin, f"kws train {words}"))
    return comment + OmegaConf.to_yaml(tree)


@cache
def settings_with(groups: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Defaults of kws train with these options of groups; see `settings_in`."""
    initialized = GlobalHydra.instance().is_initialized()  # not where Python calls kws.train
    with nullcontext() if initialized else hydra.initialize_config_dir(str(folder("conf")), version_base="1.3"):
        composed = hydra.compose("train", [f"{group}={name}" for group, name in groups])
    return settings_in(composed)


def settings_in(config: DictConfig | ListConfig) -> dict[str, Any]:
    """Settings of a configuration, dotted, without those that may differ in a resumed run."""
    return own(dotted(OmegaConf.to_container(config, resolve=True, enum_to_str=True)))
