"""Checkpoints, exported files and buffers that somebody else wrote, or that are damaged: one line, and nothing else."""

import contextlib
import json
import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from kws.commands import initial_model
from kws.common.errors import KwsError
from kws.config.app import composed
from kws.detector import checkpoint
from kws.detector.torchscript import load_exported, without_deprecation


@pytest.mark.parametrize(
    ("column", "value"),
    [("kind", "nonsense"), ("state", "gone"), ("mixed_with", "{"), ("mixed_with", '[{"hash":"a","name":5}]')],
)
def test_an_index_that_another_program_changed_is_one_line(cli, run, tmp_path, column, value):
    folder = Path(shutil.copytree(run / "buffer", tmp_path / "buffer"))
    with contextlib.closing(sqlite3.connect(folder / "index.sqlite")) as index, index:
        index.execute("PRAGMA ignore_check_constraints = 1")
        index.execute(f"UPDATE clips SET {column} = ? WHERE id = (SELECT min(id) FROM clips)", (value,))
    for action in ("check", *(("prune",) if column == "state" else ())):
        said = cli("buffer", action, f"buffer={folder}")
        assert (said.code, "index.sqlite: clip " in said.err, len(said.err.splitlines())) == (2, True, 1), said.err


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"data": {"sample_rate": "${oc.env:HOME}"}}, "must be resolved"),
        ({"model": None}, "must be a model of this version of kws"),
        ({"data": None}, "must be a model of this version of kws"),
        ({"batch": {"clip_s": "long"}}, "must be a model of this version of kws"),
        ({"confuse": "x"}, "must be a model of this version of kws"),
    ],
)
def test_a_model_with_other_settings_than_those_of_a_run_is_one_line(cli, words, run, tmp_path, changed, named):
    content = torch.load(run / "model.pt", weights_only=True)
    config = OmegaConf.to_container(OmegaConf.create(content["facts"]["config"]))
    content["facts"]["config"] = json.dumps(config | changed)
    torch.save(content, tmp_path / "forged.pt")
    said = cli("train", *words, f"init={tmp_path / 'forged.pt'}", f"out={tmp_path / 'run'}")
    assert (said.code, len(said.err.splitlines())) == (2, 1), said.err
    assert named in said.err
    assert not (tmp_path / "run").exists()


def test_a_model_names_no_file_of_this_machine(run, tmp_path, monkeypatch):
    model = checkpoint.read_model(run / "model.pt")
    config = OmegaConf.to_container(OmegaConf.create(model.facts["config"]))
    config["confuse"] |= {"words": "/etc/passwd", "exclude": ["compute"], "n": 7}
    forged, given = replace(model, facts=model.facts | {"config": json.dumps(config)}), set()
    monkeypatch.setattr(initial_model, "read_model", lambda *_, **__: forged)
    monkeypatch.setattr(initial_model, "chosen", lambda key: key if key in given else None)
    cfg = composed("train", ["keyword=beep", "data.root=.", f"init={run / 'model.pt'}"])
    with pytest.raises(KwsError, match=r"confuse\.words: must be given again, or as null: .* a file, /etc/passwd"):
        initial_model.read_initial(cfg, tmp_path)
    given.add("confuse.words")
    assert initial_model.read_initial(cfg, tmp_path) is forged
    assert (cfg.confuse.n, cfg.confuse.words, cfg.confuse.exclude) == (7, None, ["compute"])


@pytest.fixture(scope="module")
def words(tiny):
    """The settings of a tiny run without the architecture, which the old model has."""
    return [word for word in tiny if not word.startswith(("model.", "batch.clip_s"))]


@pytest.mark.parametrize(
    ("facts", "recipe", "named"),
    [
        ([1], {}, "its facts are no table"),
        (None, {"labels": [5]}, "its labels are not distinct words"),
        (None, {"labels": []}, "its labels are not distinct words"),
        (None, {"labels": ["be\ud800ep"]}, "its labels are not distinct words"),
        (None, {"labels": ["beep", "beep"]}, "its labels are not distinct words"),
        (None, {"sample_rate": -5}, "its sample rate is -5"),
    ],
)
def test_a_model_with_values_of_another_kind_is_one_line(cli, run, tmp_path, facts, recipe, named):
    content = torch.load(run / "model.pt", weights_only=True)
    content["facts"] = content["facts"] if facts is None else facts
    content["recipe"] |= recipe
    torch.save(content, tmp_path / "model.pt")
    for words in (
        ("evaluate", f"detector={tmp_path}/model.pt", f"negative={tmp_path}"),
        ("export", f"checkpoint={tmp_path}/model.pt", f"out={tmp_path}/d.pt"),
    ):
        said = cli(*words)
        assert (said.code, len(said.err.splitlines())) == (2, 1), said.err
        assert f"model.pt: not a model of kws, {named}" in said.err


class Flat(torch.nn.Module):
    """The members of an exported detector."""

    def __init__(self, rate: int, thresholds: list[float]) -> None:
        super().__init__()
        self.sample_rate, self.labels, self.thresholds, self.frame_s = rate, ["a", "b"], thresholds, 0.02

    @torch.jit.export
    def reset(self) -> None:
        pass

    def forward(self, pcm: torch.Tensor) -> torch.Tensor:
        return pcm.unsqueeze(1).expand(-1, 2)


@pytest.mark.parametrize(("rate", "thresholds"), [(-5, [0.5, 0.5]), (16000, [0.5])])
def test_a_module_with_the_members_of_a_detector_and_other_values_is_none(tmp_path, rate, thresholds):
    def saved(*values):
        with without_deprecation():
            torch.jit.save(torch.jit.script(Flat(*values)), tmp_path / "flat.pt")
        return tmp_path / "flat.pt"

    assert load_exported(saved(16000, [0.5, 0.5])).labels == ["a", "b"]
    with pytest.raises(KwsError, match="its labels, thresholds, rates or scores are of another kind"):
        load_exported(saved(rate, thresholds))
