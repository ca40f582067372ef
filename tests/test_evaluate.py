"""A checkpoint, its exported file and the independent referee count the same on the same streams."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws import checkpoint
from kws.compose import compose, save_stream
from kws.manifest import Part, read


@pytest.fixture(scope="module")
def streams(tones, tmp_path_factory) -> list[str]:
    """The test part as a positive stream with its events and two negative ones, as settings."""
    folder, rng = tmp_path_factory.mktemp("streams"), np.random.default_rng(1)

    def sounds(label: str) -> list[np.ndarray]:
        listed = [r for r in read(tones) if (r.label, r.part) == (label, Part.TEST)]
        return [soundfile.read(r.path, dtype="int16")[0] for r in listed]

    noise, speech = sounds("noise"), sounds("speech")
    save_stream(compose(sounds("beep") * 2, noise, rng, 1.0), folder / "p.flac", folder / "p.json")
    save_stream(compose(speech * 10, noise, rng, 0.3), folder / "n1.flac")
    save_stream(compose(speech * 7, noise, rng, 0.7), folder / "n2.flac")
    negative = f"[{folder}/n1.flac,{folder}/n2.flac]"
    return [f"positive={folder}/p.flac", f"events={folder}/p.json", f"negative={negative}"]


def figures(cli, detector: Path, out: Path, *words: str) -> dict[str, dict]:
    said = cli("evaluate", f"detector={detector}", f"out={out}", "threads=1", *words)
    assert said.code == 0, said.err
    return {outcome["keyword"]: outcome for outcome in json.loads(out.read_text())["outcomes"]}


def test_checkpoint_and_exported_file_give_the_same_figures(cli, run, streams, tmp_path):
    model = figures(cli, run / "model.pt", tmp_path / "a.json", *streams)
    exported = figures(cli, run / "detector.pt", tmp_path / "b.json", *streams)
    assert model == exported
    assert model["beep"]["as_calibrated"]["events"] == 16


def test_evaluating_the_recordings_gives_the_figures_of_the_run(cli, run, tiny, tmp_path):
    words = [word for word in tiny if word.startswith(("data.", "threshold."))]
    (outcome,) = json.loads((run / "results.json").read_text())["outcomes"]
    again = figures(cli, run / "model.pt", tmp_path / "a.json", *words, "threshold.at_fa_per_hour=0.5")["beep"]
    assert again == outcome
    as_it_is = figures(cli, run / "model.pt", tmp_path / "b.json", *words)["beep"]
    assert as_it_is == outcome | {"calibration": None}, "the thresholds are the detector's own"


def test_one_keyword_of_a_detector_of_two(cli, tones, run, tiny, tmp_path):
    recipe = checkpoint.read_model(run / "model.pt").recipe
    two = type(recipe)(**{**vars(recipe), "labels": ["other", "beep"]})
    checkpoint.write_model(tmp_path / "two.pt", two, two.net().state_dict(), [0.5, 0.5], {})
    words = [word for word in tiny if word.startswith("data.")]
    assert list(figures(cli, tmp_path / "two.pt", tmp_path / "a.json", *words, "keyword=beep")) == ["beep"]


def test_the_referee_counts_the_same(cli, data, run, streams, tmp_path):
    referee = data.resolve().parent / "referee/referee.py"
    if not referee.is_file():
        pytest.skip("there is no referee/referee.py beside KWS_DATA")
    positive, events, negative = (word.split("=")[1] for word in streams)
    told = subprocess.run(
        [sys.executable, referee, run / "detector.pt", "beep", positive, events, *negative.strip("[]").split(",")],
        capture_output=True,
        text=True,
        check=True,
    )
    theirs, ours = json.loads(told.stdout), figures(cli, run / "detector.pt", tmp_path / "a.json", *streams)["beep"]
    assert theirs["at_fa_per_hour"].keys() == ours["at_fa_per_hour"].keys()
    pairs = [(theirs["as_exported"], ours["as_calibrated"])]
    pairs += [(theirs["at_fa_per_hour"][rate], ours["at_fa_per_hour"][rate]) for rate in theirs["at_fa_per_hour"]]
    for their, our in pairs:
        assert their["threshold"] == pytest.approx(our["threshold"], abs=1e-5)
        assert their["false_alarms"] == our["false_alarms"]
        assert their["fa_per_hour"] == pytest.approx(our["fa_per_hour"], abs=1e-3)
        assert their["fa_per_hour_upper95"] == pytest.approx(our["fa_upper95"], abs=1e-3)
        assert their["miss_rate"] == pytest.approx(our["miss_rate"], abs=1e-4)
        assert their["miss_95"] == pytest.approx([our["miss_low"], our["miss_high"]], abs=2e-4)
    assert theirs["negative_hours"] == pytest.approx(ours["as_calibrated"]["hours"], abs=1e-3)


def test_a_word_the_detector_does_not_know_and_half_a_stream_are_refused(cli, run, streams):
    for words in (["keyword=boop", *streams], streams[:2], [*streams, "data.root=DIR"]):
        said = cli("evaluate", f"detector={run}/model.pt", *words)
        assert said.code == 2
        assert said.err.startswith("kws: ")
        assert said.err.count("\n") == 1
