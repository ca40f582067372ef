"""The report: one HTML page with DET curve, tables, and examples of misses and false alarms, or its pictures alone."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from kws.common.files import replacing
from kws.data.audio import flac
from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.evaluation.operating_points import OperatingPoint, wanted_text
from kws.evaluation.report import html
from kws.evaluation.report.det import COLOURS, Line, plot
from kws.evaluation.report.examples import Gallery, plot_example


class Table(NamedTuple):
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
    lines: Sequence[Line] = (),
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the report as one HTML page without a script.

    Args:
        path: file to write; its folder is made. An older page is replaced at once or not at all.
        title: heading.
        facts: command, commit, data and seeds.
        tables: in this order; those without a row are left out.
        lines: of the DET plot; without a line the page has no plot.
        galleries: in this order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
        tables=[table for table in tables if table.rows],
        galleries=galleries,
        plot_example=plot_example,
        flac=flac,
    )


def write_pictures(folder: Path, lines: Sequence[Line], galleries: Sequence[Gallery]) -> int:
    """Write the DET curve (`det.png`) and every example as PNG files, and return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"det": plot(lines)}
    keywords = list(dict.fromkeys(gallery.title.rpartition(":")[0] for gallery in galleries))
    for gallery in galleries:
        keyword = gallery.title.rpartition(":")[0]
        # Only the number distinguishes two keywords without an ASCII letter.
        start = f"{keywords.index(keyword) + 1}-" if len(keywords) > 1 else ""
        for column in gallery.columns:
            for number, example in enumerate(column.examples, 1):
                name = f"{start}{_ascii(keyword)}-{_ascii(column.title)}-{number:02d}"
                pictures[name] = plot_example(example, gallery.colours)
    for name, png in pictures.items():
        with replacing(folder / f"{name}.png") as file:
            file.write(png)
    return len(pictures)


def _ascii(text: str) -> str:
    """Text for a file name: ASCII letters, digits and underscores, a dash for anything else."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)[:60]
