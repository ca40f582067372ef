"""Commands as Hydra apps whose errors are one line."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from kws.common.console import Console
from kws.common.errors import KwsError, fail, one_line
from kws.config import compose
from kws.config.declared import confirm_stored, settings_of
from kws.config.groups import folder, groups_of
from kws.config.refusals import malformed, no_option, unknown
from kws.config.renamed import refusal
from kws.config.schema import SCHEMAS
from kws.config.setting import Setting
from kws.config.sweep import RunEnd, in_sweep, run_in_sweep
from kws.config.words import literal


def verb(name: str, run: Callable[[Any], object]) -> Callable[[], None]:
    """A Hydra app around `run` whose errors are one line.

    Args:
        name: of the command.
        run: takes the checked settings of the command. That of kws train takes the composed configuration, which a
            model of `init` changes before it is checked.
    """

    def checked(cfg: DictConfig) -> object:
        return run(cfg if name == "train" else compose.settings(cfg, SCHEMAS[name]))

    def entry() -> None:
        os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach this function; it prints one line
        try:
            refuse_deletion(sys.argv[1:])
            compose.load_plugins(sys.argv[1:])
            confirm_stored()
            sys.argv[1:] = literal(sys.argv[1:], list(settings_of(SCHEMAS[name])))
            compose.register(name, sys.argv[1:] if name == "train" else ())
            app = hydra.main(version_base="1.3", config_path=str(folder("conf")), config_name=name)
            app(task(checked))()
        except KwsError as error:
            fail(str(error))
        except (HydraException, OmegaConfBaseException) as error:
            fail(explain(error, name))
        except ValueError as error:
            if "Config group override" not in str(error):  # Hydra's error for recipe=3
                raise
            fail(f"{error}; must be the name of an option")
        except AssertionError as error:
            if "Unexpected type for root" not in str(error):  # Hydra's error for model.channels=8 where model is null
                raise
            keys = (word.partition("=")[0] for word in sys.argv[1:])
            fail(f"{next(key for key in keys if '.' in key)}: its group must be given too, see --help")
        except KeyboardInterrupt:
            print("stopped", file=sys.stderr)
            sys.exit(130)

    return entry


def composed(name: str, words: Iterable[str]) -> DictConfig:
    """Compose the configuration of a command for a caller in Python; `run` of the command takes it.

    Raises:
        KwsError: a word is not a setting, or its value is of another type.
    """
    words = list(words)
    refuse_deletion(words)
    compose.load_plugins(words)
    words = literal(words, list(settings_of(SCHEMAS[name])))
    compose.register(name, words)
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folder("conf")), version_base="1.3"):
            cfg = hydra.compose(name, words, return_hydra_config=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise KwsError(explain(error, name)) from None
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg


def refuse_deletion(words: Iterable[str]) -> None:
    """Refuse ~key, with which Hydra deletes a setting or a group; raises KwsError."""
    for word in words:
        if word.startswith("~"):
            raise KwsError(f"{word}: a setting cannot be deleted; give it a value, such as null, or leave it out")


def with_actions(name: str, actions: Mapping[str, Callable[[Any, Console], None]]) -> Callable[[], None]:
    """A Hydra app with several actions, of which the setting `action` names one."""
    return verb(name, lambda s: actions[s.action](s, Console()))


def task(run: Callable[[DictConfig], object]) -> Callable[[DictConfig], RunEnd | None]:
    """A Hydra task that exits at once on bad input: Hydra would print lines of its own around the error.

    In a sweep the other runs continue, and the sweeper exits with an error at the end.
    """
    process = os.getpid()

    def call(cfg: DictConfig) -> RunEnd | None:
        if in_sweep():
            return run_in_sweep(run, cfg, process)
        try:
            run(cfg)
        except (KwsError, OSError) as error:
            fail(one_line(error))
        return None

    return call


def explain(error: Exception, command: str) -> str:
    """One line for an error of Hydra or OmegaConf: the key, the value and the rule."""
    settings = [*groups_of(command, compose.of_plugins()), *settings_of(SCHEMAS[command])]
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    if word := next((one.override for one in chain if isinstance(one, OverrideParseException)), ""):
        return malformed(word, settings)
    texts = [str(e) for e in chain]
    text = "\n".join(texts)
    if found := re.search(r"Ambiguous value for argument '(.*?)'\n", text):
        return f"{found.group(1)}: must be one value, or [a,b] where a list is allowed; -m sweeps over several"
    if found := re.search(r"Key '([^']*)' (?:is )?not in|Key '([^']*)' not found", text):
        full = re.search(r"full_key: (\S+)", text)
        return unknown(full.group(1) if full else found.group(1) or found.group(2), settings)
    if found := re.search(r"Could not override '([^']*)'\\?.? No match in the defaults list", text):
        return unknown(found.group(1), settings)
    if found := re.search(r"Invalid value '(.*?)', expected one of \[(.*?)\]", text):
        word = f"{key_of(text, texts[0])}={found.group(1)}"
        return refusal(word) or f"{word}: must be one of {found.group(2)}"
    if found := re.search(r"Value '(.*?)' (?:of type '\w+' )?could not be converted to (\w+)", text):
        return f"{key_of(text, texts[0])}={found.group(1)}: must be {wanted(key_of(text, texts[0]), settings)}"
    if found := re.search(r"Error merging override ([^=\s]+)=(.*)", texts[0]):
        return f"{found.group(1)}={found.group(2)}: must be {wanted(found.group(1), settings)}"
    if found := re.search(r"Could not find '([^']*)'", text):
        options = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)+)", text)
        group, _, option = found.group(1).partition("/")
        return no_option(group, option, options.group(1).split() if options else [])
    return texts[0] or type(error).__name__


def key_of(text: str, first: str) -> str:
    """The key that an error names."""
    found = re.search(r"full_key: (\S+)", text) or re.search(r"Error merging override ([^=\s]+)", first)
    return found.group(1) if found else "?"


def wanted(key: str, settings: Sequence[Setting]) -> str:
    """What the value of a setting must be."""
    return next((one.wanted for one in settings if one.key == key), "of another type")
