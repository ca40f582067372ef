"""The settings of a command, read from its dataclasses."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from kws.common.settings import Each, number
from kws.data.augment import EXTRAS, AugmentConfig, augment_config
from kws.data.features import FeaturesConfig
from kws.models.base import ModelConfig
from kws.models.frontends import INPUTS
from kws.models.registry import FAMILIES
from kws.replay.eviction import EvictionRules, rule_settings
from kws.replay.mining import SourceSettings, source_settings


@dataclass(frozen=True)
class Setting:
    """One setting.

    Args:
        key: dotted, as on the command line.
        option: option of the group, such as a family of models, that has the setting; empty if all have it.
        hint: type annotation.
        default: default value; None also for a setting without default.
        description: meaning; empty if the annotation has none.
    """

    key: str
    option: str
    hint: Any
    default: Any
    description: str

    @property
    def values(self) -> list[str]:
        """The values of an enum or a flag; empty for other types."""
        kinds = [kind for kind in parts(self.hint) if isinstance(kind, type)]
        names = [member.name for kind in kinds if issubclass(kind, enum.Enum) for member in kind]
        return names or ["true", "false"] * (bool in kinds)

    @property
    def allowed(self) -> str:
        """The possible values: a range or a list of names; empty if the type implies them."""
        if limits := bounds(self.hint):
            low, high = (None if limit is None else number(limit) for limit in limits)
            return f"{low} to {high}" if low and high else f"at least {low}" if low else f"at most {high}"
        return ", ".join(self.values) if self.values != ["true", "false"] else ""


def settings_of(schema: type, prefix: str = "", option: str = "") -> Iterator[Setting]:
    """The settings of a dataclass; for a group with options, such as model, those of each option too."""
    hints = get_type_hints(schema, include_extras=True)
    for item in fields(schema):
        key, nested = prefix + item.name, [kind for kind in parts(hints[item.name]) if is_dataclass(kind)]
        if not nested:
            default = item.default_factory() if item.default_factory is not MISSING else item.default
            texts = [one.description for one in metadata(hints[item.name]) if isinstance(one, FieldInfo)]
            text = next((one for one in texts if one), "")
            yield Setting(key, option, hints[item.name], None if default is MISSING else default, text)
            continue
        assert isinstance(nested[0], type)
        common = list(settings_of(nested[0], f"{key}.", option))
        yield from common
        seen = {one.key for one in common}
        for name, kind in options(nested[0]).items():
            yield from (one for one in settings_of(kind, f"{key}.", name) if one.key not in seen)


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


def bounds(hint: Any) -> tuple[float | None, float | None] | None:
    """The lowest and the highest number of an annotation; None without a range."""
    for item in metadata(hint):
        if isinstance(item, Each):
            return item.low, item.high
        limits = {type(limit): limit for limit in getattr(item, "metadata", ())}
        if limits.keys() & {Ge, Le}:
            return getattr(limits.get(Ge), "ge", None), getattr(limits.get(Le), "le", None)
    return None
