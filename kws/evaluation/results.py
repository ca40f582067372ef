"""Results of a run or an evaluation: as JSON, as tables in the terminal, as a page."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from kws.common.console import Console
from kws.common.files import replacing
from kws.evaluation.breakdown import (
    FalseAlarmGroup,
    KeywordConfusion,
    Latency,
    MissGroup,
    false_alarms_by_group,
    latency,
    match_events,
    misses_by_group,
)
from kws.evaluation.confusables import ConfusableAlarms, ConfusableScores, confusable_alarms
from kws.evaluation.intervals import evidence, false_alarms_text, proportion_text
from kws.evaluation.operating_points import (
    RATES,
    Calibration,
    Curve,
    OperatingPoint,
    at_threshold,
    calibrate,
    curve,
    operating_points,
    wanted_text,
)
from kws.evaluation.report.det import Line
from kws.evaluation.report.examples import Gallery
from kws.evaluation.report.page import Table, points_table, write_report
from kws.evaluation.scoring import KeywordScores
from kws.evaluation.threshold_sweep import sweep

EVIDENCE_RATE = 0.1  # false alarms per hour: the rate that users ask for
WORST = 5  # groups of each kind in tables


@dataclass(frozen=True)
class Outcome:
    """Results of one keyword and detector.

    Latency, misses and false alarms by group are those at the detector's own threshold.
    """

    detector: str  # name; empty for a single detector
    keyword: str
    points: list[OperatingPoint]  # at `RATES`
    own: OperatingPoint  # at the detector's own threshold
    curve: Curve
    calibration: Calibration | None = None
    latency: Latency | None = None
    missed: list[MissGroup] = field(default_factory=list)
    alarmed: list[FalseAlarmGroup] = field(default_factory=list)
    confusables: list[ConfusableAlarms] = field(
        default_factory=list
    )  # at the same thresholds; empty without confusables

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.keyword}, {self.detector}" if self.detector else self.keyword


def outcomes_of(
    scores: Mapping[str, KeywordScores],
    thresholds: Mapping[str, float],
    refractory_s: float,
    detector: str = "",
    calibrations: Mapping[str, Calibration] | None = None,
) -> list[Outcome]:
    """Count misses and false alarms of each keyword, at `RATES` and at the detector's own thresholds."""
    outcomes = []
    for keyword, own in scores.items():
        positive, negative = sweep(own.positive, refractory_s, own.spans), sweep(own.negative, refractory_s)
        hit_at, alarms = match_events(own, thresholds[keyword], refractory_s)
        outcomes.append(
            Outcome(
                detector,
                keyword,
                operating_points(positive, negative, RATES),
                at_threshold(positive, negative, thresholds[keyword]),
                curve(positive, negative),
                (calibrations or {}).get(keyword),
                latency(own, hit_at),
                misses_by_group(own, hit_at),
                false_alarms_by_group(own, alarms),
            )
        )
    return outcomes


def with_confusables(
    outcomes: Sequence[Outcome], scored: Mapping[str, ConfusableScores], sample_rate: int, refractory_s: float
) -> list[Outcome]:
    """Add the triggers on confusables, at the same thresholds."""
    return [
        replace(o, confusables=confusable_alarms(scored[o.keyword], sample_rate, [*o.points, o.own], refractory_s))
        if o.keyword in scored
        else o
        for o in outcomes
    ]


def calibrated(scores: KeywordScores, rate_per_hour: float, refractory_s: float, passes: int) -> Calibration:
    """Choose the threshold for a false-alarm rate on the scores of the validation split."""
    negative, positive = sweep(scores.negative, refractory_s), sweep(scores.positive, refractory_s, scores.spans)
    return calibrate(negative, positive, rate_per_hour, passes)


def show(console: Console, title: str, outcomes: Sequence[Outcome]) -> None:
    """Print the operating points, the evidence of the hours, the calibration and the latency."""
    for one in [_points_table(outcomes, title), *confusable_tables(outcomes)]:
        console.table(one.title, one.header, one.rows)
    for o in outcomes:
        console.say(f"{o.name}: {_evidence(o)}")
    for o in outcomes:
        if o.calibration is not None:
            console.say(f"{o.name}: threshold {o.calibration.threshold:.4f} from validation: {o.calibration.note}")
        if o.latency is not None:
            console.say(f"{o.name}: {latency_text(o.latency)}")


def _points_table(outcomes: Sequence[Outcome], title: str) -> Table:
    return points_table({o.name: [*o.points, o.own] for o in outcomes}, title)


def _evidence(outcome: Outcome) -> str:
    return evidence(outcome.own.false_alarms, outcome.own.hours, EVIDENCE_RATE)


def confusable_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """Table of the triggers on confusables; none without confusables."""
    rows = []
    for o in outcomes:
        for _, of in groupby(o.confusables, key=lambda one: (one.wanted_fa_per_hour is None, one.threshold)):
            same = list(of)
            at = wanted_text([one.wanted_fa_per_hour for one in same])
            rows.append((o.name, at, proportion_text(same[0].fired, same[0].clips)))
    title = "Confusables by voices of the test split"
    return [Table(title, ("", "at most", "false alarms [95 %]"), rows)] if rows else []


def group_tables(outcome: Outcome) -> list[Table]:
    """Misses and false alarms of one keyword by recording, source, speaker and SNR, the worst first."""
    missed = [(row.by, row.value or "-", proportion_text(row.misses, row.events)) for row in outcome.missed]
    alarmed = [(row.by, row.value or "-", false_alarms_text(row.false_alarms, row.hours)) for row in outcome.alarmed]
    made = []
    for kind, rows in (("misses", missed), ("false alarms", alarmed)):
        worst = [row for _, same in groupby(rows, key=lambda row: row[0]) for row in islice(same, WORST)]
        if worst:
            title = f"{outcome.name}: {kind} as set, worst {WORST} of each"
            made.append(Table(title, ("by", "", f"{kind} [95 %]"), worst))
    return made


def show_groups(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print misses and false alarms by group."""
    for outcome in outcomes:
        for made in group_tables(outcome):
            console.table(made.title, made.header, made.rows)


def show_confusion(console: Console, pairs: Mapping[str, Sequence[KeywordConfusion]]) -> list[Table]:
    """Print the pairs of keywords that were confused, and return tables of all pairs, one for each detector."""
    made = []
    for name, found in pairs.items():
        rows = [(row.said, row.fired, proportion_text(row.times, row.events)) for row in found]
        if not rows:  # a single keyword
            continue
        of = f" ({name})" if name else ""
        header = ("keyword", "triggered", "of its events [95 %]")
        made.append(Table(f"Confusion between keywords, as set{of}", header, rows))
        confused = [row for row, one in zip(rows, found, strict=True) if one.times]
        if confused:
            console.table(made[-1].title, header, confused)
        console.say(f"{len(confused)} of {len(rows)} pairs of keywords were confused{of}")
    return made


def latency_text(late: Latency) -> str:
    """Sentence on the latency."""
    side = "after" if late.median_s >= 0 else "before"
    return (
        f"triggers come {abs(late.median_s):.2f} s {side} the keyword's end (median of {late.events}), "
        f"95 % of them by {late.p95_s:.2f} s after it"
    )


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Plain values, one entry for each keyword and detector."""
    return [
        {
            "detector": o.detector,
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
    """Write JSON atomically. Infinities and NaN, which JSON lacks, become null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(_finite(content), indent=1, ensure_ascii=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value


def det_lines(outcomes: Sequence[Outcome]) -> list[Line]:
    """Lines of the DET plot."""
    return [Line(o.name, o.curve, o.points) for o in outcomes]


def write_page(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    outcomes: Sequence[Outcome],
    tables: Sequence[Table] = (),
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the report as one HTML page.

    Args:
        path: file to write; its folder is made.
        title, facts, galleries: as for `write_report`.
        outcomes: for the plot and the tables.
        tables: after the tables of the outcomes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    own = [
        _points_table(outcomes, "Operating points"),
        Table("Evidence for the false-alarm rate", (), [(o.name, _evidence(o)) for o in outcomes]),
        *confusable_tables(outcomes),
        Table("Latency", (), [(o.name, latency_text(o.latency)) for o in outcomes if o.latency]),
        Table(
            "Thresholds from validation",
            (),
            [(o.name, f"{o.calibration.threshold:.4f}: {o.calibration.note}") for o in outcomes if o.calibration],
        ),
    ]
    groups = [made for o in outcomes for made in group_tables(o)]
    all_tables = [made for made in (*own, *tables, *groups) if made.rows]
    write_report(path, title, facts, all_tables, det_lines(outcomes), galleries)
