"""Results of a run or an evaluation: counted, as JSON, and as tables."""

import json
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from kws.common.console import Console
from kws.common.files import replacing
from kws.data.names import shown
from kws.evaluation import breakdown
from kws.evaluation.breakdown import FalseAlarmGroup, KeywordConfusion, Latency, MissGroup
from kws.evaluation.calibration import Calibration, calibrate
from kws.evaluation.confusables import ConfusableAlarms, confusable_alarms
from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.evaluation.operating_points import (
    RATES,
    Curve,
    OperatingPoint,
    at_threshold,
    curve,
    operating_points,
    useless,
    wanted_text,
    with_events,
)
from kws.evaluation.scoring import DetectorScores, KeywordScores
from kws.evaluation.suspects import suspects
from kws.evaluation.threshold_sweep import sweep
from kws.evaluation.verdict import INTERVAL, verdict, verdict_point

WORST = 5  # groups of each kind in tables
CALIBRATED = "calibrated: the threshold at which the detector triggers; training places it on validation recordings"


class Table(NamedTuple):
    """A table of text. The header is empty or has as many cells as each row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Outcome:
    """Results of one keyword and detector.

    Latency, misses and false alarms by group are those at the calibrated threshold.
    """

    detector: str  # name; empty for a single detector
    keyword: str
    points: list[OperatingPoint]  # at `RATES`
    own: OperatingPoint  # at the calibrated threshold, at which the detector triggers
    curve: Curve
    calibration: Calibration | None = None
    latency: Latency | None = None
    missed: list[MissGroup] = field(default_factory=list)
    alarmed: list[FalseAlarmGroup] = field(default_factory=list)
    confusables: list[ConfusableAlarms] = field(default_factory=list)  # at the thresholds of `points` and `own`
    real: OperatingPoint | None = None  # `own` with the real keywords alone, where others are synthetic

    @property
    def name(self) -> str:
        """Name in tables."""
        return f"{self.keyword}, {self.detector}" if self.detector else self.keyword

    @property
    def useless(self) -> str:
        """Why nobody can use the detector at the calibrated threshold; empty where somebody can."""
        return useless(verdict_point(self.own, self.real))

    @property
    def verdict(self) -> str:
        """Sentences on the detector at the calibrated threshold."""
        return " ".join(verdict(self.own, self.real))


def outcomes_of(detector: DetectorScores, refractory_s: float, synthetic: Collection[str] = ()) -> list[Outcome]:
    """Count misses and false alarms of each keyword, at `RATES` and at the calibrated thresholds.

    Args:
        detector: its scores.
        refractory_s: seconds without a second trigger.
        synthetic: sources of the synthetic clips; other keywords are real, and counted apart too.
    """
    outcomes = []
    for keyword, scores in detector.scores.items():
        positive, negative = sweep(scores.positive, refractory_s, scores.spans), sweep(scores.negative, refractory_s)
        points = operating_points(positive, negative, RATES)
        own = at_threshold(positive, negative, detector.thresholds[keyword])
        hit_at, alarms = breakdown.match_events(scores, own.threshold, refractory_s)
        clips = detector.confusables.get(keyword)
        missed = [math.isnan(at) for at, one in zip(hit_at, scores.events, strict=True) if one.source not in synthetic]
        outcomes.append(
            Outcome(
                detector.name,
                keyword,
                points,
                own,
                curve(positive, negative),
                detector.calibrations.get(keyword),
                breakdown.latency(scores, hit_at),
                breakdown.misses_by_group(scores, hit_at),
                breakdown.false_alarms_by_group(scores, alarms),
                confusable_alarms(clips, [*points, own], refractory_s) if clips else [],
                with_events(own, sum(missed), len(missed)) if len(missed) < len(hit_at) else None,
            )
        )
    return outcomes


def calibrated(scores: KeywordScores, rate_per_hour: float, refractory_s: float, passes: int) -> Calibration:
    """Choose the threshold for a false-alarm rate on the scores of the validation split.

    The note names the negatives with the highest scores.
    """
    negative, positive = sweep(scores.negative, refractory_s), sweep(scores.positive, refractory_s, scores.spans)
    calibration = calibrate(negative, positive, rate_per_hour, passes)
    named = suspects(scores, positive, calibration, refractory_s, passes)
    return replace(calibration, note=f"{calibration.note}; {named}") if named else calibration


def thresholds_by_rate(scores: KeywordScores, refractory_s: float, passes: int) -> dict[str, dict[str, Any]]:
    """The threshold for each of `RATES` above 0 on the validation split, and whether its hours support that rate."""
    negative, positive = sweep(scores.negative, refractory_s), sweep(scores.positive, refractory_s, scores.spans)
    return {f"{rate:g}": asdict(calibrate(negative, positive, rate, passes)) for rate in RATES if rate}


def useless_scores(scores: KeywordScores, calibration: Calibration, refractory_s: float) -> str:
    """As `useless`, for the scores that a calibration placed its threshold on."""
    positive, negative = sweep(scores.positive, refractory_s, scores.spans), sweep(scores.negative, refractory_s)
    return useless(at_threshold(positive, negative, calibration.threshold))


def show(console: Console, title: str, outcomes: Sequence[Outcome]) -> None:
    """Print operating points, confusables, calibration and latency."""
    for table in (points_table(outcomes, title), _confusables(outcomes)):
        if table.rows:
            console.table(*table)
    if outcomes:
        console.say(CALIBRATED)
    for o in outcomes:
        if o.calibration is not None:
            console.say(f"{o.name}: threshold {o.calibration.threshold:.4f} from validation: {o.calibration.note}")
        if o.latency is not None:
            console.say(f"{o.name}: {latency_text(o.latency)}")


def show_verdicts(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print in words what each detector is worth: the last lines of a command."""
    if outcomes:
        console.say(INTERVAL)
    for o in outcomes:
        (console.warn if o.useless else console.say)(f"{o.name}: {o.verdict}")


def outcome_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """All tables of outcomes, before those by group."""
    thresholds = [(o.name, f"{o.calibration.threshold:.4f}: {o.calibration.note}") for o in outcomes if o.calibration]
    return [
        points_table(outcomes, "Operating points"),
        _confusables(outcomes),
        Table("Latency", (), [(o.name, latency_text(o.latency)) for o in outcomes if o.latency]),
        Table("Thresholds from validation", (), thresholds),
    ]


def points_table(outcomes: Sequence[Outcome], title: str) -> Table:
    """Operating points of each outcome: counts first, then rate and 95 % interval.

    Wanted rates that give the same threshold share a row, as they do where the hours are few.
    """
    rows = []
    for o in outcomes:
        for at, p in _by_threshold([*o.points, o.own]):
            misses, alarms = proportion_text(p.misses, p.events), false_alarms_text(p.false_alarms, p.hours)
            rows.append((o.name, at, misses, alarms, f"{p.threshold:.4f}"))
    return Table(title, ("", "threshold", "misses [95 %]", "false alarms [95 %]", "score"), rows)


def _confusables(outcomes: Sequence[Outcome]) -> Table:
    rows = [
        (o.name, at, proportion_text(one.fired, one.clips))
        for o in outcomes
        for at, one in _by_threshold(o.confusables)
    ]
    return Table("Confusables by voices of the test split", ("", "threshold", "false alarms [95 %]"), rows)


Point = TypeVar("Point", OperatingPoint, ConfusableAlarms)


def _by_threshold(points: Sequence[Point]) -> Iterator[tuple[str, Point]]:
    """The first of the points at each threshold, after the wanted rates that gave the threshold."""
    for _, of in groupby(points, key=lambda one: (one.wanted_fa_per_hour is None, one.threshold)):
        same = list(of)
        yield wanted_text([one.wanted_fa_per_hour for one in same]), same[0]


def group_tables(outcomes: Sequence[Outcome]) -> list[Table]:
    """Misses and false alarms of each keyword by recording, source, speaker and SNR, the worst first."""
    made = []
    for o in outcomes:
        missed = [(r.by, r.value or "-", proportion_text(r.misses, r.events)) for r in o.missed if r.misses]
        alarmed = [
            (r.by, r.value or "-", false_alarms_text(r.false_alarms, r.hours)) for r in o.alarmed if r.false_alarms
        ]
        for kind, rows in (("misses", missed), ("false alarms", alarmed)):
            worst = [row for _, same in groupby(rows, key=lambda row: row[0]) for row in islice(same, WORST)]
            title = f"{o.name}: {kind} at the calibrated threshold, worst {WORST} of each"
            made.append(Table(title, ("by", "", f"{kind} [95 %]"), worst))
    return [table for table in made if table.rows]


def show_confusion(console: Console, pairs: Mapping[str, Sequence[KeywordConfusion]]) -> list[Table]:
    """Print the pairs of keywords that were confused, and return tables of all pairs, one for each detector."""
    made = []
    for name, found in pairs.items():
        rows = [(row.said, row.fired, proportion_text(row.times, row.events)) for row in found]
        if not rows:  # a single keyword
            continue
        of = f" ({name})" if name else ""
        made.append(
            Table(
                f"Confusion between keywords, at the calibrated thresholds{of}",
                ("keyword", "triggered", "of its events [95 %]"),
                rows,
            )
        )
        confused = [row for row, one in zip(rows, found, strict=True) if one.times]
        if confused:
            console.table(*made[-1]._replace(rows=confused))
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
            "verdict": o.verdict,
            "useless": o.useless,
            "at_fa_per_hour": {str(p.wanted_fa_per_hour): asdict(p) for p in o.points},
            "as_calibrated": asdict(o.own),
            "real_keywords": asdict(o.real) if o.real else None,
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
    """Write JSON atomically. Infinities and NaN, which JSON lacks, become null; paths are as they are shown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write((json.dumps(_finite(content), indent=1, ensure_ascii=False) + "\n").encode())


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {_finite(k): _finite(v) for k, v in value.items()}
    if isinstance(value, str):
        return shown(value)
    return [_finite(v) for v in value] if isinstance(value, list | tuple) else value
