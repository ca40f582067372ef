import itertools

import numpy as np
import pytest

from kws.confusables.distance import between
from kws.confusables.ipa import LETTERS, is_vowel, point, same_class, split_ipa, unknown_letters
from kws.confusables.pronunciation import ARPABET
from kws.confusables.synthesis.espeak import text_to_ipa

espeak = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('espeakng_loader')", reason="kws[speech]")


def test_no_two_letters_are_the_same_and_none_is_silence():
    points = {letter: point(letter).tobytes() for letter in ["", *LETTERS]}
    assert len(points) > 90
    assert len(set(points.values())) == len(points)


@pytest.mark.parametrize(
    ("nearer", "farther"),
    [
        ("pb", "pa"),  # voice, against consonant and vowel
        ("fθ", "fs"),  # the pair that listeners take for one another most, in Miller and Nicely (1955)
        ("mn", "mb"),  # listeners recognise place less well than nasality (the same)
        ("ɪi", "ɪɑ"),
        ("sz", "sn"),
        ("ji", "ja"),
        ("wu", "wi"),
        ("ɾd", "ɾm"),
        ("lɹ", "lk"),
        ("ɚə", "ɚi"),
    ],
)
def test_similar_phones_are_nearer(nearer, farther):
    assert between(*nearer) < between(*farther)


def test_a_diacritic_changes_a_phone_a_little():
    for plain, coloured in (("a", "aː"), ("ɔ", "ɔ̃"), ("t", "tʰ"), ("r", "rʲ"), ("n", "n̩"), ("u", "u2"), ("ə", "ɚ")):
        others = [between(plain, letter) for letter in LETTERS if is_vowel(letter) != is_vowel(plain)]
        assert 0 < between(plain, coloured) < min(others)
    assert np.array_equal(point("ə˞"), point("ɚ"))


def test_a_transcription_is_split_into_phones():
    assert split_ipa("tʃˈɜːtʃ") == ("tʃ", "ɜː", "tʃ")
    assert split_ipa("t͡ʃˈɜːt͡ʃ", length=False) == ("tʃ", "ɜ", "tʃ")
    assert split_ipa("bˈɔ̃ ɡoût") == ("b", "ɔ̃", "ɡ", "o", "u", "t")
    assert split_ipa("ɪç") == ("ɪ", "ç")
    assert split_ipa("mɑ5mˈɑ1") == ("m", "ɑ5", "m", "ɑ1")
    assert split_ipa("gʤɫ") == ("ɡ", "dʒ", "lˠ")
    assert split_ipa(" ˈ. ") == ()


def test_unknown_letters_are_returned():
    assert unknown_letters("hˈeɪ mˈɑːɹvɪn t͡ʃ ç ɚ") == ""
    assert unknown_letters("Ñaж") == "Nж"


def test_vowels_and_classes():
    assert [letter for letter in ("a", "ɚ", "n̩", "j", "s", "ʔ") if is_vowel(letter)] == ["a", "ɚ", "n̩"]
    assert same_class("p", "t")  # both stops
    assert same_class("p", "m")  # both of the lips
    assert same_class("i", "ɑ")
    assert not same_class("p", "n")
    assert not same_class("j", "i")


def test_arpabet_maps_to_known_ipa():
    assert len(ARPABET) == 39
    assert all(split_ipa(ipa) and not unknown_letters(ipa) for ipa in ARPABET.values())
    assert split_ipa(ARPABET["CH"]) == ("tʃ",)
    assert split_ipa(ARPABET["AY"]) == ("a", "ɪ")


@espeak
@pytest.mark.parametrize("language", ["en-us", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "sv", "cmn", "hi", "tr"])
def test_every_ipa_letter_of_espeak_is_known(language):
    found = text_to_ipa([str(i) for i in itertools.chain(range(30), (100, 1999))], language)
    assert [unknown_letters(ipa) for ipa in found] == [""] * len(found)
    assert all(map(split_ipa, found))
