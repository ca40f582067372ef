import hashlib
import json
import sys

import numpy as np
import pytest

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
pytest.importorskip("piper", reason="Piper voices need the extra kws[piper]")
pytest.importorskip("onnx", reason="the small voice that these tests speak with is made with onnx")

from kws.common.errors import KwsError
from kws.confusables.synthesis.base import Utterance
from kws.confusables.synthesis.espeak import Voice, speak
from kws.confusables.synthesis.piper import Piper
from kws.confusables.synthesis.plan import Prompt, Role, plan, plan_splits
from kws.confusables.synthesis.render import render
from kws.data.manifest import CONFUSABLE, Split, hash_split
from tests.piper_voices import HZ, OWN_HZ, PHONE_N, RATE, SIGNS, write_voice

GOOD = {"num_speakers": 1, "audio": {"sample_rate": 22050}, "phoneme_id_map": {}}
SPEAKERS = {f"p{200 + i}": i for i in range(20)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("voices")
    write_voice(folder, "en_US-lessac-low")
    write_voice(folder, "en_US-lessac-high")
    write_voice(folder, "en_GB-vctk-medium", SPEAKERS)
    return folder


def one(text="", voice="en_US-lessac-low", rate=175, phonemes=""):
    return Utterance("train/x/x-0.flac", "x", text, phonemes, "", voice, rate, 50, Split.TRAIN)


def spoken(folder, *utterances, rate=RATE):
    return list(Piper(folder).synthesise(utterances, rate))


def test_voices_are_the_speakers_of_the_folder_and_one_person_is_in_one_split(folder):
    splits = Piper(folder).voices()
    assert sorted(name for some in splits.values() for names in some for name in names) == sorted(
        ["en_US-lessac-low", "en_US-lessac-high", *(f"en_GB-vctk-medium#{name}" for name in SPEAKERS)]
    )
    assert ["en_US-lessac-high", "en_US-lessac-low"] in splits[hash_split("lessac")]
    assert all(splits.values())
    assert Piper(folder).speaker("en_GB-vctk-medium#p203") == "p203"


def test_a_speaker_of_two_collections_is_one_person(tmp_path):
    write_voice(tmp_path, "en_GB-vctk-medium", {"p1": 0, "p2": 1})
    write_voice(tmp_path, "en_GB-vctk-high", {"p2": 0, "p3": 1})
    together = [names for some in Piper(tmp_path).voices().values() for names in some if len(names) > 1]
    assert together == [["en_GB-vctk-high#p2", "en_GB-vctk-medium#p2"]]


def test_speakers_without_names_are_numbered(tmp_path):
    write_voice(tmp_path, "many", {"anna": 1, "x": 0}, speaker_id_map={"anna": 1})
    assert {name for some in Piper(tmp_path).voices().values() for names in some for name in names} == {
        "many#anna", "many#0",
    }  # fmt: skip


def tone_hz(pcm, phone):
    """The strongest frequency of a voice of tones at its phone of this number."""
    span = pcm[phone * PHONE_N : (phone + 1) * PHONE_N].astype(float)
    return float(np.argmax(np.abs(np.fft.rfft(span, 10 * RATE))) / 10)


def test_a_word_is_spoken_phone_by_phone_by_its_speaker(folder):
    word = [SIGNS.index(sign) for sign in "kˈæt"]
    first, other = (spoken(folder, one("", f"en_GB-vctk-medium#p{n}", phonemes="[[k'at]]"))[0] for n in (200, 219))
    # Piper puts a blank after every phone, and marks the beginning and the end
    assert len(first) == len(other) == (2 * (4 + 2) - 1) * PHONE_N
    for place, number in zip((2, 4, 6, 8), word, strict=True):
        assert tone_hz(first, place) == pytest.approx(HZ * number, abs=6)
        assert tone_hz(other, place) == pytest.approx(HZ * number + 19 * OWN_HZ, abs=6)


def test_phonemes_of_a_text_sound_like_the_text_with_its_stress(folder):
    text, phones = (spoken(folder, *some)[0] for some in ((one("computer"),), (one("", phonemes="[[k@mpj'u:t#3]]"),)))
    assert len(text) == len(phones) == 23 * PHONE_N
    assert np.corrcoef(text, phones)[0, 1] > 0.99


def test_rate_is_relative_to_the_own_pace_of_a_voice(folder):
    slow, own, fast = spoken(folder, one("computer", rate=100), one("computer"), one("computer", rate=350))
    assert len(own) == 23 * PHONE_N
    assert len(slow) == pytest.approx(1.75 * len(own), rel=1e-3)
    assert len(fast) == pytest.approx(0.5 * len(own), rel=1e-3)
    assert len(spoken(folder, one("computer"), rate=16000)[0]) == np.ceil(len(own) * 16000 / RATE)


def test_markup_in_a_text_is_not_obeyed(folder):
    plain, marked = (spoken(folder, one(text))[0] for text in ("kud", "[[kud]]"))
    obeyed = spoken(folder, one("", phonemes="[[k'u:d]]"))[0]
    assert len(obeyed) == (2 * (5 + 2) - 1) * PHONE_N
    assert len(plain) == len(marked) == len(obeyed) - 2 * PHONE_N, "read as a word, with a short vowel"


def test_the_noise_of_a_clip_depends_on_the_utterances_of_its_call_alone(folder):
    twice = spoken(folder, one("computer"), one("computer"))
    assert not np.array_equal(*twice), "each has noise of its own"
    spoken(folder, one("jarvis"))
    for before, after in zip(twice, spoken(folder, one("computer"), one("computer")), strict=True):
        assert np.array_equal(before, after)


def test_espeak_in_the_same_process_gives_the_same_samples_as_before(folder):
    before = speak("computer", Voice("en-us+f2"))
    spoken(folder, one("jarvis"))
    assert np.array_equal(speak("computer", Voice("en-us+f2")), before)


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(path.relative_to(folder), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


def test_one_or_two_processes_and_a_resumed_call_write_the_same_bytes(folder, tmp_path):
    roles = [
        Role("computer", [Prompt("computer", keyword="computer")], 60),
        Role(CONFUSABLE, [Prompt(phonemes="[[k@mpj'u:d3]]", keyword="computer"), Prompt("commuter")], 60),
    ]
    planned = plan_splits(Piper(folder), roles, 0)
    render(tmp_path / "one", Piper(folder), planned, workers=1)
    render(tmp_path / "two", Piper(folder), planned, workers=2)

    def stop(done, _):
        if done > 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "three", Piper(folder), planned, workers=1, progress=stop)
    gone = sorted((tmp_path / "three").rglob("*.flac"))[::3]
    for path in gone:
        path.unlink()
    render(tmp_path / "three", Piper(folder), planned, workers=1)
    assert digests(tmp_path / "one") == digests(tmp_path / "two") == digests(tmp_path / "three")
    assert len(digests(tmp_path / "one")) == 122


def test_another_model_of_the_same_name_does_not_resume(folder, tmp_path):
    write_voice(tmp_path / "voices", "en_US-lessac-low")
    voices = Piper(tmp_path / "voices")
    planned = plan(voices, [Role("computer", [Prompt("computer")], 2)], 0, Split.TRAIN)
    render(tmp_path / "clips", voices, planned)
    write_voice(tmp_path / "voices", "en_US-lessac-low", inference={"noise_scale": 0.1})
    with pytest.raises(KwsError, match="holds other recordings"):
        render(tmp_path / "clips", Piper(tmp_path / "voices"), planned)


def test_sounds_that_a_voice_lacks_are_an_error(folder, tmp_path):
    with pytest.raises(KwsError, match=r"en_US-lessac-low.onnx: .*: this voice has no sound 'h'"):
        spoken(folder, one("", phonemes="[[h'at]]"))
    write_voice(tmp_path, "few", phoneme_id_map={sign: [0] for sign in "_^$kəmpjˈuːɾ"})
    with pytest.raises(KwsError, match=r"few.onnx: 'computer': this voice has no sound 'ɚ'"):
        spoken(tmp_path, one("computer", "few"))


def test_a_voice_that_reads_letters_speaks_no_phonemes(tmp_path):
    write_voice(tmp_path, "letters", phoneme_type="text")
    with pytest.raises(KwsError, match=r"letters.onnx: .*this voice reads letters and speaks no phoneme strings"):
        spoken(tmp_path, one("", "letters", phonemes="[[k'at]]"))
    assert len(spoken(tmp_path, one("kæt", "letters"))[0]) == (2 * (3 + 2) - 1) * PHONE_N


@pytest.mark.parametrize(
    "settings",
    [
        "", "{", "[]", '{"num_speakers": 1}',
        json.dumps(GOOD | {"num_speakers": "2"}),
        json.dumps(GOOD | {"speaker_id_map": {"anna": 1}}),
        json.dumps(GOOD | {"speaker_id_map": {"\ud800": 0}}),
        json.dumps(GOOD | {"audio": {"sample_rate": 0}}),
        json.dumps(GOOD | {"phoneme_id_map": []}),
    ],
)  # fmt: skip
def test_damaged_settings_are_refused_with_their_file(tmp_path, settings):
    write_voice(tmp_path, "bad")
    (tmp_path / "bad.onnx.json").write_text(settings)
    with pytest.raises(KwsError, match=r"bad.onnx.json: not the settings of a Piper voice"):
        Piper(tmp_path).voices()


def test_settings_that_piper_cannot_use_are_refused_with_their_model(tmp_path):
    write_voice(tmp_path, "bad", inference={"length_scale": "fast"})
    with pytest.raises(KwsError, match=r"bad.onnx: cannot speak 'computer'"):
        spoken(tmp_path, one("computer", "bad"))


def test_a_damaged_model_is_refused_with_its_file(tmp_path):
    write_voice(tmp_path, "bad")
    (tmp_path / "bad.onnx").write_bytes(b"no model at all")
    with pytest.raises(KwsError, match=r"bad.onnx: not a Piper voice"):
        spoken(tmp_path, one("computer", "bad"))


def test_a_folder_without_voices_is_refused(tmp_path):
    with pytest.raises(KwsError, match=r"must hold NAME.onnx and NAME.onnx.json"):
        Piper(tmp_path).voices()
    (tmp_path / "lonely.onnx").write_bytes(b"")
    with pytest.raises(KwsError, match=r"lonely.onnx.json: not the settings"):
        Piper(tmp_path).voices()


def test_splits_without_a_voice_get_no_clips(tmp_path):
    write_voice(tmp_path, "en_US-lessac-low")
    planned = plan_splits(Piper(tmp_path), [Role("computer", [Prompt("computer")], 10)], 0)
    assert [one.split for one in planned] == [Split.TRAIN] * 10
    with pytest.raises(KwsError, match="piper: no voice belongs to the test split"):
        plan(Piper(tmp_path), [Role("computer", [Prompt("computer")], 10)], 0, Split.TEST)
    with pytest.raises(KwsError, match="piper: no voice belongs to the splits of the clips"):
        plan_splits(Piper(tmp_path), [Role("computer", [Prompt("computer")], 10, (0, 1))], 0)


def test_a_missing_extra_says_how_to_install_it(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(KwsError, match=r"pip install .* '\.\[piper\]'"):
        spoken(folder, one("computer"))
