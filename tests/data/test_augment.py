"""Augmentations have the given levels, factors and spans."""

import math

import pytest
import torch
from torch import Tensor

from kws.data import augment
from kws.data.features import UNITS_PER_DB, LogMel


def tone(hz: float, n: int = 16000, amplitude: float = 0.1) -> Tensor:
    return amplitude * torch.sin(2 * math.pi * hz * torch.arange(n) / 16000)


def noise(clips: int, n: int = 16000, seed: int = 0) -> Tensor:
    return torch.randn(clips, n, generator=torch.Generator().manual_seed(seed)) * 0.05


def loudest_db(x: Tensor) -> Tensor:
    """Level of the loudest 32 ms of each clip, dBFS."""
    windows = x[:, : x.shape[1] // 512 * 512].reshape(len(x), -1, 512).double()
    return 10 * torch.log10(windows.square().mean(2).amax(1))


def test_noise_has_the_given_snr() -> None:
    x, bed = torch.stack([tone(440), tone(880, amplitude=0.01), tone(440)]), noise(3)
    x[1, :12000] = 0  # the level is that of the loudest part, not of the mean
    snr_db = torch.tensor([10.0, -5.0, math.inf])
    added = augment.mix(x, bed, snr_db) - x
    torch.testing.assert_close(
        (loudest_db(x) - loudest_db(added))[:2], snr_db[:2].double(), rtol=0, atol=1e-3
    )  # fmt: skip
    assert torch.equal(added[2], torch.zeros(16000))
    scale = added[0] / bed[0]
    torch.testing.assert_close(scale, scale[:1].expand(16000), rtol=1e-2, atol=1e-3)


def test_a_silent_clip_takes_the_noise_unscaled() -> None:
    bed = noise(1)
    assert torch.equal(augment.mix(torch.zeros(1, 16000), bed, torch.tensor([10.0])), bed)


def test_an_infinite_snr_adds_no_noise_to_a_silent_clip() -> None:
    assert not augment.mix(torch.zeros(1, 16000), noise(1), torch.tensor([math.inf])).any()


def test_the_level_is_set() -> None:
    x = torch.stack([tone(440), tone(440, amplitude=0.9), 0.001 * tone(440), torch.zeros(16000)])
    level_db = torch.tensor([-20.0, -45.0, -10.0, -20.0])
    made = augment.set_level(x, level_db)
    torch.testing.assert_close(loudest_db(made)[:3], level_db[:3].double(), rtol=0, atol=1e-3)
    assert not made[3].any(), "silence stays silent"
    loud = augment.set_level(x[:1], torch.tensor([6.0]))
    assert loud.abs().max() == 1


@pytest.mark.parametrize("factor", [0.85, 1.0, 1.15])
def test_speed_moves_a_tone(factor: float) -> None:
    made = augment.change_speed(tone(1000, 19000)[None], torch.tensor([factor]), 16000)[0]
    assert torch.fft.rfft(made).abs().argmax() == round(1000 * factor)
    torch.testing.assert_close(made, tone(1000 * factor), rtol=0, atol=0.005)


def test_crossfade_keeps_inside_and_outside_apart() -> None:
    inside, outside = torch.ones(2, 1000), -torch.ones(2, 1000)
    made = augment.crossfade(inside, outside, torch.tensor([300, 0]), torch.tensor([500, 950]), 100)
    assert (made[0, 300:501] == 1).all()
    assert (made[0, :201] == -1).all()
    assert (made[0, 600:] == -1).all()
    torch.testing.assert_close(made[0, 200:301], torch.linspace(-1, 1, 101), rtol=0, atol=1e-5)
    torch.testing.assert_close(made[0, 500:601], torch.linspace(1, -1, 101), rtol=0, atol=1e-5)
    assert (made[1, :951] == 1).all()


@pytest.mark.parametrize("axis", [1, 2])
def test_masks_replace_spans_by_the_mean(axis: int) -> None:
    x = torch.randn(400, 20, 30, generator=torch.Generator().manual_seed(0))
    made = augment.mask(x, axis, augment.spans(400, x.shape[axis], 5, 2, torch.Generator().manual_seed(1)))
    changed = made != x
    line = changed.any(3 - axis)
    assert torch.equal(line, changed.all(3 - axis)), "a span is masked completely"
    means = x.mean((1, 2), keepdim=True).expand_as(x)
    assert torch.equal(made[changed], means[changed])
    widths = line.sum(1)
    assert widths.amax() == 10
    assert widths.amin() == 0
    # Two spans of 2.5 on average, some of which overlap.
    assert 4 < widths.float().mean() < 5
    assert ((line[:, 1:] & ~line[:, :-1]).sum(1) + line[:, 0]).amax() <= 2
    assert line.float().mean(0).amin() > 0.02, "every position is masked at times"
    assert torch.equal(augment.mask(x, axis, augment.spans(400, x.shape[axis], 5, 0, torch.Generator())), x)


def test_recolour_is_a_smooth_gain_that_keeps_time() -> None:
    x = torch.randn(2000, 40, 3, generator=torch.Generator().manual_seed(0))
    moved = (augment.recolour(x, augment.colours(2000, 40, 3.0, torch.Generator().manual_seed(1))) - x) / UNITS_PER_DB
    torch.testing.assert_close(moved[:, :, :1].expand_as(moved), moved, rtol=0, atol=1e-3)
    gain_db = moved[:, :, 0]
    assert (gain_db.diff(dim=1).abs().amax()) < 4 < gain_db.abs().amax()
    # At band 0 the three cosines are 1: the deviations add as squares.
    assert gain_db[:, 0].std() == pytest.approx(3 * 3**0.5, rel=0.05)
    assert gain_db[:, 20].std() == pytest.approx(3.0, rel=0.05)


def test_a_gain_of_the_sound_is_a_gain_of_the_features() -> None:
    """`recolour` is calibrated in decibels."""
    x = noise(1)
    louder = augment.set_level(x, torch.tensor([-20.0])), augment.set_level(x, torch.tensor([-30.0]))
    step = LogMel()(louder[0]) - LogMel()(louder[1])
    assert float(step.mean()) == pytest.approx(10 * UNITS_PER_DB, rel=1e-3)
