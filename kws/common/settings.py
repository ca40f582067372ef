"""Settings are declared in dataclasses beside the code that they configure: type, range, meaning and default in a line.

    share: Annotated[float, Field(ge=0, le=0.5, description="replayed share of a batch")] = 0.1
    snr_db: Annotated[list[float], Pair(-20, 60), Field(description="speech against noise")] = ...

A rule between settings of a group is a method `check` that raises `SettingError`. kws/config/validation.py calls it.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kws.common.errors import KwsError

if TYPE_CHECKING:  # the first check of a command line needs no pydantic
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema


def shown(value: Any) -> str:
    """A value as written on the command line."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return value.name if isinstance(value, enum.Enum) else str(value)


def number(value: float) -> str:
    """A limit in its shortest form."""
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"


class SettingError(KwsError):
    """A setting is out of range or contradicts another one.

    Args:
        key: the setting; within a `check` method, relative to the group.
        value: its value.
        rule: the rest of the message, beginning with "must".
    """

    def __init__(self, key: str, value: Any, rule: str) -> None:
        super().__init__(f"{key}={shown(value)}: {rule}")
        self.key, self.value, self.rule = key, value, rule


class Text(enum.Enum):
    """Marks a setting of paths, in which ~ is the home folder, or one of texts that is typed `Any`.

    `input` is a path that must exist, `output` one that must be writable.
    """

    path = enum.auto()
    input = enum.auto()
    output = enum.auto()
    text = enum.auto()


PATH, INPUT, OUTPUT, TEXT = Text.path, Text.input, Text.output, Text.text


@dataclass(frozen=True)
class OneOf:
    """Words that a text may be, with blanks between them, in the order of the help."""

    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, word: str) -> str:
        """The same word; raises ValueError for another one."""
        if word not in self.words.split():
            raise ValueError(f"must be one of {', '.join(self.words.split())}")
        return word


@dataclass(frozen=True)
class Each:
    """Range of every number of a list, both ends included."""

    low: float
    high: float

    def __get_pydantic_core_schema__(self, source: Any, handler: "GetCoreSchemaHandler") -> "CoreSchema":
        from pydantic_core import core_schema

        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def check(self, values: Sequence[float] | None) -> Sequence[float] | None:
        """The same values; raises ValueError where one is out of range or not a number."""
        if not all(self.low <= value <= self.high for value in values or ()):
            raise ValueError(f"must be between {number(self.low)} and {number(self.high)}")
        return values


@dataclass(frozen=True)
class Pair(Each):
    """Range of a list of two numbers, [low, high], the first of which is not above the second."""

    def check(self, values: Sequence[float] | None) -> Sequence[float] | None:
        super().check(values)
        if values is not None and (len(values) != 2 or values[0] > values[1]):
            raise ValueError("must be [low, high] with low <= high")
        return values
