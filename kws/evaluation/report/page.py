"""The report: one HTML page with DET curve, tables, and examples of misses and negatives, or its pictures alone."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from kws.common.files import replacing
from kws.data.audio import flac
from kws.evaluation.report import html
from kws.evaluation.report.det import COLOURS, plot, with_curve
from kws.evaluation.report.examples import Example, Gallery, plot_example
from kws.evaluation.results import Outcome, Table, group_tables, outcome_tables
from kws.evaluation.verdict import INTERVAL


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    outcomes: Sequence[Outcome] = (),
    tables: Sequence[Table] = (),
    galleries: Sequence[Gallery] = (),
) -> None:
    """Write the report as one HTML page without a script.

    Args:
        path: file to write; its folder is made. An older page is replaced at once or not at all.
        title: heading.
        facts: command, commit, data and seeds.
        outcomes: for the DET plot and its tables; without an outcome the page has no plot.
        tables: after the tables of the outcomes; those without a row are left out.
        galleries: in this order.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    measured = with_curve(outcomes)
    style = html.source("evaluation/report/report.css")
    style += "".join(f".c{i} {{ background: {colour}; }}\n" for i, colour in enumerate(COLOURS))
    html.write_page(
        path,
        "evaluation/report/report.html",
        style,
        title=title,
        facts=facts,
        verdicts=[(o.name, o.verdict) for o in outcomes],
        interval=INTERVAL,
        det=plot(measured) if measured else None,
        # The page shows the names, not the picture: its font lacks most scripts and reads $ as mathematics.
        names=[o.name for o in measured],
        colours=len(COLOURS),
        tables=[t for t in (*outcome_tables(outcomes), *tables, *group_tables(outcomes)) if t.rows],
        galleries=galleries,
        plot_example=_picture,
        flac=flac,
    )


def write_pictures(folder: Path, outcomes: Sequence[Outcome], galleries: Sequence[Gallery]) -> int:
    """Write the DET curve (`det.png`) and every example as PNG files, and return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = with_curve(outcomes)
    pictures = {"det": plot(measured)} if measured else {}
    keywords = list(dict.fromkeys(gallery.title.rpartition(":")[0] for gallery in galleries))
    for gallery in galleries:
        keyword = gallery.title.rpartition(":")[0]
        # Only the number distinguishes two keywords without an ASCII letter.
        start = f"{keywords.index(keyword) + 1}-" if len(keywords) > 1 else ""
        for column in gallery.columns:
            for number, example in enumerate(column.examples, 1):
                name = f"{start}{_ascii(keyword)}-{_ascii(column.title)}-{number:02d}"
                pictures[name] = _picture(example, gallery.colours)
    for name, png in pictures.items():
        with replacing(folder / f"{name}.png") as file:
            file.write(png)
    return len(pictures)


def _picture(example: Example, colours: Mapping[str, int]) -> bytes:
    return _drawn(example, tuple(colours.items()))


@lru_cache(maxsize=256)
def _drawn(example: Example, colours: tuple[tuple[str, int], ...]) -> bytes:
    """The picture of an example, drawn once for the page and the files."""
    return plot_example(example, dict(colours))


def _ascii(text: str) -> str:
    """Text for a file name: ASCII letters, digits and underscores, a dash for anything else."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)[:60]
