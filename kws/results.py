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
from kws.metrics import evidence
from kws.report import Curve, Table, curve, points_table, write_report

RATES = (0.0, 0.1, 0.5, 1.0, 2.0)
SHOWN = 0.1  # false alarms an hour that people ask for: how long a stream would show it is said


@dataclass(frozen=True)
class Outcome:
    """One keyword of one detector: the operating points of a sweep, the one at its own threshold, the whole curve."""

    arm: str  # such as "with replay"; empty where there is one alone
    keyword: str
    points: list[OperatingPoint]
    own: OperatingPoint
    curve: list[OperatingPoint]
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
            curve(h.positive, h.spans, h.negative, refractory_s=refractory_s),
            (calibrations or {}).get(keyword),
        )
        for keyword, h in heard.items()
    ]


def table(outcomes: Sequence[Outcome], title: str) -> Table:
    """Misses and false alarms of each, at fixed rates and as its own threshold has it."""
    return points_table({o.name: [*o.points, o.own] for o in outcomes}, title)


def show(console: Console, title: str, outcomes: Sequence[Outcome]) -> None:
    """The table in the terminal, and what the hours and the calibration cannot know."""
    made = table(outcomes, title)
    console.table(made.title, made.header, made.rows)
    for o in outcomes:
        console.say(f"{o.name}: {evidence(o.own.false_alarms, o.own.hours, SHOWN)}")
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
    path.parent.mkdir(parents=True, exist_ok=True)
    curves = [Curve(o.name, [*o.curve, *o.points]) for o in outcomes]
    write_report(path, title, facts, [table(outcomes, "Operating points")], curves)
