"""Words spliced from recordings: which units are taken, and how they sound."""

from itertools import pairwise

import numpy as np
import pytest

from kws.confusables.phone_alignment import Phone
from kws.confusables.synthesis import splicing
from kws.confusables.synthesis.splicing import Splicer, Spoken, framed
from kws.data.audio import to_float, to_int16

RATE, HOP_N = 16000, 160
PHONE_N = 12  # frames of each phone
HZ = {1: 400, 2: 900, 3: 1600, 4: 2500}


@pytest.fixture(autouse=True)
def _little_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splicing, "FEWEST_PHONES", 3)
    monkeypatch.setattr(splicing, "SHORTEST_S", 0.1)


def spoken(speaker: str, numbers: list[int], phone_n: int = PHONE_N, phase: float = 0.0) -> Spoken:
    """A recording in which each phone is a tone of so many frames, one after another."""
    t = np.arange(len(numbers) * phone_n * HOP_N) / RATE
    hz = np.repeat([HZ[number] for number in numbers], phone_n * HOP_N)
    pcm = to_int16((0.3 * np.sin(2 * np.pi * hz * t + phase)).astype(np.float32))
    cepstra = np.repeat(np.eye(5, dtype=np.float32)[numbers], phone_n, axis=0)
    phones = [Phone(number, i * phone_n, (i + 1) * phone_n) for i, number in enumerate(numbers)]
    return Spoken(speaker, pcm, cepstra, phones)


def heard(x: np.ndarray) -> list[int]:
    """The phones of a sound: the loudest tone of 20 ms, wherever it is the same 10 ms later, without repeats."""
    tones = list[int]()
    for i in range(0, len(x) - 320, 160):
        hz = float(np.argmax(np.abs(np.fft.rfft(x[i : i + 320] * np.hanning(320)))) * 50)
        tones.append(next((number for number, own in HZ.items() if abs(own - hz) <= 50), 0))
    held = [one for one, after in pairwise(tones) if one == after and one]
    return [one for i, one in enumerate(held) if i == 0 or held[i - 1] != one]


def test_a_word_of_several_recordings_has_its_phones_in_order():
    splicer = Splicer([spoken("anna", [1, 2]), spoken("anna", [2, 3]), spoken("anna", [3, 1, 4])], RATE)
    rng = np.random.default_rng(0)
    for phones in ([1, 2, 3], [2, 3, 1], [1, 2, 3, 1, 4]):
        made = splicer.word(phones, 2.0, rng)
        assert made is not None
        sound, _ = made
        assert heard(sound) == phones
        assert abs(len(sound) - len(phones) * PHONE_N * HOP_N) <= 400 * len(phones)  # cuts may move by 10 ms
        assert np.abs(sound).max() <= 1


def test_units_that_follow_each_other_are_not_cut():
    """A recording that holds the whole word is cheaper than any cut, and its sound is taken as it is."""
    whole = spoken("anna", [1, 2, 3])
    splicer = Splicer([spoken("anna", [1, 2]), spoken("anna", [2, 3]), whole], RATE)
    units = splicer.chain([1, 2, 3], "anna", np.random.default_rng(0))
    assert units == (((2, 0), (2, 1)), ((2, 1), (2, 2)))
    sound = splicer.sound(units, 2.0)
    assert sound is not None
    assert len(sound) == len(whole.pcm)
    assert np.allclose(sound[200:-200], (to_float(whole.pcm) * splicer.gains[2])[200:-200])
    assert sound[0] == pytest.approx(0, abs=1e-3)


def test_the_voice_is_kept_where_it_has_the_units():
    anna, bert = [[1, 2], [2, 3], [1, 2], [2, 3], [1, 2], [2, 3], [1, 2], [2, 3]], [[1, 2, 3]] * 4
    recordings = [spoken("anna", some) for some in anna] + [spoken("bert", some) for some in bert]
    splicer = Splicer(recordings, RATE)
    assert splicer.speakers == ["anna", "bert"]
    rng = np.random.default_rng(0)
    for speaker in splicer.speakers:
        for _ in range(10):
            units = splicer.chain([1, 2, 3], speaker, rng)
            assert {recordings[i].speaker for unit in units for i, _ in unit} == {speaker}


def test_a_unit_of_the_speaker_is_cheaper_than_one_of_another():
    """The speaker has too few units for others to be left out."""
    splicer = Splicer([spoken("anna", [1, 2]), spoken("anna", [2, 3]), *[spoken("bert", [1, 2, 3])] * 3], RATE)
    rng = np.random.default_rng(0)
    for _ in range(10):
        assert splicer.chain([1, 2, 3], "anna", rng) == (((0, 0), (0, 1)), ((1, 0), (1, 1)))


def test_the_sound_is_alike_on_both_sides_of_a_cut():
    there, other, like = spoken("anna", [1, 2]), spoken("anna", [2, 3]), spoken("anna", [2, 3])
    other.cepstra[:PHONE_N] += 1  # its first phone sounds unlike the second of the first recording
    for recordings, right in (([there, other, like], 2), ([there, like, other], 1)):
        rng = np.random.default_rng(0)
        for _ in range(10):
            units = Splicer(recordings, RATE).chain([1, 2, 3], "anna", rng)
            assert units == (((0, 0), (0, 1)), ((right, 0), (right, 1)))


def test_phones_are_a_bit_longer_than_in_a_sentence():
    """Of three units the one whose phones last 1.2 times the median is taken."""
    short, right, long = (spoken("anna", [1, 2], phone_n=n) for n in (10, 12, 18))
    common = [spoken("bert", [1, 2], phone_n=10) for _ in range(9)]
    splicer = Splicer([short, right, long, *common], RATE)
    rng = np.random.default_rng(0)
    assert {splicer.chain([1, 2], "anna", rng) for _ in range(10)} == {(((1, 0), (1, 1)),)}


def test_waves_are_joined_in_phase():
    """Two halves of the same tone, cut where their phases differ: the level does not fall at the cut."""
    early, late = spoken("anna", [1, 1, 2], phase=0.0), spoken("anna", [2, 1, 1], phase=np.pi)
    sound = Splicer([early, late], RATE).sound([((0, 0), (0, 1)), ((1, 1), (1, 2))], 2.0)
    assert sound is not None
    levels = [np.sqrt(np.square(sound[i : i + 160]).mean()) for i in range(800, len(sound) - 800, 80)]
    assert min(levels) > 0.8 * max(levels)


def test_others_help_out_with_a_unit_that_a_voice_lacks():
    splicer = Splicer([spoken("anna", [1, 2, 1]), spoken("bert", [2, 3, 2])], RATE)
    units = splicer.chain([1, 2, 3], "anna", np.random.default_rng(0))
    assert units == (((0, 0), (0, 1)), ((1, 0), (1, 1)))
    assert heard(splicer.sound(units, 2.0)) == [1, 2, 3]


def test_a_voice_sets_two_phones_together_that_it_never_says_in_this_order():
    splicer = Splicer([spoken("anna", [1, 2, 1]), spoken("anna", [3, 1, 3])], RATE)
    (before, after), (first, second) = splicer.chain([1, 2, 3], "anna", np.random.default_rng(0))
    assert (before, after, first) == ((0, 0), (0, 1), (0, 1))
    assert second in {(1, 0), (1, 2)}
    sound, made_of = splicer.word([1, 2, 3], 2.0, np.random.default_rng(0))
    assert heard(sound) == [1, 2, 3]
    assert made_of == [0, 1]


def test_a_unit_that_nobody_has_gives_no_word():
    splicer = Splicer([spoken("anna", [1, 2, 3])], RATE)
    assert splicer.chain([1, 4], "anna", np.random.default_rng(0)) == ()
    assert splicer.word([1, 4], 2.0, np.random.default_rng(0)) is None
    few = Splicer([spoken("anna", [1, 2])], RATE)  # no speaker with enough phones
    assert few.word([1, 2], 2.0, np.random.default_rng(0)) is None


def test_a_word_is_no_longer_than_asked():
    splicer = Splicer([spoken("anna", [1, 2, 3])], RATE)
    whole_s = 3 * PHONE_N * HOP_N / RATE
    assert splicer.word([1, 2, 3], whole_s + 0.01, np.random.default_rng(0)) is not None
    assert splicer.word([1, 2, 3], whole_s - 0.01, np.random.default_rng(0)) is None


def test_pieces_are_as_loud_at_a_cut_as_the_sound_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(splicing, "_LEVEL", 0.1)
    loud, quiet = spoken("anna", [1, 2]), spoken("anna", [2, 3])
    quiet.pcm[: PHONE_N * HOP_N] = quiet.pcm[: PHONE_N * HOP_N] * 0.7  # its other phone is louder
    sound, _ = Splicer([loud, quiet], RATE).word([1, 2, 3], 2.0, np.random.default_rng(0))
    cut = round(1.5 * PHONE_N * HOP_N)
    before, after = (np.sqrt(np.square(sound[a:b]).mean()) for a, b in ((cut - 800, cut - 160), (cut + 160, cut + 480)))
    assert after == pytest.approx(before, rel=0.15)


def test_equal_generators_give_equal_words():
    splicer = Splicer([spoken("anna", [1, 2, 3, 1, 2, 3]), spoken("bert", [3, 1, 2, 3, 1])], RATE)
    (one, made_of), (two, again) = (splicer.word([1, 2, 3, 1], 2.0, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one, two)
    assert made_of == again


def test_a_framed_word_has_faint_noise_around_it():
    word = np.full(1600, 0.5, np.float32)
    whole = framed(word, RATE, np.random.default_rng(0))
    assert len(whole) == 1600 + 2 * 1600
    assert np.allclose(whole[1600:3200], 0.5, atol=1e-3)
    assert 0 < np.abs(whole[:1600]).max() < 1e-3
