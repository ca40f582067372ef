"""The Python interface: its doctests, its lazy import, and its agreement with the commands."""

import doctest
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import kws
from kws import api
from kws.common.errors import KwsError
from kws.data.audio import load, to_int16
from kws.evaluation.operating_points import RATES
from tests.conftest import TINY

RATE = 16000


@pytest.fixture
def folder(run: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with a run, recordings with and without the keyword, and a recipe."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run, "runs/beep")
    for name, label in (("beeps", "beep"), ("radio", "speech")):
        pcm = [to_int16(load(tones / f"{label}-test-{i}.flac")) for i in range(3)]
        soundfile.write(f"{name}.flac", np.concatenate(pcm), RATE)
    recipe = OmegaConf.from_dotlist([*TINY, f"data.root={tones}", "data.cache=cache"])
    Path("tiny.yaml").write_text(OmegaConf.to_yaml(recipe))
    return tmp_path


def test_doctests_and_a_run_with_the_weights_of_the_command(run: Path, folder: Path) -> None:
    failed, tried = doctest.testmod(api, extraglobs={"kws": kws, "Path": Path}, optionflags=doctest.ELLIPSIS)
    assert failed == 0
    assert tried >= 12
    again = kws.TrainedRun(folder / "runs/again")
    weights = [torch.load(out / "model.pt", weights_only=True)["hash"] for out in (run, again.folder)]
    assert weights[0] == weights[1]
    assert again.detector().labels == ["beep"]


def test_every_name_has_a_doctest() -> None:
    documented = " ".join(test.docstring or "" for test in doctest.DocTestFinder().find(api) if test.examples)
    assert [name for name in kws.__all__ if name != "TrainedRun" and f"kws.{name}(" not in documented] == []


def test_importing_kws_imports_nothing_slow() -> None:
    code = "import sys, kws; assert 'train' in dir(kws); print(sorted({'torch', 'hydra', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kws.nothing  # noqa: B018


def test_a_file_and_its_samples_have_the_same_scores(folder: Path) -> None:
    detector = kws.load_detector("runs/beep/detector.pt")
    pcm, _ = soundfile.read("radio.flac", dtype="int16")
    of_file, of_samples = kws.score(detector, "radio.flac"), kws.score(detector, pcm)
    of_floats = kws.score(detector, (pcm / 32768).astype(np.float32))
    for other in (of_samples, of_floats):
        np.testing.assert_array_equal(of_file["beep"].scores, other["beep"].scores)
        np.testing.assert_array_equal(of_file["beep"].times, other["beep"].times)
    by_hand = torch.as_tensor(pcm / 32768, dtype=torch.float32)
    detector.reset()
    np.testing.assert_allclose(detector(by_hand)[:, 0], of_file["beep"].scores, atol=1e-5)


def test_the_counts_are_those_of_the_command(cli, folder: Path) -> None:
    Path("e.json").write_text("[[0.0, 1.5], [1.5, 2.9]]")
    words = ["detector=runs/beep/model.pt", "positive=beeps.flac", "events=e.json", "negative=radio.flac"]
    said = cli("evaluate", *words, "out=o.json", "stream.chunk_s=0.08")
    assert said.code == 0, said.err
    (theirs,) = json.loads(Path("o.json").read_text())["outcomes"]
    detector = kws.load_detector("runs/beep/model.pt")
    ours = kws.evaluate("beeps.flac", "e.json", ["radio.flac"], detector)
    for rate, point in zip(RATES, ours, strict=True):
        assert equal_but_for_rounding(vars(point), theirs["at_fa_per_hour"][str(rate)])
    (own,) = kws.evaluate("beeps.flac", "e.json", ["radio.flac"], detector, threshold=detector.thresholds[0])
    assert equal_but_for_rounding(vars(own), theirs["as_calibrated"])


def equal_but_for_rounding(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """The command scores whole recordings, the function blocks of them: the threshold, a score, differs in rounding."""
    return a == {**b, "threshold": pytest.approx(b["threshold"], rel=1e-6)}


def test_what_is_wrong_is_an_error_with_the_key(folder: Path) -> None:
    for wrong, message in (
        ({"keyword": "a", "optim.stepz": 3}, "optim.stepz: no such setting"),
        ({"keyword": "a", "optim.steps": "many"}, "optim.steps=many"),
        ({"keyword": "a", "data.root": ".", "replay.share": 0.9}, "replay.share=0.9: must be"),
    ):
        with pytest.raises(KwsError, match=message):
            kws.train(**wrong)
    detector = kws.load_detector("runs/beep/model.pt")
    with pytest.raises(KwsError, match="keyword=boop: must be one of the labels"):
        kws.evaluate("beeps.flac", [(0, 1)], ["radio.flac"], detector, keyword="boop")
    for events, message in (
        ([], "events: must hold at least one event"),
        ([(5, 1)], r"events: \(5, 1\) must start before it ends"),
        ([(float("nan"), 1)], "must start before"),
        ([3], "must be pairs"),
    ):
        with pytest.raises(KwsError, match=message):
            kws.evaluate("beeps.flac", events, ["radio.flac"], detector)
    (point,) = kws.evaluate("beeps.flac", np.array([[-0.5, 1.1]]), ["radio.flac"], detector, threshold=0.5)
    assert point.events == 1
    with pytest.raises(KwsError, match="no such file"):
        kws.load_detector("nothing.pt")


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXTS = (
    st.text(st.characters(exclude_categories=["C"]), min_size=1)
    | st.text("\\'a", min_size=1)
    | st.sampled_from(["null", "1", "a'b", "a\\", "\\'", "x=y", "[a]", "$x", "1e3", "/tmp/a b"])
)


@settings(max_examples=400, deadline=None)
@given(VALUES | TEXTS | st.lists(TEXTS))
def test_a_value_reaches_hydra_as_it_is(value: object) -> None:
    (word,) = api._words({"key": value})
    (override,) = OverridesParser.create().parse_overrides([word])
    got = override.value()
    assert got == value or str(got) == str(value)
    assert type(got) is type(value) or not isinstance(value, int | bool)
