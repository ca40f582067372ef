"""The report: one HTML page that stands alone, with the curve, tables, and what went wrong to look at and to hear."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import groupby
from pathlib import Path

from kws.common.files import replacing
from kws.data.audio import flac
from kws.evaluation.intervals import rate_text
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.report.det import COLOURS, Arm, plot
from kws.evaluation.report.examples import Example, draw
from kws.evaluation.report.html import encoded, head, image, player

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.9rem 0.25rem 0; }
th, td { border-bottom: 1px solid #ddd; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
img { max-width: 100%; }
li { list-style: none; }
li span { display: inline-block; width: 1.6rem; height: 0.25rem; margin: 0 0.6rem 0.25rem 0; }
figure { margin: 0 0 1.5rem; }
figcaption { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
audio { width: 100%; height: 2.5rem; }
.columns { display: grid; grid-template-columns: repeat(2, 1fr); gap: 0 1.5rem; }
""" + "".join(f".c{i} {{ background: {colour}; }}\n" for i, colour in enumerate(COLOURS))


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
    """Write the page: no file beside it, no script, nothing fetched; every name stays text.

    Args:
        path: where to; its folder exists. An older page is replaced at once or not at all.
        title: heading.
        facts: what was run on what: command, commit, data, seeds.
        tables: in this order.
        arms: drawn in one plot; none, no plot.
        galleries: in this order.
    """
    with replacing(path) as file:

        def write(text: str) -> None:
            file.write(encoded(text))

        write(head(title, _STYLE))
        if facts:
            write(_table(Table("", (), [(k, v) for k, v in facts.items()])))
        if arms:
            alt = "Misses against false alarms per hour"
            write(f"<h2>{alt}</h2>{image(plot(arms), alt)}<ul>")
            # The names stand here, not in the picture: its font lacks most scripts and it reads $ as mathematics.
            write(f"{''.join(_legend(i, arm.name) for i, arm in enumerate(arms))}</ul>")
        for table in tables:
            write(_table(table))
        for gallery in galleries:
            _gallery(gallery, write)
        write("</body></html>\n")


def _gallery(gallery: Gallery, write: Callable[[str], None]) -> None:
    write(f"<h2>{escape(gallery.title)}</h2>")
    names = sorted({name for column in gallery.columns for example in column.examples for name in example.lines})
    if len(names) > 1:
        write(f"<ul>{''.join(_legend(i, name) for i, name in enumerate(names))}</ul>")
    write('<div class="columns">')
    for column in gallery.columns:
        shown = len(column.examples)
        left = f"; the {shown} that are furthest from right" if column.all_n > shown else ""
        write(f"<section><h3>{escape(column.title)}: {column.all_n}{left}</h3>")
        for example in column.examples:
            drawn = draw(example, {name: i for i, name in enumerate(names)})
            write(
                f"<figure>{image(drawn, f'scores and spectrogram of this {example.kind}')}"
                f"{player(flac(example.pcm, example.sample_rate))}"
                f"<figcaption>{escape(example.what)}; highest score {example.score:.3f}</figcaption></figure>\n"
            )
        write("</section>")
    write("</div>")


def _legend(i: int, name: str) -> str:
    return f'<li><span class="c{i % len(COLOURS)}"></span>{escape(name)}</li>'


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(c)}</{tag}>' for c in cells)}</tr>"

    rows = [row(table.header, "th")] if table.header else []
    rows += [row(cells, "td") for cells in table.rows]
    heading = f"<h2>{escape(table.title)}</h2>" if table.title else ""
    return f"{heading}<table>{''.join(rows)}</table>"
