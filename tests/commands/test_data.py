"""kws data check: a clean folder, a folder broken in many ways, and bounds that go into a copy of the manifest."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from hydra.core.hydra_config import HydraConfig

from kws.commands.data import over_recipe
from kws.data import ffmpeg
from kws.data.audio import save_flac, to_int16
from kws.evaluation.calibration import ThresholdConfig, Unsupported
from tests.conftest import RATE, tone

COLUMNS = ("path", "label", "client_id", "sentence", "split")
WORDS = ("keyword=beep", "data.cache=cache", "json=check.json", "threads=1")
SPLITS = {"train": 22, "validation": 11, "test": 11}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def clear(rng: np.random.Generator, steps_hz: list[float], level: float = 1.0) -> np.ndarray:
    """A melody well above its noise."""
    while np.abs(pcm := tone(rng, steps_hz)).max() < 9000:
        pass
    return to_int16(level * pcm.astype(np.float32) / 32768)


def folder(root: Path, keyword_level: float = 1.0) -> list[list[str]]:
    """Recordings of `beep`, of speech and of noise, with enough of each in every split; their rows."""
    root.mkdir()
    rng, rows = np.random.default_rng(0), []
    for split, n in SPLITS.items():
        for i in range(n):
            sounds = {
                "beep": clear(rng, [500, 1000], keyword_level),
                "speech": clear(rng, rng.choice([300, 500, 700, 1500], 3).tolist()),
                "noise": to_int16((0.05 * rng.standard_normal(RATE)).astype(np.float32)),
            }
            for label, pcm in sounds.items():
                name = f"{label}-{split}-{i}.flac"
                save_flac(root / name, pcm, RATE)
                rows.append([name, label, f"{label}-{split}-{i}" if label != "noise" else "", "", split])
    return rows


def write(root: Path, rows: list[list[str]], delimiter: str = ",") -> None:
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([COLUMNS, *rows])


def found(path: str = "check.json") -> dict[str, list[dict]]:
    """Findings by the name of the check."""
    by: dict[str, list[dict]] = {}
    for one in json.loads(Path(path).read_text())["findings"]:
        by.setdefault(one["check"], []).append(one)
    return by


def test_clean_recordings_have_no_fault(cli, here):
    write(here / "DIR", folder(here / "DIR"))
    said = cli("data", "check", "DIR", *WORDS, "threshold.at_fa_per_hour=950")
    assert said.code == 0, said.err
    assert said.err == ""
    assert "0 faults, 0 warnings, 5 notes" in said.out
    content = json.loads(Path("check.json").read_text())
    assert content["clean"] is True
    assert content["keywords"] == ["beep"]
    assert found().keys() == {"reading", "hours", "cue"}
    assert "950" in found()["hours"][0]["text"]
    assert "Recordings of beep" in Path("check.html").read_text()


def test_every_fault_of_a_broken_folder_is_named(cli, here, monkeypatch):
    monkeypatch.setattr(ffmpeg, "installed", lambda: False)
    root = here / "DIR"
    rows = folder(root, keyword_level=0.05)
    rng = np.random.default_rng(1)

    def add(name: str, pcm: np.ndarray | bytes, label: str, speaker: str = "", text: str = "", split: str = "train"):
        if isinstance(pcm, bytes):
            (root / name).write_bytes(pcm)
        else:
            save_flac(root / name, pcm, RATE)
        rows.append([name, label, speaker, text, split])

    melodies = [tone(rng, [300, 700, 300]) for _ in range(4)]
    add("off.flac", np.zeros(RATE, np.int16), "speech")
    add("faint.flac", np.int16(20 * np.sin(np.arange(RATE))), "speech")
    add("loud.flac", np.int16(32767 * np.sign(np.sin(np.arange(RATE) / 9) + 1e-9)), "speech")
    add("memo.m4a", b"no sound either", "speech")
    (root / "thesis.docx").write_bytes(b"")
    add("junk.wav", b"RIFF no sound", "speech")
    rows.append(["gone.flac", "speech", "", "", "train"])
    save_flac(root / "forgotten.flac", melodies[0], RATE)
    add("a.flac", melodies[1], "beep")
    add("b.flac", melodies[1], "speech")
    add("c.flac", melodies[2], "speech", split="train")
    add("d.flac", melodies[2], "speech", split="test")
    add("e.flac", melodies[3], "speech")
    add("f.flac", melodies[3], "speech")
    add("fan.flac", tone(rng, [200]), "white noise")
    add("near.flac", tone(rng, [250]), "beeep")
    add("says.flac", tone(rng, [260]), "speech", text="Now beep!")
    add("one.flac", tone(rng, [270]), "speech", "anna", split="train")
    add("two.flac", tone(rng, [280]), "speech", "anna", split="test")
    for row in [row for row in rows if row[1] == "noise" and row[4] != "test"]:
        rows.remove(row)
        (root / row[0]).unlink()
    for i in range(4, 11):
        rows.remove([f"beep-validation-{i}.flac", "beep", f"beep-validation-{i}", "", "validation"])
        (root / f"beep-validation-{i}.flac").unlink()
    write(root, rows, delimiter=";")

    said = cli("data", "check", "DIR", *WORDS)
    assert said.code == 1
    assert "Traceback" not in said.err
    content, by = json.loads(Path("check.json").read_text()), found()
    assert content["clean"] is False
    for check, level, text, names in [
        ("reading", "note", "'client_id' is read as 'speaker'", []),
        ("missing", "fault", "1 of ", ["gone.flac"]),
        ("needs ffmpeg", "fault", "1 of ", ["memo.m4a"]),
        ("passed over", "note", "1 .docx", []),
        ("unreadable", "fault", "1 recording cannot be read", ["junk.wav"]),
        ("unlisted", "note", "not in the manifest", ["forgotten.flac"]),
        ("silent", "fault", "1 recording is silent", ["off.flac"]),
        ("quiet", "warning", "1 recording quieter", ["faint.flac"]),
        ("clipped", "warning", "1 recording clipped", ["loud.flac"]),
        ("labels differ", "fault", "exclude each other", ["a.flac"]),
        ("copies in splits", "warning", "1 sound is in several splits", ["c.flac"]),
        ("copies", "warning", "1 sound is there more than once", ["e.flac"]),
        ("label like noise", "fault", "'white noise' of 1 recording", ["fan.flac"]),
        ("label like a keyword", "warning", "'beeep' of 1 recording is nearly 'beep'", ["near.flac"]),
        ("says the keyword", "warning", "1 negative", ["says.flac"]),
        ("few keywords", "warning", "only 4 recordings in the validation split", []),
        ("no noise", "warning", "no noise in the train, validation splits", []),
        ("leak", "warning", "1 of ", []),
        ("few hours", "fault", "too few", []),
        ("cue", "warning", "level of the", []),
    ]:
        one = next((one for one in by[check] if text in one["text"]), None)
        assert one is not None, (text, by[check])
        assert one["level"] == level, one
        assert [case["name"] for case in one["cases"]][: len(names)] == names
        line = f"{level:<8} {one['text']}"
        assert line in (said.out if level == "note" else said.err)
    page = Path("check.html").read_text()
    assert page.count("<section") == len(content["findings"])


def test_negatives_that_score_like_the_keyword_are_listed_with_players(cli, tones, run, here):
    words = ("data", "check", str(tones), "keyword=beep", "data.cache=cache", f"checkpoint={run}/model.pt")
    said = cli(*words, "json=check.json", "limit=1", "threshold.unsupported=guess")
    assert said.code == 0, said.err
    (one,) = found()["scores like the keyword"]
    assert "the threshold of 'beep'" in one["text"]
    assert Path("check.html").read_text().partition("Negatives that score")[2].count("<figure") == 1
    refused = cli(*[word.replace("beep", "speech") for word in words])
    assert refused.code == 2
    assert "must be of speech, it is of beep" in refused.err


def test_saved_bounds_go_into_a_copy_of_the_manifest(cli, here):
    rows = folder(here / "DIR")
    write(here / "DIR", rows)
    bounds = [{"recording": "beep-train-0.flac", "start": 0.25, "end": 0.75}]
    Path("bounds.json").write_text(json.dumps({"bounds": bounds}))
    said = cli("data", "check", "DIR", *WORDS, "bounds=bounds.json", "manifest_out=new.csv")
    assert said.code == 0, said.err
    with open("new.csv", newline="") as file:
        new = list(csv.DictReader(file))
    assert len(new) == len(rows)
    assert [(one["path"], one["start"], one["end"]) for one in new if one["start"]] == [
        ("beep-train-0.flac", "0.250", "0.750")
    ]
    assert [one["split"] for one in new] == [row[4] for row in rows]
    again = cli("data", "check", "DIR", *WORDS, "data.manifest=new.csv", "threshold.at_fa_per_hour=950")
    assert again.code == 0, again.err


def test_what_the_recipe_synthesises_is_not_missing(cli, here):
    """Twelve recordings of the keyword and nothing else: recipe=few_shot trains on them."""
    rng = np.random.default_rng(2)
    (here / "DIR/beep").mkdir(parents=True)
    for i in range(12):
        save_flac(here / f"DIR/beep/{i}.flac", clear(rng, [500, 1000]), RATE)
    said = cli("data", "check", "DIR", *WORDS)
    assert said.code == 1
    assert "the train split has no negative" in said.err
    assert "recipe=few_shot" in said.err
    said = cli("data", "check", "DIR", *WORDS, "recipe=few_shot")
    assert (said.code, said.err) == (0, "")
    assert "recipe=few_shot synthesises sentences: 420 for training" in said.out
    assert all(one["level"] == "note" for some in found().values() for one in some)
    Path("mine.yaml").write_text("data: {synthetic: {positives: 30}}")
    said = cli("data", "check", "DIR", *WORDS, "recipe=mine.yaml")
    assert said.code == 1, "this recipe synthesises no negatives"
    said = cli("data", "check", "DIR", *WORDS, "recipe=fewshot")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "did you mean few_shot?" in said.err


@pytest.mark.parametrize(
    ("words", "want"),
    [
        ([], (0.5, Unsupported.guess)),
        (["threshold.at_fa_per_hour=0.2"], (0.2, Unsupported.guess)),
        (["+threshold.unsupported=refuse"], (0.5, Unsupported.refuse)),
    ],
)
def test_only_settings_of_the_command_line_replace_those_of_the_recipe(words, want):
    own = ThresholdConfig(at_fa_per_hour=0.2)
    given = SimpleNamespace(overrides=SimpleNamespace(task=["keyword=a", *words]))
    with mock.patch.object(HydraConfig, "get", return_value=given):
        found = over_recipe(own, ThresholdConfig(unsupported=Unsupported.guess))
    assert (found.at_fa_per_hour, found.unsupported) == want


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "not JSON"),
        ('{"bounds": []}', "holds no bounds"),
        ('{"bounds": [{"recording": "none.flac", "start": 0, "end": 1}]}', "none.flac: no such recording"),
        ('{"bounds": [{"recording": "beep-train-0.flac", "start": 1, "end": 1}]}', "end=1: must be after start=1"),
        ('{"bounds": [{"recording": "beep-train-0.flac", "start": -1, "end": 1}]}', "bounds.0.start=-1"),
    ],
)
def test_other_bounds_are_refused_in_one_line(cli, here, content, named):
    write(here / "DIR", folder(here / "DIR"))
    Path("bounds.json").write_text(content)
    said = cli("data", "check", "DIR", *WORDS, "bounds=bounds.json")
    assert said.code == 2
    assert named in said.err
    assert said.err.count("\n") == 1
    assert not Path("manifest-bounds.csv").exists()
