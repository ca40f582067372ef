"""What a run or an evaluation found out: as JSON, as a table, as a page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kws.audio import replacing
from kws.console import Console
from kws.detect import Calibration, OperatingPoint, at_threshold, operating_points
from kws.evaluation import Heard
from kws.report import Curve, Table, write_report

RATES = (0.0, 0.1, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Outcome:
    """One keyword of one detector: the operating points of a sweep, and the one at its own threshold."""

    arm: str  # such as "with replay"; empty where there is one alone
    keyword: str
    points: list[OperatingPoint]
    own: OperatingPoint
    calibration: Calibration | None = None

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.keyword}, {self.arm}" if self.arm else self.keyword


def judge(
    heard: Mapping[str, Heard],
    thresholds: Mapping[str, float],
    refractory_s: float,
    arm: str = "",
    calibrations: Mapping[str, Calibration] | None = None,
) -> list[Outcome]:
    """Count misses and false alarms of each keyword, at fixed rates and at its own threshold."""
    return [
        Outcome(
            arm,
            keyword,
            operating_points(h.positive, h.spans, h.negative, RATES, refractory_s),
            at_threshold(h.positive, h.spans, h.negative, thresholds[keyword], refractory_s),
            (calibrations or {}).get(keyword),
        )
        for keyword, h in heard.items()
    ]


def misses_text(p: OperatingPoint) -> str:
    """Misses with their count and 95 % interval."""
    return f"{100 * p.miss_rate:.1f} % [{100 * p.miss_low:.1f}, {100 * p.miss_high:.1f}]  {p.misses}/{p.events}"


def alarms_text(p: OperatingPoint) -> str:
    """False alarms an hour with their count, hours and 95 % interval."""
    return f"{p.fa_per_hour:.2f}/h [{p.fa_low:.2f}, {p.fa_high:.2f}]  {p.false_alarms} in {p.hours:.2f} h"


HEADER = ("", "threshold", "misses [95 %]", "false alarms [95 %]")


def rows(outcomes: Sequence[Outcome]) -> list[tuple[str, str, str, str]]:
    """Rows of a table: each keyword at fixed rates, then at its own threshold."""
    made = []
    for o in outcomes:
        for p in o.points:
            wanted = f"{o.name}: at most {p.wanted_fa_per_hour:g} FA/h"
            made.append((wanted, f"{p.threshold:.4f}", misses_text(p), alarms_text(p)))
        made.append((f"{o.name}: as calibrated", f"{o.own.threshold:.4f}", misses_text(o.own), alarms_text(o.own)))
    return made


def show(console: Console, title: str, outcomes: Sequence[Outcome]) -> None:
    """The table in the terminal, and what the calibration could not know."""
    console.table(title, HEADER, rows(outcomes))
    for o in outcomes:
        if o.calibration is not None:
            console.say(f"{o.name}: threshold {o.calibration.threshold:.4f} from validation: {o.calibration.note}")


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Plain values, one entry a keyword and arm."""
    return [
        {
            "arm": o.arm,
            "keyword": o.keyword,
            "at_fa_per_hour": {str(p.wanted_fa_per_hour): asdict(p) for p in o.points},
            "as_calibrated": asdict(o.own),
            "calibration": asdict(o.calibration) if o.calibration else None,
        }
        for o in outcomes
    ]


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; what is not finite becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(finite(content), indent=1, ensure_ascii=False) + "\n").encode())


def finite(value: Any) -> Any:
    """The same with null for infinities and NaN, which JSON does not know."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: finite(v) for k, v in value.items()}
    return [finite(v) for v in value] if isinstance(value, list | tuple) else value


def write_page(path: Path, title: str, facts: Mapping[str, str], outcomes: Sequence[Outcome]) -> None:
    """The report as one HTML page."""
    table = Table("Misses and false alarms", list(HEADER), [list(r) for r in rows(outcomes)])
    write_report(path, title, facts, [table], [Curve(o.name, o.points) for o in outcomes])
