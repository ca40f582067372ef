"""Pictures of a replay buffer, as PNG: scores by round, counts by name, the share over time."""

import io
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:  # slow to import, and only drawing needs it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe and Ito, 2008
_FAMILY = "DejaVu Sans"  # comes with matplotlib: what is drawn depends on no font of the machine
_DPI = 110
_MOST_POINTS = 200  # a round
_MOST_BARS = 30


def scores_by_round(rounds: Mapping[str, Sequence[float]]) -> bytes:
    """PNG of how scores are distributed in each round: box (quartiles), whiskers (5 to 95 %), and points.

    Args:
        rounds: label -> scores, 0 to 1; a round may have none.
    """
    return _png(draw_scores(rounds))


def counts(title: str, by_name: Mapping[str, Mapping[str, int]]) -> bytes:
    """PNG of horizontal bars, the longest on top, each stacked by state; at most 30, how many are left out is said.

    Args:
        title: heading.
        by_name: name of each bar -> state -> how many, at least 0.
    """
    return _png(draw_counts(title, by_name))


def share_over_time(
    steps: Sequence[int], share: Sequence[float], replayed_share: Sequence[float], size: Sequence[int]
) -> bytes:
    """PNG of the share that was set and the one that was replayed, averaged over about a fiftieth of the run.

    Args:
        steps: ascending.
        share: set at each step, 0 to 1.
        replayed_share: replayed clips by batch size at each step, 0 to 1.
        size: clips in the buffer at each step.
    """
    return _png(draw_share(steps, share, replayed_share, size))


def draw_scores(rounds: Mapping[str, Sequence[float]]) -> "Figure":
    """The figure of `scores_by_round`."""
    figure, axes = _figure(max(6.0, 2 + 0.5 * len(rounds)), 5)
    at = range(len(rounds))
    for i, scores in zip(at, rounds.values(), strict=True):
        if not len(scores):
            continue
        line = {"color": _COLOURS[0], "linewidth": 1.5}
        axes.boxplot(
            scores,
            positions=[i],
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            manage_ticks=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops=line,
        )
        # Of many points every n-th by score: enough to see where they lie.
        points = np.sort(np.asarray(scores, np.float64))[:: -(-len(scores) // _MOST_POINTS)]
        # Multiples of the golden ratio, from the middle on, spread evenly over the box without a random draw.
        aside = ((np.arange(len(points)) * 0.618034 + 0.5) % 1 - 0.5) * 0.5
        axes.plot(i + aside, points, ".", color=_COLOURS[1], alpha=0.5, markersize=5, markeredgewidth=0, zorder=3)
    labels = [f"{_shown(name, 16)} ({len(scores)})" for name, scores in rounds.items()]
    axes.set_xticks(at, labels, parse_math=False, fontfamily=_FAMILY)
    if len(rounds) > 8:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, max(len(rounds), 1) - 0.4)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("round (clips)")
    axes.set_ylabel("score")
    return figure


def draw_counts(title: str, by_name: Mapping[str, Mapping[str, int]]) -> "Figure":
    """The figure of `counts`."""
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    names = sorted(by_name, key=lambda name: -sum(by_name[name].values()))
    rest, names = names[_MOST_BARS:], names[:_MOST_BARS]
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
        # Set afterwards: a legend leaves out what begins with an underscore, and reads $ as mathematics.
        for text, state in zip(legend.get_texts(), states, strict=True):
            text.set(text=_shown(state, 20), parse_math=False, fontfamily=_FAMILY)
    return figure


def draw_share(
    steps: Sequence[int], share: Sequence[float], replayed_share: Sequence[float], size: Sequence[int]
) -> "Figure":
    """The figure of `share_over_time`."""
    figure, axes = _figure(9, 5)
    right = axes.twinx()
    axes.set_zorder(right.get_zorder() + 1)  # the shares lie over the size
    axes.patch.set_visible(False)
    replayed = _smooth(replayed_share, max(1, len(steps) // 50))
    lines = [
        *axes.plot(steps, 100 * np.asarray(share, np.float64), color=_COLOURS[0], linewidth=2),
        *axes.plot(steps, 100 * replayed, color=_COLOURS[1], linewidth=0.8),
        *right.plot(steps, size, color=_COLOURS[2], linewidth=1.2, drawstyle="steps-post"),
    ]
    axes.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("share of the batch, %")
    right.set_ylabel("clips in the buffer")
    figure.legend(lines, ["share", "replayed (average)", "clips in the buffer"], loc="outside lower center", ncols=3)
    return figure


def _smooth(values: ArrayLike, window: int) -> NDArray[np.float64]:
    """Centred moving average; at the ends over what there is of the window.

    Shape: values [T]; returns [T].
    """
    x = np.asarray(values, np.float64)
    before, after = window // 2, window - window // 2
    total = np.append(0, np.cumsum(x))
    at = np.arange(len(x))
    low, high = np.maximum(at - before, 0), np.minimum(at + after, len(x))
    averaged: NDArray[np.float64] = (total[high] - total[low]) / (high - low)
    return averaged


def _figure(width: float, height: float) -> tuple["Figure", "Axes"]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    axes.set_axisbelow(True)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return png.getvalue()


@cache
def _font() -> "FT2Font":
    from matplotlib.font_manager import FontProperties, findfont, get_font

    return get_font(findfont(FontProperties(family=_FAMILY)))


def _shown(name: str, most: int) -> str:
    """A name as the font can draw it, in at most so many characters: question marks for the rest, cut in the middle."""
    if len(name) > most:
        name = f"{name[: most // 2]}…{name[len(name) - (most - 1 - most // 2) :]}"
    return "".join(c if c.isprintable() and _font().get_char_index(ord(c)) else "?" for c in name)
