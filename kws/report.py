"""The report: one HTML page that stands alone, with facts, tables and misses drawn against false alarms."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from pathlib import Path

import numpy as np

from kws.audio import replacing
from kws.detect import OperatingPoint, Span, Track, at_threshold, fires, threshold_for
from kws.metrics import rate_text

_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
)  # Okabe and Ito, 2008

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.9rem 0.25rem 0; }
th, td { border-bottom: 1px solid #ddd; }
td { font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
img { max-width: 100%; }
li { list-style: none; }
li span { display: inline-block; width: 1.6rem; height: 0.25rem; margin: 0 0.6rem 0.25rem 0; }
"""


@dataclass(frozen=True)
class Table:
    """A table of text: each row has as many cells as the header."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Curve:
    """One arm of the plot: a line through its points; those with a wanted rate get a marker and intervals."""

    name: str
    points: Sequence[OperatingPoint]


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
    wanted = "as set"
    if p.wanted_fa_per_hour is not None:
        ends = dict.fromkeys((p.wanted_fa_per_hour, same[-1].wanted_fa_per_hour))
        wanted = "-".join(f"{rate:g}" for rate in ends) + "/h"
    missed = f"{p.misses}/{p.events} = {p.miss_rate:.1%}".replace("%", " %")
    alarms = f"{p.false_alarms} in {p.hours:.2f} h = {rate_text(p.fa_per_hour)}/h"
    return (
        wanted,
        f"{missed} [{100 * p.miss_low:.1f}, {100 * p.miss_high:.1f}]",
        f"{alarms} [{rate_text(p.fa_low)}, {rate_text(p.fa_high)}]",
        f"{p.threshold:.4f}",
    )


def curve(
    positive: Track,
    spans: Sequence[Span],
    negative: Track,
    n: int = 60,
    max_fa_per_hour: float = 20.0,
    refractory_s: float = 1.0,
) -> list[OperatingPoint]:
    """The best point at each number of false alarms, from none up to a rate, thinned to about `n` for a plot.

    Args:
        positive: track of a stream in which the keyword is said.
        spans: (start, end) in seconds of each event of `positive`; at least one.
        negative: track of a stream without it.
        n: most points, spread evenly over the logarithm of the count; at least 2.
        max_fa_per_hour: where the curve ends.
        refractory_s: seconds of silence after each firing.
    """
    lowest = threshold_for(negative, max_fa_per_hour, refractory_s)
    # Rows below the lowest threshold never fire: without them each of the n searches is short.
    high = negative.scores >= np.float64(lowest)
    if not high.any():
        return [at_threshold(positive, spans, negative, lowest, refractory_s)]
    top = replace(negative, times=negative.times[high], scores=negative.scores[high])
    most = len(fires(top.times, top.scores, lowest, refractory_s))
    counts = np.unique(np.append(0, np.rint(np.geomspace(1, most, max(n - 1, 1)))))
    # Half an alarm more than the count, lest rounding of the rate lose the last one.
    wanted = [max(lowest, threshold_for(top, (k + 0.5) / top.hours, refractory_s)) for k in counts]
    return [at_threshold(positive, spans, top, t, refractory_s) for t in sorted(set(wanted), reverse=True)]


def write_report(
    path: Path, title: str, facts: Mapping[str, str], tables: Sequence[Table], curves: Sequence[Curve]
) -> None:
    """Write the page: no file beside it, no script, nothing fetched; every name stays text.

    Args:
        path: where to; its folder exists. An older page is replaced at once or not at all.
        title: heading.
        facts: what was run on what: command, commit, data, seeds.
        tables: in this order.
        curves: drawn in one plot; none, no plot.
    """
    body = [f"<h1>{escape(title)}</h1>"]
    if facts:
        body.append(_table(Table("", (), [(k, v) for k, v in facts.items()])))
    if any(c.points for c in curves):
        image = base64.b64encode(plot(curves)).decode()
        alt = "Misses against false alarms per hour"
        body.append(f'<h2>{alt}</h2><img alt="{alt}" src="data:image/png;base64,{image}"><ul>')
        # The names stand here, not in the picture: its font lacks most scripts and it reads $ as mathematics.
        body += [
            f'<li><span style="background:{_colour(i)}"></span>{escape(c.name)}</li>' for i, c in enumerate(curves)
        ]
        body.append("</ul>")
    body += [_table(t) for t in tables]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )
    with replacing(path) as file:
        # A file name that is no UTF-8 reaches Python as lone surrogates; they become question marks.
        file.write(page.encode(errors="replace"))


def _table(table: Table) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        return f"<tr>{''.join(f'<{tag}>{escape(c)}</{tag}>' for c in cells)}</tr>"

    rows = [row(table.header, "th")] if table.header else []
    rows += [row(cells, "td") for cells in table.rows]
    heading = f"<h2>{escape(table.title)}</h2>" if table.title else ""
    return f"{heading}<table>{''.join(rows)}</table>"


def plot(curves: Sequence[Curve]) -> bytes:
    """PNG of misses against false alarms per hour, one colour an arm; no alarm is drawn as half an alarm."""
    from matplotlib.figure import Figure  # slow to import, and only the report draws

    figure = Figure(figsize=(9, 5.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    for i, arm in enumerate(curves):
        points = sorted(arm.points, key=lambda p: -p.threshold)
        axes.step([_x(p) for p in points], [100 * p.miss_rate for p in points], where="post", color=_colour(i))
        for p in (p for p in points if p.wanted_fa_per_hour is not None):
            x, y = _x(p), 100 * p.miss_rate
            axes.plot(x, y, "o", color=_colour(i))
            axes.vlines(x, 100 * p.miss_low, 100 * p.miss_high, color=_colour(i), alpha=0.35)
            axes.hlines(y, max(p.fa_low, x / 10), p.fa_high, color=_colour(i), alpha=0.35)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("false alarms per hour (none: drawn at half an alarm; bars: 95 %)")
    axes.set_ylabel("misses, %")
    axes.grid(alpha=0.3)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _x(p: OperatingPoint) -> float:
    return max(p.fa_per_hour, 0.5 / p.hours)


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]
