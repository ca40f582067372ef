"""The report: one self-contained HTML page with the DET curve, tables, and examples of misses and false alarms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from kws.data.audio import flac
from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.evaluation.operating_points import OperatingPoint, wanted_text
from kws.evaluation.report import html
from kws.evaluation.report.det import COLOURS, Line, plot
from kws.evaluation.report.examples import Gallery, plot_example


@dataclass(frozen=True)
class Table:
    """A table of text. The header is empty or has as many cells as each row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def points_table(points: Mapping[str, Sequence[OperatingPoint]], title: str = "Operating points") -> Table:
    """Operating points by name: counts first, then rate and 95 % interval.

    Wanted rates that give the same threshold share a row, as they do where the hours are few.
    """
    rows = []
    for name, own in points.items():
        for _, of in groupby(own, key=lambda p: (p.wanted_fa_per_hour is None, p.threshold)):
            same = list(of)
            p = same[0]
            at = wanted_text([one.wanted_fa_per_hour for one in same])
            misses, alarms = proportion_text(p.misses, p.events), false_alarms_text(p.false_alarms, p.hours)
            rows.append((name, at, misses, alarms, f"{p.threshold:.4f}"))
    return Table(title, ("", "at most", "misses [95 %]", "false alarms [95 %]", "threshold"), rows)


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    tables: Sequence[Table],
    lines: Sequence[Line],
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the report as one HTML page without a script.

    Args:
        path: file to write; its folder exists. An older page is replaced at once or not at all.
        title: heading.
        facts: command, commit, data and seeds.
        tables: in this order.
        lines: of the DET plot; without a line the page has no plot.
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
        det=plot(lines) if lines else None,
        # The page shows the names, not the picture: its font lacks most scripts and reads $ as mathematics.
        names=[line.name for line in lines],
        colours=len(COLOURS),
        tables=tables,
        galleries=galleries,
        plot_example=plot_example,
        flac=flac,
    )
