"""The DET curve: misses against false alarms per hour, of one detector or several."""

import io
from collections.abc import Sequence

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
_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99)


def colour(i: int) -> str:
    """Colour of line i."""
    return COLOURS[i % len(COLOURS)]


def with_curve(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Those with events and hours, whose misses can be plotted against false alarms."""
    return [o for o in outcomes if o.curve.events and o.curve.hours]


def plot(outcomes: Sequence[Outcome]) -> bytes:
    """PNG of misses (normal-deviate axis) against false alarms per hour (logarithmic axis), a colour for each outcome.

    Points at wanted rates get a dot, the calibrated threshold a star, both with intervals. The plot shows the range
    of these, not thresholds at which nothing triggers. Neither axis has a zero: no false alarm is plotted as half a
    false alarm, no miss as half a miss.

    Source: Martin et al., "The DET curve in assessment of detection task performance", Eurospeech 1997.
    """
    from matplotlib.figure import Figure  # slow to import, and only reports plot

    figure = Figure(figsize=(9, 5.5), dpi=110)
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.1, top=0.98)
    axes = figure.subplots()
    plotted = []
    for i, o in enumerate(outcomes):
        alarms, misses = _x(o.curve.false_alarms, o.curve.hours), _y(o.curve.misses, o.curve.events)
        axes.step(alarms[::-1], misses[::-1], where="post", color=colour(i))
        plotted.append(misses.min(keepdims=True))
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
            plotted.append(ends)
    low, high = np.concatenate(plotted).min() - 0.15, np.concatenate(plotted).max() + 0.15
    ticks = [t for t in _TICKS if low <= ndtri(t) <= high]
    axes.set_ylim(low, high)
    axes.set_yticks([float(ndtri(t)) for t in ticks], [f"{100 * t:g}" for t in ticks])
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("false alarms per hour (0 is plotted as half a false alarm; bars: 95 %)")
    axes.set_ylabel("misses, % (0 is plotted as half a miss)")
    axes.grid(alpha=0.3)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def _x(alarms: NDArray[np.int64] | int, hours: float) -> NDArray[np.float64]:
    return np.maximum(alarms, 0.5) / hours


def _y(misses: NDArray[np.int64] | int, events: int) -> NDArray[np.float64]:
    return _deviate(np.clip(misses, 0.5, events - 0.5) / events)


def _deviate(rate: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(ndtri(rate), dtype=np.float64)
