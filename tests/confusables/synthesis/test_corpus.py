"""Sentences of random words, and generated noise."""

from collections import Counter

import numpy as np
import pytest

from kws.common.errors import KwsError
from kws.confusables.synthesis.corpus import (
    COLOURS,
    KINDS,
    Noise,
    noise,
    plan_noise,
    sentences,
    without_keywords,
    words,
)
from kws.confusables.synthesis.render import render
from kws.data import manifest
from kws.data.manifest import Split

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
SLOPES_DB = {"white": 0, "pink": -3, "brown": -6}  # an octave


@pytest.mark.parametrize("kind", list(COLOURS))
def test_coloured_noise_falls_by_the_known_slope(kind):
    power = np.abs(np.fft.rfft(noise(kind, 16000, np.random.default_rng(0)))) ** 2
    octaves = [10 * np.log10(np.mean(power[5 * low : 10 * low])) for low in (125, 250, 500, 1000, 2000)]
    assert np.diff(octaves) == pytest.approx(SLOPES_DB[kind], abs=0.7)


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_5_s_between_50_and_20_db_below_full_scale(kind):
    for seed in range(5):
        sound = noise(kind, 16000, np.random.default_rng(seed))
        assert sound.size == 5 * 16000
        assert -51 < 10 * np.log10(np.mean(sound.astype(float) ** 2)) < -19.9


def test_noise_is_rendered_in_all_splits_to_the_same_bytes(tmp_path):
    planned = plan_noise(40, "noise")
    assert Counter(one.split for one in planned) == {Split.TRAIN: 24, Split.VALIDATION: 6, Split.TEST: 10}
    assert {one.voice for one in planned if one.split is Split.VALIDATION} == set(KINDS)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        render(tmp_path / name, Noise(seed), planned, workers=1)
    found = manifest.read(tmp_path / "a")
    assert [(one.name, one.label, one.split) for one in found] == [(one.file, "noise", one.split) for one in planned]
    of = {name: [(tmp_path / name / one.file).read_bytes() for one in planned] for name in "abc"}
    assert of["a"] == of["b"] != of["c"]


def test_sentences_are_random_words_without_a_keyword():
    keywords = ["computer", "hey jarvis"]
    found = sentences(keywords, 200, 0)
    assert len(set(found)) == 200
    assert all(4 <= len(sentence.split()) <= 12 for sentence in found)
    assert {word for sentence in found for word in sentence.split()} <= set(words())
    assert not any(text in sentence.replace(" ", "") for sentence in found for text in ("computer", "heyjarvis"))
    assert sentences(keywords, 200, 0) == found
    assert sentences(keywords, 200, 1) != found


def test_homophones_of_a_keyword_are_no_negatives():
    near = ["nite", "knight", "nights", "overnight", "night", "net", "light", "nine"]
    assert without_keywords(["night"], near) == ["net", "light", "nine"]
    # father and farther sound alike only in accents that drop the r
    assert without_keywords(["father"], ["farther", "feather"]) == ["feather"]


def test_keywords_that_most_words_contain_are_refused():
    with pytest.raises(KwsError, match=r"^keyword=\['a', 'e', 'i', 'o'\]: must be longer"):
        sentences(["a", "e", "i", "o"], 7, 0)
