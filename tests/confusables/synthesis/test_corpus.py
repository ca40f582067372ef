import csv
import hashlib
from collections import Counter, defaultdict

import numpy as np
import pytest
import soundfile

from kws.common.errors import KwsError
from kws.confusables.synthesis import corpus
from kws.confusables.synthesis.corpus import COLUMNS, speak_corpus

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
KEYWORDS = ["computer", "hey jarvis", "Grüße/../x"]
SMALL = {"n_positives": 12, "n_confusables": 30, "n_sentences": 20, "n_noise": 12}


def rows_of(manifest):
    with manifest.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def digest_of(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    return [(str(path.relative_to(folder)), hashlib.sha256(path.read_bytes()).hexdigest()) for path in files]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return speak_corpus(tmp_path_factory.mktemp("corpus"), KEYWORDS, seed=3, **SMALL)


@pytest.fixture(scope="module")
def rows(made):
    return rows_of(made)


def test_every_row_is_a_file_of_sound_at_16_khz_and_every_file_a_row(made, rows):
    assert tuple(rows[0]) == COLUMNS
    for row in rows:
        sound, rate = soundfile.read(made.parent / row["path"], dtype="float32")
        assert rate == 16000
        assert len(sound) / rate == pytest.approx(float(row["duration_s"]), abs=1e-4)
        assert np.sqrt(np.mean(sound**2)) > 0.002
    on_disk = {path.relative_to(made.parent).as_posix() for path in made.parent.rglob("*.flac")}
    assert on_disk == {row["path"] for row in rows}
    assert all(path.count("/") == 1 and path.isascii() for path in on_disk), "no keyword leads out of the folder"


def test_counts_labels_and_parts(rows):
    assert Counter(row["label"] for row in rows) == {
        "computer": 12,
        "hey_jarvis": 12,
        "Grüße/../x": 12,
        "speech": 50,
        "noise": 12,
    }
    for label in ("computer", "hey_jarvis", "speech", "noise"):
        assert {row["part"] for row in rows if row["label"] == label} == {"train", "validation", "test"}


def timbres_of(voices):
    return {name.partition("+")[2] for name in voices}


def test_a_timbre_is_heard_in_one_part_only(rows):
    heard = [timbres_of(row["speaker"] for row in rows if row["part"] == part) - {""} for part in corpus.PARTS]
    assert min(map(len, heard)) > 1
    assert len(set.union(*heard)) == sum(map(len, heard))
    # so many voices that all timbres are in use, in several accents each
    cast = corpus._cast(0, dict.fromkeys(corpus.PARTS, 300))
    everyone = [timbres_of(cast[part]) for part in corpus.PARTS]
    assert len(set.union(*everyone)) == sum(map(len, everyone)) == 104
    assert [len(timbres) for timbres in everyone] == [62, 16, 26]
    assert all(len(set(voices)) > 2 * len(timbres_of(voices)) for voices in cast.values())


def test_each_part_has_the_same_voices_in_every_keyword_and_in_negative_speech(rows):
    for part in ("train", "validation", "test"):
        voices = defaultdict(set)
        for row in rows:
            if row["part"] == part and row["label"] != "noise":
                voices[row["label"]].add(row["speaker"])
        assert len(voices) == 4
        assert len(set(map(frozenset, voices.values()))) == 1


def test_no_negative_says_a_keyword(rows):
    negatives = [row["text"] for row in rows if row["label"] == "speech"]
    for text in negatives:
        assert "computer" not in text.replace(" ", "")
        assert "heyjarvis" not in text.replace(" ", "")
    sentences = [row["text"].split() for row in rows if row["source"].endswith("sentence")]
    assert all(4 <= len(words) <= 12 for words in sentences)


def test_homophones_of_a_keyword_are_no_negatives():
    near = ["nite", "knight", "nights", "overnight", "night", "net", "light", "nine"]
    assert corpus._not_saying(["night"], near) == ["net", "light", "nine"]
    # only where an r is not spoken do these two sound alike
    assert corpus._not_saying(["father"], ["farther", "feather"]) == ["feather"]


def test_confusables_are_near_the_keyword():
    texts = corpus._confusables(["computer"], ["commuter", "banana", "compute"], 0, 300)
    assert {"comp", "uter", "compcomp", "computber"} <= set(texts)
    # one phone away, or none: nobody could tell them apart
    assert not {"computer", "komputer", "commuter", "compute"} & set(texts)
    assert sum(corpus._distance("computer", text) == 1 for text in texts) > 150


def test_edit_distance_is_the_known_one():
    assert corpus._distance("kitten", "sitting") == 3
    assert corpus._distance("", "abc") == corpus._distance("abc", "") == 3
    assert corpus._distance("same", "same") == 0


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(tmp_path):
    few = {"n_positives": 7, "n_confusables": 7, "n_sentences": 7, "n_noise": 7}
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        speak_corpus(tmp_path / name, ["marvin"], seed, **few)
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b")
    assert rows_of(tmp_path / "a/manifest.csv") != rows_of(tmp_path / "c/manifest.csv")


def test_a_complete_corpus_is_left_alone_and_an_interrupted_one_made_whole(tmp_path, monkeypatch):
    few = {"n_positives": 7, "n_confusables": 0, "n_sentences": 7, "n_noise": 0}

    def stop(n_done, n_all):
        assert n_all == 14
        if n_done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        speak_corpus(tmp_path / "a", ["marvin"], 5, **few, progress=stop)
    assert not (tmp_path / "a/manifest.csv").exists()
    steps = []
    speak_corpus(tmp_path / "a", ["marvin"], 5, **few, progress=lambda *step: steps.append(step))
    assert steps == [(n, 14) for n in range(1, 15)]
    speak_corpus(tmp_path / "b", ["marvin"], 5, **few)
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b")

    monkeypatch.setattr(corpus, "speak", None)  # a complete corpus asks for no synthesis
    assert speak_corpus(tmp_path / "a", ["marvin"], 5, **few) == tmp_path / "a/manifest.csv"
    with pytest.raises(KwsError, match="holds other recordings"):
        speak_corpus(tmp_path / "a", ["marvin"], 6, **few)
    assert digest_of(tmp_path / "a") == digest_of(tmp_path / "b")


def test_recordings_of_a_person_are_not_overwritten(tmp_path):
    (tmp_path / "manifest.csv").write_text("path,label\nmine.wav,computer\n")
    with pytest.raises(KwsError, match="holds other recordings"):
        speak_corpus(tmp_path, ["computer"], 0)
    assert (tmp_path / "manifest.csv").read_text() == "path,label\nmine.wav,computer\n"


@pytest.mark.parametrize(
    ("keywords", "counts", "said"),
    [
        ([], {}, "at least one"),
        (["cat", "Cat"], {}, "only once"),
        (["speech"], {}, "'speech'"),
        (["..."], {}, "'...'"),
        (["a\x01b"], {}, "words are needed"),
        (["a", "e", "i", "o"], {}, "too short"),
        (["cat"], {"n_positives": 6}, "n_positives: 6"),
        (["cat"], {"n_sentences": 0}, "n_sentences: 0"),
        (["cat"], {"n_noise": -1}, "n_noise: -1"),
    ],
)
def test_bad_arguments_name_themselves(tmp_path, keywords, counts, said):
    with pytest.raises(KwsError, match=said):
        speak_corpus(tmp_path / "corpus", keywords, 0, **counts)
    assert not (tmp_path / "corpus").exists()


def test_the_default_counts_give_a_test_part_of_ten_minutes_of_negative_speech():
    sizes = {"positives": 240, "sentences": 400, "confusables": 240, "noise": 40}
    test = [clip for clip in corpus._spoken(["computer"], 0, sizes) if clip.split == "test" and clip.label == "speech"]
    n_words = sum(len(clip.text.split()) for clip in test)
    words_a_minute = np.mean([clip.voice.rate_wpm for clip in test])
    assert n_words / words_a_minute > 8, "pauses come on top: 9.7 + 0.7 min measured"
    assert len(test) == 260


@pytest.mark.parametrize(("kind", "slope"), [("white", 0), ("pink", -3), ("brown", -6)])
def test_coloured_noise_falls_by_the_known_slope(kind, slope):
    clip = corpus._Clip(f"noise/{kind}-0.flac", "noise", "train", f"generated {kind}")
    power = np.abs(np.fft.rfft(corpus._noise(clip, 0))) ** 2
    octaves = [10 * np.log10(np.mean(power[5 * low : 10 * low])) for low in (125, 250, 500, 1000, 2000)]
    assert np.diff(octaves) == pytest.approx(slope, abs=0.7)


def test_noises_are_as_loud_as_drawn():
    for kind in corpus.NOISES:
        clip = corpus._Clip(f"noise/{kind}-0.flac", "noise", "train", f"generated {kind}")
        sound = corpus._noise(clip, 0)
        assert sound.size == 5 * 16000
        assert -51 < 10 * np.log10(np.mean(sound.astype(float) ** 2)) < -19.9
