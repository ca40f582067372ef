"""The DET curve: misses against false alarms per hour, of one detector or several."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from kws.evaluation.results import Outcome

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#e69f00",
    "#000000",
)  # Okabe and Ito, 2008
WIDTH_IN, DPI, FONT_PT = 5.5, 160, 11  # a picture 390 pixels wide, as on a phone, has letters of 11 pixels
BEYOND = 2.5  # times the most false alarms of the operating points: the end of what is shown
_RATES = tuple(step * 10.0**power for power in range(-4, 5) for step in (1, 2, 5))
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99)


@dataclass(frozen=True, eq=False)
class DetPlot:
    """PNG of DET curves, and where each entry of each curve is in it.

    Args:
        png: the picture.
        places: of each outcome, shares of the width from the left and of the height from the top. Shape: [N, 2].
    """

    png: bytes
    places: list[NDArray[np.float64]]


def colour(i: int) -> str:
    """Colour of line i."""
    return COLOURS[i % len(COLOURS)]


def with_curve(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those with events and hours, whose misses can be plotted against false alarms."""
    return [o for o in outcomes if o.curve.events and o.curve.hours]


def lived(o: Outcome) -> slice:
    """The entries of a curve around its operating points. Beyond them, it fires all day or misses everything."""
    points, most = [*o.points, o.own], max(p.false_alarms for p in (*o.points, o.own))
    misses = max(p.miss_high for p in points) * o.curve.events
    shown = np.flatnonzero((o.curve.false_alarms <= max(5, BEYOND * most)) & (o.curve.misses <= misses))
    return slice(int(shown[0]), int(shown[-1]) + 1) if len(shown) else slice(0, len(o.curve.thresholds))


def plot(outcomes: Sequence[Outcome]) -> DetPlot:
    """Plot misses (normal-deviate axis) against false alarms per hour (logarithmic axis), a colour for each outcome.

    Points at wanted rates get a dot, the calibrated threshold a star, both with intervals. The plot shows the range of
    these, see `lived`. Neither axis has a zero: no false alarm is plotted as half a false alarm, no miss as half a
    miss.

    Source: Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    """
    from matplotlib.figure import Figure  # slow to import, and only reports plot

    figure = Figure(figsize=(WIDTH_IN, 4.2), dpi=DPI)
    figure.subplots_adjust(left=0.13, right=0.97, bottom=0.14, top=0.97)
    axes = figure.subplots()
    xs, ys = [], []
    for i, o in enumerate(outcomes):
        shown = lived(o)
        alarms, misses = _x(o.curve.false_alarms[shown], o.curve.hours), _y(o.curve.misses[shown], o.curve.events)
        axes.step(alarms[::-1], misses[::-1], where="post", color=colour(i))
        xs.append(alarms)
        ys.append(misses.min(keepdims=True))
        for p in (*o.points, o.own):
            x, y = float(_x(p.false_alarms, p.hours)), float(_y(p.misses, p.events))
            ends = _deviate(np.clip([p.miss_low, p.miss_high], 0.25 / p.events, 1 - 0.25 / p.events))
            own = (
                {"marker": "*", "markersize": 15, "markeredgecolor": "black", "zorder": 3}
                if p is o.own
                else {"marker": "o"}
            )
            axes.plot(x, y, color=colour(i), **own)
            axes.vlines(x, *ends, color=colour(i), alpha=0.35)
            axes.hlines(y, max(p.fa_low, x / 10), p.fa_high, color=colour(i), alpha=0.35)
            xs.append(np.array([x]))
            ys.append(ends)
    across, up = np.concatenate(xs), np.concatenate(ys)
    low, high = up.min() - 0.1, up.max() + 0.1
    axes.set_xscale("log")
    axes.set_xlim(across.min() / 1.5, across.max() * 1.5)
    axes.set_ylim(low, high)
    ticks = [t for t in _TICKS if low <= ndtri(t) <= high]
    axes.set_yticks([float(ndtri(t)) for t in ticks], [f"{100 * t:g}" for t in ticks], fontsize=FONT_PT)
    rates = [t for t in _RATES if across.min() / 1.5 <= t <= across.max() * 1.5]
    axes.set_xticks(rates, [f"{t:g}" for t in rates])
    axes.minorticks_off()
    axes.tick_params(labelsize=FONT_PT)
    axes.set_xlabel("false alarms an hour", fontsize=FONT_PT)
    axes.set_ylabel("misses, %", fontsize=FONT_PT)
    axes.grid(alpha=0.3)

    def places(alarms: NDArray[np.float64], misses: NDArray[np.float64]) -> NDArray[np.float64]:
        at = axes.transData.transform(np.column_stack([alarms, misses])) / (figure.bbox.width, figure.bbox.height)
        return np.asarray(np.column_stack([at[:, 0], 1 - at[:, 1]]), dtype=np.float64)

    png = io.BytesIO()
    figure.savefig(png, format="png")
    curves = [places(_x(o.curve.false_alarms, o.curve.hours), _y(o.curve.misses, o.curve.events)) for o in outcomes]
    return DetPlot(png.getvalue(), curves)


def _x(alarms: NDArray[np.int64] | int, hours: float) -> NDArray[np.float64]:
    return np.maximum(alarms, 0.5) / hours


def _y(misses: NDArray[np.int64] | int, events: int) -> NDArray[np.float64]:
    return _deviate(np.clip(misses, 0.5, events - 0.5) / events)


def _deviate(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ndtri(rate), dtype=np.float64)
