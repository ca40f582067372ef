"""Every recipe fits the schema, holds only what differs, and the quickstart runs."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from kws import config, schema

FOLDER = Path(__file__).parent.parent / "recipes"
RECIPES = sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.yaml"))


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in flat(value, f"{prefix}.{key}".lstrip(".")).items()}


def composed(cli, *words: str) -> dict[str, Any]:
    said = cli("train", *words, "--cfg", "job")
    assert said.code == 0, said.err
    return dict(OmegaConf.to_container(OmegaConf.create(said.out)))


def test_there_are_recipes():
    assert "quickstart" in RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_it_composes_and_passes_the_checks(cli, name):
    said = schema.TrainConfig
    given = composed(cli, f"recipe={name}")
    if given["keyword"] == "???":
        given["keyword"] = "computer"
    given["data"]["root"] = "DIR"
    settings = config.settings(OmegaConf.merge(OmegaConf.structured(said), given), said)
    assert config.keywords(settings.keyword)


@pytest.mark.parametrize("name", RECIPES)
def test_it_holds_only_what_differs(cli, name):
    recipe = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    defaults, given = flat(composed(cli)), flat(composed(cli, f"recipe={name}"))
    chosen = [key for key in flat(recipe) if not key.startswith("defaults")]
    assert chosen
    assert [key for key in chosen if defaults.get(key) == given[key]] == []
    assert {key: given[key] for key in chosen} == {key: value for key, value in flat(recipe).items() if key in chosen}


@pytest.mark.skipif(importlib.util.find_spec("espeakng_loader") is None, reason="espeakng_loader is not installed")
def test_the_quickstart_shrunk(cli, tmp_path):
    small = [
        "threads=1",
        "device=cpu",
        "optim.steps=12",
        "batch.size=12",
        "model.channels=8",
        "threshold.passes=1",
        "mining.passes=1",
        "data.speak.positives=20",
        "data.speak.confusables=7",
        "data.speak.sentences=20",
        "data.speak.noises=7",
    ]
    said = cli("train", "recipe=quickstart", *small, f"data.cache={tmp_path}/cache", f"out={tmp_path}/run")
    assert said.code == 0, said.err
    outcomes = json.loads((tmp_path / "run/results.json").read_text())["outcomes"]
    assert {outcome["arm"] for outcome in outcomes} == {"with replay", "without replay"}
    assert (tmp_path / "run/detector.pt").is_file()
