"""Classification: clips of the splits, batches, and counts."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError, LeakError
from kws.data.audio_cache import AudioCache, Entry
from kws.data.classification_dataset import SILENCE, UNKNOWN, Segment, compose, others, share_of
from kws.data.clip_bank import ClipBank
from kws.data.manifest import Recording, Split
from kws.detector.checkpoint import ModelSpec
from kws.evaluation.classification import ClassificationResult, Proportion, classify, tables
from kws.evaluation.intervals import wilson
from kws.training.classification import ClassificationConfig, Clips, EpochSampler, load_clips
from kws.training.optim import OptimConfig, Optimizer, learning_rate, make_optimizer, update_average
from tests.nets import as_if_trained, sound

CLIP_N, RATE = 1600, 16000
PLAIN = ClassificationConfig(shift_s=0, noise_p=0, time_masks=0, mel_masks=0, mel_mask_n=0)


def entries_of(*rows: tuple[str, Split, int, int]) -> list[Entry]:
    """Entries from (label, split, number, samples of each)."""
    made: list[Entry] = []
    for label, split, count, n in rows:
        for i in range(count):
            recording = Recording(Path(f"{label}-{split}-{i}.wav"), f"{label}-{split}-{i}.wav", label, split)
            made.append(Entry(recording, f"{len(made):x}", sum(e.n_samples for e in made), n))
    return made


SIZES = dict(zip(Split, (40, 12, 15), strict=True))
EVERY = [(label, split, n, CLIP_N) for split, n in SIZES.items() for label in ("yes", "no", "cat", "dog")]
NOISE = ("noise", Split.TRAIN, 2, 100 * CLIP_N)


def store_of(entries: list[Entry]) -> AudioCache:
    pcm = np.random.default_rng(0).integers(-20000, 20000, sum(e.n_samples for e in entries)).astype(np.int16)
    return AudioCache(16000, entries, {}, [], pcm)


def test_each_split_has_a_tenth_of_other_words_and_of_silence():
    entries = entries_of(*EVERY, NOISE)
    roles = compose(entries, ["yes", "no"], "noise", 0.1, 0.1, CLIP_N)
    assert roles.classes == ["yes", "no", UNKNOWN, SILENCE]
    for split, n in SIZES.items():
        tenth = -(-2 * n // 10)
        assert Counter(k for _, k in roles.clips[split]) == {0: n, 1: n, 2: tenth}
        assert roles.silences[split] == tenth
        assert roles.left_out[split] == 2 * n - tenth
        named = {entries[i].recording.label for i, k in roles.clips[split] if k == 2}
        assert named <= {"cat", "dog"}
        assert {entries[i].recording.split for i, _ in roles.clips[split]} == {split}
        assert len({i for i, _ in roles.clips[split]}) == len(roles.clips[split])
    assert {entries[i].recording.label for i, k in roles.clips[Split.TRAIN] if k == 2} == {"cat", "dog"}


def test_the_published_test_split_has_408_of_each():
    """speech_commands_test_set_v0.02 holds 4,074 clips of the ten words."""
    assert share_of(4074, 0.1) == 408


@settings(deadline=None)
@given(st.integers(0, 10**6))
def test_a_tenth_is_rounded_up_exactly(n: int):
    assert share_of(n, 0.1) == -(-n // 10)


def test_all_words_need_no_other_class():
    roles = compose(entries_of(*EVERY), ["yes", "no", "cat", "dog"], "noise", 0.0, 0.0, CLIP_N)
    assert roles.classes == ["yes", "no", "cat", "dog"]
    assert roles.silences == dict.fromkeys(Split, 0)
    assert [len(roles.clips[split]) for split in Split] == [160, 48, 60]
    assert others(0, 0.1) == [SILENCE]


def test_noise_without_splits_is_divided_in_time():
    entries = entries_of(*EVERY, NOISE, ("noise", Split.TRAIN, 1, 2 * CLIP_N // 5))
    roles = compose(entries, ["yes"], "noise", 0.1, 0.1, CLIP_N)
    first = len(entries) - 3
    for i in (first, first + 1):
        spans = [one for split in Split for one in roles.noise[split] if one.entry == i]
        assert spans == [
            Segment(i, 0, 80 * CLIP_N),
            Segment(i, 80 * CLIP_N, 90 * CLIP_N),
            Segment(i, 90 * CLIP_N, 100 * CLIP_N),
        ]
    assert [one.entry for one in roles.noise[Split.TRAIN]] == [first, first + 1, first + 2]
    assert first + 2 not in [one.entry for one in roles.noise[Split.TEST]], "a tenth of it is too short to be repeated"


def test_noise_keeps_its_splits():
    parted = [("noise", split, 1, 10 * CLIP_N) for split in Split]
    entries = entries_of(*EVERY, *parted)
    roles = compose(entries, ["yes"], "noise", 0.1, 0.1, CLIP_N)
    for split in Split:
        (one,) = roles.noise[split]
        assert (one.start, one.end, entries[one.entry].recording.split) == (0, 10 * CLIP_N, split)


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        (
            [*EVERY, NOISE],
            ["yes", "maybe"],
            "keyword=maybe: no recording of it in the train split; there are cat: 40 train, 12 valid",
        ),
        (EVERY, ["yes"], r"classification.silence=0.1: must be 0, because no noise \(label noise\) in the train split"),
        (
            [*EVERY, NOISE],
            ["yes", "no", "cat", "dog"],
            "classification.unknown=0.1: must be 0, because no other word .* train",
        ),
    ],
)
def test_missing_recordings_are_named(rows, words, said):
    with pytest.raises(KwsError, match=said):
        compose(entries_of(*rows), words, "noise", 0.1, 0.1, CLIP_N)


def test_a_validation_clip_or_noise_among_those_of_training_is_an_error():
    entries = entries_of(*EVERY, *[("noise", split, 1, 10 * CLIP_N) for split in Split])
    roles = compose(entries, ["yes"], "noise", 0.1, 0.1, CLIP_N)
    load_clips(store_of(entries), roles, Split.TRAIN, CLIP_N, torch.device("cpu"))
    sound_, noise = roles.clips[Split.TRAIN], roles.noise[Split.TRAIN]
    roles.clips[Split.TRAIN] = [*sound_, roles.clips[Split.VALIDATION][0]]
    with pytest.raises(LeakError, match=r"yes-validation-0\.wav: a validation recording among those of training"):
        load_clips(store_of(entries), roles, Split.TRAIN, CLIP_N, torch.device("cpu"))
    roles.clips[Split.TRAIN], roles.noise[Split.TRAIN] = sound_, [*noise, *roles.noise[Split.TEST]]
    with pytest.raises(LeakError, match=r"noise-test-0\.wav: a test recording"):
        load_clips(store_of(entries), roles, Split.TRAIN, CLIP_N, torch.device("cpu"))


def train_clips(n: int = 7, silences: int = 3) -> Clips:
    """Clips whose sample value is their number, and noise of 1/4."""
    sounds = [np.full(CLIP_N, min(1000, 30000 // n) * (i + 1), np.int16) for i in range(n)]
    noise = np.full(5 * CLIP_N, 8192, np.int16)
    target = torch.tensor([i % 2 for i in range(n)] + [2] * silences)
    return Clips(Split.TRAIN, ClipBank.of(sounds, 2 * CLIP_N), target, ClipBank.of([noise], 2 * CLIP_N), CLIP_N)


def test_without_augmentation_a_batch_holds_the_clips_as_recorded():
    sampler = EpochSampler(train_clips(), 4, PLAIN, RATE, 0.01, seed=0)
    assert sampler.steps_per_epoch == 3
    for step in range(3):
        pcm, target = sampler.render(sampler.sample(step), step)
        for i, x, k in zip(sampler.sample(step).tolist(), pcm, target.tolist(), strict=True):
            if i < 7:
                assert torch.equal(x, torch.full((CLIP_N,), 1000 * (i + 1) / 32768))
                assert k == i % 2
            else:
                assert k == 2
                assert 0 <= float(x[0]) <= 0.25
                assert torch.equal(x, x[:1].expand(CLIP_N)), "noise at one level"


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 60), st.integers(0, 5), st.integers(0, 2**31 - 1))
def test_an_epoch_has_each_clip_once_in_an_order_of_seed_and_number_alone(n, size, epoch, seed):
    of = train_clips(n, 2)
    sampler = EpochSampler(of, size, PLAIN, RATE, 0.01, seed)
    steps = range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch)
    seen = [sampler.sample(step) for step in steps]
    assert sorted(torch.cat(seen).tolist()) == list(range(n + 2))
    assert all(len(one) == size for one in seen[:-1])
    sampler.sample(7 * sampler.steps_per_epoch)  # another epoch between makes no difference
    assert torch.equal(sampler.sample(steps[-1]), seen[-1])
    assert torch.equal(EpochSampler(of, size, PLAIN, RATE, 0.01, seed).sample(steps[-1]), seen[-1])


def test_epochs_and_seeds_have_different_orders():
    sampler = EpochSampler(train_clips(40), 43, PLAIN, RATE, 0.01, 0)
    assert not torch.equal(sampler.sample(0), sampler.sample(1))
    assert not torch.equal(sampler.sample(0), EpochSampler(train_clips(40), 43, PLAIN, RATE, 0.01, 1).sample(0))


def test_noise_has_the_amplitude_and_the_share_of_the_settings():
    varied = replace(PLAIN, noise_p=0.8, noise_amplitude=[0.02, 0.1])
    of = train_clips(400, 0)
    sampler = EpochSampler(of, 400, varied, RATE, 0.01, 0)
    pcm, _ = sampler.render(sampler.sample(0), 0)
    plain = of.windows(sampler.sample(0), torch.zeros(400, dtype=torch.long))
    added = ((pcm - plain).clamp(-1, 1))[:, 0][plain[:, 0] < 0.7] / 0.25
    noisy = added[added.abs() > 1e-4]
    assert 0.02 - 1e-4 <= float(noisy.min()) < 0.03
    assert 0.09 < float(noisy.max()) <= 0.1 + 1e-4
    assert len(noisy) / len(added) == pytest.approx(0.8, abs=0.08)


def test_a_clip_moves_by_up_to_the_shift_either_way_with_zeros_around_it():
    sounds = [np.arange(1, CLIP_N + 1).astype(np.int16)] * 300
    of = Clips(
        Split.TRAIN, ClipBank.of(sounds, 2 * CLIP_N), torch.zeros(300).long(), ClipBank.of([], 2 * CLIP_N), CLIP_N
    )
    sampler = EpochSampler(of, 300, replace(PLAIN, shift_s=100 / RATE, noise_p=0.8), RATE, 0.01, 0)
    pcm, _ = sampler.render(sampler.sample(0), 0)
    whole = (pcm * 32768).round().long()
    moves = []
    for x in whole:
        first = int(x.nonzero()[0])
        offset = int(x[first]) - 1 - first
        moves.append(offset)
        want = torch.arange(CLIP_N) + offset + 1
        assert torch.equal(x, torch.where((want >= 1) & (want <= CLIP_N), want, 0))
    assert -100 <= min(moves) < -80
    assert 80 < max(moves) <= 100


def test_evaluation_clips_are_as_recorded_and_the_same_every_time():
    of = train_clips()
    first, again = (list(of.plain(4)) for _ in range(2))
    assert [len(k) for _, k in first] == [4, 4, 2]
    assert all(torch.equal(a, b) for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))
    pcm = torch.cat([x for x, _ in first])
    assert torch.equal(torch.cat([k for _, k in first]), of.target)
    assert torch.equal(pcm[:7, 0] * 32768, 1000.0 * torch.arange(1, 8))
    assert len({float(x) for x in pcm[7:, 0]}) == 3, "each silence has another level"
    assert torch.equal(torch.cat([x for x, _ in of.plain(100)]), pcm), "for any batch size"


SHAPE = {"channels": 8, "kernel": 5, "dilations": [1, 2], "stride": 2}
RECIPE = ModelSpec(["yes", "no"], 16000, 40, 0.025, 0.01, 60.0, "ds_tcn", SHAPE, 1, CLIP_N, 0, [UNKNOWN])


def test_the_counted_classes_are_those_of_the_exported_scores():
    net = as_if_trained(RECIPE.net, seed=10)
    weights = {k: v.clone() for k, v in net.state_dict().items()}
    pcm = torch.stack([sound(CLIP_N * 4, seed) for seed in range(30)])
    detector = RECIPE.detector(weights)
    scores = detector.batch(pcm)[:, -1]
    rest = 1 - scores.sum(1, keepdim=True)
    said = torch.cat([scores, rest], 1).argmax(1)
    assert len(set(said.tolist())) == 3
    target = torch.arange(30) % 3
    result = classify(RECIPE, weights, iter([(pcm[:20], target[:20]), (pcm[20:], target[20:])]), torch.device("cpu"))
    want = torch.zeros(3, 3, dtype=torch.long)
    for a, b in zip(target.tolist(), said.tolist(), strict=True):
        want[a, b] += 1
    assert torch.equal(result.confusion, want)
    all_scores = torch.cat([scores, rest], 1)
    assert result.loss == pytest.approx(float(-all_scores[torch.arange(30), target].log().mean()), abs=1e-4)


def test_a_known_confusion():
    result = ClassificationResult(["yes", "no", UNKNOWN], torch.tensor([[8, 2, 0], [1, 9, 0], [0, 0, 0]]), 0.5)
    assert result.accuracy == Proportion(17, 20, 0.85, *wilson(17, 20))
    assert (result.recall(0).right, result.recall(0).clips) == (8, 10)
    assert (result.precision(0).right, result.precision(0).clips) == (8, 9)
    assert result.recall(2) == Proportion(0, 0, 0.0, 0.0, 1.0)
    each, pairs = tables(result, "test split")
    assert each.rows[0] == ("all", "17/20 = 85.0 % [64.0, 94.8]", "")
    assert each.rows[3] == (UNKNOWN, "-", "-")
    assert pairs.rows[0] == ("yes", "8", "2", "0")
    assert result.as_json()["confusion"] == [[8, 2, 0], [1, 9, 0], [0, 0, 0]]


def test_the_learning_rate_rises_linearly_and_falls_as_a_cosine():
    rates = [learning_rate(step, 100, 0.1, 20) for step in range(100)]
    assert rates[0] == pytest.approx(0.005)
    assert rates[9] == pytest.approx(0.05)
    assert rates[19] == rates[20] == pytest.approx(0.1)
    assert rates[60] == pytest.approx(0.05)
    assert rates[99] < 1e-4
    assert learning_rate(0, 1, 0.1, 0) == 0.1


def test_sgd_decays_every_weight_and_adamw_spares_norms_and_biases():
    net = torch.nn.Sequential(torch.nn.Conv1d(2, 2, 1), torch.nn.BatchNorm1d(2))
    before = [p.detach().clone() for p in net.parameters()]
    for kind, spared in ((Optimizer.sgd, False), (Optimizer.adamw, True)):
        for p, value in zip(net.parameters(), before, strict=True):
            p.data.copy_(value + 1)
            p.grad = torch.zeros_like(p)
        make_optimizer(net, OptimConfig(optimizer=kind, lr=0.1, weight_decay=0.5)).step()
        for p, value in zip(net.parameters(), before, strict=True):
            kept = p.ndim == 1 and spared
            torch.testing.assert_close(p.data, (value + 1) * (1.0 if kept else 0.95))


def test_no_averaging_keeps_the_last_weights():
    net = torch.nn.BatchNorm1d(2)
    average = {k: torch.zeros_like(v) for k, v in net.state_dict().items()}
    update_average(average, net, 0.0, 50)
    assert torch.equal(average["weight"], torch.ones(2))
    update_average(average, torch.nn.BatchNorm1d(2, affine=True), 0.75, 10**6)
    assert torch.equal(average["weight"], torch.ones(2))
    with torch.no_grad():
        net.weight.fill_(5.0)
    update_average(average, net, 0.75, 10**6)
    assert torch.equal(average["weight"], torch.full((2,), 2.0))


@pytest.mark.parametrize(
    ("confusion", "why"),
    [
        ([[40, 0], [2, 38]], ""),
        ([[40, 0], [40, 0]], "useless: 40/80 = 50.0 % [39.3, 60.7] right, and 50.0% are of the most frequent class"),
        ([[90, 0], [5, 5]], ""),
    ],
)
def test_a_classifier_that_is_no_better_than_one_class_is_useless(confusion, why):
    assert ClassificationResult(["yes", "no"], torch.tensor(confusion), 0.5).useless == why
