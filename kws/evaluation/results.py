"""What a run or an evaluation found out: as JSON, as a table, as a page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from kws.common.console import Console
from kws.common.files import replacing
from kws.evaluation.breakdown import Alarmed, Confused, Latency, Missed, alarmed_by, found_at, latency, missed_by
from kws.evaluation.confusables import Fired, Said, fired
from kws.evaluation.intervals import evidence
from kws.evaluation.operating_points import (
    RATES,
    Calibration,
    Curve,
    OperatingPoint,
    at_threshold,
    calibrate,
    curve,
    operating_points,
)
from kws.evaluation.report.det import Arm
from kws.evaluation.report.page import Gallery, Table, alarms_text, points_table, share_text, wanted_text, write_report
from kws.evaluation.scoring import KeywordScores
from kws.evaluation.threshold_sweep import sweep

SHOWN = 0.1  # false alarms an hour that people ask for: how long a stream would show it is said
WORST = 5  # groups shown in the terminal


@dataclass(frozen=True)
class Outcome:
    """One keyword of one detector: points at fixed rates, the one at its own threshold, the whole curve, and why.

    What is missed by whom, where the alarms come from and how late triggers are is told at its own threshold.
    """

    arm: str  # such as "with replay"; empty where there is one alone
    keyword: str
    points: list[OperatingPoint]
    own: OperatingPoint
    curve: Curve
    calibration: Calibration | None = None
    latency: Latency | None = None
    missed: list[Missed] = field(default_factory=list)
    alarmed: list[Alarmed] = field(default_factory=list)
    confusables: list[Fired] = field(default_factory=list)  # at the same thresholds; empty where none were said

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.keyword}, {self.arm}" if self.arm else self.keyword


def judge(
    heard: Mapping[str, KeywordScores],
    thresholds: Mapping[str, float],
    refractory_s: float,
    arm: str = "",
    calibrations: Mapping[str, Calibration] | None = None,
) -> list[Outcome]:
    """Count misses and false alarms of each keyword, at fixed rates and at its own threshold."""
    return [
        judged(arm, keyword, h, thresholds[keyword], refractory_s, (calibrations or {}).get(keyword))
        for keyword, h in heard.items()
    ]


def judged(
    arm: str, keyword: str, heard: KeywordScores, threshold: float, refractory_s: float, calibration: Calibration | None
) -> Outcome:
    """The outcome of one keyword."""
    positive, negative = sweep(heard.positive, refractory_s, heard.spans), sweep(heard.negative, refractory_s)
    answered, alarms = found_at(heard, threshold, refractory_s)
    return Outcome(
        arm,
        keyword,
        operating_points(positive, negative, RATES),
        at_threshold(positive, negative, threshold),
        curve(positive, negative),
        calibration,
        latency(heard, answered),
        missed_by(heard, answered),
        alarmed_by(heard, alarms),
    )


def with_confusables(
    outcomes: Sequence[Outcome], said: Mapping[str, Said], sample_rate: int, refractory_s: float
) -> list[Outcome]:
    """The same, with how often what only sounds like each keyword fires at the same thresholds."""
    return [
        replace(o, confusables=fired(said[o.keyword], sample_rate, [*o.points, o.own], refractory_s))
        if o.keyword in said
        else o
        for o in outcomes
    ]


def calibrated(heard: KeywordScores, rate_per_hour: float, refractory_s: float, passes: int) -> Calibration:
    """The threshold for a wanted rate, on what was heard of the validation part."""
    negative, positive = sweep(heard.negative, refractory_s), sweep(heard.positive, refractory_s, heard.spans)
    return calibrate(negative, positive, rate_per_hour, passes)


def table(outcomes: Sequence[Outcome], title: str) -> Table:
    """Misses and false alarms of each, at fixed rates and as its own threshold has it."""
    return points_table({o.name: [*o.points, o.own] for o in outcomes}, title)


def show(console: Console, title: str, outcomes: Sequence[Outcome]) -> None:
    """The table in the terminal, and what the hours and the calibration cannot know."""
    made = table(outcomes, title)
    for one in [made, *confusable_tables(outcomes)]:
        console.table(one.title, one.header, one.rows)
    for o in outcomes:
        console.say(f"{o.name}: {evidence(o.own.false_alarms, o.own.hours, SHOWN)}")
    for o in outcomes:
        if o.calibration is not None:
            console.say(f"{o.name}: threshold {o.calibration.threshold:.4f} from validation: {o.calibration.note}")
        if o.latency is not None:
            console.say(f"{o.name}: {latency_text(o.latency)}")


def confusable_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """How often what only sounds like the keyword fires, where that was said."""
    rows = []
    for o in outcomes:
        for _, of in groupby(o.confusables, key=lambda one: (one.wanted_fa_per_hour is None, one.threshold)):
            same = list(of)
            at = wanted_text([one.wanted_fa_per_hour for one in same])
            rows.append((o.name, at, share_text(same[0].fired, same[0].clips, same[0].low, same[0].high)))
    title = "Only sounds like it, by unheard voices"
    return [Table(title, ("", "at most", "fired [95 %]"), rows)] if rows else []


def group_tables(outcome: Outcome) -> list[Table]:
    """Misses and false alarms of one keyword by source, speaker, SNR and recording, the worst first."""
    missed = [
        (row.by, row.value or "-", share_text(row.misses, row.events, row.miss_low, row.miss_high))
        for row in outcome.missed
    ]
    alarmed = [
        (row.by, row.value or "-", alarms_text(row.false_alarms, row.hours, row.fa_low, row.fa_high))
        for row in outcome.alarmed
    ]
    made = []
    for what, rows in (("misses", missed), ("false alarms", alarmed)):
        worst = [row for _, same in groupby(rows, key=lambda row: row[0]) for row in islice(same, WORST)]
        if worst:
            made.append(
                Table(f"{outcome.name}: {what} as set, worst {WORST} of each", ("by", "", f"{what} [95 %]"), worst)
            )
    return made


def show_groups(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Where misses and false alarms come from, in the terminal."""
    for outcome in outcomes:
        for made in group_tables(outcome):
            console.table(made.title, made.header, made.rows)


def show_confusion(console: Console, confused: Mapping[str, Sequence[Confused]]) -> list[Table]:
    """Which keyword is taken for which, in the terminal where it happened at all; the tables of all pairs."""
    made = []
    for name, found in confused.items():
        rows = [(row.said, row.fired, share_text(row.times, row.events, row.low, row.high)) for row in found]
        if not rows:  # one keyword alone
            continue
        of = f" ({name})" if name else ""
        made.append(Table(f"Confusion between keywords, as set{of}", ("said", "fired", "of the times [95 %]"), rows))
        happened = [row for row, one in zip(rows, found, strict=True) if one.times]
        if happened:
            console.table(made[-1].title, made[-1].header, happened)
        console.say(f"{len(happened)} of {len(rows)} pairs of keywords were confused{of}")
    return made


def latency_text(late: Latency) -> str:
    """How late triggers come, in words."""
    side = "after" if late.median_s >= 0 else "before"
    return (
        f"triggers come {abs(late.median_s):.2f} s {side} the keyword's end (median of {late.events}), "
        f"95 % of them by {late.p95_s:.2f} s after it"
    )


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Plain values, one entry a keyword and arm."""
    return [
        {
            "arm": o.arm,
            "keyword": o.keyword,
            "at_fa_per_hour": {str(p.wanted_fa_per_hour): asdict(p) for p in o.points},
            "as_calibrated": asdict(o.own),
            "calibration": asdict(o.calibration) if o.calibration else None,
            "latency": asdict(o.latency) if o.latency else None,
            "missed_by": [asdict(row) for row in o.missed],
            "alarmed_by": [asdict(row) for row in o.alarmed],
            "confusables": [asdict(one) for one in o.confusables],
            "curve": {name: getattr(o.curve, name).tolist() for name in ("thresholds", "false_alarms", "misses")},
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


def arms(outcomes: Sequence[Outcome]) -> list[Arm]:
    """The lines of the DET plot."""
    return [Arm(o.name, o.curve, o.points) for o in outcomes]


def write_page(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    outcomes: Sequence[Outcome],
    tables: Sequence[Table] = (),
    galleries: Sequence[Gallery] = (),
) -> None:
    """The report as one HTML page.

    Args:
        path: where to; its folder is made.
        title, facts, galleries: as for `report.write_report`.
        outcomes: drawn, and in tables.
        tables: after the operating points.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    late = [(o.name, latency_text(o.latency)) for o in outcomes if o.latency]
    known = [(o.name, evidence(o.own.false_alarms, o.own.hours, SHOWN)) for o in outcomes]
    own = [table(outcomes, "Operating points"), Table("What the hours show", (), known)]
    own += confusable_tables(outcomes)
    own += [Table("Latency", (), late)] if late else []
    placed = [(o.name, f"{o.calibration.threshold:.4f}: {o.calibration.note}") for o in outcomes if o.calibration]
    own += [Table("Thresholds from validation", (), placed)] if placed else []
    groups = [made for o in outcomes for made in group_tables(o)]
    write_report(path, title, facts, [*own, *tables, *groups], arms(outcomes), galleries)
