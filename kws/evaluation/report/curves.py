"""Training curves, one panel above the other, with the rounds of mining marked."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import uniform_filter1d

from kws.evaluation.report.det import DPI, FONT_PT, WIDTH_IN, colour

PANEL_IN = 1.9  # height
SMOOTHED = 50  # curves of single steps are averaged over this part of the run

Line = tuple[Sequence[float], Sequence[float]]  # steps and values


@dataclass(frozen=True)
class Panel:
    """Curves that share an axis.

    Args:
        label: of the axis.
        lines: by name. Those of single steps are `noisy` and averaged over a fiftieth of the run.
        noisy: whether they are.
    """

    label: str
    lines: Mapping[str, Line]
    noisy: bool = True


@dataclass(frozen=True)
class TrainingCurves:
    """Panels, and the steps of the rounds of mining."""

    panels: Sequence[Panel]
    rounds: Sequence[int] = field(default_factory=tuple)


def plot_curves(curves: TrainingCurves) -> bytes:
    """PNG of the panels above one another. A dotted line marks each round of mining."""
    from matplotlib.figure import Figure

    panels = curves.panels
    figure = Figure(figsize=(WIDTH_IN, 0.4 + PANEL_IN * len(panels)), dpi=DPI, layout="constrained")
    for axes, panel in zip(figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0], panels, strict=True):
        window = max(1, max(len(steps) for steps, _ in panel.lines.values()) // SMOOTHED)
        for i, (name, (steps, values)) in enumerate(panel.lines.items()):
            y = np.asarray(values, np.float64)
            if panel.noisy:
                y = uniform_filter1d(y, window, mode="nearest")
            axes.plot(steps, y, color=colour(i), label=name, marker="" if panel.noisy else "o", markersize=4)
        for round_ in curves.rounds:
            axes.axvline(round_, color="#222", linestyle=":", linewidth=1)
        axes.set_ylim(bottom=0)
        axes.set_ylabel(panel.label, fontsize=FONT_PT)
        axes.tick_params(labelsize=FONT_PT)
        axes.grid(alpha=0.3)
        if len(panel.lines) > 1:
            axes.legend(fontsize=FONT_PT - 1.5, loc="best", framealpha=0.6)
    axes.set_xlabel("step", fontsize=FONT_PT)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
