"""The command line: help, and bad input that is one line with exit code 2 and writes nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from kws.cli import VERBS
from kws.detector import checkpoint
from kws.detector.torchscript import load_exported

LINE = re.compile(r"kws: [^\n]+\n")
REAL = [sys.executable, "-c", "from kws.cli import main; main()"]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory with an empty folder and a text file, which is no recording, checkpoint or folder."""
    (tmp_path / "text").write_text("x")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(said, *named: str) -> None:
    assert said.code == 2
    assert LINE.fullmatch(said.err), said.err
    for word in named:
        assert word in said.err


def words_of(verb: str, tiny, run, tones) -> list[str]:
    """Words of a valid call of a command."""
    return {
        "train": [*tiny, "out=new"],
        "mine": [f"checkpoint={run}/model.pt", f"streams={tones}/speech-train-0.flac", "buffer=new"],
        "evaluate": [f"detector={run}/model.pt", f"data.root={tones}", "data.cache=new", "out=new.json"],
        "export": [f"checkpoint={run}/model.pt", "out=new.pt"],
        "confuse": ["list", "keyword=computer", "out=new.csv", "confuse.n=50"],
        "models": ["model=ds_tcn"],
    }[verb]


def test_without_a_command_the_commands_are_listed(cli):
    for words in ([], ["--help"], ["help"]):
        said = cli(*words)
        assert said.code == 0
        assert all(verb in said.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_help_and_cfg_show_every_setting(cli, verb, here):
    shown, said, every = cli(verb, "--cfg", "job"), cli(verb, "--help"), cli(verb, "--help", "all")
    assert (shown.code, said.code, every.code, shown.err, said.err, every.err) == (0, 0, 0, "", "", "")
    assert said.out.startswith(f"kws {verb}: ")
    assert len(said.out.splitlines()) <= 45, "one screen"
    for key in keys_of(yaml.safe_load(shown.out)):
        assert f"\n{key}=" in every.out
    assert sorted(p.name for p in here.iterdir()) == ["empty", "text"]


def keys_of(tree: dict, prefix: str = "") -> list[str]:
    """Dotted keys of all values but lists and empty groups."""
    nested = [
        keys_of(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key] for key, value in tree.items()
    ]
    return [key for keys in nested for key in keys]


def test_help_of_a_group_shows_the_settings_of_all_its_options(cli):
    said = cli("train", "--help", "features").out
    assert "features.n_mels=40" in said
    assert "mel bands [8 to 128]" in said
    assert "features.n_mfcc=20" in said
    assert "(mfcc)" in said
    assert "replay." not in said
    assert cli("train", "--help", "features.n_mels").out.count("features.") == 1
    refused(cli("train", "--help", "fetures"), "--help fetures", "features")


def test_help_of_a_recipe_shows_its_values(cli, tmp_path):
    lines = cli("train", "recipe=harden", "--help").out.splitlines()
    assert lines[1] == "With the values of recipe=harden."
    said = [line.split()[0] for line in lines if "=" in line]
    # its own value, a default, one that only the recipe makes a common setting
    assert {"optim.steps=300", "batch.size=160", "optim.ema=0.98", "recipe=harden", "validate_every=null"} <= {*said}
    assert "model=bc_resnet_1" in cli("train", "recipe=speech_commands/v2_12", "--help").out
    assert "{confusable: 0.5" not in (mix := cli("train", "recipe=quickstart", "--help", "replay").out)
    assert "replay.mix.confusable=0.5" in mix
    refused(cli("train", "recipe=hardn", "--help"), "recipe=hardn", "harden")
    for words in (["recipe=null"], ["-m", "recipe=harden,wake_word"]):
        assert cli("train", *words, "--help").out == cli("train", "--help").out
    assert "With the values" not in cli("data", "recipe=harden", "--help").out
    (tmp_path / "own.yaml").write_text("keyword: [yes, on]\noptim: {steps: 7}\n")
    own = cli("train", f"recipe='{tmp_path}/own.yaml'", "--help").out
    assert "keyword=[yes,on]" in own
    assert "optim.steps=7" in own


BAD = [
    ("train", "optim.stepz=1", "optim.stepz", "optim.steps"),
    ("train", "stepz=1", "stepz", "seed"),
    ("train", "+extra=1", "extra", "seed"),
    ("train", "++optim.extra=1", "optim.extra", "steps"),
    ("train", "~optim", "~optim: a setting cannot be deleted"),
    ("train", "~optim.steps", "~optim.steps: a setting cannot be deleted"),
    ("train", "word", "word"),
    ("train", "optim.steps=many", "optim.steps=many", "whole number"),
    ("train", "optim.steps=1.5", "optim.steps=1.5", "whole number"),
    ("train", "optim.lr=fast", "optim.lr=fast", "a number"),
    ("train", "seed=null", "seed=null"),
    ("train", "model.dilations=3", "model.dilations=3"),
    ("train", "tensorboard=maybe", "tensorboard=maybe"),
    ("train", "replay.schedule=up", "replay.schedule=up", "constant, linear, cosine"),
    ("train", "replay.share=0.6", "replay.share=0.6", "between 0 and 0.5"),
    ("train", "replay.mix={loud: 1}", "replay.mix.loud", "batch_hard, confusable"),
    ("train", "replay.mix={user: 0}", "replay.mix", "above 0"),
    ("train", "replay.quota={user: 2}", "replay.quota.user=2.0", "between 0 and 1"),
    ("train", "replay.sampling=best", "replay.sampling=best", "uniform, proportional, rank"),
    ("train", "replay.eviction=best", "replay.eviction=best", "hardest, oldest, reservoir, balanced"),
    ("train", "optim.lr=nan", "optim.lr=nan", "between 1e-07 and 10"),
    ("train", "augment.snr_db=[5,1]", "augment.snr_db", "low <= high"),
    ("train", "mining.first_at=0.9", "mining.first_at=0.9", "mining.last_at=0.7"),
    ("train", "batch.clip_s=0.9", "batch.clip_s=0.9", "1.4"),
    ("train", "augment=loud", "augment=loud", "none, strong"),
    ("train", "features=rasta", "features=rasta", "log_mel, log_mel_pcen, mfcc, pcen"),
    ("train", "features.trainable=false", "features.trainable", "it belongs to pcen"),
    ("train", "features.n_mfcc=13", "features.n_mfcc", "it belongs to mfcc"),
    ("train", "recipe=none_such", "recipe=none_such", "must be one of base, few_shot", "wake_word"),
    ("train", "recipe=3", "recipe=3: no such recipe", "or a file NAME.yaml"),
    ("train", "keyword={a: 1}", "keyword=", "list of words"),
    ("train", "keyword=[beep,beep]", "keyword", "twice"),
    ("train", "keyword=boop", "keyword=boop", "beep: 16 train"),
    ("train", "data.root=none_such", "data.root=none_such"),
    ("train", "data.root=empty", "empty", "no recordings"),
    ("train", "data.manifest=none_such.csv", "none_such.csv"),
    ("train", "data.layout=pile", "data.layout=pile", "folders"),
    ("train", "data.cache=text", "text"),
    ("train", "device=abacus", "device=abacus", "cpu"),
    ("train", "out=text", "text"),
    ("train", "out=text/run", "text"),
    ("mine", "checkpoint=none_such.pt", "none_such.pt", "model.pt"),
    ("mine", "checkpoint=text", "text"),
    ("mine", "checkpoint={run}/state.pt", "state.pt", "model.pt"),
    ("mine", "checkpoint={run}/detector.pt", "detector.pt"),
    ("mine", "streams=none_such.flac", "none_such.flac"),
    ("mine", "streams=text", "text"),
    ("mine", "streams=empty", "streams=empty"),
    ("mine", "streams=[]", "streams=[]"),
    ("mine", "keep_above=2", "keep_above=2", "between 0 and 1"),
    ("mine", "buffer=text", "text"),
    ("mine", "capacity=0", "capacity=0"),
    ("evaluate", "detector=none_such.pt", "none_such.pt"),
    ("evaluate", "detector=text", "text"),
    ("evaluate", "detector={run}/state.pt", "state.pt"),
    ("evaluate", "keyword=boop", "keyword=boop", "beep"),
    ("evaluate", "positive=text", "positive"),
    ("evaluate", "data.root=null", "data.root"),
    ("export", "checkpoint=none_such.pt", "none_such.pt"),
    ("export", "checkpoint={run}/detector.pt", "detector.pt: the exported file", "model.pt of the run"),
    ("mine", "checkpoint={run}/detector.pt", "detector.pt: the exported file"),
    ("export", "out=new.tflite", "out=new.tflite: must end in .pt, .onnx, .pt2"),
    ("export", "format=tflite", "format=tflite: must be one or several of torchscript, onnx, pt2"),
    ("export", "format=pt2", "out=new.pt: must end in .pt2 for format=pt2"),
    ("export", "out=text", "out=text", "force=true"),
    ("export", "out=text/new.pt", "text"),
    ("export", "thresholds=2", "thresholds=2", "between 0 and 1"),
    ("export", "thresholds=[0.1,0.2]", "thresholds", "1 number"),
    ("export", "thresholds=true", "thresholds"),
    ("train", "model=tree", "model=tree", "bc_resnet_1", "mdtc_30k"),
    ("train", "model.tau=2", "model.tau", "it belongs to bc_resnet"),
    ("models", "model=tree", "model=tree", "bc_resnet_1"),
    ("models", "model.chanels=8", "model.chanels", "model.channels"),
    ("models", "model.channels=2", "model.channels=2", "between 4 and 1024"),
    ("models", "features.hop_s=0.04", "features.hop_s=0.04", "window_s"),
    ("confuse", "sing", "sing", "KEY=VALUE"),
    ("confuse", "action=sing", "action=sing", "list"),
    ("confuse", "keyword=[a,b]", "keyword"),
    ("confuse", "keyword=...", "keyword=..."),
    ("confuse", "out=text", "out=text", "already"),
    ("confuse", "limit=0", "limit=0", "between 1 and"),
    ("confuse", "confuse.n=-1", "confuse.n=-1", "between 0 and 50000"),
    ("confuse", "confuse.bands=[0.5]", "confuse.bands=[0.5]", "two edges"),
    ("confuse", "confuse.bands=[0.1,0.3,0.2]", "confuse.bands", "each above"),
    ("confuse", "confuse.bands=[0.1,0.3]", "confuse.quotas", "each of the 1 bands"),
    ("confuse", "confuse.quotas=[0,0,0,0,0]", "confuse.quotas", "one above 0"),
    ("confuse", "confuse.kinds={word: 2}", "confuse.kinds.word=2", "between 0 and 1"),
    ("confuse", "confuse.kinds={whole: 1}", "confuse.kinds.whole", "spelling, word"),
    (
        "confuse",
        "confuse.kinds={word: 0, sequence: 0, phones: 0, part: 0, spelling: 0}",
        "confuse.kinds",
        "above 0",
    ),
    ("confuse", "confuse.language=klingon", "confuse.language=klingon", "en-us"),
    ("confuse", "confuse.language=de", "confuse.words", "language=de"),
    ("confuse", "confuse.words=none_such", "confuse.words=none_such"),
    ("confuse", "confuse.pronunciations=5", "confuse.pronunciations"),
    ("confuse", 'confuse.pronunciations=["жж"]', "confuse.pronunciations", "IPA"),
    ("confuse", "confuse.include=none_such.csv", "confuse.include=none_such.csv", "no such file"),
    ("confuse", "confuse.include=[computer]", "confuse.include", "contains the keyword"),
    ("confuse", "confuse.exclude=[...]", "confuse.exclude", "must be a text"),
]


@pytest.mark.parametrize(("verb", "word", "named"), [(v, w, n) for v, w, *n in BAD], ids=lambda x: str(x)[:40])
def test_bad_input_is_one_line_and_leaves_nothing(cli, tiny, run, tones, here, verb, word, named):
    said = cli(verb, *words_of(verb, tiny, run, tones), word.replace("{run}", str(run)))
    refused(said, *named)
    assert sorted(p.name for p in here.iterdir()) == ["empty", "text"]
    assert (here / "text").read_text() == "x"


@pytest.mark.parametrize(
    ("verb", "key"),
    [
        ("train", "keyword"),
        ("mine", "buffer"),
        ("mine", "streams"),
        ("evaluate", "detector"),
        ("export", "out"),
        ("confuse", "keyword"),
    ],
)
def test_a_missing_setting_is_named(cli, tiny, run, tones, here, verb, key):
    words = [w for w in words_of(verb, tiny, run, tones) if not w.startswith(f"{key}=")]
    refused(cli(verb, *words), f"{key}=...")


def test_an_unknown_command_is_refused(cli):
    refused(cli("trian"), "trian", "train")


def test_a_process_exits_with_one_line(tiny, here):
    """The other tests run in this process, since importing torch takes seconds."""
    done = subprocess.run([*REAL, "train", *tiny, "optim.stepz=1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("kws: optim.stepz: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("verb", "sweep", "written"),
    [
        ("mine", "buffer=a,b", ["a/index.sqlite", "b/index.sqlite"]),
        ("evaluate", "out=a.json,b.json", ["a.json", "b.json"]),
        ("export", "out=a.pt,b.pt", ["a.pt", "b.pt"]),
        ("confuse", "out=a.csv,b.csv", ["a.csv", "b.csv"]),
        ("train", "seed=0,1", ["new/0/model.pt", "new/1/model.pt"]),
    ],
)
def test_every_command_sweeps(cli, tiny, run, tones, here, words_file, verb, sweep, written):
    words = [w for w in words_of(verb, tiny, run, tones) if w.split("=")[0] != sweep.split("=")[0]]
    words += {"train": ["optim.steps=2", "mining.rounds=0"], "confuse": [f"confuse.words={words_file}"]}.get(verb, [])
    said = cli(verb, "-m", *words, sweep)
    assert said.code == 0, said.err
    assert all((here / name).is_file() for name in written)


def test_export_overwrites_only_by_force(cli, run, here):
    words = ("export", f"checkpoint={run}/model.pt", "out=new.pt")
    assert cli(*words, "thresholds=0.25").code == 0
    before = (here / "new.pt").read_bytes()
    refused(cli(*words), "out=new.pt", "force=true")
    assert (here / "new.pt").read_bytes() == before
    assert cli(*words, "thresholds=0.75", "force=true").code == 0
    assert load_exported(here / "new.pt").thresholds == [0.75]


def test_the_export_of_a_useless_detector_says_so(cli, run, here):
    content = checkpoint.read(run / "model.pt")
    content["facts"]["useless"] = {"beep": "useless at its threshold: misses 8 of 8 keywords"}
    checkpoint.write(here / "model.pt", content)
    said = cli("export", "checkpoint=model.pt", "out=new.pt")
    assert said.code == 0, said.err
    assert "beep: useless at its threshold: misses 8 of 8 keywords" in said.err
    assert "useless" not in cli("export", "checkpoint=model.pt", "out=own.pt", "thresholds=0.5").err


def test_report_and_figures_are_written_to_their_paths(cli, tiny, run, tones, here):
    said = cli("evaluate", *words_of("evaluate", tiny, run, tones), "report=deep/page.html")
    assert said.code == 0, said.err
    assert "beep" in (here / "deep/page.html").read_text()
    (outcome,) = json.loads((here / "new.json").read_text())["outcomes"]
    assert outcome["keyword"] == "beep"
