"""Composition of settings by Hydra from dataclasses, conf/, recipes/ and plugins, and the recipe of a run.

A command calls `settings` once and passes dataclasses on. Library modules do not use Hydra.
"""

import importlib
import os
import shlex
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import hydra
from hydra.conf import HydraConf, JobConf, RunDir, SweepDir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kws import __version__
from kws.common.errors import KwsError, first_line, printable
from kws.config.declared import settings_of
from kws.config.groups import WITH_GROUPS, folder, option_names
from kws.config.refusals import no_option
from kws.config.schema import SCHEMAS, TrainConfig
from kws.config.validation import check
from kws.config.words import read_recipe, recipe_files
from kws.data.augment import augment_config
from kws.data.features import FeaturesConfig
from kws.models.frontends import INPUTS
from kws.models.registry import FAMILIES
from kws.runs.folder import commit, dotted, own

OmegaConf.register_new_resolver("home", os.path.expanduser)  # for values of the environment

Settings = TypeVar("Settings")


def settings(cfg: DictConfig, schema: type[Settings]) -> Settings:
    """The composed configuration as checked dataclasses.

    Raises:
        KwsError: a value is missing, out of range or contradicts another; the message names the key.
    """
    if missing := sorted(OmegaConf.missing_keys(cfg)):
        raise KwsError(must_be_given(missing[0], schema))
    plain = OmegaConf.to_object(cfg)
    assert isinstance(plain, schema)
    for name in getattr(plain, "plugins", ()):
        if name not in sys.modules:  # nothing but the command line makes kws import code
            raise KwsError(f"plugins=[{name}]: must be given on the command line, not in a recipe")
    check(plain)
    return plain


def must_be_given(key: str, schema: type) -> str:
    """The message for a setting without a value."""
    meaning = next((one.description for one in settings_of(schema) if one.key == key), "")
    return f"{key}=... must be given: {meaning}"


def keywords(value: Any, key: str = "keyword") -> list[str]:
    """The keywords of a setting: one word or a list.

    Raises:
        KwsError: there is none, one is empty, repeated, or not a text.
    """
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise KwsError(f"{key}={value!r}: must be a word or a list of words, such as [alexa,computer]")
    if isinstance(value, str) and "," in value:
        raise KwsError(f"{key}={value}: must be a list in brackets, {key}=[{value}]; -m sweeps over several")
    if len(set(words)) != len(words):
        raise KwsError(f"{key}={value!r}: must not name a keyword twice")
    return list(words)


def paths(value: Any, key: str) -> list[Path]:
    """The paths of a setting: one path or a list; raises KwsError for anything else or none."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(p, str) and p for p in items):
        raise KwsError(f"{key}={value!r}: must be a path or a list of paths")
    return [Path(p) for p in items]


def load_plugins(words: Iterable[str]) -> None:
    """Import the modules that `plugins=[...]` of a command line names, from the current folder or installed.

    They register models, augmentations, eviction rules or mining sources.

    Raises:
        KwsError: a module is missing, or its import fails.
    """
    values = [word.partition("=")[2] for word in words if word.startswith("plugins=")]
    for name in (part.strip(" '\"") for value in values for part in value.strip("[]").split(",")):
        if os.getcwd() not in sys.path:
            sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(name)
        except Exception as error:  # a module of the user can raise anything
            raise KwsError(f"plugins=[{name}]: must be a module that can be imported; {error!r}") from error


def register(command: str, words: Iterable[str] = ()) -> None:
    """Register the dataclasses and the recipes of a command with Hydra.

    Recipes are the files of recipes/ and the files that a command line names: `recipe=FILE.yaml`.

    Raises:
        KwsError: such a file is missing or cannot be read.
    """
    store = ConfigStore.instance()
    _store(SCHEMAS[command], f"{command}_schema" if command in WITH_GROUPS else command)
    sweep = "${out}" if command == "train" else "runs/${now:%Y-%m-%d_%H-%M-%S}"
    program = HydraConf(
        defaults=[*HydraConf().defaults, {"override job_logging": "none"}, {"override sweeper": "kws"}],
        run=RunDir("."),
        sweep=SweepDir(dir=sweep, subdir="${hydra.job.num}"),
        output_subdir=None,
        job=JobConf(name=command, chdir=False),
    )
    store.store(group="hydra", name="config", node=program, provider="kws")
    for name, family in FAMILIES.items():
        _store(family.settings, name, "model/family")
        if name in of_plugins():
            _store(family.settings, name, "model")
    _store(FeaturesConfig, "log_mel", "features/input")
    for name, layer in INPUTS.items():
        _store(layer.settings, name, "features/input")
    _store(augment_config(), "strong", "augment/settings")
    store.repo.pop("recipe", None)  # files that an earlier call in this process named
    if command not in WITH_GROUPS:
        return  # else Hydra would take a setting named recipe for the group
    for (group, name), node in _recipes().items():
        store.store(group=group, name=name, node=node, package="_global_")
    for name in recipe_files(words):
        *groups, file = filter(None, f"recipe/{name}".split("/"))  # Hydra looks it up without empty parts
        node = read_recipe(Path(name), list(settings_of(SCHEMAS[command])))
        store.store(group="/".join(groups), name=file, node=node, package="_global_")


def _store(node: type, name: str, group: str | None = None) -> None:
    """Store a dataclass, unless an earlier command of this process did: that takes a tenth of a second in all."""
    defaults = node()  # plugins add settings to some
    if _stored.get((group, name)) != defaults:
        ConfigStore.instance().store(name=name, node=node, group=group)
        _stored[group, name] = defaults


_stored: dict[tuple[str | None, str], Any] = {}


@cache
def _recipes() -> dict[tuple[str, str], Any]:
    """The content of the files of recipes/, by group and name."""
    root = folder("recipes")
    return {
        ("/".join(("recipe", *file.relative_to(root).parent.parts)), file.stem): OmegaConf.load(file)
        for file in sorted(root.rglob("*.yaml"))
    }


def of_recipe(name: str, key: str, schema: type[Settings]) -> Settings:
    """A group of settings, such as data.synthetic, as a recipe has it: one of recipes/, or a file.

    Raises:
        KwsError: there is no such recipe, or it has a value of another type.
    """
    *groups, stem = name.split("/")
    found = _recipes().get(("/".join(("recipe", *groups)), stem))
    if name.endswith((".yaml", ".yml")):
        found = read_recipe(Path(name), list(settings_of(TrainConfig)))
    if found is None:
        raise KwsError(no_option("recipe", name, option_names("recipe")))
    try:
        plain = OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.select(found, key, default={})))
    except OmegaConfBaseException as error:
        raise KwsError(f"recipe={name}: {key}: {first_line(error)}") from None
    assert isinstance(plain, schema)
    return plain


def of_plugins() -> list[str]:
    """Families of models that plugins registered; those of kws have files in conf/model."""
    return [name for name, family in FAMILIES.items() if not family.net.__module__.startswith("kws.")]


def recipe_text(config: str, threads: int, device: str) -> str:
    """Content of recipe.yaml: options of groups and settings that differ from the defaults, and the origin of the run.

    Args:
        config: the resolved configuration of the run, YAML.
        threads, device: of the run; other threads and devices change the rounding of sums.
    """
    defaults = OmegaConf.load(folder("conf") / "train.yaml").defaults
    usual = {str(group): name for one in defaults if isinstance(one, DictConfig) for group, name in one.items()}
    choices = HydraConfig.get().runtime.choices
    from_model = OmegaConf.create(config).init is not None  # it decides model and features
    usual = {
        group: name for group, name in usual.items() if group not in ("recipe", *("model", "features") * from_model)
    }
    groups = {group: choices[group] for group in usual if choices[group] != usual[group]}
    default = settings_with(tuple(groups.items()))
    options = [{f"override /{group}": name} for group, name in groups.items()]
    tree = OmegaConf.create({"defaults": options} if options else {})
    own_settings = settings_in(OmegaConf.create(config), resolve=False)  # a path may hold ${
    for key, value in own_settings.items():
        if own_settings["init"] is not None and key.startswith(("model.", "features.")):
            continue  # they are those of the model that the run started from
        if key not in default or value != default[key]:
            OmegaConf.update(tree, key, value, force_add=True)
    tree.device, tree.threads = device, threads
    origin = f"kws {__version__}{f', commit {known}' if (known := commit()) else ''}"
    words = shlex.join(HydraConfig.get().overrides.task)
    comment = "".join(f"# {printable(line)}\n" for line in (origin, f"kws train {words}"))
    return comment + OmegaConf.to_yaml(tree)


@cache
def settings_with(groups: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Defaults of kws train with these options of groups; see `settings_in`."""
    initialized = GlobalHydra.instance().is_initialized()  # not where Python calls kws.train
    with nullcontext() if initialized else hydra.initialize_config_dir(str(folder("conf")), version_base="1.3"):
        composed = hydra.compose("train", [f"{group}={name}" for group, name in groups])
    return settings_in(composed)


def settings_in(config: DictConfig | ListConfig, resolve: bool = True) -> dict[str, Any]:
    """Settings of a configuration, dotted, without those that may differ in a resumed run."""
    return own(dotted(OmegaConf.to_container(config, resolve=resolve, enum_to_str=True)))
