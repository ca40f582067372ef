"""Figures of the buffer show the given numbers, whatever the names."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle

from kws.replay.plots import counts, scores_by_round, share_over_time

NASTY = ["$x^$", "$\\frac{$", "_hidden", "猫", "مرحبا", "e\u0301", "\udcff", "a\nb", "\0", "\u202e", "", "%s {}", "🎉"]


def size(figure: Figure) -> tuple[int, int]:
    """Height and width of the PNG, which must not be blank."""
    png = io.BytesIO()
    figure.savefig(png)
    png.seek(0)
    pixels = imread(png, format="png")
    assert pixels[..., :3].std() > 0.01
    return pixels.shape[0], pixels.shape[1]


def bars(axes: Axes) -> list[Rectangle]:
    return [patch for patch in axes.patches if isinstance(patch, Rectangle)]


def boxes(figure: Figure) -> list[tuple[float, float, float]]:
    """Where each box stands, and its quartiles below and above."""
    found = []
    for line in figure.axes[0].lines:
        x, y = np.asarray(line.get_xdata(), float), np.asarray(line.get_ydata(), float)
        if len(x) == 5 and x[0] == x[-1] and y[0] == y[-1] and line.get_linestyle() == "-":  # closed
            found.append((float((x.min() + x.max()) / 2), float(y.min()), float(y.max())))
    return found


def points(figure: Figure) -> list[tuple[np.ndarray, np.ndarray]]:
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "."]
    return [(np.asarray(line.get_xdata()), np.asarray(line.get_ydata())) for line in lines]


def test_each_round_has_its_box_and_its_points() -> None:
    rounds = {"first": [0.1, 0.2, 0.3, 0.4, 0.5], "none": [], "last": [0.9]}
    figure = scores_by_round(rounds)
    np.testing.assert_allclose(boxes(figure), [(0, 0.2, 0.4), (2, 0.9, 0.9)])
    (x, y), (at, only) = points(figure)
    np.testing.assert_allclose(np.sort(y), rounds["first"])
    assert np.abs(x).max() <= 0.3
    np.testing.assert_allclose((at, only), ([2], [0.9]))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["first (5)", "none (0)", "last (1)"]


def test_a_round_with_many_scores_draws_points_over_the_whole_range() -> None:
    figure = scores_by_round({"r": np.linspace(0, 1, 5001).tolist()})
    [(_, y)] = points(figure)
    assert 100 <= len(y) <= 200
    np.testing.assert_allclose(y, np.linspace(y.min(), y.max(), len(y)))
    assert (y.min(), y.max() > 0.98) == (0, True)
    np.testing.assert_allclose(boxes(figure), [(0, 0.25, 0.75)])


def test_bars_are_stacked_by_state_the_longest_on_top() -> None:
    by_name = {"short": {"active": 2}, "long": {"active": 3, "quarantined": 4}, "none": {}}
    figure = counts("Kinds", by_name)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["long", "short", "none"]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row is on top
    found = {(round(b.get_y() + b.get_height() / 2), b.get_x(), b.get_width()) for b in bars(axes) if b.get_width()}
    assert found == {(0, 0, 3), (0, 3, 4), (1, 0, 2)}
    colours = {b.get_x() > 0: b.get_facecolor() for b in bars(axes) if b.get_width()}
    [legend] = figure.legends
    assert [t.get_text() for t in legend.get_texts()] == ["active", "quarantined"]
    assert [p.get_facecolor() for p in legend.get_patches()] == [colours[False], colours[True]]
    assert axes.get_title() == "Kinds"
    assert [t.get_text() for t in axes.texts] == ["7", "2", "0"]


def test_names_beyond_the_thirtieth_are_counted_not_drawn() -> None:
    figure = counts("Sources", {f"{i}.wav": {"active": i} for i in range(33)})
    axes = figure.axes[0]
    assert len(axes.get_yticklabels()) == 30
    assert axes.get_yticklabels()[0].get_text() == "32.wav"
    assert axes.get_xlabel() == "clips (not shown: 3 more names with 3)"  # 0, 1 and 2


def test_names_with_equal_labels_get_two_bars() -> None:
    long = ["x" * 30 + middle + "y" * 30 for middle in "ab"]
    axes = counts("t", {long[0]: {"active": 1}, long[1]: {"active": 5}}).axes[0]
    assert [b.get_width() for b in bars(axes)] == [5, 1]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ["x" * 20 + "…" + "y" * 19] * 2


def test_shares_and_size_are_drawn_over_the_steps() -> None:
    n = 500
    steps, share = list(range(0, 10 * n, 10)), np.linspace(0, 0.05, n).tolist()
    replayed = [0.1 * (i % 2) for i in range(n)]  # 5 % on average
    figure = share_over_time(steps, share, replayed, [i // 100 for i in range(n)])
    left, right = figure.axes
    set_, really = left.lines
    np.testing.assert_array_equal(set_.get_xdata(), steps)
    np.testing.assert_allclose(np.asarray(set_.get_ydata(), float), 100 * np.asarray(share))
    np.testing.assert_array_equal(really.get_xdata(), steps)
    np.testing.assert_allclose(np.asarray(really.get_ydata(), float)[5:-5], 5)  # over ten steps
    np.testing.assert_array_equal(right.lines[0].get_ydata(), [i // 100 for i in range(n)])
    names = [t.get_text() for t in figure.legends[0].get_texts()]
    assert names == ["share", "replayed (average)", "clips in the buffer"]
    assert [line.get_color() for line in (set_, really, right.lines[0])] == [
        line.get_color() for line in figure.legends[0].get_lines()
    ]


def test_odd_names_do_not_break_a_figure() -> None:
    assert size(counts(" ".join(NASTY[:6]), {name: {name: 3, "active": 2} for name in NASTY}))[1] == 990
    assert size(scores_by_round({name: [0.5] for name in NASTY}))[0] == 550


@settings(deadline=None, max_examples=5)
@given(st.text(max_size=60))
def test_no_name_breaks_a_figure(name: str) -> None:
    assert size(counts(name, {name: {name: 3, "active": 2}, "other": {"active": 1}}))[1] == 990


@pytest.mark.parametrize("name", ["$x^$", "_hidden", "%s {}", "é", "مرحبا"])
def test_names_are_drawn_as_text_not_as_mathematics(name: str) -> None:
    figure = counts(name, {name: {name: 1}})
    axes = figure.axes[0]
    labels = [axes.title, *axes.get_yticklabels(), *figure.legends[0].get_texts()]
    assert [t.get_text() for t in labels] == [name] * 3
    assert not any(t.get_parse_math() for t in labels)


def test_characters_without_a_glyph_become_question_marks() -> None:
    figure = counts("t", {"a猫\udcff\n\u202eb": {"active": 1}})
    assert figure.axes[0].get_yticklabels()[0].get_text() == "a????b"


@pytest.mark.parametrize("n", [0, 1, 20])
def test_figures_grow_with_their_content(tmp_path: Path, n: int) -> None:
    height, width = size(scores_by_round({f"round {i}": [0.2, 0.5] for i in range(n)}))
    assert (height, width) == (550, {0: 660, 1: 660, 20: 1320}[n])
    height, width = size(counts("Sources", {f"{i}.wav": {"active": i} for i in range(n)}))
    assert (height, width) == ({0: 242, 1: 242, 20: 836}[n], 990)
    assert size(share_over_time(range(n), [0.05] * n, [0.04] * n, [3] * n)) == (550, 990)
