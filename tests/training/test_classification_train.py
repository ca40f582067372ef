"""kws train task=classification: accuracy, resume to the same weights, refused settings."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from kws.commands import training_run
from kws.data.audio import load
from kws.detector import checkpoint
from kws.detector.torchscript import load_exported
from kws.evaluation.intervals import wilson
from kws.training.metrics import Curves, MetricsLog
from kws.training.trainer import Trainer
from tests.benchmarks import three_words
from tests.kill import death
from tests.speech_commands_folder import write_commands

SMALL = [
    "task=classification",
    "keyword=[up,down,left]",
    "data.release=v2",
    "threads=1",
    "device=cpu",
    "batch.size=25",
    "batch.clip_s=1.0",
    "model.channels=16",
    "model.dilations=[1,2,4,4]",
    "model.smooth_s=0",
    "optim.epochs=12",
    "optim.warmup_epochs=1",
    "optim.lr=0.02",
    "optim.ema=0",
    "optim.save_every=7",
    "validate_every=9",
]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    root = tmp_path_factory.mktemp("commands")
    write_commands(root / "SpeechCommands" / "speech_commands_v0.02", 50)
    return [*SMALL, f"data.root={root}", f"data.cache={tmp_path_factory.mktemp('cache')}"]


@pytest.fixture(scope="module")
def whole(cli, small, tmp_path_factory) -> Path:
    """The folder of an uninterrupted run; tests do not change it."""
    return train_in(cli, tmp_path_factory.mktemp("runs") / "whole", *small)


def train_in(cli, out: Path, *words: str) -> Path:
    said = cli("train", *words, f"out={out}")
    assert said.code == 0, said.err
    return out


def curves(out: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    return list(csv.DictReader((out / name).read_text().splitlines()))


def results_of(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "results.json").read_text()))


def same(out: Path, other: Path) -> None:
    """Assert that two runs have the same weights, curves and results."""
    a, b = (checkpoint.read(folder / "model.pt") for folder in (out, other))
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])
    for name in ("metrics.csv", "validation.csv"):
        assert (out / name).read_text() == (other / name).read_text()
    assert results_of(out) == results_of(other)


def test_a_run_learns_and_its_results_add_up(whole):
    found = results_of(whole)
    assert found["weights"] == "of the last step"
    assert found["task"] == "classification"
    for part in ("validation", "test"):
        confusion = torch.tensor(found[part]["confusion"])
        right, n = int(confusion.diagonal().sum()), int(confusion.sum())
        assert found[part]["accuracy"] == dict(
            zip(("right", "clips", "share", "low", "high"), (right, n, right / n, *wilson(right, n)), strict=True)
        )
        assert right / n > 0.7, "two melodies of three are distinguished in a few steps"
        words, unknown, silence = confusion[:3].sum(1), int(confusion[3].sum()), int(confusion[4].sum())
        assert words.min() == words.max(), "every speaker says every word"
        assert unknown == silence == -(-int(words.sum()) // 10)
        recall = found[part]["classes"]["up"]["recall"]
        assert (recall["right"], recall["clips"]) == (int(confusion[0, 0]), int(words[0]))


def test_the_schedule_is_counted_in_epochs(whole):
    rows = curves(whole)
    in_train = int(rows[0]["batch"]) * 0 + sum(int(r["batch"]) for r in rows if r["epoch"] == "0")
    per_epoch = -(-in_train // 25)
    assert len(rows) == 12 * per_epoch
    for epoch in range(12):
        assert sum(int(r["batch"]) for r in rows if r["epoch"] == str(epoch)) == in_train
    rates = [float(r["lr"]) for r in rows]
    assert rates.index(max(rates)) == per_epoch - 1
    assert max(rates) == pytest.approx(0.02)
    assert rates[-1] < 1e-4


def test_validation_is_reported_during_training_and_at_the_end(whole):
    rows = curves(whole, "validation.csv")
    last = len(curves(whole)) - 1
    assert [int(row["step"]) for row in rows] == [*range(8, last, 9), *([last] if (last + 1) % 9 else [])]
    found = results_of(whole)["validation"]["accuracy"]
    assert (int(rows[-1]["right"]), int(rows[-1]["clips"])) == (found["right"], found["clips"])


def test_validation_and_tensorboard_do_not_change_the_training(cli, small, whole, tmp_path):
    with death(Trainer, "train_step", 12, True):
        cli("train", *small, "validate_every=null", "tensorboard=false", f"out={tmp_path}/a")
    assert curves(tmp_path / "a") == curves(whole)[:11], "after the validation of step 8 too"
    assert not (tmp_path / "a/tensorboard").exists()
    assert list((whole / "tensorboard").iterdir())


def test_another_seed_gives_other_batches_and_the_same_evaluation_clips(cli, small, whole, tmp_path):
    out = train_in(cli, tmp_path / "a", *small, "seed=1", "optim.epochs=1", "optim.warmup_epochs=0")
    assert curves(whole)[0]["loss"] != curves(out)[0]["loss"]
    sums = [torch.tensor(results_of(folder)["test"]["confusion"]).sum(1).tolist() for folder in (whole, out)]
    assert sums[0] == sums[1]


def test_the_report_has_the_tables_and_the_checkpoint_its_origin(whole):
    page = (whole / "report.html").read_text()
    a = results_of(whole)["test"]["accuracy"]
    assert f"{a['right']}/{a['clips']}" in page
    assert "confusion matrix, true class (rows) and predicted class" in page
    assert "of the last step" in page
    model = checkpoint.read_model(whole / "model.pt")
    assert model.facts["classes"] == ["up", "down", "left", "_unknown_", "_silence_"]
    assert model.facts["accuracy"]["test"] == a
    assert {str(one.split) for one in model.held_out} == {"validation", "test"}


def test_the_exported_file_gives_the_counted_classes(small, whole):
    detector = load_exported(whole / "detector.pt")
    assert detector.labels == ["up", "down", "left"]
    (root,) = (Path(word.split("=")[1]) for word in small if word.startswith("data.root"))
    folder = root / "SpeechCommands" / "speech_commands_v0.02"
    files = [line for line in (folder / "testing_list.txt").read_text().split() if line.startswith("down/")]
    pcm = torch.stack([torch.from_numpy(load(folder / name)) for name in files])
    scores = detector.batch(pcm)[:, -1]
    rest = 1 - scores.sum(1)
    line = results_of(whole)["test"]["confusion"][1]
    for k in range(3):  # among all classes a word wins where it scores above the rest; the rest are two
        assert int(((scores.argmax(1) == k) & (scores.amax(1) > rest)).sum()) <= line[k]
        assert line[k] <= int((scores.argmax(1) == k).sum())


def test_a_run_killed_at_each_point_resumes_to_the_same_results(cli, small, whole, tmp_path):
    """Checkpoints come every 7 steps, validation every 9."""
    out = tmp_path / "killed"
    for place, name, call, first in [
        (MetricsLog, "validation", 1, False),  # a row of validation is written, the checkpoint is older
        (Curves, "add", 4, True),  # a step is done, its row is missing
        (training_run, "export", 1, True),  # after training
    ]:
        with death(place, name, call, first):
            cli("train", *small, f"out={out}")
        assert not (out / "results.json").exists()
    same(whole, train_in(cli, out, *small))


def test_a_net_with_dropout_resumes_to_the_same_weights(cli, small, tmp_path):
    words = [word for word in small if not word.startswith("model.")]
    words += ["model=bc_resnet_1", "model.stride=10", "model.groups=1", "features.n_mels=16", "optim.epochs=1"]
    words += ["optim.warmup_epochs=0", "optim.save_every=2", "validate_every=null"]
    whole, out = train_in(cli, tmp_path / "whole", *words), tmp_path / "killed"
    with death(Trainer, "train_step", 4, True):
        cli("train", *words, f"out={out}")
    same(whole, train_in(cli, out, *words))


def test_dropout_is_seeded_once_a_step(cli, small, tmp_path, monkeypatch):
    seeds, real = [], torch.manual_seed
    monkeypatch.setattr(torch, "manual_seed", lambda seed: (seeds.append(seed), real(seed))[1])
    out = train_in(cli, tmp_path / "a", *small, "optim.epochs=1", "optim.warmup_epochs=0")
    assert len(seeds) == len(set(seeds)) == 1 + len(curves(out)), "the first weights, then each step"


def test_a_finished_run_is_not_changed_and_other_settings_are_refused(cli, small, whole):
    before = {p: p.stat().st_mtime_ns for p in whole.iterdir()}
    said = cli("train", *small, f"out={whole}")
    assert said.code == 0
    assert "finished already" in said.out
    said = cli("train", *small, f"out={whole}", "optim.momentum=0.8")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "with optim.momentum=0.9 began there" in said.err
    assert before == {p: p.stat().st_mtime_ns for p in whole.iterdir()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["replay.share=0.2"], "replay.share=0.2: must be left out unless task=wake_word"),
        (["augment=none"], "augment=none: must be left out unless task=wake_word"),
        (["batch.positive_share=0.3"], "batch.positive_share=0.3: must be left out unless task=wake_word"),
        (
            ["classification.mel_mask_n=20"],
            "classification.mel_mask_n=20: must hide, times mel_masks, fewer",
        ),
        (["optim.warmup_epochs=12"], "optim.warmup_epochs=12.0: must be less than optim.epochs=12"),
        (["classification.noise_amplitude=[0.2,0.1]"], "classification.noise_amplitude"),
        (["data.root=null"], "data.root=DIR must be given"),
        (["keyword=[up,sideways]"], "keyword=sideways: no recording of it in the train split"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(cli, small, tmp_path, words, said):
    done = cli("train", *small, *words, f"out={tmp_path}/a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert said in done.err
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("word", ["classification.unknown=0.2", "optim.epochs=3"])
def test_a_wake_word_refuses_settings_of_classification(cli, tiny, tmp_path, word):
    done = cli("train", *tiny, word, f"out={tmp_path}/a")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert f"{word}: must be left out unless task=classification" in done.err


def test_a_wake_word_can_be_trained_by_sgd(cli, tiny, run, tmp_path):
    train_in(cli, tmp_path / "a", *tiny, "optim.optimizer=sgd", "optim.steps=2", "mining.rounds=0")
    first, other = curves(run)[:2], curves(tmp_path / "a")
    assert first[0]["loss"] == other[0]["loss"]
    assert first[1]["loss"] != other[1]["loss"]


def test_its_checkpoint_is_exported_and_evaluated_on_streams(cli, small, whole, tmp_path):
    said = cli("export", f"checkpoint={whole}/model.pt", f"out={tmp_path}/x.pt")
    assert said.code == 0, said.err
    assert "up at 0.5000" in said.out
    assert "no threshold was calibrated" in said.out
    said = cli("evaluate", f"detector={whole}/model.pt", *(w for w in small if w.startswith("data.")))
    assert said.code == 0, said.err
    assert "up" in said.out
    words = (w for w in small if w.startswith("data."))
    said = cli(
        "evaluate", f"detector={whole}/model.pt", "threshold.at_fa_per_hour=60", "threshold.unsupported=guess", *words
    )
    assert said.code == 0, said.err


def test_real_words_are_learned(cli, data, tmp_path):
    """The split, the balance and the schedule on real recordings: sixty of each word, a few epochs."""
    three_words.make(data, tmp_path / "words", 60)
    words = ("recipe=three_words", f"data.root={tmp_path}/words", f"data.cache={tmp_path}/cache", "threads=1")
    short = ("optim.epochs=18", "optim.warmup_epochs=3", "batch.size=50", "device=cpu")
    short += ("optim.optimizer=adamw", "optim.lr=0.005")  # which needs fewer steps
    out = train_in(cli, tmp_path / "run", *words, *short, "validate_every=null")
    found = results_of(out)["test"]
    sums = torch.tensor(found["confusion"]).sum(1).tolist()
    listed = (tmp_path / "words" / "testing_list.txt").read_text().split()
    spoken = [sum(name.startswith(f"{word}/") for name in listed) for word in three_words.WORDS]
    assert sums == [*spoken, -(-sum(spoken) // 10), -(-sum(spoken) // 10)]
    assert found["accuracy"]["low"] > 0.35, "chance, or one word for all, is 0.28"
    rates = [float(row["lr"]) for row in curves(out)]
    assert rates.index(max(rates)) == len(rates) // 6 - 1
