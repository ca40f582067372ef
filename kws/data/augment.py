"""Batched augmentation on the device of the input: each function takes a batch and one random value per clip."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from kws.common.seeding import generator
from kws.common.settings import INPUT, Pair, SettingError
from kws.data.features import UNITS_PER_DB

LEVEL_WINDOW_N = 512  # 32 ms at 16 kHz: the level of a clip is that of its loudest such window


@dataclass
class AugmentConfig:
    """How clips are varied. The defaults suit few recordings: every clip differs each time it is sampled."""

    speed: Annotated[float, Field(ge=0, le=0.5, description="speed factors lie between 1 - speed and 1 + speed")] = 0.15
    speed_p: Annotated[float, Field(ge=0, le=1, description="share of clips that are changed in speed")] = 0.5
    noise_p: Annotated[float, Field(ge=0, le=1, description="share of clips with background noise")] = 0.9
    snr_db: Annotated[list[float], Pair(-20, 60), Field(description="loudest 32 ms of clip against noise, dB")] = field(
        default_factory=lambda: [-5.0, 20.0]
    )
    level_db: Annotated[list[float], Pair(-80, 0), Field(description="loudest 32 ms of the clip, dBFS")] = field(
        default_factory=lambda: [-45.0, -10.0]
    )
    context_p: Annotated[float, Field(ge=0, le=1, description="share of keywords set into other speech")] = 0.4
    own_context_p: Annotated[
        float, Field(ge=0, le=1, description="share of keywords in their own context; the rest stand in noise alone")
    ] = 0.4
    context_db: Annotated[
        list[float], Pair(-60, 30), Field(description="level of that other speech against the keyword, dB")
    ] = field(default_factory=lambda: [-15.0, 5.0])
    colour_db: Annotated[float, Field(ge=0, le=20, description="spread of a smooth gain over the mel bands, dB")] = 3.0
    rooms: Annotated[
        str | None, INPUT, Field(description="folder of impulse responses, such as those of kws rooms; null: none")
    ] = None
    room_p: Annotated[float, Field(ge=0, le=1, description="share of clips that are set into a room")] = 0.5
    time_masks: Annotated[int, Field(ge=0, le=10, description="SpecAugment masks in time")] = 2
    time_mask_s: Annotated[float, Field(ge=0, le=1, description="longest of them, s")] = 0.1
    mel_masks: Annotated[int, Field(ge=0, le=10, description="SpecAugment masks in frequency")] = 2
    mel_mask_n: Annotated[int, Field(ge=0, le=64, description="widest of them, mel bands")] = 5

    def check(self) -> None:
        if self.context_p + self.own_context_p > 1:
            rule = f"must be at most 1 - context_p = {1 - self.context_p:g}"
            raise SettingError("own_context_p", self.own_context_p, rule)


Augmentation = Callable[[Tensor, Any, torch.Generator], Tensor]


class Extra(NamedTuple):
    """An augmentation of a plugin."""

    settings: type
    function: Augmentation


EXTRAS: dict[str, Extra] = {}


def register_augmentation(name: str, settings: type) -> Callable[[Augmentation], Augmentation]:
    """Register an augmentation, with the dataclass of its settings, as the group `augment.NAME`: a decorator.

    The function gets a clip, its settings and a generator: function(pcm [T] in [-1, 1], settings, rng) returns a clip
    of the same length. It runs once for each row of each training batch, after noise and level.
    """

    def add(function: Augmentation) -> Augmentation:
        EXTRAS[name] = Extra(settings, function)
        return function

    return add


def augment_config() -> type[AugmentConfig]:
    """`AugmentConfig` with a group of settings for each registered augmentation."""
    extras = [(name, extra.settings, field(default_factory=extra.settings)) for name, extra in EXTRAS.items()]
    return make_dataclass("AugmentConfig", extras, bases=(AugmentConfig,)) if extras else AugmentConfig


def vary_clips(x: Tensor, seeds: Tensor, settings: AugmentConfig) -> Tensor:
    """Apply the registered augmentations, each row by generators of its own. Shape: x [B, T], seeds int64 [B]."""
    rows = []
    for row, seed in zip(x, seeds.tolist(), strict=True):
        pcm = row
        for name, extra in EXTRAS.items():
            pcm = extra.function(pcm, getattr(settings, name), generator(seed, name))
        rows.append(pcm)
    return torch.stack(rows) if rows else x


def loudest(x: Tensor) -> Tensor:
    """RMS of the loudest 32 ms of each clip, at least 1e-5 to be safe as a divisor.

    Shape: x [B, T]; returns [B].
    """
    n = max(1, x.shape[1] // LEVEL_WINDOW_N)
    windows = x[:, : n * LEVEL_WINDOW_N].reshape(len(x), n, -1)
    peak: Tensor = torch.linalg.vector_norm(windows, dim=2).amax(1)
    return peak.div(windows.shape[2] ** 0.5).clamp_min(1e-5)


def mix(x: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Add noise `snr_db` below the clip, measured on the loudest 32 ms of both. A silent clip takes the noise unscaled.

    Shape: x, noise [B, T]; snr_db [B] in dB, inf for none; returns [B, T].
    """
    signal = loudest(x)
    scale = signal / loudest(noise) * 10 ** (-snr_db / 20)
    scale = torch.where((signal <= 1e-4) & torch.isfinite(snr_db), torch.ones_like(scale), scale)
    return torch.addcmul(x, noise, scale[:, None])


def set_level(x: Tensor, level_db: Tensor) -> Tensor:
    """Scale each clip so that its loudest 32 ms are at `level_db` dBFS, then clip to [-1, 1].

    Shape: x [B, T]; level_db [B]; returns [B, T].
    """
    return (x * (10 ** (level_db / 20) / loudest(x))[:, None]).clamp_(-1, 1)


def change_speed(x: Tensor, factor: Tensor, out_n: int) -> Tensor:
    """Resample each clip to `factor` times its speed, pitch included, by linear interpolation.

    Shape: x [B, T], T > factor * out_n; factor [B] > 0; returns [B, out_n].
    """
    position = torch.arange(out_n, device=x.device) * factor[:, None]
    left = position.long()
    part = position - left
    return torch.lerp(x.gather(1, left), x.gather(1, left + 1), part)


def crossfade(inside: Tensor, outside: Tensor, start: Tensor, end: Tensor, ramp_n: int) -> Tensor:
    """`inside` from `start` to `end` (samples), `outside` elsewhere, with linear ramps of `ramp_n` beyond the edges.

    Shape: inside, outside [B, T]; start, end [B]; returns [B, T].
    """
    t = torch.arange(inside.shape[1], device=inside.device)
    weight = torch.minimum((t - start[:, None]) / ramp_n + 1, (end[:, None] - t) / ramp_n + 1).clamp(0, 1)
    return torch.lerp(outside, inside, weight)


def spans(n: int, size: int, longest: int, count: int, rng: torch.Generator) -> Tensor:
    """Sample `count` spans of up to `longest` positions per clip. Shape: returns bool [n, size], true inside a span."""
    place = torch.arange(size)
    hidden = torch.zeros(n, size, dtype=torch.bool)
    for _ in range(count):
        width = torch.randint(longest + 1, (n, 1), generator=rng)
        start = (torch.rand(n, 1, generator=rng) * (size - width + 1)).long()
        hidden |= (place >= start) & (place < start + width)
    return hidden


def mask(x: Tensor, axis: int, hidden: Tensor) -> Tensor:
    """SpecAugment masks (Park et al., 2019): hidden positions along `axis` take the mean of the clip.

    Shape: x [B, M, N]; axis 1 (frequency) or 2 (time); hidden [B, M or N]; returns [B, M, N].
    """
    hidden = hidden.to(x.device)
    return torch.where(hidden[:, :, None] if axis == 1 else hidden[:, None, :], x.mean((1, 2), keepdim=True), x)


def colours(n: int, bands_n: int, spread_db: float, rng: torch.Generator) -> Tensor:
    """Sample a smooth gain over the mel bands for each of `n` clips, in dB: three cosines of `spread_db` each.

    Shape: returns [n, bands_n].
    """
    bands = torch.arange(bands_n) / bands_n
    curves = torch.stack([torch.cos(math.pi * k * bands) for k in (1, 2, 3)])
    return torch.randn(n, 3, generator=rng) @ curves * spread_db


def recolour(x: Tensor, gain_db: Tensor) -> Tensor:
    """Apply a gain to each mel band, as another microphone or room does. Shape: x [B, M, N], gain_db [B, M]."""
    return x + (gain_db * UNITS_PER_DB).to(x.device)[:, :, None]
