import hashlib
import subprocess
import sys

import numpy as np
import pytest

from kws.common.errors import KwsError
from kws.confusables.synthesis import espeak
from kws.confusables.synthesis.espeak import (
    Voice,
    accents,
    phonemes_to_ipa,
    speak,
    speak_phonemes,
    text_to_ipa,
    text_to_phonemes,
    variants,
    voices,
)

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
VOICE = Voice("en-us+f2")


def digest(sound):
    return hashlib.sha256(sound.tobytes()).hexdigest()


def test_every_accent_has_104_variants():
    assert len(variants()) == 104
    assert {"en", "en-us", "en-gb-scotland", "en-029"} < set(accents())
    assert len(voices()) == 104 * len(accents())


def test_no_variant_is_silent_or_a_copy_of_another():
    sounds = {name: speak("hello", Voice(f"en+{name}"), espeak.NATIVE_RATE) for name in variants()}
    assert min(np.sqrt(np.mean(sound**2)) for sound in sounds.values()) > 0.005
    assert len({digest(sound) for sound in sounds.values()}) == len(sounds)


def test_accents_differ_in_sound():
    sounds = [speak("water dance bottle", Voice(f"{name}+f2")) for name in accents()]
    assert len({digest(sound) for sound in sounds}) == len(sounds)


def test_sound_is_float32_at_the_rate_asked_for():
    low, native = speak("hello computer", VOICE), speak("hello computer", VOICE, espeak.NATIVE_RATE)
    assert low.dtype == native.dtype == np.float32
    assert 0.1 < np.abs(low).max() <= 1
    assert low.size / 16000 == pytest.approx(native.size / espeak.NATIVE_RATE, abs=1e-4)


# m3 flutters, croak is rough, whisper and klatt4 breathe by random numbers: all of it is state of the library
@pytest.mark.parametrize("variant", ["f2", "m3", "whisper", "klatt4", "croak", "robosoft4"])
def test_an_utterance_does_not_depend_on_those_before(variant):
    voice = Voice(f"en-us+{variant}", 160, 60)
    first = speak("hello computer", voice)
    speak("seventeen other things were spoken in between", Voice("en+m7", 120, 20))
    assert np.array_equal(speak("hello computer", voice), first)


def test_a_faster_rate_is_shorter_speech():
    text = "seven yellow windows over the water"
    lengths = [speak(text, Voice("en-us+m3", rate)).size for rate in (100, 150, 200, 300)]
    assert lengths == sorted(lengths, reverse=True)
    assert 1.6 < lengths[0] / lengths[2] < 2.4


def median_f0_hz(voice):
    """Median over frames of 64 ms of the lag in 2 to 16 ms (62 to 500 Hz) with the highest autocorrelation."""
    sound = speak("aah", voice).astype(np.float64)
    vowel = sound[len(sound) // 4 : len(sound) // 2]
    frames = np.lib.stride_tricks.sliding_window_view(vowel, 1024)[::256]
    lags = np.arange(32, 257)
    likeness = [[frame[lag:] @ frame[:-lag] / (len(frame) - lag) for lag in lags] for frame in frames]
    return float(np.median(16000 / lags[np.argmax(likeness, axis=1)]))


def test_a_higher_pitch_raises_the_fundamental():
    low, own, high = (median_f0_hz(Voice("en-us+f2", 100, pitch)) for pitch in (20, 50, 80))
    assert low * 1.1 < own < high / 1.1
    assert 80 < low < high < 400


def test_a_woman_speaks_higher_than_a_man():
    assert median_f0_hz(Voice("en-us+f2", 100)) > 1.3 * median_f0_hz(Voice("en-us+m3", 100))


def test_markup_commands_and_phoneme_input_are_not_obeyed():
    plain = speak("hello there", VOICE)
    # obeyed, ctrl-A 50 S would halve the speed, and the break would be 3 s of silence
    assert speak("\x01hello there", VOICE).size == pytest.approx(plain.size, rel=0.2)
    assert speak('hello <break time="9s"/> there', VOICE).size < 9 * 16000
    assert not np.array_equal(speak("[[h@l'oU]]", VOICE), speak("hello", VOICE))
    assert text_to_ipa(["[[k'at]]"]) != text_to_ipa(["cat"])


def test_ipa_separates_homophones_from_other_words():
    knight, night, day, late = text_to_ipa(["knight", "night", "day", "late"])
    assert knight == night == "nˈaɪt"
    assert len({night, day, late}) == 3
    potter, pottah = text_to_ipa(["potter", "pottah"], "en")
    assert potter.startswith("pˈɒt")
    assert pottah.startswith("pˈɒt")
    assert text_to_ipa(["one, two. three"])[0].split()[-1] == "θɹˈiː", "every clause is read"


def test_bad_input_is_refused_by_name():
    with pytest.raises(KwsError, match=r"'en-us\+nobody'"):
        speak("hello", Voice("en-us+nobody"))
    with pytest.raises(KwsError, match=r"'\.\./\.\./etc'"):
        speak("hello", Voice("../../etc"))
    for nothing in ("", "  ", "...", "\x01\x02"):
        with pytest.raises(KwsError, match="no letter or digit"):
            speak(nothing, VOICE)
    with pytest.raises(KwsError, match=r"rate_wpm=20: must be between 80 and 450"):
        Voice("en-us+f2", rate_wpm=20)
    with pytest.raises(KwsError, match="pitch=100"):
        Voice("en-us+f2", pitch=100)
    with pytest.raises(KwsError, match="'klingon'"):
        text_to_ipa(["hello"], "klingon")


def test_a_missing_extra_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    espeak._installation.cache_clear()
    with pytest.raises(KwsError, match=r"pip install .* '\.\[speech\]'"):
        speak("hello", VOICE)


def test_any_language_is_read():
    assert {"de", "fr", "cmn", "pt-br", "en-us"} < set(espeak.languages())
    assert text_to_ipa(["Zeit", "Bücher"], "de") == ["tsˈaɪt", "bˈyːçɜ"]
    assert text_to_ipa(["Computer"], "de") != text_to_ipa(["Computer"], "en-us")
    assert text_to_ipa(["hello world"], "de")[0].isprintable()
    assert "(" not in text_to_ipa(["hello world"], "de")[0], "no marks of a change of language"


def test_every_language_reads_numbers_and_none_ends_the_process():
    code = (
        "from kws.confusables.synthesis.espeak import *; "
        "print(*(x for x in languages() if not any(text_to_ipa(['1', '12'], x))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"chr", "cv", "sjn"}, "these have no numbers"


def test_phonemes_of_a_text_one_by_one():
    (computer, two) = text_to_phonemes(["computer", "hey you"])
    assert [name for name, _ in computer] == ["k", "@", "m", "p", "j", "'u:", "t#", "3"]
    assert [sound for _, sound in computer] == ["k", "ə", "m", "p", "j", "ˈuː", "ɾ", "ɚ"]
    assert (" ", " ") in two
    assert text_to_phonemes(["привет"], "ru")[0][1:3] == [("r;", "rʲ"), ("i", "i")], "palatal by a name of its own"


def test_transcribed_phonemes_together_are_the_pronunciation():
    texts = ["seven yellow windows", "twenty eight", "o'clock"]
    for pairs, ipa in zip(text_to_phonemes(texts), text_to_ipa(texts), strict=True):
        assert "".join(sound for _, sound in pairs) == ipa


def test_phoneme_strings_are_pronounced_as_the_text_they_stand_for():
    texts = ["computer", "hey marvin", "church judge"]
    strings = ["[[" + "".join(name for name, _ in pairs) + "]]" for pairs in text_to_phonemes(texts)]
    assert phonemes_to_ipa(strings) == text_to_ipa(texts)
    assert phonemes_to_ipa(["[[k'at]]", "[[]]", "[[t|S]]", "[[tS]]"])[:2] == ["kˈæt", ""]
    assert phonemes_to_ipa(["[[k@mpj'u:t3]]"], "en") == text_to_ipa(["computer"], "en"), "pronounced as in England"
    with pytest.raises(KwsError, match="'klingon'"):
        phonemes_to_ipa(["[[k]]"], "klingon")


def test_phoneme_strings_are_spoken_with_their_stress():
    texts = ["computer", "hey marvin", "content"]
    for text, pairs in zip(texts, text_to_phonemes(texts), strict=True):
        string = "[[" + "|".join(name for name, _ in pairs).replace("| |", " ") + "]]"
        assert np.array_equal(speak_phonemes(string, VOICE), speak(text, VOICE)), string
    assert not np.array_equal(speak_phonemes("[[k@nt'Ent]]", VOICE), speak_phonemes("[[k'@ntEnt]]", VOICE))
    assert len(speak_phonemes("[[k@mpj'u:t#3]]", Voice("en-gb-scotland+m3"))) > 8000, "in any accent"


@pytest.mark.parametrize("string", ["k'at", "[[k'at]] dog [[", "[[k_^_fr]]", "[[]]", "[[k\x01t]]", ""])
def test_text_that_is_no_phoneme_string_never_reaches_espeak(string):
    with pytest.raises(KwsError, match=r"^phonemes: .* must be a phoneme string"):
        speak_phonemes(string, VOICE)
