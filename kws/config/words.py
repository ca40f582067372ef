"""Words of a command line and recipe files: a value of a setting that is a text or a path is taken literally.

Hydra reads an override by a grammar of its own, in which `7` is a number, and blanks, brackets and `=` have a meaning.
Words are quoted for it here, by the declared type of the setting. YAML reads `yes` as true; recipe files are read here.
"""

import os.path
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from kws.common.errors import KwsError
from kws.config.setting import Setting

if TYPE_CHECKING:  # the first check of a command line does not need it
    from omegaconf import DictConfig

_QUOTED = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""")
_PLAIN = re.compile(r"(?i:(?!(null|true|false|inf|nan)$)(\.{0,2}/)?([a-z_][\w./-]*|[\w./-]*\.[a-z]{2,}))", re.ASCII)
_REFERENCE = re.compile(r"(?<!\\)((?:\\\\)*)\$\{([^{}:$]*)(:?)")  # the beginning of an interpolation of OmegaConf
_FUNCTION = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag|int|float|str|bool|json_str|extend_list)\(.*\)")


@dataclass(frozen=True)
class Kind:
    """How the words of a setting are read: as paths or other texts, one or also a list of them."""

    is_path: bool
    may_be_list: bool

    def read(self, text: str) -> str:
        """A text with the home folder for ~ where it is a path."""
        return os.path.expanduser(text) if self.is_path else text


RECIPE = Kind(is_path=True, may_be_list=False)


def text_kinds(settings: Sequence[Setting]) -> dict[str, Kind]:
    """The settings that are texts or paths."""
    return {
        one.key: Kind(one.is_path, bool({"any", "list"} & set(one.kinds)))
        for one in settings
        if one.mark or ("str" in one.kinds and "dict" not in one.kinds)
    }


def literal(words: Iterable[str], settings: Sequence[Setting]) -> list[str]:
    """The words of a command line, with quotes around texts and paths that Hydra would read as something else.

    `null` keeps its meaning, and so do interpolations of what is known: `${seed}`, but not `${x}`. `[a,b]` is a list
    where a setting may be one, and in a sweep (-m) a comma separates runs. A value that is quoted as a whole stays.

    Raises:
        KwsError: the path of a recipe holds `${`.
    """
    words = list(words)
    sweeps, kinds, names = bool({"-m", "--multirun"} & set(words)), text_kinds(settings), setting_names(settings)
    return [_literal(word, kinds, names, sweeps) for word in words]


def _literal(word: str, kinds: Mapping[str, Kind], names: Collection[str], sweeps: bool) -> str:
    key, _, value = word.partition("=")
    is_file = key == "recipe" and re.search(r"\.ya?ml\b", value)
    kind = RECIPE if is_file else kinds.get(key.lstrip("+"))
    if is_file and escaped(value, names) != value:  # Hydra takes it for an interpolation, and refuses its defaults
        raise KwsError(f"{word}: must be a path without ${{")
    if kind is None or not value or _FUNCTION.fullmatch(value):
        return word
    read = ",".join(_value(one, kind) for one in (elements(value) if sweeps else [value]))
    return f"{key}={escaped(read, names)}"


def _value(text: str, kind: Kind) -> str:
    if text == "null":
        return text
    listed = text.lstrip()
    if kind.may_be_list and listed.startswith("[") and listed.endswith("]"):
        return "[" + ",".join(_value(one, kind) for one in elements(listed[1:-1])) + "]"
    if not kind.is_path and (_QUOTED.fullmatch(text) or re.fullmatch(r"\[.*\]|\{.*\}", text)):
        return text  # of a setting that takes one text, such as a keyword: refused for its type
    return quoted(kind.read(unquoted(text)))


def setting_names(settings: Sequence[Setting]) -> set[str]:
    """The settings and groups of settings that an interpolation may name."""
    keys = [one.key.split(".") for one in settings]
    return {".".join(key[:n]) for key in keys for n in range(1, len(key) + 1)}


def escaped(text: str, names: Collection[str]) -> str:
    """A text in which `${` is literal where no setting, no resolver and no place relative to it follows."""
    from omegaconf import OmegaConf

    def literal(found: re.Match[str]) -> str:
        slashes, name, colon = found.groups()
        known = OmegaConf.has_resolver(name) if colon else name in names or name.startswith(".")
        return found[0] if known else f"{2 * slashes}\\${{{name}{colon}"

    return _REFERENCE.sub(literal, text)


def elements(text: str) -> list[str]:
    """The elements of a list or a sweep: text between commas that are neither in quotes nor in brackets."""
    pattern = rf"(?:\s*(?:{_QUOTED.pattern}|\[[^\]]*\])\s*(?=,|$))|[^,]*"
    found, at = [], 0
    while at <= len(text):
        match = re.compile(pattern).match(text, at)
        assert match is not None  # the last alternative matches anything
        found.append(match[0].strip())
        at = match.end() + 1
    return found if any(found) else []


def quoted(text: str) -> str:
    """A text for the grammar of Hydra, in quotes where it needs them."""
    if _PLAIN.fullmatch(text):
        return text
    return "'" + re.sub(r"\\(?=\\*('|$))|'", lambda found: "\\" + found[0], text) + "'"


def unquoted(text: str) -> str:
    """The text of `quoted`."""
    if not _QUOTED.fullmatch(text):
        return text
    return re.sub(rf"\\+(?={text[0]}|$)", lambda found: found[0][: len(found[0]) // 2], text[1:-1])


def recipe_files(words: Iterable[str]) -> list[str]:
    """The recipe files that a command line names, `recipe=FILE.yaml`."""
    values = [word.removeprefix("recipe=") for word in words if word.startswith("recipe=")]
    inner = [_FUNCTION.sub(lambda found: found[0].partition("(")[2][:-1], value) for value in values]
    names = [unquoted(one) for value in inner for one in elements(value)]
    return [name for name in names if name.endswith((".yaml", ".yml"))]


def read_recipe(file: Path, settings: Sequence[Setting]) -> "DictConfig":
    """Read a recipe. Texts and paths are taken literally: `keyword: [yes, on, 7]` are three words.

    Raises:
        KwsError: the file is missing, or no YAML file of settings.
    """
    from omegaconf import DictConfig, OmegaConf
    from omegaconf._utils import get_yaml_loader

    if not file.is_file():
        raise KwsError(f"recipe={file}: no such file; recipes of kws are named without .yaml")
    try:
        loader = get_yaml_loader()(file.read_text("utf-8-sig"))
        node = loader.get_single_node()
        if node is not None:
            _as_texts(node, "", text_kinds(settings), setting_names(settings))
        config = OmegaConf.create(loader.construct_document(node) if node is not None else {})
    except Exception:  # a damaged file can raise anything
        config = None
    if not isinstance(config, DictConfig):
        raise KwsError(f"recipe={file}: must be a YAML file of settings, as in recipes/")
    return config


def _as_texts(node: yaml.Node, key: str, kinds: Mapping[str, Kind], names: Collection[str]) -> None:
    """Tag the plain values of these settings as texts, all but null."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            _as_texts(value, f"{key}.{name.value}" if key else str(name.value), kinds, names)
    elif kind := kinds.get(key):
        values: Sequence[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for one in values:
            if isinstance(one, yaml.ScalarNode) and one.tag != "tag:yaml.org,2002:null":
                one.tag, one.value = "tag:yaml.org,2002:str", escaped(kind.read(one.value), names)
