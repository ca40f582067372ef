"""The report in a real browser, headless: it renders, its players play, and names stay text."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data.audio import to_int16
from tests.nets import sound

RATE = 16000
FOLDER, NAME = "<img src=x>", "<script>"  # a picture that would be broken; a script that would swallow the page


@pytest.fixture(scope="module")
def report(cli, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two detectors compared on streams with odd names, at thresholds that make them miss and alarm."""
    folder = tmp_path_factory.mktemp("report") / FOLDER
    folder.mkdir()

    def quoted(name: str) -> str:
        return f"'{folder / name}'"

    for i, seconds in enumerate((20, 30, 9)):
        pcm = to_int16(sound(seconds * RATE, i).numpy())
        soundfile.write(folder / f"{NAME}{i}.flac", pcm, RATE, subtype="PCM_16")
    (folder / "e.csv").write_text("start,end,label\n2,3,beep\n7,8,beep\n11,12.5,beep\n")
    for name, threshold in (("a", 0.02), ("b", 0.9)):
        said = cli("export", f"checkpoint={run}/model.pt", f"out={quoted(f'{name}.pt')}", f"thresholds={threshold}")
        assert said.code == 0, said.err
    positive, *negative = [quoted(f"{NAME}{i}.flac") for i in range(3)]
    said = cli(
        "evaluate",
        f"compare=[{quoted('a.pt')},{quoted('b.pt')}]",
        f"positive={positive}",
        f"events={quoted('e.csv')}",
        f"negative=[{','.join(negative)}]",
        f"report={quoted('out.html')}",
        f"plots={quoted('plots')}",
        f"out={quoted('out.json')}",
    )
    assert said.code == 0, said.err
    return folder / "out.html"


def test_the_report_renders_without_errors(browser, report: Path) -> None:
    browser.get(report.as_uri())
    widths = browser.execute_script("return [...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) > 3
    assert all(widths), "every picture is drawn"
    assert browser.execute_script("return document.querySelectorAll('section h3').length") == 4
    titles = [h3.text.split(":")[0] for h3 in browser.find_elements("css selector", "section h3")]
    assert titles == ["missed by a", "missed by b", "false alarms by a", "false alarms by b"]
    assert not browser.get_log("browser")


def test_the_slider_moves_the_counts_and_the_mark_on_the_curve(browser, report: Path) -> None:
    browser.get(report.as_uri())
    sweeps = json.loads(browser.execute_script("return document.getElementById('sweeps').textContent"))
    assert len(sweeps) == 2, "one for each detector"
    move = """
        const box = document.querySelectorAll(".slider")[1], input = box.querySelector("input");
        if (arguments[0] >= 0) { input.value = arguments[0]; input.dispatchEvent(new Event("input")); }
        else box.querySelector("button").click();
        const mark = document.querySelector('[data-marker="1"]');
        return [...box.querySelectorAll("[data-show]")].map(part => part.textContent).concat(mark.style.left);
    """
    sweep = sweeps[1]
    for stop in (0, len(sweep["stops"]) - 1):
        threshold, misses, alarms, left, _ = sweep["stops"][stop]
        shown = browser.execute_script(move, stop)
        assert shown[0].removesuffix(" (calibrated)") == threshold
        assert shown[1:3] == [sweep["misses"][str(misses)], sweep["alarms"][str(alarms)]]
        assert float(shown[3].rstrip("%")) == pytest.approx(100 * left, abs=0.01)
    assert browser.execute_script(move, -1)[0].endswith(" (calibrated)")
    assert not browser.get_log("browser")


@pytest.mark.parametrize("width", [420, 1200])
def test_nothing_overflows(browser, report: Path, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(report.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    shown = browser.execute_script("return document.querySelector('.plot img').getBoundingClientRect().width")
    # Letters are 11 pt at 160 dpi in a picture of 880 pixels.
    assert 11 / 72 * 160 * shown / 880 > 10, "letters of the plot can be read"
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_its_players_play(browser, report: Path) -> None:
    browser.get(report.as_uri())
    browser.set_script_timeout(20)
    lengths = browser.execute_async_script(
        """
        const done = arguments[0];
        Promise.all([...document.querySelectorAll("audio")].map((player) => new Promise((ready) => {
          player.muted = true;
          player.addEventListener("timeupdate", () => player.currentTime > 0 && ready(player.duration));
          player.addEventListener("error", () => ready(-1));
          player.play().catch(() => ready(-1));
        }))).then(done);
        """
    )
    assert lengths
    assert all(0.5 < length <= 8.01 for length in lengths), lengths


def test_a_name_that_is_markup_stays_text(browser, report: Path) -> None:
    browser.get(report.as_uri())
    assert browser.execute_script("return document.scripts.length") == 2, "the slider's data and its script"
    text = browser.find_element("tag name", "body").text
    assert f"{FOLDER}/{NAME}0.flac" in text
    assert "false alarms by b" in text, "what comes after the name is there"


def test_the_pictures_stand_as_files_too(report: Path) -> None:
    from matplotlib.image import imread

    files = sorted((report.parent / "plots").iterdir())
    assert "det.png" in [file.name for file in files]
    assert any(file.name.startswith("beep-missed-by-b-") for file in files)
    assert any(file.name.startswith("beep-false-alarms-by-a-") for file in files)
    for file in files:
        assert np.ptp(imread(file)[..., :3]) > 0.5, f"{file.name} is blank"
