"""First check of a command line: what is surely wrong is refused before torch loads. Imports no torch.

Hydra reads the words afterwards. A word that is not surely wrong passes.
"""

import os.path
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kws.common import files
from kws.common.errors import KwsError
from kws.common.settings import number
from kws.config.groups import groups_of, option_names, recipe_content
from kws.config.refusals import did_you_mean, no_option, no_recordings, no_such_path, unknown
from kws.config.renamed import refusal
from kws.config.setting import BASE_NET, MISSING, Setting, stored
from kws.config.words import elements, unquoted

# Options of a Hydra app, and those that take the next word of the command line.
TAKES_ONE = {"-c", "--cfg", "-i", "--info", "-p", "--package", "-cp", "--config-path", "-cn", "--config-name"}
TAKES_ONE |= {"-cd", "--config-dir"}
FLAGS = TAKES_ONE | {"-m", "--multirun", "-r", "--run", "--resolve", "--hydra-help", "--version"}
SEARCH = {"-cd", "--config-dir", "-cp", "--config-path"}  # with them, options of groups may stand anywhere
BARE = {
    "buffer": ("action",),
    "confuse": ("action",),
    "data": ("action", "data.root"),
    "review": ("dir",),
    "runs": ("dir",),
}
_NAMED = re.compile(r"[A-Za-z_][\w ]*")  # no number, list or function
_FLAG_WORDS = {"null", "true", "false", "yes", "no", "on", "off", "inf", "nan", "y", "n"}


def checked(command: str, words: Sequence[str]) -> list[str]:
    """The words of a command line, the options of Hydra first, as it wants them, and no word without =.

    Raises:
        KwsError: a word is surely wrong. The message says what it must be.
    """
    flags, given = divided(words)
    about = stored()
    settings = [*groups_of(command), *about[command].settings] if about is not None else []
    refuse_flags(command, flags, words, settings)
    given = list(with_keys(command, given, settings))
    given_flags = {flag.partition("=")[0] for flag in flags}
    free = any(word.startswith(("plugins=", "hydra.searchpath")) for word in given) or bool(SEARCH & given_flags)
    if about is None or free:
        return [*flags, *given]
    sweeps = bool({"-m", "--multirun"} & set(flags))
    values = {key.lstrip("+"): value for word in given for key, _, value in [word.partition("=")]}
    for word in given:
        if word.startswith("~"):
            raise KwsError(f"{word}: a setting cannot be deleted; give it a value, such as null, or leave it out")
        key, _, value = word.partition("=")
        refuse(key.lstrip("+"), value.lstrip(), settings, sweeps)  # Hydra reads no blank after =
    if not {"-c", "--cfg", "-i", "--info", "--hydra-help"} & given_flags:
        refuse_missing_paths(command, values, settings, sweeps)
        refuse_unwritable(values, settings)
    if not flags:
        refuse_incomplete(command, values, settings)
    return [*flags, *given]


def refuse_flags(command: str, flags: Sequence[str], words: Sequence[str], settings: Sequence[Setting]) -> None:
    """Raise KwsError for an option that Hydra does not have, or that lacks its value."""
    for i, flag in enumerate(flags):
        value = next(iter(flags[i + 1 :]), "-")
        if flag[:1] == "-" and flag.partition("=")[0] not in FLAGS:
            raise KwsError(no_flag(command, flag, words, settings))
        if flag in TAKES_ONE and flag not in ("-i", "--info") and value[:1] == "-":
            raise KwsError(f"{flag}: must be followed by a value, such as --cfg job or --config-dir DIR")
        if flag in ("-c", "--cfg") and value not in ("job", "hydra", "all"):
            raise KwsError(f"{flag} {value}: must be job, hydra or all")


def divided(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of Hydra with their values, and the other words."""
    flags: list[str] = []
    given: list[str] = []
    takes = ""
    for word in words:
        is_value = takes and word[:1] != "-" and not (takes in ("-i", "--info") and "=" in word)
        (flags if is_value or word[:1] == "-" else given).append(word)
        takes = word if word in TAKES_ONE else ""
    return flags, given


def with_keys(command: str, given: Sequence[str], settings: Sequence[Setting]) -> Iterator[str]:
    """The words with a key before each that has none. Raises KwsError for one that has no place."""
    keys = iter(BARE.get(command, ()))
    for i, word in enumerate(given):
        if "=" in word or word[:1] in "~+":
            yield word
        elif (key := next(keys, "")) != "":
            yield f"{key}={word}"
        else:
            raise KwsError(no_setting(command, word, given[i - 1] if i else "", settings))


def no_flag(command: str, flag: str, words: Sequence[str], settings: Sequence[Setting]) -> str:
    """The message for an option that no command has."""
    key, _, value = flag.lstrip("-").partition("=")
    if flag in ("-sc", "--shell-completion"):
        return f'{flag}: tab completion is installed by eval "$(kws --completion)"'
    if any(one.key == key for one in settings):
        after = words[list(words).index(flag) + 1 :][:1]
        return f"{flag}: must be written without --, as {key}={value or (after or ['VALUE'])[0]}"
    return f"{flag}: no such option; settings are written as KEY=VALUE, see kws {command} --help"


def no_setting(command: str, word: str, before: str, settings: Sequence[Setting]) -> str:
    """The message for a word without =, and the word before it."""
    key = before.partition("=")[0]
    if key != before and any(one.key == key and {"str", "any"} & set(one.kinds) for one in settings):
        return f"{word}: must be KEY=VALUE; a value with blanks needs quotes: {shlex.quote(f'{before} {word}')}"
    if any(one.key == word for one in settings):
        return f"{word}: must be written as {word}=VALUE"
    if "recipe" in {one.key for one in settings} and word in option_names("recipe"):
        return f"{word}: must be KEY=VALUE, as recipe={word}"
    path = next((one.key for one in settings if one.mark == "input"), "")
    if path and (Path(word).exists() or Path(word).suffix):
        return f"{word}: must be KEY=VALUE, as {path}={word}"
    return f"{word}: must be KEY=VALUE, see kws {command} --help"


def refuse(key: str, value: str, settings: Sequence[Setting], sweeps: bool) -> None:
    """Raise KwsError if a setting does not exist, or cannot have this value."""
    if key.startswith("hydra") or "@" in key or "/" in key:
        return
    found = [one for one in settings if one.key == key]
    if not found:
        if any(one.key.startswith(f"{key}.") for one in settings):
            return  # settings of a group as {name: value}
        raise KwsError(refusal(f"{key}={value}") or unknown(key, settings))
    if "${" in value or re.fullmatch(r"\w+\(.*\)", value):
        return
    one = found[0]
    if len(found) > 1 or sweeps:  # models have ranges of their own, and a failed run ends no sweep
        one = replace(one, limits=None)
    for part in elements(value) if sweeps else [value]:
        if one.is_group:
            refuse_option(one, unquoted(part))
        else:
            refuse_value(one, part)


def refuse_option(group: Setting, option: str) -> None:
    """Raise KwsError if a group, or the recipes, have no such option."""
    if option != "null" and not option.endswith((".yaml", ".yml")) and option not in group.choices:
        raise KwsError(no_option(group.key, option, group.choices))


def refuse_value(one: Setting, value: str) -> None:
    """Raise KwsError if a setting cannot have this value. Texts can have any."""
    wrong = f"{one.key}={value}: must be {one.wanted}"
    kinds = set(one.kinds)
    if "any" in kinds or ({"dict", "str"} & kinds and not one.choices):
        return
    if value == "null" or "list" in kinds:
        if value[:1] != "[" and not (value == "null" and "null" in kinds):
            raise KwsError(wrong)
    elif one.choices:
        if value not in one.choices and _NAMED.fullmatch(value):
            raise KwsError(refusal(f"{one.key}={value}") or wrong + did_you_mean(value, one.choices))
    elif _NAMED.fullmatch(value) and value.lower() not in _FLAG_WORDS:
        raise KwsError(wrong)
    else:
        refuse_number(one, value, wrong)


def refuse_number(one: Setting, value: str, wrong: str) -> None:
    """Raise KwsError if a number is out of range, or no whole number where one must be."""
    try:
        x = float(value)
    except ValueError:
        return
    if "int" in one.kinds and "float" not in one.kinds and not value.lstrip("+-").isdigit():
        raise KwsError(wrong)
    low, high = one.limits or (None, None)
    if low is not None and high is not None and (x < low or x > high):
        raise KwsError(f"{one.key}={value}: must be between {number(low)} and {number(high)}")


def refuse_missing_paths(command: str, given: dict[str, str], settings: Sequence[Setting], sweeps: bool) -> None:
    """Raise KwsError if a file or folder that a command reads does not exist."""
    read = {one.key: one.description for one in settings if one.mark == "input"}
    if command == "buffer" and given.get("action") != "import":  # which makes one
        read["buffer"] = "the folder of a replay buffer"
    if given.get("data.download", "false").lower() != "false":  # which makes the folder
        read.pop("data.root", None)
    out = unquoted(given.get("out", ""))
    if command == "train" and not (out and (Path(out) / "init.pt").is_file()):  # a run keeps a copy of its model
        read["init"] = f"the model.pt of a run, or {BASE_NET}"
    recipe = given.get("recipe", "")
    if recipe.endswith((".yaml", ".yml")) and not sweeps:
        read["recipe"] = "a YAML file of settings, or the name of a recipe without .yaml"
    for key, description in read.items():
        value = given.get(key, "")
        if not value or value == "null" or "${" in value or re.fullmatch(r"\w+\(.*\)", value):
            continue
        listed = value.lstrip()
        whole = listed[1:-1] if listed[:1] + listed[-1:] == "[]" and not Path(value).exists() else value
        many = sweeps or whole != value
        for part in elements(whole) if many else [whole]:
            name = unquoted(part)
            place = os.path.expanduser(name)
            if not name or name == "null" or (key, name) == ("init", BASE_NET) or part.startswith("["):
                continue
            if not os.path.lexists(place):
                raise KwsError(no_such_path(key, place, description))


def refuse_incomplete(command: str, given: dict[str, str], settings: Sequence[Setting]) -> None:
    """Raise KwsError if a setting without a default is not given, or a run has no recordings.

    The recipe, or the model that a run starts from, may give them.
    """
    by_recipe = recipe_content(unquoted(given.get("recipe", "null"))) if command == "train" else {}
    defaults = by_recipe.get("defaults", [])
    init = given.get("init", by_recipe.get("init"))
    from_model = init is not None and unquoted(str(init)) not in ("null", BASE_NET)
    if from_model or not (isinstance(defaults, list) and all(map(overrides_group, defaults))):
        return
    no_keyword = given.get("task", by_recipe.get("task")) == "phones"
    for one in sorted(settings, key=lambda one: one.key):
        if one.key == "keyword" and no_keyword:
            continue
        if one.default == MISSING and one.key not in {*given, *by_recipe}:
            raise KwsError(f"{one.key}=... must be given: {one.description}")
    root = given.get("data.root", "null")
    other = [key for key in given if key == "data" or key.startswith(("data.synthetic", "data.download"))]
    of_data = by_recipe.get("data")
    other += {"root", "synthetic", "download"} & set(of_data if isinstance(of_data, dict) else ())
    if command == "train" and root == "null" and not other:
        from kws.confusables.settings import MIN_CLIPS

        raise KwsError(no_recordings(MIN_CLIPS))


def overrides_group(default: Any) -> bool:
    """Whether an entry of a defaults list only chooses options of groups, such as the model."""
    return isinstance(default, dict) and all(str(key).startswith("override /") for key in default)


def refuse_unwritable(given: dict[str, str], settings: Sequence[Setting]) -> None:
    """Raise KwsError if a file or folder cannot be written that a command writes after all its work."""
    for one in settings:
        value = given.get(one.key, "")
        if one.mark != "output" or not value or value == "null" or "${" in value or "," in value:
            continue
        if why := files.unwritable(Path(os.path.expanduser(unquoted(value)))):
            raise KwsError(f"{one.key}={value}: cannot be written: {why}")
