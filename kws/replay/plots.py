"""Figures of a replay buffer: scores by round, clips by name, and the replayed share over time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from scipy.ndimage import uniform_filter1d

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito, 2008
_FAMILY = "DejaVu Sans"  # comes with matplotlib, so the figures do not depend on the fonts of the machine
_MAX_POINTS = 200  # of a round
_MAX_BARS = 30


def scores_by_round(rounds: Mapping[str, Sequence[float]]) -> Figure:
    """Distribution of the scores in each round: box (quartiles), whiskers (5 to 95 %) and points.

    Args:
        rounds: scores, 0 to 1, by label of the round; a round may have none.
    """
    figure, axes = _figure(max(6.0, 2 + 0.5 * len(rounds)), 5)
    line = {"color": _COLOURS[0], "linewidth": 1.5}
    box: dict[str, Any] = {f"{part}props": line for part in ("box", "whisker", "cap", "median")}
    for i, scores in enumerate(rounds.values()):
        if not len(scores):
            continue
        axes.boxplot(scores, positions=[i], widths=0.6, whis=(5, 95), showfliers=False, manage_ticks=False, **box)
        # Every n-th of many scores in ascending order shows the distribution.
        points = np.sort(np.asarray(scores, np.float64))[:: -(-len(scores) // _MAX_POINTS)]
        # Multiples of the golden ratio spread the points evenly over the box, without random numbers.
        aside = ((np.arange(len(points)) * 0.618034 + 0.5) % 1 - 0.5) * 0.5
        axes.plot(i + aside, points, ".", color=_COLOURS[1], alpha=0.5, markersize=5, markeredgewidth=0, zorder=3)
    labels = [f"{_shown(name, 16)} ({len(scores)})" for name, scores in rounds.items()]
    axes.set_xticks(range(len(rounds)), labels, parse_math=False, fontfamily=_FAMILY)
    if len(rounds) > 8:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set(xlim=(-0.6, max(len(rounds), 1) - 0.4), ylim=(-0.02, 1.02), xlabel="round (clips)", ylabel="score")
    return figure


def counts(title: str, by_name: Mapping[str, Mapping[str, int]]) -> Figure:
    """Horizontal bars stacked by state, the longest on top. Beyond 30 names the label gives the number left out.

    Args:
        title: heading.
        by_name: name of each bar -> state -> clips, at least 0.
    """
    names = sorted(by_name, key=lambda name: -sum(by_name[name].values()))
    rest, names = names[_MAX_BARS:], names[:_MAX_BARS]
    states = list(dict.fromkeys(state for states in by_name.values() for state in states))
    figure, axes = _figure(9, 1.6 + 0.3 * max(len(names), 2))
    at, ends = np.arange(len(names)), np.zeros(len(names))
    keys = [Patch(color=_COLOURS[i % len(_COLOURS)]) for i in range(len(states))]
    for key, state in zip(keys, states, strict=True):
        n = np.array([by_name[name].get(state, 0) for name in names])
        axes.barh(at, n, left=ends, color=key.get_facecolor(), height=0.7)
        ends += n
    for y, end in enumerate(ends):
        axes.annotate(f"{end:.0f}", (end, y), xytext=(3, 0), textcoords="offset points", va="center")
    axes.set_yticks(at, [_shown(name, 40) for name in names], parse_math=False, fontfamily=_FAMILY)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)  # the first on top
    axes.set_xlim(0, 1.1 * max(ends, default=0) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(_shown(title, 80), parse_math=False, fontfamily=_FAMILY)
    left_out = sum(sum(by_name[name].values()) for name in rest)
    axes.set_xlabel(f"clips (not shown: {len(rest)} more names with {left_out})" if rest else "clips")
    if states:
        legend = figure.legend(keys, [str(i) for i in range(len(states))], loc="outside lower center", ncols=4)
        # Set afterwards, since a legend leaves out labels with an underscore first and reads $ as mathematics.
        for text, state in zip(legend.get_texts(), states, strict=True):
            text.set(text=_shown(state, 20), parse_math=False, fontfamily=_FAMILY)
    return figure


def share_over_time(
    steps: Sequence[int], share: Sequence[float], replayed_share: Sequence[float], size: Sequence[int]
) -> Figure:
    """The share that was set and the share that was replayed, which is averaged over a fiftieth of the run.

    Args:
        steps: ascending.
        share: set at each step, 0 to 1.
        replayed_share: replayed clips by batch size at each step, 0 to 1.
        size: clips in the buffer at each step.
    """
    figure, axes = _figure(9, 5)
    right = axes.twinx()
    axes.set_zorder(right.get_zorder() + 1)  # the shares lie over the size
    axes.patch.set_visible(False)
    replayed = uniform_filter1d(np.asarray(replayed_share, np.float64), max(1, len(steps) // 50), mode="nearest")
    lines = [
        *axes.plot(steps, 100 * np.asarray(share, np.float64), color=_COLOURS[0], linewidth=2),
        *axes.plot(steps, 100 * replayed, color=_COLOURS[1], linewidth=0.8),
        *right.plot(steps, size, color=_COLOURS[2], linewidth=1.2, drawstyle="steps-post"),
    ]
    axes.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    axes.set(xlabel="step", ylabel="share of the batch, %")
    right.set_ylabel("clips in the buffer")
    figure.legend(lines, ["share", "replayed (average)", "clips in the buffer"], loc="outside lower center", ncols=3)
    return figure


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _shown(name: str, limit: int) -> str:
    """A name of at most `limit` characters, cut in the middle. Characters that the font lacks become question marks."""
    font = get_font(findfont(FontProperties(family=_FAMILY)))
    if len(name) > limit:
        name = f"{name[: limit // 2]}…{name[len(name) - (limit - 1 - limit // 2) :]}"
    return "".join(c if c.isprintable() and font.get_char_index(ord(c)) else "?" for c in name)
