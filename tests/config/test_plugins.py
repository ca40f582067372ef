"""The code of docs/extending.md runs, with settings, help and range errors."""

import re
import sys
from pathlib import Path

import pytest
import torch

from kws.data import augment
from kws.data.augment import AugmentConfig, augment_config, vary_clips
from kws.models.base import FAMILIES
from kws.replay import eviction, mining
from kws.replay.buffer import Buffer
from tests.test_docs import commands

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text("utf-8")
MODULES = dict(re.findall(r"```python\n# (\w+)\.py\n(.*?)```", PAGE, re.DOTALL))
COMMANDS = commands(PAGE)
MODEL = ("plugins=[my_models]", "model=one_layer")
SHORT = ("optim.steps=4", "optim.warmup=1", "mining.rounds=1", "validate_every=null")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with the modules of the page; the registries are restored afterwards."""
    for name, code in MODULES.items():
        (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    registries = (FAMILIES, augment.EXTRAS, eviction.RULES, eviction._SETTINGS, mining.SOURCES)
    registered = [dict(registry) for registry in registries]
    yield tmp_path
    for registry, before in zip(registries, registered, strict=True):
        registry.clear()
        registry.update(before)
    for name in MODULES:
        sys.modules.pop(name, None)


def unregister() -> None:
    """Undo the import of the plugin, as in a new process."""
    FAMILIES.pop("one_layer", None)
    sys.modules.pop("my_models", None)


def test_the_page_shows_each_kind_of_plugin():
    assert set(MODULES) == {"my_models", "my_augmentations", "my_evictions", "my_sources"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_of_the_page_fits_the_settings(cli, here, words):
    result = cli(*words, *([] if "--help" in words else ["--cfg", "job"]))
    assert result.code == 0, result.err


def test_a_registered_model_trains_exports_and_evaluates(cli, tiny, tones, here):
    words = [word for word in tiny if not word.startswith("model.")]
    trained = cli("train", *words, *MODEL, "model.width=4", *SHORT, "out=run")
    assert trained.code == 0, trained.err
    assert cli("export", MODEL[0], "checkpoint=run/model.pt", "out=new.pt").code == 0
    evaluate = ("evaluate", "detector=run/model.pt", f"data.root={tones}", "data.cache=cache", "threads=1")
    assert cli(*evaluate, MODEL[0]).code == 0
    unregister()
    refused = cli(*evaluate)
    assert refused.code == 2
    assert "one_layer: unknown family" in refused.err
    assert "trained with plugins=[my_models]" in refused.err
    assert cli("evaluate", "detector=new.pt", *evaluate[2:]).code == 0, "the exported file needs no plugin"


def test_settings_of_a_registered_model_have_help_and_ranges(cli, here):
    assert "one_layer" in cli("models", *MODEL, "model.width=4").out
    assert "must be between 1 and 512" in cli("models", *MODEL, "model.width=0").err
    assert "did you mean model.width?" in cli("models", *MODEL, "model.widht=4").err
    result = cli("train", MODEL[0], "--help", "model").out
    assert re.search(r"model\.width=16 +channels of the convolution \[1 to 512\] \(one_layer\)", result)


def test_a_registered_augmentation_changes_clips(cli, tiny, here):
    words = ("train", *tiny, "plugins=[my_augmentations]", "augment.overdrive.share=1", "optim.steps=2")
    trained = cli(*words, "out=run")
    assert trained.code == 0, trained.err
    assert "augment.overdrive.share=2" in cli(*words, "augment.overdrive.share=2", "out=other").err
    settings = augment_config()()
    assert isinstance(settings, AugmentConfig)
    clips = torch.full((4, 8), 0.5)
    settings.overdrive.share = 0.5
    varied = vary_clips(clips, torch.arange(4), settings)
    assert set(varied.unique().tolist()) == {0.5, 1.0}
    assert torch.equal(varied[2:], vary_clips(clips[2:], torch.arange(2, 4), settings)), (
        "rows depend on their seeds alone"
    )


def test_a_registered_eviction_rule_and_mining_source_fill_the_buffer(cli, tiny, here):
    plugins = "plugins=[my_evictions,my_sources]"
    words = ("train", *tiny, *SHORT, plugins, "replay.eviction=least_sampled")
    words += ("mining.sources.rises.clips_per_hour=3000",)
    trained = cli(*words, "mining.min_score=1", "replay.retire_below=0", "mining.random_share=0", "out=run")
    assert trained.code == 0, trained.err
    with Buffer(here / "run" / "buffer") as buffer:
        assert len(buffer) > 0, "no score reaches min_score: the clips are of the source"
    assert "must be between 0 and 1" in cli(*words, "replay.eviction_rules.least_sampled.min_score=2", "out=new").err
    assert "must be one of hardest" in cli(*words[:-2], words[-1], "replay.eviction=newest", "out=new").err
    result = cli("train", plugins, "--help", "replay").out
    assert re.search(r"replay\.eviction_rules\.least_sampled\.min_score=0\.0 +clips that score less", result)


@pytest.mark.parametrize("name", ["none_such", "broken"])
def test_a_plugin_that_cannot_be_imported_is_one_line(cli, here, name):
    (here / "broken.py").write_text("1 / 0")
    result = cli("models", f"plugins=[{name}]")
    assert (result.code, len(result.err.splitlines())) == (2, 1)
    assert result.err.startswith(f"kws: plugins=[{name}]: must be a module that can be imported")


def test_a_recipe_imports_nothing(cli, tiny, here):
    (here / "mine.yaml").write_text("plugins: [my_models]\n")
    result = cli("train", *tiny, "recipe=mine.yaml", "out=run")
    assert (result.code, "must be given on the command line" in result.err) == (2, True)
    assert "my_models" not in sys.modules
