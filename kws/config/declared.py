"""The settings of a command, read from its dataclasses."""

import enum
import inspect
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING as FACTORY
from dataclasses import fields, is_dataclass
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from kws.common.settings import Each, OneOf, Pair, Text
from kws.config.schema import SCHEMAS
from kws.config.setting import FILE, Command, Setting, dumped, stored
from kws.data.augment import EXTRAS, AugmentConfig, augment_config
from kws.data.features import FeaturesConfig
from kws.models.base import ModelConfig
from kws.models.frontends import INPUTS
from kws.models.registry import FAMILIES
from kws.replay.eviction import EvictionRules, rule_settings
from kws.replay.mining import SourceSettings, source_settings

_KINDS = {kind: kind.__name__ for kind in (int, float, bool, str, list, dict)} | {Any: "any", NoneType: "null"}


def commands() -> dict[str, Command]:
    """All commands."""
    return {name: command_of(name) for name in SCHEMAS}


def confirm_stored() -> None:
    """Touch settings.json where it is older than a module and holds what the dataclasses declare all the same."""
    if stored() is None and not loaded_plugins():
        with suppress(OSError):  # such as an installation that may not be written
            if FILE.read_text("utf-8") == dumped(commands()):
                os.utime(FILE)


def loaded_plugins() -> bool:
    """Whether modules of the user registered something."""
    return bool(EXTRAS) or any(not family.net.__module__.startswith("kws.") for family in FAMILIES.values())


def command_of(name: str) -> Command:
    """A command as its dataclasses declare it, with the settings that plugins registered."""
    return Command(inspect.getdoc(SCHEMAS[name]) or "", list(settings_of(SCHEMAS[name])))


def settings_of(schema: type, prefix: str = "", option: str = "", values: Any = None) -> Iterator[Setting]:
    """The settings of a dataclass; for a group with options, such as model, those of each option too.

    Args:
        schema: the dataclass.
        prefix, option: of the names of its settings, and the option that has them.
        values: an instance with the defaults that a command gives the group; None: those of the dataclass.
    """
    hints = get_type_hints(schema, include_extras=True)
    for item in fields(schema):
        key, nested = prefix + item.name, [kind for kind in parts(hints[item.name]) if is_dataclass(kind)]
        default = item.default_factory() if item.default_factory is not FACTORY else item.default
        if values is not None:
            default = getattr(values, item.name)
        if not nested:
            yield _setting(key, option, hints[item.name], None if default is FACTORY else default)
            continue
        assert isinstance(nested[0], type)
        common = list(settings_of(nested[0], f"{key}.", option, default if isinstance(default, nested[0]) else None))
        yield from common
        seen = {one.key for one in common}
        for name, kind in options(nested[0]).items():
            yield from (one for one in settings_of(kind, f"{key}.", name) if one.key not in seen)


def _setting(key: str, option: str, hint: Any, default: Any) -> Setting:
    kinds, extra = parts(hint), metadata(hint)
    texts = [one.description for one in extra if isinstance(one, FieldInfo) and one.description]
    limits, enums = bounds(hint), [k for k in kinds if isinstance(k, type) and issubclass(k, enum.Enum)]
    words = [word for one in extra if isinstance(one, OneOf) for word in one.words.split()]
    return Setting(
        key,
        default.name if isinstance(default, enum.Enum) else default,
        texts[0] if texts else "",
        option,
        [name for kind in kinds if (name := _KINDS.get(get_origin(kind) or kind))] + ["enum"] * bool(enums),
        [member.name for kind in enums for member in kind] or words,
        None if limits is None else list(limits),
        any(isinstance(one, Pair) for one in extra),
        next((mark.name for mark in marks(hint)), ""),
    )


def options(kind: type) -> Mapping[str, type]:
    """The dataclasses that a group may have in place of `kind`, by name of the option: families, front ends."""
    if kind is AugmentConfig and EXTRAS:
        return {"plugins": augment_config()}
    if kind is EvictionRules or kind is SourceSettings:
        return {"plugins": type(rule_settings() if kind is EvictionRules else source_settings())}
    if kind is ModelConfig:
        return {name: family.settings for name, family in FAMILIES.items()}
    return {name: one.settings for name, one in INPUTS.items()} if kind is FeaturesConfig else {}


def parts(hint: Any) -> list[Any]:
    """A type and its arguments: `int | None` gives int and None, an annotated type itself."""
    if metadata(hint):
        return parts(hint.__origin__)
    return [hint, *(inner for arg in get_args(hint) for inner in parts(arg))]


def metadata(hint: Any) -> tuple[Any, ...]:
    """The metadata of an annotation."""
    return getattr(hint, "__metadata__", ())


def marks(hint: Any) -> list[Text]:
    """Whether a setting is a path or another text."""
    return [item for item in metadata(hint) if isinstance(item, Text)]


def bounds(hint: Any) -> tuple[float | None, float | None] | None:
    """The lowest and the highest number of an annotation; None without a range."""
    for item in metadata(hint):
        if isinstance(item, Each):
            return item.low, item.high
        limits = {type(limit): limit for limit in getattr(item, "metadata", ())}
        if limits.keys() & {Ge, Le}:
            return getattr(limits.get(Ge), "ge", None), getattr(limits.get(Le), "le", None)
    return None
