"""Clips spliced from transcribed speech: which speech is aligned, which phrases are drawn, and their folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.common.errors import KwsError
from kws.confusables.synthesis import spliced, splicing
from kws.confusables.synthesis.spliced import (
    Role,
    TranscribedRecording,
    aligned,
    choose_speech,
    clips,
    contains,
    identity,
    phone_numbers,
    phrases,
)
from kws.data.audio import to_int16
from kws.data.manifest import Source, Split

RATE = 16000
HZ = {"a": (600, 2400), "b": (400, 1000), "c": (900, 1500), "d": (3000, 2400), "e": (1800, 3300)}
WORDS = {"long": "abcdeabcdeabcd", "abe": "abe", "bad": "bad", "cede": "cede", "ead": "ead", "dab": "dab"}


def sentence(speaker: str, words: Sequence[str], seed: int = 0, hush_s: float = 0.1) -> TranscribedRecording:
    """A recording in which each phone is two tones for 0.12 s."""
    rng, t = np.random.default_rng([seed, *speaker.encode()]), np.arange(RATE * 12 // 100) / RATE
    tones = [0.2 * sum(np.sin(2 * np.pi * hz * t) for hz in HZ[phone]) for word in words for phone in WORDS[word]]
    hush = np.zeros(round(hush_s * RATE))
    x = np.concatenate([hush, *tones, hush])
    x = (x + 1e-3 * rng.standard_normal(len(x))).astype(np.float32)
    name = f"{speaker}-{seed}"
    return TranscribedRecording(
        Source(f"hash {name}", name, Split.TRAIN), speaker, [(w, tuple(WORDS[w])) for w in words], to_int16(x)
    )


@pytest.fixture(autouse=True)
def _little_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (spliced, splicing):
        monkeypatch.setattr(module, "FEWEST_PHONES", 20)


@pytest.fixture
def said() -> list[TranscribedRecording]:
    rng, words = np.random.default_rng(0), sorted({*WORDS} - {"long"})
    return [sentence(speaker, rng.choice(words, 4).tolist(), i) for speaker in ("anna", "bert") for i in range(8)]


def test_speakers_with_a_voice_come_first_and_are_taken_whole(
    said: list[TranscribedRecording], monkeypatch: pytest.MonkeyPatch
):
    visitors = [sentence(f"visitor {i}", ["abe"], i) for i in range(200)]
    own_s = sum(len(one.pcm) for one in said) / RATE
    monkeypatch.setattr(spliced, "MOST_S", own_s + 3)
    for seed in range(3):
        chosen = choose_speech([*visitors, *said], RATE, seed)
        assert {one.source.hash for one in chosen} >= {one.source.hash for one in said}
        assert own_s < sum(len(one.pcm) for one in chosen) / RATE <= own_s + 3  # visitors fill what is left
    assert [one.source for one in choose_speech(said, RATE, 0)] == [
        one.source for one in choose_speech(said[::-1], RATE, 0)
    ]


def test_no_speaker_gives_more_than_five_minutes_nor_a_recording_that_is_long(said: list[TranscribedRecording]):
    long = sentence("anna", ["abe"], 99, hush_s=16)
    assert long not in choose_speech([*said, long], RATE, 0)
    talker = [sentence("anna", ["abe"], i, hush_s=10) for i in range(20)]
    chosen = choose_speech([*talker, *said[8:]], RATE, 0)
    assert 280 < sum(len(one.pcm) for one in chosen if one.speaker == "anna") / RATE <= 300


def test_without_a_speaker_of_enough_phones_nothing_is_aligned():
    assert choose_speech([sentence(f"visitor {i}", ["abe"], i) for i in range(200)], RATE, 0) == []
    assert choose_speech([], RATE, 0) == []


def test_phrases_are_words_of_the_transcripts_without_the_keyword(said: list[TranscribedRecording]):
    said = [*said, sentence("carl", ["long"])]
    made = phrases(said, [tuple("bad")], 50, 0)
    assert len(made) > 50
    assert len({text for text, _ in made}) > 50
    for text, phones in made:
        assert phones == tuple("".join(WORDS[word] for word in text.split()))
        assert 12 <= len(phones) <= 24  # a long word may follow eleven phones
        assert "bad" not in "".join(phones)  # nor across the words: "abe bad", "ead bad", "cede abe ..."
    assert made == phrases(said, [tuple("bad")], 50, 0) != phrases(said, [tuple("bad")], 50, 1)


@pytest.mark.parametrize(
    ("phones", "yes"), [("seedei", True), ("see", False), ("xdei", True), ("deyi", False), ("", False)]
)
def test_a_keyword_is_contained_from_its_first_phone_to_its_last(phones: str, yes: bool):
    assert contains(tuple(phones), tuple("dei")) is yes


def roles(n: int = 4, word: str = "dabad") -> list[Role]:
    phrase = Role("speech", n, [("bad cede", tuple("badcede"))], 3.0)
    return [Role("key_word", n, [("key word", tuple(word))], 1.2, located=True), phrase]


def splice(folder: Path, said: Sequence[TranscribedRecording], some: Sequence[Role]) -> list[int]:
    numbers, seen = phone_numbers(said), list[int]()
    spoken = aligned(said, numbers, RATE, lambda _: None)
    spliced.write_clips(folder, said, spoken, numbers, some, RATE, 0, seen.append)
    return seen


def test_clips_say_where_the_keyword_is_and_what_they_are_made_of(tmp_path: Path, said: list[TranscribedRecording]):
    assert splice(tmp_path / "new", said, roles()) == [1, 2, 3, 4, 5, 6, 7, 8]
    made = clips(tmp_path / "new")
    assert [(one.label, one.text) for one in made] == [("key_word", "key word")] * 4 + [("speech", "bad cede")] * 4
    known = {one.source for one in said}
    for one in made:
        assert one.split is Split.TRAIN
        assert one.given
        assert one.name == f"new/{one.path.relative_to(tmp_path / 'new').as_posix()}"
        assert one.made_of
        assert {*one.made_of} <= known
        whole_s = soundfile.info(one.path).duration
        if one.label == "key_word":
            assert (one.start_s, one.end_s) == (pytest.approx(0.1), pytest.approx(whole_s - 0.1, abs=1e-3))
        else:
            assert one.start_s is one.end_s is None


def test_clips_are_made_of_the_recordings_that_are_heard_in_them(tmp_path: Path):
    """A recording that alone has the keyword is the only source."""
    rng = np.random.default_rng(1)
    others = [sentence("anna", rng.choice(["abe", "ead"], 4).tolist(), i) for i in range(8)]
    alone = sentence("anna", ["cede", "cede"], 50)
    splice(tmp_path / "new", [*others, alone], roles(3, "cede"))
    for one in clips(tmp_path / "new")[:3]:
        assert one.made_of == (alone.source,)


def test_a_folder_appears_when_it_is_whole_and_equal_calls_give_equal_bytes(
    tmp_path: Path, said: list[TranscribedRecording], monkeypatch: pytest.MonkeyPatch
):
    save, saved = spliced.save_flac, list[Path]()

    def killed(path: Path, *rest: object) -> None:
        if len(saved) == 3:
            raise KeyboardInterrupt
        save(path, *rest)
        saved.append(path)

    monkeypatch.setattr(spliced, "save_flac", killed)
    with pytest.raises(KeyboardInterrupt):
        splice(tmp_path / "one", said, roles())
    assert not (tmp_path / "one").exists()
    monkeypatch.setattr(spliced, "save_flac", save)
    for name in ("one", "two"):
        splice(tmp_path / name, said, roles())
    content = [
        {str(file.relative_to(tmp_path / name)): file.read_bytes() for file in (tmp_path / name).rglob("*.*")}
        for name in ("one", "two")
    ]
    assert content[0] == content[1]
    assert len(content[0]) == 9  # the manifest too
    assert not list(tmp_path.glob("*.draft"))


def test_words_that_cannot_be_said_give_no_clips(tmp_path: Path, said: list[TranscribedRecording]):
    splice(tmp_path / "new", said, [Role("none", 4, [("none", tuple("axe"))], 1.2), *roles(2)[1:]])
    assert [one.label for one in clips(tmp_path / "new")] == ["speech", "speech"]
    splice(tmp_path / "no", said, [Role("none", 4, [("none", tuple("axe"))], 1.2)])
    assert clips(tmp_path / "no") == []
    splice(tmp_path / "long", said, [Role("long", 4, [("long", tuple("abeabeabeabe"))], 1.2), *roles(2)[1:]])
    assert [one.label for one in clips(tmp_path / "long")] == ["speech", "speech"]


def test_a_recording_fits_its_transcript_or_not():
    one = sentence("anna", ["abe"])
    assert one.fits(RATE)
    assert not replace(one, words=one.words * 20).fits(RATE)
    assert replace(one, pcm=one.pcm[: 120 * 16]).fits(RATE)  # 120 ms for three phones
    assert not replace(one, pcm=one.pcm[: 119 * 16]).fits(RATE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text.replace("[[", "[", 1),
        lambda text: text.replace("key_word/0", "./key_word/0", 1),
        lambda text: text.replace("made_of", "of", 1),
    ],
)
def test_a_damaged_manifest_is_named(tmp_path: Path, said: list[TranscribedRecording], damage):
    splice(tmp_path / "new", said, roles())
    file = tmp_path / "new" / "manifest.csv"
    file.write_text(damage(file.read_text()))
    with pytest.raises(KwsError, match="its manifest is damaged; delete the folder"):
        clips(tmp_path / "new")


def test_clips_train_whatever_the_manifest_says(tmp_path: Path, said: list[TranscribedRecording]):
    splice(tmp_path / "new", said, roles())
    file = tmp_path / "new" / "manifest.csv"
    file.write_text(file.read_text().replace(",train,", ",test,"))
    assert {one.split for one in clips(tmp_path / "new")} == {Split.TRAIN}


def test_the_name_of_the_folder_depends_on_all_that_the_clips_do(said: list[TranscribedRecording]):
    name = identity(said, roles(), RATE, 0)
    assert name == identity(said, roles(), RATE, 0)
    one = said[0]
    others = [
        identity(said[1:], roles(), RATE, 0),
        identity(said, roles(5), RATE, 0),
        identity(said, roles(word="dab"), RATE, 0),
        identity(said, roles(), 8000, 0),
        identity(said, roles(), RATE, 1),
        identity([TranscribedRecording(one.source, "carl", one.words, one.pcm), *said[1:]], roles(), RATE, 0),
        identity([TranscribedRecording(one.source, one.speaker, one.words[1:], one.pcm), *said[1:]], roles(), RATE, 0),
    ]
    assert len({name, *others}) == len(others) + 1
