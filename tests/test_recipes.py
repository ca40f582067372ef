"""Every recipe fits the schema, holds only what differs, and the quickstart runs."""

import functools
import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from omegaconf import OmegaConf

from kws.commands import builders, classification
from kws.commands.initial_model import model_file
from kws.config import compose, schema
from kws.data import classification_dataset
from kws.data.manifest import Split
from kws.replay.buffer import Buffer, Kind
from tests import ROOT
from tests.typed import typed

FOLDER = ROOT / "recipes"
RECIPES = sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.rglob("*.yaml"))


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and values."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for key, value in tree.items() for k, v in flat(value, f"{prefix}.{key}".lstrip(".")).items()}


@pytest.fixture(scope="module")
def composed(cli) -> Callable[..., dict[str, Any]]:
    """The settings of `kws train` with these words; each is composed once."""

    @functools.cache
    def job(*words: str) -> str:
        said = cli("train", *words, "--cfg", "job")
        assert said.code == 0, said.err
        return str(said.out)

    return lambda *words: dict(OmegaConf.to_container(OmegaConf.create(job(*words))))


def test_there_are_recipes():
    assert "quickstart" in RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_it_composes_and_passes_the_checks(composed, name):
    said = schema.TrainConfig
    given = composed(f"recipe={name}")
    if given["keyword"] == "???":
        given["keyword"] = "computer"
    given["data"]["root"] = "DIR"
    settings = compose.settings(typed(said, given), said)
    assert compose.keywords(settings.keyword)


def test_a_wake_word_is_an_ensemble_unless_another_front_end_is_chosen(composed):
    assert "memory_s" in composed("recipe=wake_word")["features"]
    assert "memory_s" not in composed("recipe=wake_word", "features=log_mel")["features"]


def test_speech_commands_is_the_published_recipe(composed):
    """Kim et al., 2021: the schedule, the front end, 9,232 weights with 12 classes."""
    said = schema.TrainConfig
    s = compose.settings(typed(said, composed("recipe=speech_commands/v2_12", "data.root=DIR")), said)
    net = builders.model_spec(
        s,
        compose.keywords(s.keyword),
        classification_dataset.others(s.classification.unknown, s.classification.silence),
    ).net()
    assert sum(p.numel() for p in net.parameters()) == 9232
    optim = classification.optim_in_steps(s.optim, steps_per_epoch=370)  # of 36,923 clips
    assert (optim.steps, optim.warmup, optim.lr, optim.optimizer) == (200 * 370, 5 * 370, 0.1, "sgd")
    assert (optim.momentum, optim.weight_decay, optim.ema, s.batch.size) == (0.9, 0.001, 0.0, 100)
    front_end = builders.model_spec(s, ["yes"], []).front_end()
    assert (front_end.n_mels, front_end.window_n, front_end.hop_n, front_end.fft_n) == (40, 480, 160, 512)
    c = classification.augmentation(s)
    assert (c.shift_s, c.noise_p, c.noise_amplitude) == (0.1, 0.8, [0.0, 0.1])
    assert (c.time_masks, c.time_mask_s, c.mel_masks, c.mel_mask_n) == (2, 0.2, 2, 0)
    assert [classification.masked_bands(tau) for tau in (1, 1.5, 2, 3, 6, 8)] == [0, 1, 3, 5, 6, 7]


@pytest.mark.parametrize("name", RECIPES)
def test_it_holds_only_what_differs(composed, name):
    recipe = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    defaults, given = flat(composed()), flat(composed(f"recipe={name}"))
    chosen = [key for key in flat(recipe) if not key.startswith("defaults")]
    assert chosen
    assert [key for key in chosen if defaults.get(key) == given[key]] == []
    assert {key: given[key] for key in chosen} == {key: value for key, value in flat(recipe).items() if key in chosen}


def test_the_quickstart_shrunk(cli, words_file, tmp_path):
    small = [
        f"confuse.words={words_file}",
        "threads=1",
        "device=cpu",
        "optim.steps=12",
        "optim.warmup=4",
        "batch.size=12",
        "model.channels=8",
        "threshold.passes=1",
        "mining.passes=1",
        "data.synthetic.positives=20",
        "data.synthetic.confusables=20",
        "data.synthetic.sentences=20",
        "data.synthetic.noises=7",
        "confuse.n=20",
    ]
    said = cli("train", "recipe=quickstart", *small, f"data.cache={tmp_path}/cache", f"out={tmp_path}/run")
    assert said.code == 0, said.err
    outcomes = json.loads((tmp_path / "run/results.json").read_text())["outcomes"]
    assert [outcome["keyword"] for outcome in outcomes] == ["computer"]
    assert (tmp_path / "run/detector.pt").is_file()


SMALL = [
    "threads=1",
    "device=cpu",
    "optim.steps=12",
    "optim.warmup=4",
    "batch.size=12",
    "model.channels=8",
    "threshold.passes=1",
    "mining.passes=1",
    "validate_every=null",
    "data.synthetic.positives=20",
    "data.synthetic.confusables=30",
    "data.synthetic.sentences=20",
    "data.synthetic.noises=7",
    "confuse.n=30",
]


def test_a_keyword_without_a_recording_is_synthetic_and_so_are_its_confusables(cli, words_file, tmp_path):
    words = [
        f"confuse.words={words_file}",
        "recipe=from_text",
        "keyword=okay garden",
        *SMALL,
        f"data.cache={tmp_path}/cache",
        f"out={tmp_path}/run",
    ]
    said = cli("train", *words)
    assert said.code == 0, said.err
    assert "synthetic confusables" in said.out
    (outcome,) = json.loads((tmp_path / "run/results.json").read_text())["outcomes"]
    assert outcome["as_calibrated"]["events"] > 7, "by test voices"
    assert "Confusables by voices of the test split" in said.out
    alarms = outcome["confusables"]
    assert [one["wanted_fa_per_hour"] for one in alarms] == [0.0, 0.1, 0.5, 1.0, 2.0, None]
    assert alarms[0]["clips"] >= 10
    assert all(one["fired"] <= after["fired"] for one, after in pairwise(alarms[:5])), "a lower threshold, more alarms"
    with Buffer(tmp_path / "run/buffer", None, 16000) as buffer:
        kept = [row for row in buffer.rows() if row.kind == Kind.confusable]
    assert kept
    assert all(row.source.split is Split.TRAIN and "okay garden" not in row.text for row in kept)
    for name in ("state.pt", "results.json"):  # as a kill before the first step leaves it
        (tmp_path / "run" / name).unlink()
    again = cli("train", *words)
    assert again.code == 0, again.err
    assert "synthetic confusables" not in again.out, "the buffer holds them already"


def test_own_recordings_of_the_keyword_are_enough(cli, tones, words_file, tmp_path):
    """Negatives and noise are synthesised, and the keyword beside its recordings, though a recipe may ask for none."""
    (tmp_path / "mine/beep").mkdir(parents=True)
    for file in sorted(tones.glob("beep-*.flac")):
        shutil.copy(file, tmp_path / "mine/beep")
    folders = [
        f"confuse.words={words_file}",
        f"data.root={tmp_path}/mine",
        f"data.cache={tmp_path}/cache",
        f"out={tmp_path}/run",
    ]
    refused = cli("train", "recipe=wake_word", "keyword=beep", *folders)
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert "no negatives, such as speech without the keyword; there are beep: " in refused.err
    assert "recipe=few_shot synthesises them" in refused.err
    small = [word for word in SMALL if not word.startswith("model.")]  # the net is that of the package
    said = cli("train", "recipe=few_shot", "init=base", "keyword=beep", *small, *folders)
    assert said.code == 0, said.err
    assert (tmp_path / "run/init.pt").read_bytes() == model_file("base").read_bytes()
    assert OmegaConf.load(tmp_path / "run/recipe.yaml").init == "base"
    assert "20 sentences are synthesised for training beside 0 recordings" in said.out
    assert "It is useless at its threshold: " in said.err, "the last line says what 12 steps are worth"
    (outcome,) = json.loads((tmp_path / "run/results.json").read_text())["outcomes"]
    assert outcome["as_calibrated"]["events"] > 8, "real and synthetic ones"
