"""Content of batches. Every clip has a tone of its own frequency, by which tests identify it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kws.commands import builders
from kws.common.errors import LeakError
from kws.common.seeding import generator
from kws.config import schema
from kws.config.compose import folder, register
from kws.config.compose import settings as checked
from kws.data.audio_cache import AudioCache, Entry
from kws.data.augment import AugmentConfig
from kws.data.batch import IGNORED, Batch, BatchConfig, BatchSampler, Keywords, real_share
from kws.data.clip_bank import ClipBank
from kws.data.dataset import Selection
from kws.data.manifest import Recording, Split
from kws.data.positives import with_locations

CLIP_N, END_S = 16000, [0.1, 0.25]
PLAIN = AugmentConfig(
    speed=0.15, speed_p=0.0, noise_p=0.0, snr_db=[10.0, 10.0], level_db=[-20.0, -20.0], context_p=0.0,
    own_context_p=0.0, context_db=[0.0, 0.0], colour_db=0.0, time_masks=0, time_mask_s=0.0, mel_masks=0, mel_mask_n=0,
)  # fmt: skip
WORDS, SPEECH, NOISE, REPLAYED = (500, 700, 900), (2000, 2200), (3000,), (4000, 4200, 4400)
START, END = 8000, 14400  # where the keyword lies in its recording


def tone(hz: float, n: int, start: int = 0, end: int | None = None) -> np.ndarray:
    """A tone from `start` to `end`, silence around it. Shape: int16 [n]."""
    t = np.arange(n)
    x = 8000 * np.sin(2 * np.pi * hz * (t + 0.5) / 16000)
    return np.where((t >= start) & (t < (n if end is None else end)), x, 0).astype(np.int16)


def sampler(
    augmentation: AugmentConfig = PLAIN,
    noise_share: float = 0.0,
    word: Sequence[int] = (START, END),
    share: float | None = None,
    targets: Tensor | None = None,
) -> BatchSampler:
    """Three recordings of two keywords, two of speech of which one is three times as long, one of noise."""
    clips = [tone(hz, 24000, *word) for hz in WORDS] + [tone(SPEECH[0], 40000), tone(SPEECH[1], 120000)]
    bank = ClipBank.of([*clips, tone(NOISE[0], 50000)], 2 * CLIP_N)
    keywords = Keywords(
        torch.tensor([0, 1, 2]), torch.tensor([0, 0, 1]), torch.full((3,), START), torch.full((3,), END),
        torch.tensor([True, False, True]),
    )  # fmt: skip
    settings = BatchConfig(noise_share=noise_share, real_share=share, keyword_end_s=END_S)
    targets = torch.eye(2) if targets is None else targets
    return BatchSampler(bank, keywords, [3, 4], [5], targets, CLIP_N, settings, augmentation, 16000, 0.01)


def replayed() -> ClipBank:
    return ClipBank.of([tone(hz, CLIP_N) for hz in REPLAYED], 2 * CLIP_N)


def sound(
    made: BatchSampler, n_positive: int, n_fresh: int, bank: ClipBank | None, index: Tensor, rng: torch.Generator
) -> Batch:
    return made.render(made.sample(n_positive, n_fresh, bank, index, rng), bank)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frequencies(pcm: Tensor) -> list[int]:
    """The loudest frequency of each clip, to 20 Hz; 0 for silence."""
    loudest = torch.fft.rfft(pcm).abs().argmax(1)
    return [20 * round(int(hz) / 20) for hz in loudest]


def test_windows_beyond_a_clip_are_silent() -> None:
    bank = ClipBank.of([np.full(100, 16384, np.int16), np.full(50, -16384, np.int16)], 300)
    made = bank.window(torch.tensor([0, 0, 1, 1]), torch.tensor([-20, 90, -200, 10]), 60)
    want = torch.zeros(4, 60)
    want[0, 20:] = 0.5
    want[1, :10] = 0.5
    want[3, :40] = -0.5
    assert torch.equal(made, want)


@given(data=st.data())
@settings(deadline=None)
def test_any_window_is_a_slice(data: st.DataObject) -> None:
    clips = [np.arange(1, n + 1, dtype=np.int16) + 100 * n for n in (1, 7, 30)]
    which = data.draw(st.integers(0, 2))
    n, offset = data.draw(st.integers(1, 40)), data.draw(st.integers(-200, 200))
    padded = np.concatenate([np.zeros(300, np.int16), clips[which], np.zeros(300, np.int16)])
    made = ClipBank.of(clips, 40).window(torch.tensor([which]), torch.tensor([offset]), n)
    np.testing.assert_array_equal(made[0] * 32768, padded[300 + offset : 300 + offset + n])


def test_equal_seeds_give_equal_batches() -> None:
    every = replace(PLAIN, speed_p=0.5, noise_p=0.5, snr_db=[0.0, 20.0], level_db=[-40.0, -10.0], context_p=0.4)

    def batch(*purpose: str | int) -> Batch:
        return sound(sampler(every, 0.3), 8, 20, replayed(), torch.tensor([2, 0]), generator(7, *purpose))

    first, again, other = batch("batch", 700), batch("batch", 700), batch("batch", 701)
    for field in ("pcm", "target", "start", "end"):
        assert torch.equal(getattr(first, field), getattr(again, field))
        if field != "target":
            assert not torch.equal(getattr(first, field), getattr(other, field))


def test_each_kind_of_clip_has_its_rows() -> None:
    batch = sound(sampler(noise_share=0.25), 12, 20, replayed(), torch.tensor([2, 0]), rng(1))
    assert batch.pcm.shape == (34, CLIP_N)
    kinds = frequencies(batch.pcm)
    assert set(kinds[:12]) == set(WORDS)
    assert [hz in SPEECH for hz in kinds[12:27]] == [True] * 15
    assert kinds[27:32] == [NOISE[0]] * 5
    assert kinds[32:] == [REPLAYED[2], REPLAYED[0]]
    column = [[1.0, 0.0] if hz in WORDS[:2] else [0.0, 1.0] for hz in kinds[:12]]
    assert batch.target.tolist() == column + [[0.0, 0.0]] * 22
    assert not batch.start[12:].any()
    assert not batch.end[12:].any()
    torch.testing.assert_close(
        batch.pcm.square().reshape(34, -1, 500).mean(2).amax(1), torch.full((34,), 0.01), rtol=0.1, atol=0
    )


def test_clips_are_sampled_by_keyword_and_by_length() -> None:
    batch = sound(sampler(noise_share=0.1), 400, 403, None, torch.zeros(0, dtype=torch.long), rng())
    count = Counter(frequencies(batch.pcm))
    # Keywords alike, not recordings: two of the first share its half.
    assert count[900] == pytest.approx(200, abs=40)
    assert count[500] == pytest.approx(100, abs=35)
    assert count[NOISE[0]] in (40, 41)
    # Speech in proportion to its length.
    assert count[SPEECH[1]] / count[SPEECH[0]] == pytest.approx(3, rel=0.25)


@pytest.mark.parametrize("speed_p", [0.0, 1.0])
def test_a_keyword_is_at_the_reported_position(speed_p: float) -> None:
    batch = sound(sampler(replace(PLAIN, speed_p=speed_p)), 200, 1, None, torch.zeros(0), rng())
    lengths = []
    for i in range(200):
        loud = (batch.pcm[i].abs() > 1e-3).nonzero().flatten()
        assert float(loud[0]) == pytest.approx(float(batch.start[i]), abs=3)
        assert float(loud[-1]) == pytest.approx(float(batch.end[i]), abs=3)
        lengths.append(int(loud[-1] - loud[0]) + 1)
    ends = batch.end[:200]
    assert CLIP_N - 4000 <= ends.amin() < CLIP_N - 3800
    assert CLIP_N - 1800 < ends.amax() <= CLIP_N - 1600
    keyword_n = END - START
    if speed_p:
        assert min(lengths) == pytest.approx(keyword_n / 1.15, rel=0.02)
        assert max(lengths) == pytest.approx(keyword_n / 0.85, rel=0.02)
    else:
        assert keyword_n - 5 <= min(lengths) <= max(lengths) <= keyword_n


@pytest.mark.parametrize(("context_p", "own_context_p"), [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0)])
def test_context_of_a_keyword(context_p: float, own_context_p: float) -> None:
    made = sampler(replace(PLAIN, context_p=context_p, own_context_p=own_context_p), word=(0, 24000))
    batch = sound(made, 20, 1, None, torch.zeros(0), rng())
    for i in range(20):
        start, end = int(batch.start[i]), int(batch.end[i])
        inside = torch.fft.rfft(batch.pcm[i, start + 400 : end - 400], CLIP_N).abs()
        assert int(inside.argmax()) == pytest.approx(int(inside[400:1000].argmax()) + 400)
        before = batch.pcm[i, : start - 800]
        if not context_p and not own_context_p:
            assert not before.any()
            assert not batch.pcm[i, end + 801 :].any()
        elif len(before) > 1000 and before.any():
            loudest = 20 * round(int(torch.fft.rfft(before, CLIP_N).abs().argmax()) / 20)
            assert loudest in (SPEECH if context_p else WORDS)


def test_shares_of_contexts() -> None:
    made = sampler(replace(PLAIN, context_p=0.5, own_context_p=0.3), word=(0, 24000))
    batch = sound(made, 300, 1, None, torch.zeros(0), rng())
    before = torch.stack([batch.pcm[i, int(batch.start[i]) - 1900 : int(batch.start[i]) - 900] for i in range(300)])
    kinds = torch.fft.rfft(before, CLIP_N).abs().argmax(1)
    assert float((kinds > 1500).float().mean()) == pytest.approx(0.5, abs=0.12), "speech; less where it is silent there"
    assert float(((kinds > 0) & (kinds < 1500)).float().mean()) == pytest.approx(0.3, abs=0.08), "its own recording"


def test_noise_is_in_all_rows_or_in_none() -> None:
    for noise_p in (0.0, 1.0):
        batch = sound(sampler(replace(PLAIN, noise_p=noise_p)), 10, 10, replayed(), torch.tensor([0]), rng())
        strength = torch.fft.rfft(batch.pcm).abs()[:, NOISE[0] - 5 : NOISE[0] + 6].amax(1)
        assert bool((strength > 100).all() if noise_p else (strength < 20).all()), strength


@pytest.mark.parametrize(("share", "of_real"), [(None, 0.5), (0.9, 0.9), (0.0, 0.0), (1.0, 1.0)])
def test_real_recordings_get_their_share_of_a_keyword(share: float | None, of_real: float) -> None:
    """The first keyword has one real and one synthetic recording; the second has real ones only."""
    found = frequencies(sound(sampler(share=share), 600, 0, None, torch.zeros(0), rng()).pcm)
    first = [hz for hz in found if hz in WORDS[:2]]
    assert found.count(WORDS[2]) == pytest.approx(300, abs=60)
    assert first.count(WORDS[0]) / len(first) == pytest.approx(of_real, abs=0.07)


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_at_least_half_of_the_clips_are_real_unless_set_otherwise(n_real: int, n_synthetic: int) -> None:
    n = n_real + n_synthetic
    assert real_share(BatchConfig(), n_real, n) == max(min(0.5, n_real / 20), n_real / n)
    assert real_share(BatchConfig(real_share=0.2), n_real, n) == (0.2 if n_synthetic else 1.0)
    assert real_share(BatchConfig(real_share=0.2), 0, n) == 0.0


def test_the_target_of_a_keyword_that_a_longer_one_contains_is_ignored() -> None:
    made = sampler(targets=torch.tensor([[1.0, 0.0], [IGNORED, 1.0]]))
    batch = sound(made, 20, 5, None, torch.zeros(0), rng())
    said = [[1.0, 0.0] if hz in WORDS[:2] else [IGNORED, 1.0] for hz in frequencies(batch.pcm[:20])]
    assert batch.target.tolist() == said + [[0.0, 0.0]] * 5
    rest = made.render(made.sample(4, 3, None, torch.zeros(0), rng()).rows(torch.arange(5, 7)), None)
    assert rest.target.tolist() == [[0.0, 0.0]] * 2, "rows of another process, without a keyword"


def test_every_window_of_speech_contains_speech() -> None:
    short = BatchSampler(
        ClipBank.of([tone(500, 24000, START, END), tone(2000, 4000)], 2 * CLIP_N),
        Keywords(*(torch.tensor([x]) for x in (0, 0, START, END, True))),
        [1], [], torch.eye(1), CLIP_N, BatchConfig(keyword_end_s=END_S), PLAIN, 16000, 0.01,
    )  # fmt: skip
    pcm = sound(short, 1, 300, None, torch.zeros(0), rng()).pcm[1:]
    assert pcm.abs().amax(1).gt(0).all()


def test_only_train_recordings_are_sampled(tmp_path: Path) -> None:
    register("train")
    with initialize_config_dir(version_base="1.3", config_dir=str(folder("conf"))):
        cfg = compose("train", ["keyword=yes", f"data.root={tmp_path}", "out=x", "augment=none"])
        s = checked(cfg, schema.TrainConfig)
    words = [tone(500 + 100 * i, 48000, 16000, 28000) for i in range(3)]
    sounds = [x for i, word in enumerate(words) for x in (word, tone(2000 + 100 * i, 48000))]
    entries = [
        Entry(Recording(tmp_path, f"{split}-{k}", "yes" if k == 0 else "no", split), "", 48000 * (2 * i + k), 48000)
        for i, split in enumerate(Split)
        for k in (0, 1)
    ]
    packed = AudioCache(16000, entries, {}, [], np.concatenate(sounds))
    roles = {split: 2 * i for i, split in enumerate(Split)}
    chosen = Selection(
        ["yes"], {p: [[i]] for p, i in roles.items()}, {p: [i + 1] for p, i in roles.items()}, {p: [] for p in Split}
    )
    chosen = with_locations(packed, chosen, dict.fromkeys(Split, 1.2))
    made, entries = builders.batch_sampler(s, packed, chosen, 32000, torch.device("cpu"))
    assert sorted(entries) == [0, 1]
    pcm = sound(made, 20, 20, None, torch.zeros(0), rng()).pcm
    assert set(frequencies(pcm[:, :16000] + pcm[:, 16000:])) == {500, 2000}
    speech = {**chosen.speech, Split.TRAIN: chosen.speech[Split.VALIDATION]}
    positives = {**chosen.positives, Split.TRAIN: chosen.positives[Split.VALIDATION]}
    for leaking in (replace(chosen, speech=speech), replace(chosen, positives=positives)):
        with pytest.raises(LeakError, match="a validation recording among those of training"):
            builders.batch_sampler(s, packed, leaking, 32000, torch.device("cpu"))


def test_features_are_augmented() -> None:
    x, every = torch.randn(50, 40, 30, generator=rng()), torch.arange(50)
    assert torch.equal(sampler().augment_features(x, every, 50, rng()), x)
    masked = sampler(replace(PLAIN, time_masks=1, time_mask_s=0.3)).augment_features(x, every, 50, rng())
    assert 0.3 < (masked != x).float().mean() < 0.7
    assert not torch.equal(sampler(replace(PLAIN, colour_db=1.0)).augment_features(x, every, 50, rng()), x)


@given(n_positive=st.integers(1, 9), n_fresh=st.integers(0, 9), n_replayed=st.integers(0, 3), ranks=st.integers(1, 4))
@settings(deadline=None, max_examples=15)
def test_rows_of_a_batch_can_be_rendered_separately(n_positive: int, n_fresh: int, n_replayed: int, ranks: int) -> None:
    every = replace(
        PLAIN, speed_p=0.5, noise_p=0.5, snr_db=[0.0, 20.0], level_db=[-40.0, -10.0], context_p=0.4, own_context_p=0.3,
        colour_db=2.0, time_masks=2, time_mask_s=0.09, mel_masks=2, mel_mask_n=5, room_p=0.5,
    )  # fmt: skip
    made, bank, index = sampler(every, 0.3), replayed(), torch.arange(n_replayed)
    made.rooms = torch.randn(3, 50, generator=rng())
    plan = made.sample(n_positive, n_fresh, bank, index, rng())
    n = n_positive + n_fresh + n_replayed
    assert len(plan) == n
    whole, x = made.render(plan, bank), torch.randn(n, 40, 30, generator=rng())
    varied, seen = made.augment_features(x, torch.arange(n), n, rng(1)), Counter[int]()
    ranks = min(n, ranks)
    for rank in range(ranks):
        rows = torch.arange(rank, n, ranks)
        split = made.render(plan.rows(rows), bank)
        for field in ("pcm", "target", "start", "end", "noise"):
            torch.testing.assert_close(getattr(split, field), getattr(whole, field)[rows], rtol=0, atol=1e-6)
        fresh = rows[(rows >= n_positive) & (rows < n_positive + n_fresh)] - n_positive
        for field in ("index", "offset", "speed"):
            assert torch.equal(getattr(split, field), getattr(whole, field)[fresh])
        assert torch.equal(made.augment_features(x[rows], rows, n, rng(1)), varied[rows])
        seen.update(plan.rows(rows).replayed.index.tolist())
    assert seen == Counter(range(n_replayed)), "each clip is replayed by one rank"


def test_generators_are_named_by_their_purpose() -> None:
    names = [(), ("batch",), ("batch", 1), ("batch", 11), ("batch1",), ("batch", 1, 1)]
    draws = {float(torch.rand(1, generator=generator(0, *name))) for name in names}
    assert len(draws) == len(names)
