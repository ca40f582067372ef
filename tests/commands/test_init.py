"""kws train init=: a run that starts from a finished model, and recipe=harden, which compares the two detectors."""

import contextlib
import json
import re
import shutil
import sqlite3
from dataclasses import replace

import pytest
import torch
from omegaconf import OmegaConf

from kws.commands.initial_model import model_file, refuse_known
from kws.common.errors import LeakError
from kws.data.audio import content_hash, load, to_int16
from kws.data.audio_cache import Entry
from kws.data.manifest import Recording, Split
from kws.detector import checkpoint
from kws.evaluation import comparison
from kws.replay.buffer import Buffer
from kws.training.trainer import Trainer
from tests.kill import death

SHORT = ("optim.steps=4", "optim.save_every=2", "mining.rounds=0", "mining.pool_share=0", "validate_every=null")


@pytest.fixture(scope="module")
def words(tiny):
    """The settings of a tiny run without the architecture, which the old model has."""
    return [word for word in tiny if not word.startswith(("model.", "batch.clip_s"))]


@pytest.fixture(scope="module")
def hardened(cli, words, run, tmp_path_factory):
    """A finished run whose buffer starts empty, and what it printed."""
    out = tmp_path_factory.mktemp("hardened") / "run"
    field = out.parent / "field"
    Buffer(field).close()
    said = cli("train", *words, *SHORT, f"init={run / 'model.pt'}", f"replay.buffer={field}", f"out={out}")
    assert said.code == 0, said.err
    return out, said, field


def weights(folder):
    return checkpoint.read(folder / "model.pt")["model"]


def test_training_begins_with_the_weights_of_the_model(cli, words, run, tmp_path):
    words = *words, *SHORT, "optim.steps=1", "optim.lr=1e-7", f"init={run / 'model.pt'}", f"out={tmp_path / 'run'}"
    assert cli("train", *words).code == 0
    old, new = weights(run), weights(tmp_path / "run")
    for name, value in old.items():
        if "running" not in name and "num_batches" not in name:  # statistics of batch norm follow the batch
            torch.testing.assert_close(new[name], value, atol=1e-5, rtol=0)
    facts = checkpoint.read_model(tmp_path / "run" / "model.pt").facts
    assert facts["init"] == checkpoint.read_model(run / "model.pt").hash
    assert (tmp_path / "run" / "init.pt").read_bytes() == (run / "model.pt").read_bytes()


def test_before_and_after_are_compared_and_a_sentence_says_what_to_do(hardened, run):
    out, said, _ = hardened
    assert "Before (a) and after (b)" in said.out
    content = json.loads((out / "results.json").read_text())
    assert content["verdict"] in " ".join(said.out.split())
    assert content["verdict"].startswith(("Ship it", "Keep the old one", "Do not ship it"))
    pairs = content["compared_with_init"]
    assert list(pairs) == ["validation, beep", "test, beep"]
    (outcome,) = json.loads((run / "results.json").read_text())["outcomes"]
    assert (pairs["test, beep"]["events"], pairs["test, beep"]["misses_a"]) == (
        outcome["as_calibrated"]["events"],
        outcome["as_calibrated"]["misses"],
    )
    assert content["verdict"].replace("<", "&lt;") in (out / "report.html").read_text()


def test_clips_of_the_old_run_are_replayed_too(hardened, run):
    _, said, field = hardened
    with Buffer(run / "buffer") as old, Buffer(field) as new:
        assert len(old)
        assert {row.hash for row in old.rows()} <= {row.hash for row in new.rows(None)}
    assert "clips of the run that trained" in " ".join(said.out.split())


def test_a_killed_run_resumes_without_the_folder_of_the_old_model(cli, words, run, hardened, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    out = tmp_path / "killed"
    Buffer(tmp_path / "field").close()
    words = *words, *SHORT, f"init={old / 'model.pt'}", f"replay.buffer={tmp_path / 'field'}", f"out={out}"
    with death(Trainer, "train_step", 4, True):
        cli("train", *words)
    shutil.rmtree(old)
    assert cli("train", *words).code == 0
    for name, value in weights(hardened[0]).items():
        assert torch.equal(weights(out)[name], value), name


def test_another_keyword_gets_a_new_head_on_the_old_trunk(cli, words, run, tmp_path):
    words = *words, *SHORT, "keyword=speech", "optim.steps=1", "optim.lr=1e-7"
    said = cli("train", *words, f"init={run / 'model.pt'}", f"out={tmp_path / 'run'}")
    assert said.code == 0, said.err
    assert "Before (a)" not in said.out
    old, new = weights(run), weights(tmp_path / "run")
    assert not torch.allclose(old["head.weight"], new["head.weight"])
    trunk = next(name for name in old if name.endswith("weight") and not name.startswith("head."))
    torch.testing.assert_close(new[trunk], old[trunk], atol=1e-5, rtol=0)


def test_a_detector_that_misses_too_much_is_refused(cli, words, run, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(comparison, "misses_too_many", lambda pairs, limit: asked.append((pairs, limit)) or True)
    said = cli(
        "train", *words, *SHORT, "replay.max_miss_rate=0.3", f"init={run / 'model.pt'}", f"out={tmp_path / 'run'}"
    )
    assert said.code == 2, said.out
    assert [(limit, [one.events for one in pairs]) for pairs, limit in asked] == [(0.3, [6])] * 3
    assert said.err.count("more than replay.max_miss_rate") == 3
    assert "the weights go back to 50% of the way" in said.err
    assert "the weights go back to 25% of the way" in said.err
    assert not (tmp_path / "run" / "detector.pt").exists()


@pytest.mark.parametrize(
    ("word", "named"),
    [
        ("init=nowhere.pt", "nowhere.pt: no such file"),
        ("init={run}/detector.pt", "the exported file, not a checkpoint"),
        ("init={run}/checkpoints/round-1.pt", "must be the model.pt of a run"),
    ],
)
def test_a_model_that_cannot_start_a_run_is_one_line(cli, words, run, tmp_path, word, named):
    said = cli("train", *words, word.format(run=run), f"out={tmp_path / 'run'}")
    assert said.code == 2
    assert named in said.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("word", ["model.channels=8", "features=pcen", "data.sample_rate=8000"])
def test_what_the_model_decides_is_refused_beside_init(cli, words, run, tmp_path, word):
    said = cli("train", *words, f"init={run / 'model.pt'}", word, f"out={tmp_path / 'run'}")
    assert said.code == 2
    assert f"{word}: must be left out with init" in said.err


def test_a_recording_that_trained_the_model_cannot_test_it(cli, words, tones, run, tmp_path):
    rows = (tones / "manifest.csv").read_text().splitlines()
    first = next(i for i, row in enumerate(rows) if "beep" in row and row.endswith("train"))
    rows[first] = rows[first].removesuffix("train") + "test"
    (tmp_path / "other.csv").write_text("\n".join(rows))
    given = f"init={run / 'model.pt'}", f"data.manifest={tmp_path}/other.csv", f"out={tmp_path}/run"
    said = cli("train", *words, *SHORT, *given)
    assert said.code == 2
    assert "a test recording trained the model that this run starts from" in said.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("word", ["mining.rounds=0", "mining.rounds=2", "recipe=harden"])
def test_a_buffer_that_is_not_there_is_refused_and_not_made(cli, tiny, run, tmp_path, word):
    (tmp_path / "field").mkdir()
    words = [*tiny, word, *([f"init={run}/model.pt"] if word == "recipe=harden" else [])]
    words = [one for one in words if word != "recipe=harden" or not one.startswith(("model.", "batch.clip_s"))]
    said = cli("train", *words, f"replay.buffer={tmp_path}/feild", f"out={tmp_path}/run")
    assert said.code == 2
    assert said.err.startswith(f"kws: replay.buffer={tmp_path}/feild: ")
    assert f"(did you mean {tmp_path}/field?)" in said.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["field"]
    said = cli("train", *words, f"replay.buffer={tmp_path}/field", f"out={tmp_path}/run")
    assert "must be the folder of a replay buffer" in said.err, "a folder without one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["field"]


def test_clips_in_quarantine_are_named_and_the_sources_of_the_others_trained_the_model(cli, words, run, tmp_path):
    field, other = tmp_path / "field", "ab" * 32
    shutil.copytree(run / "buffer", field)
    with contextlib.closing(sqlite3.connect(field / "index.sqlite")) as index, index:
        some = "SELECT id FROM clips WHERE state = 'active' LIMIT 2"
        index.execute(f"UPDATE clips SET state = 'quarantined' WHERE id IN ({some})")
        index.execute("UPDATE clips SET recording = ? WHERE state = 'active'", [other])  # as if mined elsewhere
    share = ("optim.steps=1", "replay.share=0.5", "replay.schedule=constant")
    said = cli("train", *words, *SHORT, *share, f"replay.buffer={field}", f"out={tmp_path}/run")
    assert said.code == 0, said.err
    assert other[:16] in checkpoint.read_model(tmp_path / "run/model.pt").trained_on
    assert other[:16] not in checkpoint.read_model(run / "model.pt").trained_on
    assert f"2 clips in quarantine, not replayed until released: kws buffer review buffer={field}" in " ".join(
        said.err.split()
    )


def test_the_base_net_of_the_package_starts_a_run_of_any_keyword(cli, words, tmp_path):
    """It gives the trunk; the head is new, and clips are as long as the run wants them."""
    given = *words, *SHORT, "optim.steps=1", "optim.lr=1e-7", "init=base", "batch.clip_s=1.8", f"out={tmp_path / 'run'}"
    refused = cli("train", *(word for word in given if not word.startswith("keyword=")))
    assert (refused.code, refused.err.count("\n")) == (2, 1)
    assert "keyword=... must be given" in refused.err
    said = cli("train", *given)
    assert said.code == 0, said.err
    assert "starts from the base net of kws: ds_tcn on log_mel" in said.out
    assert "the base net of kws" in (tmp_path / "run" / "report.html").read_text()
    base, new = (checkpoint.read_model(file, base=True) for file in (model_file("base"), tmp_path / "run" / "model.pt"))
    assert new.spec.labels == ["beep"]
    assert new.spec.clip_n == 1.8 * new.spec.sample_rate
    assert new.facts["init"] == base.hash
    trunk = next(name for name in base.weights if name.endswith("weight") and not name.startswith("head."))
    torch.testing.assert_close(new.weights[trunk], base.weights[trunk], atol=1e-5, rtol=0)


def test_clips_are_as_long_as_those_of_a_base_net_unless_a_length_is_chosen(cli, words, tmp_path):
    base = checkpoint.read_model(model_file("base"), base=True)
    spec = replace(base.spec, clip_n=round(2.5 * base.spec.sample_rate))
    checkpoint.write_model(tmp_path / "base.pt", spec, base.weights, base.detector.thresholds, base.facts)
    said = cli("train", *words, *SHORT, "optim.steps=1", f"init={tmp_path / 'base.pt'}", f"out={tmp_path / 'run'}")
    assert said.code == 0, said.err
    assert checkpoint.read_model(tmp_path / "run" / "model.pt").spec.clip_n == spec.clip_n


@pytest.mark.parametrize("word", ["model.channels=8", "features=pcen", "data.sample_rate=8000"])
def test_what_the_base_net_decides_is_refused_with_the_way_out(cli, words, tmp_path, word):
    said = cli("train", *words, "init=base", word, f"out={tmp_path / 'run'}")
    assert said.code == 2
    assert f"{word}: must be left out with init=base" in said.err
    assert "init=null starts from random weights" in said.err


def test_the_base_net_of_the_package_names_no_file():
    """It knows its recordings by hash, so that none of them can be held out later; its card says what they are."""
    content = checkpoint.read(model_file("base"))
    assert content["held_out"] == []
    assert set(content["facts"]) == {"task", "version", "commit", "data", "weights", "phone_errors", "hours", "config"}
    assert set(OmegaConf.create(content["facts"]["config"])) == {"features", "model", "data"}
    assert "/" not in str(content["facts"])
    card = model_file("base").with_suffix(".md").read_text()
    transcribed, noise = (int(n.replace(",", "")) for n in re.findall(r"from \| ([\d,]+) .* ([\d,]+) rec", card)[0])
    assert transcribed + noise == len(content["trained_on"])
    assert f"begins {content['hash']} |" in card
    assert f"{content['facts']['hours']} h" in card


@pytest.mark.parametrize(("name", "trained"), [("000010063", True), ("000010075", True), ("000260001", False)])
def test_the_base_net_of_the_package_knows_its_recordings_by_their_sound(data, name, trained):
    """Were the sound read or hashed in another way, no recording that trained it would be refused any more."""
    base = checkpoint.read_model(model_file("base"), base=True)
    pcm = to_int16(load(data / f"speech/ocean762/{name}.flac", base.spec.sample_rate))
    one = Recording(data / f"{name}.flac", f"{name}.flac", "speech", Split.TEST)
    entry = Entry(one, content_hash(pcm), 0, len(pcm))
    with pytest.raises(LeakError, match="test recording trained") if trained else contextlib.nullcontext():
        refuse_known(base, [entry])
