"""The report: one HTML page that begins with the verdict and ends with the tables, or its pictures alone."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kws.common.files import replacing
from kws.data.audio import flac
from kws.evaluation.report import html
from kws.evaluation.report.curves import TrainingCurves, plot_curves
from kws.evaluation.report.det import COLOURS, plot, with_curve
from kws.evaluation.report.examples import Example, Gallery, plot_example
from kws.evaluation.report.slider import sweep_values
from kws.evaluation.results import CALIBRATED, Outcome, Table, group_tables, outcome_tables
from kws.evaluation.verdict import INTERVAL


@dataclass(frozen=True)
class Note:
    """A paragraph below the verdict, with commands to copy."""

    title: str
    text: str
    commands: Sequence[str] = ()


def write_report(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    outcomes: Sequence[Outcome] = (),
    tables: Sequence[Table] = (),
    galleries: Sequence[Gallery] = (),
    notes: Sequence[Note] = (),
    curves: TrainingCurves | None = None,
) -> None:
    """Write the report as one HTML page. Its only script moves the threshold; without it the page is complete.

    Args:
        path: file to write; its folder is made. An older page is replaced at once or not at all.
        title: heading.
        facts: command, commit, data and seeds; at the end.
        outcomes: for verdicts, sliders, the DET plot and tables; without an outcome the page has none.
        tables: after the tables of the outcomes; those without a row are left out.
        galleries: in this order.
        notes: below the verdicts.
        curves: of the training.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # A picture shows no names: its font lacks most scripts and reads $ as mathematics.
    plotted, swept = with_curve(outcomes), [o for o in outcomes if len(o.curve.thresholds)]
    det = plot(plotted) if plotted else None
    places = {id(o): det.places[i] for i, o in enumerate(plotted)} if det else {}
    style = html.source("evaluation/report/report.css")
    style += "".join(f".c{i} {{ background: {colour}; }}\n" for i, colour in enumerate(COLOURS))
    html.write_page(
        path,
        "evaluation/report/report.html",
        style,
        html.source("evaluation/report/report.js") if swept else "",
        title=title,
        facts=facts,
        verdicts=[(o.name, o.verdict) for o in outcomes],
        interval=INTERVAL,
        notes=notes,
        sweeps=[sweep_values(o, places.get(id(o))) for o in swept],
        calibrated=CALIBRATED.capitalize(),
        sliders=[(o, next((i for i, one in enumerate(plotted) if one is o), None)) for o in swept],
        det=det,
        lines=[o.name for o in plotted],
        markers=[next(i for i, o in enumerate(swept) if o is one) for one in plotted],
        colours=len(COLOURS),
        curves=curves,
        plot_curves=plot_curves,
        tables=[t for t in (*outcome_tables(outcomes), *tables, *group_tables(outcomes)) if t.rows],
        galleries=galleries,
        plot_example=_webp,
        flac=flac,
    )


def write_pictures(folder: Path, outcomes: Sequence[Outcome], galleries: Sequence[Gallery]) -> int:
    """Write the DET curve (`det.png`) and every example as PNG files, and return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = with_curve(outcomes)
    pictures = {"det": plot(measured).png} if measured else {}
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


def _webp(example: Example, colours: Mapping[str, int]) -> bytes:
    """The picture of an example in a quarter of the bytes."""
    from matplotlib.image import imread, imsave

    small = io.BytesIO()
    imsave(small, imread(io.BytesIO(_picture(example, colours))), format="webp")
    return small.getvalue()


@lru_cache(maxsize=256)
def _drawn(example: Example, colours: tuple[tuple[str, int], ...]) -> bytes:
    """The picture of an example, drawn once for the page and the files."""
    return plot_example(example, dict(colours))


def _ascii(text: str) -> str:
    """Text for a file name: ASCII letters, digits and underscores, a dash for anything else."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)[:60]
