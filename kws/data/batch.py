"""Batches of training: keywords in context, fresh negatives and replayed negatives, all augmented.

A batch is sampled in two stages. `sample` chooses positions and augmentation parameters as a `BatchPlan`; `render` cuts
and augments the audio. All randomness comes from generators of the step, so a batch depends on the seed, the step and
the content of the buffer, never on worker processes or on earlier steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from kws.common.settings import Pair
from kws.data import augment
from kws.data.augment import AugmentConfig
from kws.data.batch_plan import BatchPlan, PlacedKeywords, Windows
from kws.data.clip_bank import ClipBank
from kws.data.rooms import reverberate

AT_ONCE = 16  # rows rendered together on a CPU
IGNORED = -1.0  # target of a keyword that a longer one in the clip contains


@dataclass
class KeywordLength:
    """Longest keyword that is trained."""

    max_keyword_s: Annotated[
        float, Field(ge=0.2, le=5, description="longest keyword, s; a longer one is trimmed harder")
    ] = 1.2


@dataclass
class BatchConfig(KeywordLength):
    """Clips of a batch."""

    size: Annotated[int, Field(ge=2, le=65536, description="clips of a batch")] = 160
    positive_share: Annotated[
        float, Field(ge=0.01, le=0.9, description="share of keywords; the rest are fresh and replayed negatives")
    ] = 0.25
    real_share: Annotated[
        float | None,
        Field(
            ge=0,
            le=1,
            description="share of real clips beside synthetic ones of a keyword; null: by count, half or more with ten",
        ),
    ] = None
    noise_share: Annotated[float, Field(ge=0, le=0.9, description="share of noise alone in the fresh negatives")] = 0.15
    clip_s: Annotated[float, Field(ge=0.5, le=10, description="length of a clip, s")] = 2.04
    keyword_end_s: Annotated[
        list[float], Pair(0, 5), Field(description="a keyword ends this long before its clip ends, s")
    ] = field(default_factory=lambda: [0.2, 0.5])


@dataclass(frozen=True)
class Keywords:
    """Position of each keyword in its recording: clip, score column, first and last sample; real or synthetic."""

    index: Tensor
    column: Tensor
    start: Tensor
    end: Tensor
    real: Tensor  # false for synthetic speech


@dataclass(frozen=True)
class Batch:
    """Audio and targets of a batch, or of some of its rows.

    `index`, `offset` and `speed` locate each fresh negative in the bank. `noise` is the noise recording mixed into each
    row, -1 for none. A clip that enters the replay buffer must name every recording in it.

    Shape: pcm [B, T], target [B, K], start and end [B] in samples; index, offset and speed [fresh], noise [B].
    """

    pcm: Tensor
    target: Tensor
    start: Tensor
    end: Tensor
    index: Tensor
    offset: Tensor
    speed: Tensor
    noise: Tensor


def concatenated(parts: Sequence[Batch]) -> Batch:
    """Concatenate batches along their rows."""
    return Batch(**{one.name: torch.cat([getattr(part, one.name) for part in parts]) for one in fields(Batch)})


class BatchSampler:
    """Samples and renders training batches.

    Args:
        bank: all training clips.
        keywords: the positives in it.
        speech: indexes of the negative clips, sampled in proportion to their length.
        noise: indexes of background noise, mixed into all rows and used as negatives too.
        targets: target of a clip of each keyword: 1 for itself, 0, or `IGNORED`. Shape: [K, K].
        clip_n: samples of a clip, T.
        settings: settings of a batch.
        augmentation: augmentation settings.
        sample_rate: Hz.
        hop_s: seconds between feature frames.
        rooms: impulse responses of rooms; None: no clip is set into a room. Shape: [R, L].
    """

    RAMP_N = 800  # 50 ms at 16 kHz, between a keyword and its context
    SHIFT_N = 1600  # 0.1 s at 16 kHz: random shift of a replayed clip

    def __init__(
        self,
        bank: ClipBank,
        keywords: Keywords,
        speech: Sequence[int],
        noise: Sequence[int],
        targets: Tensor,
        clip_n: int,
        settings: BatchConfig,
        augmentation: AugmentConfig,
        sample_rate: int,
        hop_s: float,
        rooms: Tensor | None = None,
    ) -> None:
        self.bank, self.keywords, self.targets, self.clip_n = bank, keywords, targets, clip_n
        self.settings, self.augmentation, self.rooms = settings, augmentation, rooms
        self.end_n = [round(end_s * sample_rate) for end_s in settings.keyword_end_s]
        self.time_mask_n = round(augmentation.time_mask_s / hop_s)
        self.speech, self.noise = torch.tensor(list(speech)), torch.tensor(list(noise))
        # A clip shorter than a window counts as one window.
        self.weight = bank.lengths[self.speech].clamp_min(clip_n).double().cumsum(0) if len(speech) else torch.zeros(0)

    def sample(
        self, n_positive: int, n_fresh: int, replay: ClipBank | None, replayed: Tensor, rng: torch.Generator
    ) -> BatchPlan:
        """Sample a batch: `n_positive` keywords, `n_fresh` fresh negatives and the clips `replayed` of bank `replay`.

        Shape: replayed int64 [R]; the batch has n_positive + n_fresh + R rows, in this order.
        """
        keywords = self._keywords(n_positive, rng)
        fresh = self._fresh(n_fresh, rng)
        again = replayed[:0].long() if replay is None else replayed.long()
        offset = again if replay is None else self._replay_offset(replay.lengths[again], rng)
        n = n_positive + n_fresh + len(again)
        noise, snr_db = None, torch.full((n,), math.inf)
        if len(self.noise):
            snr_db = uniform(n, self.augmentation.snr_db, rng)
            snr_db[torch.rand(n, generator=rng) >= self.augmentation.noise_p] = math.inf
            noise = self._noise_windows(n, rng)
        level_db = uniform(n, self.augmentation.level_db, rng)
        # Registered augmentations and rooms sample last, so that they do not change the other random numbers.
        seeds = torch.randint(2**62, (n,), generator=rng) if augment.EXTRAS else None
        rooms = None
        if self.rooms is not None:
            rooms = torch.randint(len(self.rooms), (n,), generator=rng)
            rooms[torch.rand(n, generator=rng) >= self.augmentation.room_p] = -1
        again_at = Windows(again, offset, torch.ones(len(again)))
        return BatchPlan(keywords, fresh, again_at, noise, snr_db, level_db, seeds, rooms)

    def render(self, plan: BatchPlan, replay: ClipBank | None) -> Batch:
        """Cut and augment the audio of a plan."""
        if self.bank.device.type != "cpu" or len(plan) <= AT_ONCE:
            return self._rendered(plan, replay)
        # A few rows at a time stay in the cache of a CPU.
        groups = torch.arange(len(plan)).split(AT_ONCE)
        return concatenated([self._rendered(plan.rows(rows), replay) for rows in groups])

    def _rendered(self, plan: BatchPlan, replay: ClipBank | None) -> Batch:
        k = plan.keywords
        parts = [self._keywords_in_context(k), self._window(plan.fresh)]
        if replay is not None and len(plan.replayed):
            parts.append(replay.window(plan.replayed.index, plan.replayed.offset, self.clip_n))
        x = torch.cat(parts)
        if self.rooms is not None and plan.rooms is not None and len(inside := (plan.rooms >= 0).nonzero().flatten()):
            x[inside.to(x.device)] = reverberate(x[inside.to(x.device)], self.rooms[plan.rooms[inside].to(x.device)])
        noise = torch.full((len(plan),), -1)
        if plan.noise is not None:
            x = augment.mix(x, self._window(plan.noise), plan.snr_db.to(x.device))
            noise = torch.where(torch.isfinite(plan.snr_db), plan.noise.index, -1)
        x = augment.set_level(x, plan.level_db.to(x.device))
        if plan.seeds is not None:
            x = augment.vary_clips(x, plan.seeds, self.augmentation)
        target = F.pad(self.targets[k.column], (0, 0, 0, len(plan) - len(k)))
        start, end = (F.pad(position, (0, len(plan) - len(k))).to(x.device) for position in (k.start, k.end))
        f = plan.fresh
        return Batch(x, target.to(x.device), start, end, f.index, f.offset, f.speed, noise)

    def _replay_offset(self, length: Tensor, rng: torch.Generator) -> Tensor:
        """Sample offsets: anywhere in a longer clip, anywhere around a shorter one, and up to 0.1 s beyond."""
        room = length - self.clip_n
        low, high = room.clamp_max(0) - self.SHIFT_N, room.clamp_min(0) + self.SHIFT_N
        return low + (torch.rand(len(length), generator=rng, dtype=torch.double) * (high - low + 1)).long()

    def plain_keywords(self) -> Tensor:
        """Every keyword without augmentation, in a clip that ends soon after it. Shape: returns [P, T]."""
        return self.bank.window(self.keywords.index, self.keywords.end - self.clip_n + self.end_n[0], self.clip_n)

    def _speeds(self, n: int, rng: torch.Generator) -> Tensor:
        a = self.augmentation
        changed = torch.rand(n, generator=rng) < a.speed_p
        return torch.where(changed, 1 + a.speed * (2 * torch.rand(n, generator=rng) - 1), torch.ones(n))

    def _window(self, windows: Windows) -> Tensor:
        """Cut windows and change their speed. Windows at speed 1 are not resampled."""
        out = self.bank.window(windows.index, windows.offset, self.clip_n)
        if len(changed := (windows.speed != 1).nonzero().flatten()):
            some = windows[changed]
            raw_n = math.ceil(self.clip_n * (1 + self.augmentation.speed)) + 2
            raw = self.bank.window(some.index, some.offset, raw_n)
            where = changed.to(out.device)
            out[where] = augment.change_speed(raw, some.speed.to(out.device), self.clip_n)
        return out

    def _speech_windows(self, n: int, rng: torch.Generator) -> Windows:
        total = float(self.weight[-1])
        place = torch.searchsorted(self.weight, torch.rand(n, generator=rng, dtype=torch.double) * total, right=True)
        index = self.speech[place.clamp_max(len(self.speech) - 1)]
        speed = self._speeds(n, rng)
        # Windows extend beyond the ends of a clip, so that its first and last words may end anywhere. Half of the
        # window or of the clip, whichever is shorter, always overlaps.
        length, span = self.bank.lengths[index], self.clip_n * speed
        inside = torch.minimum(length, span) / 2
        low, high = inside - span, length - inside
        offset = (low + (high - low) * torch.rand(n, generator=rng)).long()
        return Windows(index, offset, speed)

    def _noise_windows(self, n: int, rng: torch.Generator) -> Windows:
        index = self.noise[torch.randint(len(self.noise), (n,), generator=rng)]
        room = (self.bank.lengths[index] - self.clip_n).clamp_min(0)
        offset = (torch.rand(n, generator=rng) * (room + 1)).long()
        return Windows(index, offset, torch.ones(n))

    def _fresh(self, n: int, rng: torch.Generator) -> Windows:
        if not len(self.noise):
            return self._speech_windows(n, rng)
        n_noise = int(n * self.settings.noise_share + torch.rand(1, generator=rng).item())
        return self._speech_windows(n - n_noise, rng) + self._noise_windows(n_noise, rng)

    def _keywords(self, n: int, rng: torch.Generator) -> PlacedKeywords:
        a, k = self.augmentation, self.keywords
        # Keywords are equally frequent, whatever their numbers of recordings.
        column = torch.randint(len(self.targets), (n,), generator=rng)
        pick = torch.zeros(n, dtype=torch.long)
        for c in range(len(self.targets)):
            chosen = column == c
            pick[chosen] = self._recordings(c, int(chosen.sum()), rng)
        speed = self._speeds(n, rng)
        late, early = self.end_n
        end = self.clip_n - late - (early - late) * torch.rand(n, generator=rng)
        windows = Windows(k.index[pick], (k.end[pick] - end * speed).long(), speed)
        start = end - (k.end[pick] - k.start[pick]) / speed

        kind = torch.rand(n, generator=rng)
        keeps_own = (kind >= a.context_p) & (kind < a.context_p + a.own_context_p)
        in_speech = ((kind < a.context_p) & (len(self.speech) > 0)).nonzero().flatten()
        context, context_db = Windows(in_speech, in_speech, torch.zeros(0)), torch.zeros(0)  # empty without speech
        if len(in_speech):
            context = self._speech_windows(len(in_speech), rng)
            context_db = uniform(len(in_speech), a.context_db, rng)
        return PlacedKeywords(windows, column, start, end, keeps_own, in_speech, context, context_db)

    def _keywords_in_context(self, k: PlacedKeywords) -> Tensor:
        """Cut keywords and mix in the audio around them."""
        clip = self._window(k.windows)
        around = clip * k.keeps_own.to(clip.device)[:, None]
        if len(k.in_speech):
            where = k.in_speech.to(clip.device)
            other = self._window(k.context)
            gain = 10 ** (k.context_db.to(clip.device) / 20)
            around[where] = other * (augment.loudest(clip[where]) / augment.loudest(other) * gain)[:, None]
        return augment.crossfade(clip, around, k.start.to(clip.device), k.end.to(clip.device), self.RAMP_N)

    def _recordings(self, column: int, n: int, rng: torch.Generator) -> Tensor:
        """Sample recordings of one keyword, uniformly among the real and among the synthetic ones."""
        mine = (self.keywords.column == column).nonzero().flatten()
        real = self.keywords.real[mine]
        if real.all() or not real.any():
            return mine[torch.randint(len(mine), (n,), generator=rng)]
        from_real = torch.rand(n, generator=rng) < real_share(self.settings, int(real.sum()), len(real))
        real_ones, others = mine[real], mine[~real]
        return torch.where(
            from_real,
            real_ones[torch.randint(len(real_ones), (n,), generator=rng)],
            others[torch.randint(len(others), (n,), generator=rng)],
        )

    def augment_features(self, x: Tensor, rows: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Colour and mask log-mel frames, `rows` of a batch of `n`. Shape: x and result [len(rows), M, N]."""
        a = self.augmentation
        if a.colour_db:
            x = augment.recolour(x, augment.colours(n, x.shape[1], a.colour_db, rng)[rows])
        for axis, longest, count in ((2, self.time_mask_n, a.time_masks), (1, a.mel_mask_n, a.mel_masks)):
            x = augment.mask(x, axis, augment.spans(n, x.shape[axis], longest, count, rng)[rows])
        return x


def real_share(settings: BatchConfig, n_real: int, n: int) -> float:
    """The share of real clips among those of a keyword with `n_real` real ones of `n`.

    Ten real recordings beside thousands of synthetic ones would hardly be sampled, and it is their voices that count.
    With fewer than ten, none of them is more than a twentieth of the clips.
    """
    if n_real in (0, n):
        return n_real / n
    return max(min(0.5, n_real / 20), n_real / n) if settings.real_share is None else settings.real_share


def uniform(n: int, bounds: Sequence[float], rng: torch.Generator) -> Tensor:
    """`n` uniform random numbers between two bounds. Shape: returns [n]."""
    low, high = bounds
    return low + (high - low) * torch.rand(n, generator=rng)
