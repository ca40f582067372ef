"""The page is self-contained, shows the counted figures, and lets no name become markup."""

import base64
import hashlib
import html as html_lib
import io
import json
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

from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.operating_points import Curve, OperatingPoint
from kws.evaluation.report.det import colour, lived, plot
from kws.evaluation.report.page import Note, write_report
from kws.evaluation.results import Outcome, Table, points_table


def point(misses: int, alarms: int, hours: float = 0.72, wanted: float | None = 1.0) -> OperatingPoint:
    rates = (alarms, hours, alarms / hours, *poisson(alarms, hours))
    return OperatingPoint(wanted, 0.75, *rates, misses, 64, misses / 64, *wilson(misses, 64))


def outcome(name: str, points: list[OperatingPoint]) -> Outcome:
    """An outcome whose DET curve goes through its points."""
    counts = [
        np.array(x)
        for x in ([p.threshold for p in points], [p.false_alarms for p in points], [p.misses for p in points])
    ]
    return Outcome("", name, points, point(0, 0, wanted=None), Curve(*counts, 0.72, 64))


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


def test_operating_points_as_table_rows() -> None:
    table = points_table([outcome("a", [point(6, 1)])], "Operating points")
    assert table.rows == [
        ("a", "for 1 FA/h", "6/64 = 9.4 % [4.4, 19.0]", "1 in 43 min = 1.4/h [0.04, 7.7]", "0.7500"),
        ("a", "calibrated", "0/64 = 0.0 % [0.0, 5.7]", "0 in 43 min = 0.00/h [0.00, 5.1]", "0.7500"),
    ]
    assert len(table.header) == len(table.rows[0])


def test_the_page_is_complete_and_loads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("an older page")
    outcomes = [outcome("with replay", [point(6, 1), point(3, 2, wanted=2)]), outcome("without", [point(9, 0)])]
    facts = {"command": "kws train recipe=a", "commit": "329613f"}
    write_report(path, "Alexa", facts, outcomes)
    page = Page(path)
    assert page.tags["tr"] == 1 + 4  # two wanted rates at one threshold share a row
    assert any("for 1 to 2 FA/h" in text for text in page.text)
    assert any(text.strip().startswith("Misses 0 of 64 keywords") for text in page.text), "the verdict comes first"
    assert page.tags["img"] == 1
    assert {"with replay", "without", "6/64 = 9.4 % [4.4, 19.0]", "329613f"} <= set(page.text)
    assert not page.tags.keys() & {"link", "iframe"}
    assert not [v for k, v in page.attributes if k in ("src", "href") and not (v or "").startswith(("data:", "#"))]
    text = " ".join(page.text)
    assert text.index("Misses 0 of 64") < text.index("Misses against") < text.index("Operating points"), "tables last"
    image = next(v or "" for k, v in page.attributes if k == "src")
    pixels = imread(io.BytesIO(base64.b64decode(image.removeprefix("data:image/png;base64,"))))
    assert pixels.shape[:2] == (672, 880)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_each_line_has_the_colour_of_its_name(tmp_path: Path) -> None:
    outcomes = [outcome("x", [point(3, 5), point(6, 1)]), outcome("y", [point(20, 5), point(30, 1)])]
    write_report(tmp_path / "r.html", "t", {}, outcomes)
    colours = [colour(i).removeprefix("#") for i in range(2)]
    text = (tmp_path / "r.html").read_text()
    assert re.findall(r'class="(c\d)"></span>(\w)', text) == [("c0", "x"), ("c1", "y")] * 2, "sliders and legend"
    assert [re.search(rf"\.{c} {{ background: #(\w+)", text)[1] for c in ("c0", "c1")] == colours
    pixels = np.rint(imread(io.BytesIO(plot(outcomes).png))[..., :3] * 255).astype(int)
    heights = []
    for hex_ in colours:
        drawn = (pixels == list(bytes.fromhex(hex_))).all(-1)
        assert drawn.sum() > 100
        heights.append(np.argwhere(drawn)[:, 0].mean())
    assert heights[0] > heights[1]  # fewer misses lie lower
    legend, pictures = plot(outcomes), re.findall(r'src="data:image/png;base64,([^"]+)', text)
    assert [base64.b64decode(one) for one in pictures] == [legend.png], "one picture of both keywords"
    assert "thresholds=[A,B]" in text


@settings(deadline=None, max_examples=25)
@given(
    st.text() | st.sampled_from(["<script>alert(1)</script>", "a\" onload='x'", "&lt;", "$x^$", "_", "\udcff", "猫"])
)
def test_no_name_becomes_markup(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / "r.html"
    plain = tmp_path_factory.getbasetemp() / "plain.html"
    for target, word in ((path, name), (plain, "word"))[: 1 if plain.exists() else 2]:
        o = outcome(word, [point(1, 1)])
        outcomes = [replace(o, curve=replace(o.curve, hours=0.0))]  # a slider, and no plot, which is slow
        tables = [points_table(outcomes, word or "-"), Table("t", (word,), [(word,)])]
        write_report(target, word, {word: word}, outcomes, tables, notes=[Note(word, word, [word])])
    assert Page(path).tags == Page(plain).tags
    assert Page(path).attributes == Page(plain).attributes


@pytest.mark.parametrize("name", ["<script>", "$x^$", "_hidden", "猫"])
def test_odd_names_are_shown(tmp_path: Path, name: str) -> None:
    write_report(tmp_path / "r.html", "t", {}, [outcome(name, [point(1, 1)])])
    page = Page(tmp_path / "r.html")
    assert name in page.text
    assert page.tags["script"] == 2, "the data of the slider, and what moves it"


def test_the_only_script_is_the_one_that_the_policy_names(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "t", {}, [outcome("a", [point(1, 1), point(6, 0, wanted=0)])])
    page = (tmp_path / "r.html").read_text()
    data, script = re.findall(r"<script(?: type=\"application/json\" id=\"sweeps\")?>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert html_lib.unescape(page).count(f"script-src 'sha256-{digest}'\"") == 1
    (sweep,) = json.loads(data)
    assert sweep["misses"]["6"] == "6/64 = 9.4 % [4.4, 19.0]"
    assert sweep["alarms"]["1"] == "1 in 43 min = 1.4/h [0.04, 7.7]"


def test_the_plot_is_cut_to_the_operating_points(tmp_path: Path) -> None:
    """A curve goes on to thresholds that miss everything, and to those that fire all the time."""
    counts = np.array([500, 90, 5, 1, 0, 0]), np.array([0, 1, 3, 6, 9, 64])
    o = replace(outcome("a", [point(6, 1)]), curve=Curve(np.linspace(0.1, 0.9, 6), *counts, 0.72, 64))
    assert lived(o) == slice(2, 5)
    (places,) = plot([o]).places
    inside = ((places > 0.05) & (places < 0.95)).all(1)
    assert inside.tolist() == [False, False, True, True, True, False]


def test_without_an_outcome_there_is_no_plot(tmp_path: Path) -> None:
    write_report(tmp_path / "r.html", "t", {})
    assert Page(tmp_path / "r.html").tags["img"] == 0


def test_a_failed_write_leaves_the_older_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "r.html"
    path.write_text("an older page")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_report(path, "t", {})
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("r.html", "an older page")]
