"""Synthetic clips are made only where the recordings are too few for them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kws.commands import speech
from kws.common.console import Console
from kws.data.manifest import Recording, Split


def test_recordings_are_divided_by_their_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not compared with one another, which takes 9 s for 4,000 negatives and 1,000 noises."""

    def refuse(one: Recording, other: object) -> bool:
        raise AssertionError

    monkeypatch.setattr(Recording, "__eq__", refuse)
    monkeypatch.setattr(speech, "length_s", lambda path: 100.0)
    real = [Recording(Path(label), label, label, Split.TRAIN) for label in ("noise", "speech", "Hey-Jarvis")]
    asked = SimpleNamespace(positives=0, confusables=0, sentences=2, noises=2)
    settings: Any = SimpleNamespace(data=SimpleNamespace(synthetic=asked, noise_label="noise"))
    assert speech.synthesise(settings, ["hey jarvis"], None, real) == speech.SyntheticClips()  # type: ignore[arg-type]


def test_a_label_that_is_nearly_the_keyword_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    real = [Recording(Path(f"{i}"), f"{i}", "okay garden", Split.TRAIN) for i in range(20)]
    synthetic = SimpleNamespace(positives=100, sentences=100)
    settings: Any = SimpleNamespace(data=SimpleNamespace(root="mine", synthetic=synthetic, noise_label="noise"))
    console = Console()
    speech.require_labels(real, ["okay garden"], settings, console)
    assert capsys.readouterr().err == ""
    speech.require_labels(real, ["okey garden"], settings, console)
    said = capsys.readouterr().err
    assert "keyword=okey garden: no recording of it; those of okay garden, 20, count as negatives (did you mean" in said


def test_recordings_of_another_keyword_are_no_negatives(capsys: pytest.CaptureFixture[str]) -> None:
    real = [Recording(Path("a"), "a", "turn lights on", Split.TRAIN)]
    synthetic = SimpleNamespace(positives=100, sentences=100)
    settings: Any = SimpleNamespace(data=SimpleNamespace(root="mine", synthetic=synthetic, noise_label="noise"))
    speech.require_labels(real, ["turn lights on", "turn lights off"], settings, Console())
    assert capsys.readouterr().err == ""


def test_two_detectors_of_synthetic_keywords_need_recordings_of_ones_own() -> None:
    none, some = (SimpleNamespace(real=SimpleNamespace(events=n)) for n in (0, 3))
    outcomes: Any = [none]
    said = speech.advice(outcomes, "a b.pt", Path("new/model.pt"))
    assert "kws evaluate 'compare=[a b.pt,new/model.pt]' positive=MINE/" in said
    others: list[Any] = [[some], [none, some], [SimpleNamespace(real=None)], []]
    for real in others:
        assert speech.advice(real, "a.pt", Path("b.pt")) == ""
