import importlib.resources

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.confusables.synthesis.espeak import NATIVE_RATE, Voice, accents, phonemes, speak
from kws.confusables.synthesis.mnemonics import _table, mnemonics, speak_phones, spelt

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
VOICE = Voice("en-us+f2")
WORDS = importlib.resources.files("kws.confusables.synthesis").joinpath("words.txt").read_text(encoding="utf-8").split()


def test_phones_of_words_are_the_known_mnemonics():
    known = {
        "kəmpjˈuːɾɚ": "k|@|m|p|j|'u:|t#|3",
        "hˈeɪ dʒˈɑːɹvɪs": "h|'eI dZ|'A@|v|I|s",
        "bˈʌʔn̩": "b|'V|?|n-",
        "sˌɛvəntˈiːn": "s|,E|v|@|n|t|'i:|n",
    }
    assert {ipa: mnemonics(ipa) for ipa in known} == known


def test_other_ways_of_writing_ipa_are_the_same():
    assert mnemonics("t\u0361ʃɝt͡ʃ") == mnemonics("ˈtʃɜːtʃ") == "'tS|3:|tS"
    assert mnemonics("gɑr.dən") == mnemonics("ˈɡɑɹdən")
    assert mnemonics("  kæt ") == mnemonics("ˈkæt")
    assert spelt(" n̩ \n r ") == "n̩ ɹ"


def test_the_phones_of_a_word_are_its_sound():
    words = WORDS[::6]
    same = 0
    for word, ipa in zip(words, phonemes(words), strict=True):
        text, phones = speak(word, VOICE, NATIVE_RATE), speak_phones(ipa, VOICE, NATIVE_RATE)
        assert len(phones) == pytest.approx(len(text), rel=0.15), word
        same += np.array_equal(text, phones)
    assert same >= 0.9 * len(words), "564 of all 595 are the very samples; one IPA sign has several mnemonics elsewhere"


def test_phones_of_one_accent_are_said_in_every_other():
    for accent in accents():
        voice = Voice(f"{accent}+m3")
        text, phones = speak("marvin", voice), speak_phones(phonemes(["marvin"])[0], voice)
        assert len(phones) == pytest.approx(len(text), rel=0.35), accent


def test_one_sound_changed_is_another_sound_and_the_rest_the_same():
    cat, cad = speak_phones("kˈæt", VOICE), speak_phones("kˈæd", VOICE)
    assert not np.array_equal(cat, cad)
    onset = 16000 // 20
    assert np.corrcoef(cat[:onset], cad[:onset])[0, 1] > 0.99


def test_neighbours_do_not_run_into_one_sound():
    assert (mnemonics("bˈæɪt"), mnemonics("bˈaɪt")) == ("b|'a|I|t", "b|'aI|t")
    assert not np.array_equal(speak_phones("bˈæɪt", VOICE), speak_phones("bˈaɪt", VOICE))


def test_stress_is_heard():
    assert not np.array_equal(speak_phones("kəntˈɛnt", VOICE), speak_phones("kˈəntɛnt", VOICE))


@pytest.mark.parametrize(
    ("phones", "said"),
    [
        ("kˈat]] dog [[", r"'a' is no sound of en-us"),
        ("k_^_fr", "'_' is no sound"),
        ("kˈæ1", "'1' is no sound"),
        ("kˈæ\x01t", "is no sound"),
        ("", "no sound to say"),
        ("ˈ ", "no sound to say"),
    ],
)
def test_what_is_no_phone_never_reaches_the_synthesiser(phones, said):
    with pytest.raises(KwsError, match=said):
        speak_phones(phones, VOICE)


@given(st.text(max_size=8))
def test_mnemonics_are_those_of_the_table_or_an_error(text):
    try:
        names = mnemonics(text)
    except KwsError:
        return
    known = {*_table("en-us").values()}
    assert {name.strip("',") for word in names.split() for name in word.split("|")} <= known


def test_every_sound_of_every_accent_can_be_said_and_none_is_a_command():
    for accent in accents():
        for sign, name in _table(accent).items():
            assert not {*name} & set("]_^%"), name
            if accent in ("en", "en-us"):
                speak_phones(f"ə{sign}ə", VOICE, accent=accent)


def test_an_unknown_accent_names_itself():
    with pytest.raises(KwsError, match="'klingon'"):
        mnemonics("kæt", "klingon")
