"""Recipes: files of one's own, and the one that each run leaves."""

import shlex
from pathlib import Path

import torch
from omegaconf import OmegaConf

from kws.detector import checkpoint
from kws.runs.folder import RECIPE
from kws.runs.results import find
from kws.runs.table import columns, value_of
from tests.kill import all_steps


def test_the_recipe_of_a_run_is_printed_and_trains_it_again_to_the_bit(cli, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (run / RECIPE).read_text()
    assert cli("runs", run.parent, f"recipe_of={run.name}").out == text
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert comments[0].startswith("# kws ")
    assert comments[1].startswith("# kws train keyword=beep ")
    kept = OmegaConf.create(text)
    assert (kept.device, kept.threads, kept.replay.share) == ("cpu", 1, 0.2)
    assert "out" not in kept
    assert "cache" not in kept.data
    assert "lr" not in kept.optim, "only what differs from the defaults"
    copied = cli("runs", run.parent, f"recipe_of={run.name}", "out=mine/best.yaml")
    assert copied.code == 0, copied.err
    assert (tmp_path / "mine/best.yaml").read_text() == text
    assert copied.out == "kws train recipe=mine/best.yaml\n"
    again = cli(*shlex.split(copied.out)[1:], "out=again", f"data.cache={tmp_path}/cache")
    assert again.code == 0, again.err
    first, second = (checkpoint.read(folder / "model.pt") for folder in (run, tmp_path / "again"))
    assert all(torch.equal(first["model"][name], second["model"][name]) for name in first["model"])
    assert first["thresholds"] == second["thresholds"]
    # The recipe of the second run differs from that of the first in its command alone.
    assert OmegaConf.load("again/recipe.yaml") == kept
    refused = cli("runs", run.parent, f"recipe_of={run.name}", "out=mine/best.yaml")
    assert refused.code == 2
    assert "must be a new file" in refused.err


def test_a_recipe_holds_the_chosen_options_of_groups_and_is_kept_on_resume(cli, tiny, tmp_path):
    words = [*tiny, "augment=none", "augment.noise_p=0.5", "keyword=[beep]", "replay.mix={neighbour: 1.0}"]
    words = [word for word in words if not word.startswith("optim.steps=")]
    words += ["optim.steps=2", "mining.rounds=0", f"out={tmp_path}/a"]
    with all_steps():
        cli("train", *words)
    kept = OmegaConf.load(tmp_path / "a" / RECIPE)
    assert kept.defaults == [{"override /augment": "none"}]
    assert kept.augment == {"noise_p": 0.5}
    assert kept.keyword == ["beep"]
    assert kept.replay.mix == {"neighbour": 1.0}
    assert kept.mining.rounds == 0
    before = (tmp_path / "a" / RECIPE).read_text()
    with all_steps():
        cli("train", *words, "threads=2")
    assert (tmp_path / "a" / RECIPE).read_text() == before


def test_a_recipe_drives_no_terminal(cli, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/config.yaml").write_text(f"# run {1:012x}\nseed: 0\n")
    (tmp_path / "a" / RECIPE).write_text("# \x1b[2J[red]\nseed: 1\n")
    said = cli("runs", tmp_path, "recipe_of=a")
    assert said.code == 0, said.err
    assert said.out == "# \N{REPLACEMENT CHARACTER}[2J[red]\nseed: 1\n"


def test_recipes_of_a_person_are_given_by_their_files(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/own.yaml").write_text("optim:\n  steps: 7\n")
    (tmp_path / "list.yaml").write_text("- 7\n")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    for name in ("sub/own.yaml", "./sub/own.yaml", f"{tmp_path}/sub/own.yaml", f"../{tmp_path.name}/sub/own.yaml"):
        said = cli("train", f"recipe={name}", "--cfg", "job")
        assert said.code == 0, said.err
        assert OmegaConf.create(said.out).optim.steps == 7
    assert "steps: 8" in cli("train", "recipe=sub/own.yaml", "optim.steps=8", "--cfg", "job").out
    for name, why in [
        ("none.yaml", "no such file"),
        ("list.yaml", "must be a YAML file of settings"),
        ("broken.yaml", "must be a YAML file of settings"),
    ]:
        said = cli("train", f"recipe={name}", "--cfg", "job")
        assert said.code == 2
        assert said.err.startswith(f"kws: recipe={name}: {why}")


def test_a_recipe_file_is_no_option_of_later_calls(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text("seed: 7\n")
    assert cli("train", "recipe=own.yaml", "--cfg", "job").code == 0
    assert "own" not in cli("train", "recipe=none_such", "--cfg", "job").err


def test_a_sweep_over_recipes_takes_files_too(cli, tiny, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for steps in (5, 6):
        (tmp_path / f"{steps}.yaml").write_text(f"optim:\n  steps: {steps}\n")
    words = [word for word in tiny if not word.startswith("optim.steps=")]
    said = cli("train", "-m", *words, "recipe=5.yaml,6.yaml", "mining.rounds=0", "out=new")
    assert said.code == 0, said.err
    runs = find(Path("new"))
    assert "recipe" in columns(runs)[0]
    assert [value_of(run, "recipe") for run in runs] == ["5.yaml", "6.yaml"]
    assert [run.settings["optim.steps"] for run in runs] == [5, 6]
