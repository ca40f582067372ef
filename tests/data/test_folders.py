"""Labels and splits by the names of folders: those of other trainers, of splits, and those that nobody can tell."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from kws.common.errors import KwsError
from kws.data.audio_cache import Entry
from kws.data.dataset import assign_roles
from kws.data.division import divide
from kws.data.folders import NOISE
from kws.data.manifest import Layout, Recording, Split, SplitBy, hash_split, read
from tests.data.test_manifest import touch, write_csv

TRAIN, VALIDATION, TEST = Split
PRECISE = ["wake-word/anna/1.wav", "not-wake-word/radio/2.wav", "test/wake-word/3.wav", "test/not-wake-word/ben/4.wav"]
OPENWAKEWORD = ["positive_train/1.wav", "negative_train/2.wav", "positive_test/3.wav", "negative_test/4.wav"]


def labels(found: Sequence[Recording]) -> dict[str, tuple[str, Split]]:
    return {one.name: (one.label, one.split) for one in found}


@pytest.mark.parametrize("keyword", ["computer", "wake-word", "not-wake-word's"])
@pytest.mark.parametrize(("names", "layout"), [(PRECISE, Layout.precise), (OPENWAKEWORD, Layout.openwakeword)])
def test_folders_of_other_trainers(tmp_path: Path, names: list[str], layout: Layout, keyword: str) -> None:
    touch(tmp_path, *names)
    said: list[str] = []
    found = labels(read(tmp_path, say=said.append, keywords=[keyword]))
    negative = "not-wake-word" if layout is Layout.precise else "negative"
    places = [(keyword, TRAIN), (negative, TRAIN), (keyword, TEST), (negative, TEST)]
    assert found == dict(zip(names, places, strict=True))
    assert f"read as data.layout={layout}, " in said[0]
    assert f"/ as keyword={keyword}" in said[0]
    assert labels(read(tmp_path, layout=layout, keywords=[keyword])) == found
    by_hash = read(tmp_path, layout=layout, split=SplitBy.hash, keywords=[keyword])
    assert [(one.split, one.given) for one in by_hash] == [(hash_split(one.path.stem), False) for one in by_hash]


def test_no_negative_of_precise_is_lost_and_no_keyword_of_its_test_is_a_negative(tmp_path: Path) -> None:
    for split, n in (("", 20), ("test/", 10)):
        touch(tmp_path, *(f"{split}{label}/{i}.wav" for label in ("wake-word", "not-wake-word") for i in range(n)))
    touch(tmp_path, *(f"noise/{i}.wav" for i in range(9)))
    for keyword in ("computer", "wake-word"):
        found = read(tmp_path, keywords=[keyword])
        entries = [Entry(one, one.name, 0, 16000) for one in found]
        entries = divide(entries, None, 16000, [keyword], NOISE).entries  # type: ignore[arg-type]
        chosen = assign_roles(entries, [keyword], NOISE, 0.0)
        assert [len(chosen.positives[split][0]) for split in Split] == [16, 4, 10]
        assert [len(chosen.speech[split]) for split in Split] == [16, 4, 10]
        assert not chosen.spoken
        assert sum(len(chosen.noise[split]) for split in Split) == 9
        assert all(chosen.noise[split] for split in Split)


def test_precise_without_a_test_folder_is_divided_like_other_folders(tmp_path: Path) -> None:
    touch(tmp_path, "Wake_Word/1.wav", "not wake word/2.wav")
    found = read(tmp_path, keywords=["computer"])
    assert [(one.label, one.given) for one in found] == [("computer", False), ("not-wake-word", False)]


def test_folders_of_precise_may_hold_others_named_like_labels(tmp_path: Path) -> None:
    touch(tmp_path, *PRECISE, "noise/5.wav", "not-wake-word/noise/6.wav")
    found = labels(read(tmp_path, keywords=["computer"]))
    assert found["not-wake-word/noise/6.wav"] == ("not-wake-word", TRAIN)
    touch(tmp_path, "not-wake-word/wake-word/7.wav")
    with pytest.raises(KwsError, match=r"not-wake-word/wake-word/: must not lie in the folder of label"):
        read(tmp_path, keywords=["computer"])


def test_one_folder_for_several_keywords_is_refused_where_the_layout_is_given(tmp_path: Path) -> None:
    touch(tmp_path, *PRECISE)
    with pytest.raises(KwsError, match=r"^wake-word/: must be for one keyword, not for alexa, computer"):
        read(tmp_path, layout=Layout.precise, keywords=["alexa", "computer"])
    assert {one.label for one in read(tmp_path, keywords=["wake-word", "alexa"])} == {"wake-word", "not-wake-word"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["yes/1.wav", "no/2.wav", "test/yes/3.wav"], [("yes", TRAIN), ("no", TRAIN), ("yes", TEST)]),
        (
            ["Train/yes/1.wav", "dev/yes/2.wav", "dev/no/3.wav"],
            [("yes", TRAIN), ("yes", VALIDATION), ("no", VALIDATION)],
        ),
        (["train/yes/1.wav", "test/yes/2.wav", "rain/3.wav"], [("yes", TRAIN), ("yes", TEST), ("rain", TRAIN)]),
        (
            ["train/yes/1.wav", "test/yes/2.wav", "train/_background_noise_/3.wav"],
            [("yes", TRAIN), ("yes", TEST), (NOISE, TRAIN)],
        ),
    ],
)
def test_folders_of_splits(tmp_path: Path, names: list[str], expected: list[tuple[str, Split]]) -> None:
    touch(tmp_path, *names)
    said: list[str] = []
    assert labels(read(tmp_path, say=said.append)) == dict(zip(names, expected, strict=True))
    assert any("/: read as the " in line for line in said)


@pytest.mark.parametrize(
    "names", [["test/anna/1.wav", "yes/anna.wav"], ["test/yes.wav", "yes/2.wav"], ["eval/yes/1.wav"]]
)
def test_a_label_that_is_a_word_for_a_split_stays_a_label(tmp_path: Path, names: list[str]) -> None:
    touch(tmp_path, *names)
    assert labels(read(tmp_path)) == {name: (name.split("/")[0], hash_split(Path(name).stem)) for name in names}


def test_a_label_within_the_folder_of_another_label_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "computer/a.wav", "mine/computer/b.wav")
    with pytest.raises(KwsError, match=r"^mine/computer/: must not lie in .* label 'mine'.*manifest\.csv"):
        read(tmp_path)
    write_csv(tmp_path, "path,label", "mine/computer/b.wav,computer")
    assert [one.label for one in read(tmp_path)] == ["computer"]


def test_recordings_straight_in_the_root_are_the_one_keyword(tmp_path: Path) -> None:
    touch(tmp_path, "1.wav", "2.wav", "radio/3.wav")
    said: list[str] = []
    found = labels(read(tmp_path, say=said.append, keywords=["okay garden"]))
    assert {name: label for name, (label, _) in found.items()} == {
        "1.wav": "okay garden",
        "2.wav": "okay garden",
        "radio/3.wav": "radio",
    }
    assert said == ["2 recordings straight in data.root, read as keyword=okay garden"]
    for keywords in ((), ("okay garden", "alexa"), ("radio",)):  # none is the one that is meant
        with pytest.raises(KwsError, match=r"1\.wav: must lie in the folder of its label"):
            read(tmp_path, keywords=keywords)
