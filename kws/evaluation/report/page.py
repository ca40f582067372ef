"""The report: one HTML page that stands alone, with the curve, tables, and what went wrong to look at and to hear."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from kws.data.audio import flac
from kws.evaluation.intervals import rate_text
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.report import html
from kws.evaluation.report.det import COLOURS, Arm, plot
from kws.evaluation.report.examples import Example, draw


@dataclass(frozen=True)
class Table:
    """A table of text: each row has as many cells as the header."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Column:
    """Examples that stand below one another: of one detector, with how many there are in all."""

    title: str
    examples: Sequence[Example]
    all_n: int


@dataclass(frozen=True)
class Gallery:
    """Examples of one kind, a column a detector."""

    title: str
    columns: Sequence[Column] = field(default_factory=list)

    @property
    def colours(self) -> dict[str, int]:
        """Number of the colour of each detector that is drawn."""
        names = {name for column in self.columns for example in column.examples for name in example.lines}
        return {name: i for i, name in enumerate(sorted(names))}


def points_table(arms: Mapping[str, Sequence[OperatingPoint]], title: str = "Operating points") -> Table:
    """The operating points of each arm for people: counts first, then rate and 95 % interval.

    Wanted rates that end at the same threshold, as they do where hours are few, share a row.

    Args:
        arms: name of each arm -> its points.
        title: heading of the table.
    """
    header = ("", "at most", "misses [95 %]", "false alarms [95 %]", "threshold")
    rows = []
    for name, points in arms.items():
        for _, same in groupby(points, key=lambda p: (p.wanted_fa_per_hour is None, p.threshold)):
            rows.append((name, *_cells(list(same))))
    return Table(title, header, rows)


def _cells(same: Sequence[OperatingPoint]) -> tuple[str, str, str, str]:
    p = same[0]
    return (
        wanted_text([one.wanted_fa_per_hour for one in same]),
        share_text(p.misses, p.events, p.miss_low, p.miss_high),
        alarms_text(p.false_alarms, p.hours, p.fa_low, p.fa_high),
        f"{p.threshold:.4f}",
    )


def wanted_text(rates: Sequence[float | None]) -> str:
    """The rates that ended at one threshold, from the lowest: 0-1/h; that of no rate is the detector's own."""
    if rates[0] is None:
        return "as set"
    return "-".join(f"{rate:g}" for rate in dict.fromkeys((rates[0], rates[-1]))) + "/h"


def share_text(k: int, n: int, low: float, high: float) -> str:
    """A share with its count and interval: 6/64 = 9.4 % [4.4, 19.0]."""
    return f"{k}/{n} = {100 * k / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def alarms_text(k: int, hours: float, low: float, high: float) -> str:
    """A rate with its count, hours and interval: 1 in 0.72 h = 1.4/h [0.04, 7.7]."""
    return f"{k} in {hours:.2f} h = {rate_text(k / hours)}/h [{rate_text(low)}, {rate_text(high)}]"


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    tables: Sequence[Table],
    arms: Sequence[Arm],
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the report as one HTML page without a script.

    Args:
        path: file to write; its folder exists. An older page is replaced at once or not at all.
        title: heading.
        facts: what was run on what: command, commit, data, seeds.
        tables: in this order.
        arms: drawn in one plot; none, no plot.
        galleries: in this order.
    """
    style = html.source("evaluation/report/report.css")
    style += "".join(f".c{i} {{ background: {colour}; }}\n" for i, colour in enumerate(COLOURS))
    html.write_page(
        path,
        "evaluation/report/report.html",
        style,
        title=title,
        facts=facts,
        det=plot(arms) if arms else None,
        # The page names the detectors, not the picture: its font lacks most scripts and reads $ as mathematics.
        names=[arm.name for arm in arms],
        colours=len(COLOURS),
        tables=tables,
        galleries=galleries,
        draw=draw,
        flac=flac,
    )
