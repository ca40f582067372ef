"""The plots show the figures they are given, and no name breaks them."""

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

from kws.replay.plots import counts, draw_counts, draw_scores, draw_share, scores_by_round, share_over_time

NASTY = ["$x^$", "$\\frac{$", "_hidden", "猫", "مرحبا", "e\u0301", "\udcff", "a\nb", "\0", "\u202e", "", "%s {}", "🎉"]


def size(png: bytes) -> tuple[int, int]:
    """Height and width, and that it is PNG, with something drawn."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = imread(io.BytesIO(png), format="png")
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
    figure = draw_scores(rounds)
    np.testing.assert_allclose(boxes(figure), [(0, 0.2, 0.4), (2, 0.9, 0.9)])
    (x, y), (at, only) = points(figure)
    np.testing.assert_allclose(np.sort(y), rounds["first"])
    assert np.abs(x).max() <= 0.3
    np.testing.assert_allclose((at, only), ([2], [0.9]))
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["first (5)", "none (0)", "last (1)"]


def test_of_many_scores_some_are_drawn_over_the_whole_range() -> None:
    figure = draw_scores({"r": np.linspace(0, 1, 5001).tolist()})
    [(_, y)] = points(figure)
    assert 100 <= len(y) <= 200
    np.testing.assert_allclose(y, np.linspace(y.min(), y.max(), len(y)))
    assert (y.min(), y.max() > 0.98) == (0, True)
    np.testing.assert_allclose(boxes(figure), [(0, 0.25, 0.75)])


def test_bars_are_stacked_by_state_the_longest_on_top() -> None:
    by_name = {"short": {"active": 2}, "long": {"active": 3, "quarantined": 4}, "none": {}}
    figure = draw_counts("Kinds", by_name)
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
    figure = draw_counts("Sources", {f"{i}.wav": {"active": i} for i in range(33)})
    axes = figure.axes[0]
    assert len(axes.get_yticklabels()) == 30
    assert axes.get_yticklabels()[0].get_text() == "32.wav"
    assert axes.get_xlabel() == "clips (not shown: 3 more names with 3)"  # 0, 1 and 2


def test_equal_labels_stay_two_bars() -> None:
    long = ["x" * 30 + middle + "y" * 30 for middle in "ab"]
    axes = draw_counts("t", {long[0]: {"active": 1}, long[1]: {"active": 5}}).axes[0]
    assert [b.get_width() for b in bars(axes)] == [5, 1]
    labels = [t.get_text() for t in axes.get_yticklabels()]
    assert labels == ["x" * 20 + "…" + "y" * 19] * 2


def test_shares_and_size_are_drawn_over_the_steps() -> None:
    n = 500
    steps, share = list(range(0, 10 * n, 10)), np.linspace(0, 0.05, n).tolist()
    replayed = [0.1 * (i % 2) for i in range(n)]  # 5 % on average
    figure = draw_share(steps, share, replayed, [i // 100 for i in range(n)])
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


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=400), st.floats(0, 1))
def test_the_average_keeps_a_constant_and_the_range(values: list[float], constant: float) -> None:
    def drawn(shares: list[float]) -> np.ndarray:
        figure = draw_share(range(len(shares)), shares, shares, [0] * len(shares))
        return np.asarray(figure.axes[0].lines[1].get_ydata(), float)

    averaged = drawn(values)
    assert len(averaged) == len(values)
    assert averaged.min() >= 100 * min(values) - 1e-9
    assert averaged.max() <= 100 * max(values) + 1e-9
    np.testing.assert_allclose(drawn([constant] * len(values)), 100 * constant, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.text(max_size=60) | st.sampled_from(NASTY))
def test_no_name_breaks_a_plot_or_is_read_as_mathematics(name: str) -> None:
    assert size(counts(name, {name: {name: 3, "active": 2}, "other": {"active": 1}}))[1] == 990
    assert size(scores_by_round({name: [0.5], "other": [0.7]}))[0] == 550


@pytest.mark.parametrize("name", ["$x^$", "_hidden", "%s {}", "é", "مرحبا"])
def test_names_that_the_font_has_are_drawn_as_they_are(name: str) -> None:
    figure = draw_counts(name, {name: {name: 1}})
    axes = figure.axes[0]
    labels = [axes.title, *axes.get_yticklabels(), *figure.legends[0].get_texts()]
    assert [t.get_text() for t in labels] == [name] * 3
    assert not any(t.get_parse_math() for t in labels)


def test_what_the_font_lacks_becomes_a_question_mark() -> None:
    figure = draw_counts("t", {"a猫\udcff\n\u202eb": {"active": 1}})
    assert figure.axes[0].get_yticklabels()[0].get_text() == "a????b"


@pytest.mark.parametrize("n", [0, 1, 20])
def test_pictures_are_as_large_as_they_need_to_be(tmp_path: Path, n: int) -> None:
    height, width = size(scores_by_round({f"round {i}": [0.2, 0.5] for i in range(n)}))
    assert (height, width) == (550, {0: 660, 1: 660, 20: 1320}[n])
    height, width = size(counts("Sources", {f"{i}.wav": {"active": i} for i in range(n)}))
    assert (height, width) == ({0: 242, 1: 242, 20: 836}[n], 990)
    assert size(share_over_time(range(n), [0.05] * n, [0.04] * n, [3] * n)) == (550, 990)
