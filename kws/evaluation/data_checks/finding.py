"""A finding of a check: what is wrong, in which recordings, and what mends it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

_NAMED = 3  # recordings that a line names


class Level(StrEnum):
    """How much a finding matters, the worst first."""

    fault = "fault"  # training refuses it, loses recordings, or learns what is wrong
    warning = "warning"  # training works, and may be worse for it
    note = "note"  # how the recordings were read


@dataclass(frozen=True, slots=True)
class Case:
    """A recording of a finding, and what is known of it."""

    name: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.detail})" if self.detail else self.name


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Args:
        check: name of the check.
        level: how much it matters.
        text: what is wrong, with counts; a sentence without a full stop.
        mend: what to do, a sentence; empty if nothing must be done.
        cases: the recordings.
    """

    check: str
    level: Level
    text: str
    mend: str = ""
    cases: Sequence[Case] = ()

    def __str__(self) -> str:
        names = ", ".join(map(str, self.cases[:_NAMED])) + ", ..." * (len(self.cases) > _NAMED)
        return self.text + (f": {names}" if names else "") + (f". {self.mend}" if self.mend else "")

    def as_json(self) -> Mapping[str, Any]:
        """The finding as JSON."""
        return {**asdict(self), "cases": [asdict(one) for one in self.cases]}


def ordered(findings: Sequence[Finding]) -> list[Finding]:
    """Findings, the worst first."""
    return sorted(findings, key=lambda one: list(Level).index(one.level))
