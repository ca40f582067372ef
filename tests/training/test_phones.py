"""Base nets: phones of transcripts, batches, the loss of CTC, runs, and detectors that start from one."""

import csv
import json
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from kws.common.errors import LeakError
from kws.confusables.pronunciation import cmudict
from kws.data.audio import save_flac, to_int16
from kws.data.audio_cache import pack
from kws.data.augment import AugmentConfig
from kws.data.features import LogMel
from kws.data.manifest import Split, read
from kws.detector import checkpoint
from kws.detector.checkpoint import ModelSpec
from kws.training.phones import (
    BLANK,
    PhoneTask,
    UtteranceSampler,
    inventory,
    load_utterances,
    phone_errors,
)
from kws.training.trainer import Trainer
from tests.kill import death

RATE, CPU = 16000, torch.device("cpu")
TONES = {"bee": (600, 2400), "sea": (1500, 3000), "day": (400, 1000)}  # a word is a sound of two notes
FEW = (
    "optim.steps=4",
    "optim.warmup=1",
    "optim.save_every=2",
    "validate_every=2",
    "phones.batch_s=10",
    "phones.longest_s=9",
)


def said(words: list[str], rng: np.random.Generator) -> np.ndarray:
    """A sound that no other call gives, 0.4 s for each word and 0.2 s around them."""
    t = np.arange(RATE // 5) / RATE
    notes = [0.3 * np.sin(2 * np.pi * hz * t) for word in words for hz in TONES[word]]
    x = np.concatenate([np.zeros(RATE // 10), *notes, np.zeros(RATE // 10)])
    return to_int16((x + 1e-3 * rng.standard_normal(len(x))).astype(np.float32))


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """A folder of 24 recordings with English transcripts, and three without, or with one that they cannot hold."""
    root, rng, rows = tmp_path_factory.mktemp("spoken"), np.random.default_rng(0), []
    for part, n in (("train", 18), ("validation", 6)):
        for i in range(n):
            words = rng.choice(sorted(TONES), 1 + i % 4).tolist()
            name = f"{part}-{i}.flac"
            save_flac(root / name, said(words, rng), RATE)
            rows.append((name, "speech", f"{part}{i}", " ".join(words).capitalize() + ".", part))
    for name, text in (("other.flac", "Guten Abend zusammen"), ("none.flac", ""), ("fast.flac", 12 * "day sea ")):
        save_flac(root / name, said(["day", "sea"], rng), RATE)
        rows.append((name, "speech", name, text, "train"))
    for i, part in enumerate(("train", "validation")):
        save_flac(root / f"noise-{i}.flac", to_int16(0.01 * rng.standard_normal(RATE).astype(np.float32)), RATE)
        rows.append((f"noise-{i}.flac", "noise", "", "", part))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "text", "part"), *rows])
    return root


@pytest.fixture(scope="module")
def utterances(spoken, tmp_path_factory):
    store = pack(read(spoken), tmp_path_factory.mktemp("cache"))
    return {split: load_utterances(store, split, "noise", 17.0, 320, CPU) for split in Split}


def spec_of(channels: int = 32) -> ModelSpec:
    shape = {"channels": channels, "kernel": 5, "dilations": [1, 2, 4], "stride": 2}
    return ModelSpec(inventory(), RATE, 40, 0.025, 0.01, 60.0, "ds_tcn", shape, 1, 32000)


def test_the_columns_are_the_phones_of_cmudict():
    assert inventory()[0] == BLANK
    assert len(inventory()) == len({*inventory()}) == 39
    assert {phone for variants in cmudict().values() for spoken in variants for phone in spoken} == {*inventory()[1:]}


def test_utterances_are_of_their_split_and_have_an_english_transcript(utterances):
    assert [len(utterances[split]) for split in Split] == [18, 6, 0]
    bank = utterances[Split.TRAIN].bank
    assert bank.lengths.tolist() == [(2 + 4 * (1 + i % 4)) * RATE // 10 for i in range(18)]
    assert len(utterances[Split.TRAIN].noise) == 1
    assert utterances[Split.TRAIN].hours(RATE) == pytest.approx(sum(bank.lengths.tolist()) / RATE / 3600)


def test_what_is_left_out_is_counted(spoken, utterances, tmp_path):
    assert utterances[Split.TRAIN].left_out == {"a word is not in CMUdict": 1, "more phones than rows": 1}
    assert not utterances[Split.VALIDATION].left_out
    store = pack(read(spoken), tmp_path)
    short = load_utterances(store, Split.TRAIN, "noise", 1.0, 320, CPU)
    assert len(short) == 10, "those of one and two words"
    assert short.left_out["longer than phones.longest_s=1"] == 8
    wide = load_utterances(store, Split.TRAIN, "noise", 17.0, RATE // 5, CPU)
    assert 0 < len(wide) < 18
    for entry, phones in zip(wide.entries, wide.phones, strict=False):
        repeats = sum(a == b for a, b in pairwise(phones.tolist()))
        assert len(phones) + repeats <= entry.n_samples // (RATE // 5), "else no spelling has a probability"
    pieces = [replace(e, whole="file") if i < 3 else e for i, e in enumerate(store.entries)]
    cut = load_utterances(replace(store, entries=pieces), Split.TRAIN, "noise", 17.0, 320, CPU)
    assert cut.left_out["cut in time"] == 3, "the transcript is that of the whole file"


def test_utterances_of_another_split_do_not_train(utterances):
    with pytest.raises(LeakError, match="validation"):
        UtteranceSampler(utterances[Split.VALIDATION], 20.0, AugmentConfig(), RATE, 0.01, 0)


def test_an_epoch_has_each_utterance_once_and_no_batch_is_longer_than_asked(utterances):
    sampler = UtteranceSampler(utterances[Split.TRAIN], 10.0, AugmentConfig(), RATE, 0.01, 3)
    n = len(sampler.batches)
    assert n > 3
    first, second = ([sampler.sample(step).index.tolist() for step in range(at, at + n)] for at in (0, n))
    assert sorted(i for batch in first for i in batch) == [*range(18)]
    assert sorted(map(tuple, first)) == sorted(map(tuple, second))
    assert first != second, "another order"
    for step in range(n):
        plan = sampler.sample(step)
        pcm = sampler.render(plan)
        assert pcm.numel() <= 10.0 * RATE
        assert torch.equal(pcm, sampler.render(plan)), "the same at each call"
        assert not torch.equal(pcm, sampler.render(type(plan)(step + n, plan.index))), "other noise"


def task_of(utterances, spec: ModelSpec, batch_s: float, **augment: object) -> PhoneTask:
    sampler = UtteranceSampler(utterances[Split.TRAIN], batch_s, AugmentConfig(**augment), RATE, 0.01, 0)
    return PhoneTask(spec, spec.front_end(), sampler, utterances[Split.VALIDATION], 1, None)


def test_the_loss_is_the_probability_of_all_alignments(utterances):
    """With equal logits everywhere, each path has the same probability, and their number is known."""
    spec = spec_of()
    task = task_of(utterances, spec, 20.0)
    task.setup(spec.net(), None, False)
    plan = task.sample(0)
    x, index = task.render(plan, torch.arange(len(plan)))
    columns = len(inventory())

    def flat(x, cache):
        return torch.zeros(len(x), columns, x.shape[2] // 2), cache

    loss, each = task.loss(flat, (x, index))
    for i, got in zip(index.tolist(), each[:, 0].tolist(), strict=True):
        y = task.sampler.utterances.phones[i].tolist()
        rows = (int(task.sampler.utterances.bank.lengths[i]) + RATE // 2) // 320
        assert got == pytest.approx(-(log_paths(y, rows) - rows * np.log(columns)) / len(y), rel=1e-4)
    assert float(loss) == pytest.approx(float(each.mean()))
    both, two = task.loss(lambda x, cache: (torch.zeros(2 * len(x), columns, x.shape[2] // 2), cache), (x, index))
    assert torch.allclose(two, each), "the mean of the members of an ensemble"
    assert float(both) == pytest.approx(float(loss))


def log_paths(y: list[int], rows: int) -> float:
    """Logarithm of the number of ways to spell phones row by row, counted row after row (Graves et al., 2006)."""
    states = [0, *(s for one in y for s in (one, 0))]
    count = [1.0, 1.0, *[0.0] * (len(states) - 2)]
    for _ in range(rows - 1):
        before = [*count]
        for i, state in enumerate(states):
            skip = before[i - 2] if i > 1 and state and state != states[i - 2] else 0.0
            count[i] = before[i] + (before[i - 1] if i else 0.0) + skip
    return float(np.log(count[-1] + count[-2]))


def test_a_net_learns_to_spell(utterances):
    spec = spec_of()
    task = task_of(utterances, spec, 6.0, time_masks=0, mel_masks=0, snr_db=[20.0, 30.0])
    torch.manual_seed(0)
    net = spec.net()
    model = task.setup(net.train(), None, False)
    optim = torch.optim.Adam(net.parameters(), 0.01)
    before = phone_errors(spec, net.state_dict(), utterances[Split.VALIDATION], LogMel(), 0)
    for step in range(220):
        loss, _ = task.loss(model, task.render(task.sample(step), torch.arange(0)))
        optim.zero_grad()
        loss.backward()
        optim.step()
    after = phone_errors(spec, net.state_dict(), utterances[Split.VALIDATION], LogMel(), 219)
    assert after.phones == before.phones == sum(len(y) for y in utterances[Split.VALIDATION].phones)
    assert after.errors < after.phones / 2 < before.errors, f"{before}, then {after}"


def test_the_errors_of_an_ensemble_are_the_mean_of_its_members(utterances):
    def state(named: dict[int, int]) -> dict[str, torch.Tensor]:
        """Weights of an ensemble whose members name one phone in every row, by member."""
        weights = {name: torch.zeros_like(value) for name, value in net.state_dict().items()}
        for member, column in named.items():
            weights[f"nets.{member}.body.norm.bias" if member else "nets.0.norm.bias"][0] = 1.0
            weights["head.weight"][column, 8 * member, 0] = 1.0
        return weights

    shape = {"memory_n": 30, "keep": 0.97, "alpha": 0.98, "delta": 2.0, "r": 0.5, "trainable": False}
    spec = replace(spec_of(8), input="log_mel_pcen", input_shape=shape)
    net, held_out = spec.net(), utterances[Split.VALIDATION]
    b = inventory().index("b")
    alike, blank = (phone_errors(spec, state(named), held_out, LogMel(), 0) for named in ({0: b, 1: b}, {}))
    first = phone_errors(spec, state({0: b}), held_out, LogMel(), 0)
    said_b = sum(bool((y == b).any()) for y in held_out.phones)
    assert blank.errors == blank.phones == 31
    assert alike.errors == 31 - said_b, "one phone is right where it is said"
    assert first.errors == round((alike.errors + blank.errors) / 2)


@pytest.fixture(scope="module")
def words(tiny, spoken):
    """The settings of a tiny base net."""
    kept = [w for w in tiny if w.startswith(("model.", "threads", "device", "data.cache"))]
    return ["recipe=base", "features=log_mel_pcen", *kept, f"data.root={spoken}", *FEW, "phones.longest_s=9"]


@pytest.fixture(scope="module")
def base(cli, words, tmp_path_factory):
    """A finished base net, and what it printed."""
    out = tmp_path_factory.mktemp("base") / "run"
    done = cli("train", *words, f"out={out}")
    assert done.code == 0, done.err
    return out, done


def test_a_run_writes_a_net_and_says_how_to_start_from_it(base):
    out, done = base
    assert f"init={out / 'model.pt'} keyword=WORD" in " ".join(done.out.split())
    assert "train: 1 transcribed recordings left out: a word is not in CMUdict" in done.out
    assert "detector.pt" not in done.out
    assert not (out / "detector.pt").exists()
    content = json.loads((out / "results.json").read_text())
    assert content["task"] == "phones"
    assert content["validation"]["phones"] == 31
    with (out / "validation.csv").open() as file:
        last = [*csv.DictReader(file)][-1]
    assert int(last["errors"]) == content["validation"]["errors"]
    assert "Base net" in (out / "report.html").read_text()


def test_a_killed_run_resumes_to_the_same_weights(cli, words, base, tmp_path):
    with death(Trainer, "train_step", 3, True):
        cli("train", *words, f"out={tmp_path}/killed")
    assert cli("train", *words, f"out={tmp_path}/killed").code == 0
    want, got = (checkpoint.read(folder / "model.pt")["model"] for folder in (base[0], tmp_path / "killed"))
    assert all(torch.equal(want[name], got[name]) for name in want)


def test_a_detector_starts_from_the_trunk_of_a_base_net(cli, tiny, base, tmp_path):
    model = base[0] / "model.pt"
    kept = [w for w in tiny if not w.startswith(("model.", "batch.clip_s", "keyword"))]
    few = "optim.steps=1", "optim.lr=1e-7", "mining.rounds=0", "mining.pool_share=0", "validate_every=null"
    given = "train", "recipe=wake_word", *kept, *few, f"init={model}", f"out={tmp_path}/run"
    refused = cli(*given)
    assert (refused.code, refused.err) == (2, "kws: keyword=... must be given: one word, or a list: [alexa,computer]\n")
    done = cli(*given, "keyword=beep")
    assert done.code == 0, done.err
    old, new = (checkpoint.read_model(file, base=True) for file in (model, tmp_path / "run" / "model.pt"))
    assert new.spec.labels == ["beep"]
    assert new.spec.input == old.spec.input == "log_mel_pcen"
    assert new.facts["init"] == old.hash
    assert not new.is_base
    trunk = [n for n in old.weights if not n.startswith("head.") and "running" not in n and "num_batches" not in n]
    assert len(trunk) > 20
    for name in trunk:
        torch.testing.assert_close(new.weights[name], old.weights[name], atol=1e-5, rtol=0)
    assert not (tmp_path / "run" / "results.json").read_text().count("compared_with_init"), (
        "there is nothing to compare"
    )


def test_a_base_net_is_no_detector(cli, base, tmp_path, spoken):
    model = base[0] / "model.pt"
    for given in (
        ("evaluate", f"detector={model}", f"data.root={spoken}"),
        ("export", f"checkpoint={model}", f"out={tmp_path}/d"),
        ("mine", f"checkpoint={model}", f"streams={spoken}", f"buffer={tmp_path}/b"),
    ):
        done = cli(*given)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert "a base net, which detects nothing" in done.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("task", [["recipe=wake_word", "keyword=beep"], ["task=classification", "keyword=[bee,sea]"]])
def test_what_trained_it_may_not_measure_what_starts_from_it(cli, tiny, base, spoken, task, tmp_path):
    for i in range(18):  # of its train split
        label, part = ("bee", "sea")[i % 2], ("train", "validation", "test")[i % 3]
        (tmp_path / part / label).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(spoken / f"train-{i}.flac", tmp_path / part / label / f"{i}.flac")
        for other in ("beep", "noise"):
            (tmp_path / part / other).mkdir(exist_ok=True)
            loud = 0.1 if other == "beep" else 0.01
            x = np.random.default_rng(i).normal(0, loud, RATE).astype(np.float32)
            save_flac(tmp_path / part / other / f"{i}.flac", to_int16(x), RATE)
    kept = [w for w in tiny if w.startswith(("threads", "device", "data.cache"))]
    done = cli("train", *task, *kept, f"data.root={tmp_path}", f"init={base[0] / 'model.pt'}", f"out={tmp_path}/run")
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith("kws: init: "), done.err
    assert "recording trained the model that this run starts from" in done.err


def test_settings_of_other_tasks_and_recordings_without_transcripts_are_refused(cli, words, tmp_path):
    (tmp_path / "silent" / "speech").mkdir(parents=True)
    save_flac(tmp_path / "silent" / "speech" / "a.flac", said(["day"], np.random.default_rng(0)), RATE)
    for given, line in (
        (["keyword=beep"], "keyword=beep: must be left out unless task=wake_word or classification"),
        (["augment.speed=0"], "augment.speed=0: must be left out unless task=wake_word"),
        (["phones.longest_s=20"], "phones.longest_s=20.0: must be at most batch_s - 0.5"),
        (["replay.share=0"], "replay.share=0: must be left out unless task=wake_word"),
        ([f"data.root={tmp_path}/silent"], "no recording of the train split has an English transcript"),
    ):
        done = cli("train", *words, f"out={tmp_path}/run", *given)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert line in done.err
    assert not (tmp_path / "run" / "model.pt").exists()
