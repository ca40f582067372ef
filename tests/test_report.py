"""The page stands alone, says the figures as counted, and lets no name become markup."""

import base64
import io
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from kws.detect import OperatingPoint, Span, Track, at_threshold, operating_points, threshold_for
from kws.metrics import poisson, poisson_upper, wilson
from kws.report import Curve, Table, curve, plot, points_table, write_report

SPANS: list[Span] = [(10.0 * i, 10.0 * i + 2.0) for i in range(1, 21)]


def point(misses: int, alarms: int, hours: float = 0.72, wanted: float | None = 1.0) -> OperatingPoint:
    rates = (alarms, hours, alarms / hours, *poisson(alarms, hours), poisson_upper(alarms, hours))
    return OperatingPoint(wanted, 0.75, *rates, misses, 64, misses / 64, *wilson(misses, 64))


def streams(seed: int = 0) -> tuple[Track, Track]:
    """20 keywords that score 0.5-1, an hour of negatives that sometimes does too."""
    rng = np.random.default_rng(seed)
    positive, negative = np.zeros(22_000, np.float32), (rng.random(360_000) ** 400).astype(np.float32)
    for a, _ in SPANS:
        positive[int(100 * a) + 50 : int(100 * a) + 90] = rng.uniform(0.5, 1)
    return (
        Track(np.arange(1, 22_001, dtype=np.float64) / 100, positive, 220.0),
        Track(np.arange(1, 360_001, dtype=np.float64) / 100, negative, 3600.0),
    )


class Page(HTMLParser):
    """Tags, their attributes, and text, as a browser reads them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_figures_read_as_counted() -> None:
    table = points_table({"a": [point(6, 1)], "b": [point(0, 0, wanted=None)]})
    assert table.rows == [
        ("a", "1/h", "6/64 = 9.4 % [4.4, 19.0]", "1 in 0.72 h = 1.4/h [0.04, 7.7]", "0.7500"),
        ("b", "as set", "0/64 = 0.0 % [0.0, 5.7]", "0 in 0.72 h = 0.00/h [0.00, 5.1]", "0.7500"),
    ]
    assert len(table.header) == len(table.rows[0])


def test_the_page_holds_everything_and_fetches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("an older page")
    arms = {"with replay": [point(6, 1), point(3, 2, wanted=2)], "without": [point(9, 0)]}
    facts = {"command": "kws train recipe=a", "commit": "329613f"}
    write_report(path, "Alexa", facts, [points_table(arms)], [Curve(k, v) for k, v in arms.items()])
    page = Page(path)
    assert page.tags["tr"] == 2 + 1 + 2  # two wanted rates at one threshold share a row
    assert any("1-2/h" in text for text in page.text)
    assert page.tags["img"] == 1
    assert {"with replay", "without", "6/64 = 9.4 % [4.4, 19.0]", "329613f"} <= set(page.text)
    assert not page.tags.keys() & {"script", "link", "iframe"}
    assert not [v for k, v in page.attributes if k in ("src", "href") and not (v or "").startswith("data:")]
    image = next(v or "" for k, v in page.attributes if k == "src")
    pixels = imread(io.BytesIO(base64.b64decode(image.removeprefix("data:image/png;base64,"))))
    assert pixels.shape[:2] == (605, 990)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_each_arm_is_drawn_in_the_colour_of_its_name(tmp_path: Path) -> None:
    arms = [Curve("x", [point(6, 1), point(3, 5)]), Curve("y", [point(30, 1), point(20, 5)])]
    write_report(tmp_path / "r.html", "t", {}, [], arms)
    colours = re.findall(r"background:#(\w{6})", (tmp_path / "r.html").read_text())
    pixels = np.rint(imread(io.BytesIO(plot(arms)))[..., :3] * 255).astype(int)
    heights = []
    for colour in colours:
        drawn = (pixels == list(bytes.fromhex(colour))).all(-1)
        assert drawn.sum() > 100
        heights.append(np.argwhere(drawn)[:, 0].mean())
    assert heights[0] > heights[1]  # fewer misses lie lower


@settings(deadline=None, max_examples=25)
@given(
    st.text() | st.sampled_from(["<script>alert(1)</script>", "a\" onload='x'", "&lt;", "$x^$", "_", "\udcff", "猫"])
)
def test_no_name_becomes_markup(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / "r.html"
    plain = tmp_path_factory.getbasetemp() / "plain.html"
    for target, word in ((path, name), (plain, "word")):
        tables = [points_table({word: [point(1, 1)]}, title=word or "-"), Table("t", (word,), [(word,)])]
        write_report(target, word, {word: word}, tables, [])
    assert Page(path).tags == Page(plain).tags
    assert Page(path).attributes == Page(plain).attributes


@pytest.mark.parametrize("name", ["<script>", "$x^$", "_hidden", "猫"])
def test_odd_names_of_arms_are_drawn_and_shown(tmp_path: Path, name: str) -> None:
    write_report(tmp_path / "r.html", "t", {}, [], [Curve(name, [point(1, 1)])])
    page = Page(tmp_path / "r.html")
    assert name in page.text
    assert page.tags["script"] == 0


def test_nothing_to_draw_draws_nothing(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "t", {}, [], [Curve("empty", [])])
    assert Page(tmp_path / "r.html").tags["img"] == 0


def test_a_failed_write_leaves_the_older_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.html"
    path.write_text("an older page")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(path, "t", {}, [], [])
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.html", "an older page")]


@pytest.mark.parametrize("seed", [0, 1])
def test_a_full_curve_is_every_count_at_its_best_threshold(seed: int) -> None:
    positive, negative = streams(seed)
    negative = replace(negative, duration_s=3599.3)  # 1 / hours * hours < 1 here: a count must not get lost
    points = curve(positive, SPANS, negative, n=1000, max_fa_per_hour=20)  # 19.996 alarms: 19
    every = [threshold_for(negative, (k + 0.5) / negative.hours) for k in range(20)]
    assert points == [at_threshold(positive, SPANS, negative, t) for t in sorted(set(every), reverse=True)]
    assert [p.false_alarms for p in points] == sorted(p.false_alarms for p in points)
    assert points[-1].misses < points[0].misses


def test_a_thinned_curve_keeps_its_ends() -> None:
    positive, negative = streams()
    full, thin = (curve(positive, SPANS, negative, n, max_fa_per_hour=200) for n in (1000, 10))
    assert (thin[0], thin[-1]) == (full[0], full[-1])
    assert len(thin) <= 10 < len(full)
    assert set(thin) <= set(full)
    zero = operating_points(positive, SPANS, negative, rates=(0,))[0]
    assert (thin[0].threshold, thin[0].misses) == (zero.threshold, zero.misses)


def test_a_perfect_detector_is_a_curve_of_one_point() -> None:
    positive, negative = streams()
    silent = Track(negative.times, np.zeros_like(negative.scores), 3600.0)
    (only,) = curve(positive, SPANS, silent)
    assert (only.false_alarms, only.misses) == (0, 0)
