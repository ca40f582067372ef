"""The page of a check in a real browser, headless: bounds are dragged, and names stay text."""

from pathlib import Path

import numpy as np
import pytest

from kws.evaluation.data_checks.check_page import Gallery, Player, envelope, write_check
from kws.evaluation.data_checks.finding import Case, Finding, Level
from kws.evaluation.results import Table

RATE = 16000
NAME = "<script>alert(1)</script>.wav"


@pytest.fixture
def page(tmp_path) -> Path:
    pcm = np.int16(9000 * np.sin(np.arange(4 * RATE) / 9))
    finding = Finding("missing", Level.fault, f"a {NAME}", "", [Case(NAME, "<img src=x>")])
    player = Player(NAME, "doubtful", pcm, begins_s=10.0, bounds=(11.0, 12.0))
    table = Table("beep", ("split", "keywords"), [("train", "3")])
    gallery = Gallery("Where the keyword is", "Listen.", [player], editable=True)
    write_check(tmp_path / "check.html", "beep", {"folder": NAME}, table, [finding], [gallery], RATE)
    return tmp_path / "check.html"


@pytest.mark.parametrize("width", [420, 1200])
def test_bounds_are_dragged_and_names_stay_text(browser, page, width):
    from selenium.webdriver import ActionChains

    browser.set_window_size(width, 900)
    browser.get(page.as_uri())
    edges = {edge: browser.find_element("css selector", f"rect[data-edge={edge}]") for edge in ("start", "end")}
    fields = {edge: browser.find_element("css selector", f"input[data-edge={edge}]") for edge in ("start", "end")}
    picture = browser.find_element("css selector", "svg").rect["width"]
    ActionChains(browser).drag_and_drop_by_offset(edges["end"], round(picture / 4), 0).perform()
    assert float(fields["start"].get_attribute("value")) == 11.0
    assert float(fields["end"].get_attribute("value")) == pytest.approx(13.0, abs=0.05)
    ActionChains(browser).drag_and_drop_by_offset(edges["start"], round(picture * 0.6), 0).perform()
    start, end = (float(fields[edge].get_attribute("value")) for edge in ("start", "end"))
    assert start == pytest.approx(end - 0.05, abs=0.002), "a bound does not pass the other"
    assert "1 of 1 marked as right" in browser.find_element("id", "count").text
    assert NAME in browser.find_element("css selector", "figcaption").text
    wide = browser.execute_script("return document.documentElement.scrollWidth > innerWidth")
    assert not wide, "the page does not scroll sideways"
    assert browser.get_log("browser") == []
    browser.execute_script("window.onbeforeunload = null; unsaved = false")


def test_an_envelope_spans_the_picture():
    path = envelope(np.int16([0, 32767, -32768, 0]))
    assert path.startswith("M125.0 50.0V50.5M375.0")
    assert path.count("M") == 4
    assert envelope(np.zeros(1, np.int16)) == "M500.0 50.0V50.5"
