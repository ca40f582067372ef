"""Checks of the keyword in its recordings, on melodies whose place is known."""

import numpy as np

from kws.confusables.settings import SyntheticConfig
from kws.data import keyword_location
from kws.data.keyword_location import Doubt
from kws.data.manifest import Split
from kws.evaluation.data_checks.finding import Level
from kws.evaluation.data_checks.keyword_checks import doubtful, lengths, repeated
from kws.evaluation.data_checks.split_checks import synthesised

RATE = 16000


def melody(rng: np.random.Generator, times: int) -> np.ndarray:
    """A keyword of two notes and noise, some times with half a second between."""
    notes = np.repeat([500, 1000, 700], RATE // 6)
    gap = np.zeros(RATE // 2)
    word = 0.3 * np.sin(2 * np.pi * np.cumsum(notes * rng.uniform(0.97, 1.03)) / RATE)
    x = np.concatenate([gap, *[piece for _ in range(times) for piece in (word, gap)]])
    return (x + 0.001 * rng.standard_normal(len(x))).astype(np.float32)


def test_a_keyword_that_is_there_twice_is_found_out():
    rng = np.random.default_rng(0)
    outlines = [keyword_location.outline(melody(rng, 1 if i else 2), RATE, 0.8) for i in range(14)]
    found = keyword_location.locate(outlines, keyword_location.train(outlines, 0.8), RATE, 0.8)
    assert [one.again for one in found] == [True] + [False] * 13
    (finding,) = repeated(["a.wav"], 14)
    assert finding.level is Level.warning
    assert "1 of 14 keyword recordings may hold the keyword more than once" in str(finding)
    assert repeated([], 14) == []


def test_synthetic_keywords_may_show_where_a_doubtful_one_is():
    found = doubtful([Doubt(0, "a.wav", "beep", Split.TRAIN, 0.1, 0.9, "more than one sound")])
    assert [one.level for one in found] == [Level.fault]
    (eased,) = synthesised(found, "few_shot", SyntheticConfig(positives=5))
    assert eased.level is Level.warning
    assert "what stays doubtful is left out" in eased.mend
    assert synthesised(found, "harden", SyntheticConfig()) == found


def test_unusual_lengths_are_named():
    usual = {f"{i}.wav": 0.6 + 0.01 * i for i in range(10)}
    assert lengths("beep", usual) == []
    short, long = lengths("beep", usual | {"short.wav": 0.2, "long.wav": 1.5})
    assert [one.name for one in short.cases] == ["short.wav"]
    assert [one.name for one in long.cases] == ["long.wav"]
    assert lengths("beep", {"short.wav": 0.1, "long.wav": 1.5}) == [], "two keywords have no usual length"


def test_doubtful_bounds_are_a_fault():
    (one,) = doubtful([Doubt(0, "a.wav", "beep", Split.TRAIN, 0.5, 1.0, "unlike the other recordings")])
    assert one.level is Level.fault
    assert "a.wav (unlike the other recordings; 0.50 to 1.00 s?)" in str(one)
    assert doubtful([]) == []
