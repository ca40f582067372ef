"""What a batch is made of: keywords in context, fresh negatives, replayed ones; then fresh augmentation for all.

Everything is drawn here, in the training loop, from generators named by the step: a batch depends on the seed, the step
and what the buffer held, never on workers or on the past. What is drawn are numbers (drawn.py), from which any process
makes the rows it wants.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kws.common.settings import Pair
from kws.data import augment
from kws.data.augment import AugmentConfig
from kws.data.batch_plan import BatchPlan, Placed, Windows
from kws.data.clip_bank import ClipBank

AT_ONCE = 16  # rows of a batch that are made together on a CPU


@dataclass
class BatchConfig:
    """Clips of a batch."""

    size: Annotated[int, Field(ge=2, le=65536, description="clips of a batch")] = 160
    positive_share: Annotated[
        float, Field(ge=0.01, le=0.9, description="share of keywords; the rest are fresh and replayed negatives")
    ] = 0.25
    real_share: Annotated[
        float | None,
        Field(ge=0, le=1, description="share of real clips of a keyword that has synthetic ones too; null: by count"),
    ] = None
    noise_share: Annotated[float, Field(ge=0, le=0.9, description="share of noise alone in the fresh negatives")] = 0.15
    clip_s: Annotated[float, Field(ge=0.5, le=10, description="length of a clip, s")] = 2.0
    max_keyword_s: Annotated[
        float, Field(ge=0.2, le=5, description="longest keyword, s; a longer one is trimmed harder")
    ] = 1.2
    keyword_end_s: Annotated[
        list[float], Pair(0, 5), Field(description="a keyword ends this long before its clip ends, s")
    ] = field(default_factory=lambda: [0.2, 0.5])


@dataclass(frozen=True)
class Keywords:
    """Where each keyword lies in its recording: clip index, label column, first and last sample; whether it is real."""

    index: Tensor
    column: Tensor
    start: Tensor
    end: Tensor
    real: Tensor  # false where it was synthesised


@dataclass(frozen=True)
class Batch:
    """The sound of a batch, or of some rows of one.

    `index`, `offset` and `speed` say of the fresh negatives where each was cut from the bank and how fast it is played,
    `noise` of every clip what lies beneath it, -1 for nothing: a clip that is kept must name all that it holds.

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


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches one after another, as one."""
    return Batch(**{one.name: torch.cat([getattr(part, one.name) for part in parts]) for one in fields(Batch)})


class BatchSampler:
    """Draws batches from the clips of training.

    Args:
        bank: every clip of training.
        keywords: the positives in it.
        speech: indexes of clips drawn as fresh negatives; drawn in proportion to their length.
        noise: indexes of background noise, mixed beneath everything and also negatives of their own.
        n_columns: number of keywords, K.
        clip_n: samples a clip, T.
        end_n: earliest and latest place of a keyword's end, samples before the end of the clip.
        noise_share: share of fresh negatives that are noise alone.
        augmentation: how clips are varied.
        hop_s: seconds between feature frames.
        real_share: share of a keyword's clips that are real ones, where it has both; None: as its recordings are.
    """

    RAMP_N = 800  # 50 ms at 16 kHz, between a keyword and its context
    SHIFT_N = 1600  # 0.1 s at 16 kHz: a replayed clip is never cut twice at one place

    def __init__(
        self,
        bank: ClipBank,
        keywords: Keywords,
        speech: Sequence[int],
        noise: Sequence[int],
        n_columns: int,
        clip_n: int,
        end_n: tuple[int, int],
        noise_share: float,
        augmentation: AugmentConfig,
        hop_s: float,
        real_share: float | None = None,
    ) -> None:
        self.bank, self.keywords, self.n_columns = bank, keywords, n_columns
        self.clip_n, self.end_n, self.noise_share, self.augmentation = (
            clip_n,
            end_n,
            noise_share,
            augmentation,
        )
        self.real_share, self.time_mask_n = real_share, round(augmentation.time_mask_s / hop_s)
        self.speech, self.noise = torch.tensor(list(speech)), torch.tensor(list(noise))
        # A clip shorter than a window still yields one window.
        self.weight = bank.lengths[self.speech].clamp_min(clip_n).double().cumsum(0) if len(speech) else torch.zeros(0)

    def draw(
        self, n_positive: int, n_fresh: int, replay: ClipBank | None, replayed: Tensor, rng: torch.Generator
    ) -> BatchPlan:
        """One batch: `n_positive` keywords, `n_fresh` fresh negatives and the clips `replayed` of the bank `replay`.

        Shape: replayed int64 [R]; the batch has n_positive + n_fresh + R rows, in this order.
        """
        keywords = self._keywords(n_positive, rng)
        fresh = self._fresh(n_fresh, rng)
        again = torch.zeros(0).long()
        if replay is not None and len(replayed):
            again = replayed
        offset = again if replay is None else self._replay_offset(replay.lengths[again], rng)
        n = n_positive + n_fresh + len(again)
        beneath, snr_db = None, torch.full((n,), math.inf)
        if len(self.noise):
            snr_db = uniform(n, self.augmentation.snr_db, rng)
            snr_db[torch.rand(n, generator=rng) >= self.augmentation.noise_p] = math.inf
            beneath = self._noise_windows(n, rng)
        level_db = uniform(n, self.augmentation.level_db, rng)
        # Registered augmentations sample last, so that a run without them is what it was.
        seeds = torch.randint(2**62, (n,), generator=rng) if augment.EXTRAS else None
        again_at = Windows(again, offset, torch.ones(len(again)))
        return BatchPlan(keywords, fresh, again_at, beneath, snr_db, level_db, seeds)

    def make(self, drawn: BatchPlan, replay: ClipBank | None) -> Batch:
        """The sound of a batch, or of some rows of one."""
        if self.bank.device.type != "cpu" or len(drawn) <= AT_ONCE:
            return self._made(drawn, replay)
        # A few rows at a time stay in a CPU's cache.
        return joined([self._made(drawn.part(rows), replay) for rows in torch.arange(len(drawn)).split(AT_ONCE)])

    def _made(self, drawn: BatchPlan, replay: ClipBank | None) -> Batch:
        k = drawn.keywords
        parts = [self._placed(k), self._window(drawn.fresh)]
        if replay is not None and len(drawn.replayed):
            parts.append(replay.window(drawn.replayed.index, drawn.replayed.offset, self.clip_n))
        x = torch.cat(parts)
        beneath = torch.full((len(drawn),), -1)
        if drawn.beneath is not None:
            x = augment.mix(x, self._window(drawn.beneath), drawn.snr_db.to(x.device))
            beneath = torch.where(torch.isfinite(drawn.snr_db), drawn.beneath.index, -1)
        x = augment.set_level(x, drawn.level_db.to(x.device))
        if drawn.seeds is not None:
            x = augment.vary_clips(x, drawn.seeds, self.augmentation)
        target = torch.nn.functional.one_hot(k.column, self.n_columns).float()
        n_negative = len(drawn) - len(k)
        return Batch(
            x,
            torch.cat([target, torch.zeros(n_negative, self.n_columns)]).to(x.device),
            torch.cat([k.start, torch.zeros(n_negative)]).to(x.device),
            torch.cat([k.end, torch.zeros(n_negative)]).to(x.device),
            drawn.fresh.index,
            drawn.fresh.offset,
            drawn.fresh.speed,
            beneath,
        )

    def _replay_offset(self, length: Tensor, rng: torch.Generator) -> Tensor:
        """Where to cut replayed clips: anywhere in longer ones, anywhere around shorter ones, and 0.1 s beyond."""
        room = length - self.clip_n
        low, high = room.clamp_max(0) - self.SHIFT_N, room.clamp_min(0) + self.SHIFT_N
        return low + (torch.rand(len(length), generator=rng, dtype=torch.double) * (high - low + 1)).long()

    def plain_keywords(self) -> Tensor:
        """Every keyword as it was recorded, in a clip that ends soon after it. Shape: returns [P, T]."""
        return self.bank.window(self.keywords.index, self.keywords.end - self.clip_n + self.end_n[0], self.clip_n)

    def _speeds(self, n: int, rng: torch.Generator) -> Tensor:
        a = self.augmentation
        changed = torch.rand(n, generator=rng) < a.speed_p
        return torch.where(changed, 1 + a.speed * (2 * torch.rand(n, generator=rng) - 1), torch.ones(n))

    def _window(self, windows: Windows) -> Tensor:
        """Windows played at their speeds; those at speed 1 stay untouched."""
        out = self.bank.window(windows.index, windows.offset, self.clip_n)
        changed = (windows.speed != 1).nonzero().flatten()
        if len(changed):
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
        # Windows hang over a clip's ends, so that its first and last words end anywhere; half of the shorter of the two
        # is always inside.
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
        n_noise = int(n * self.noise_share + torch.rand(1, generator=rng).item())
        return self._speech_windows(n - n_noise, rng) + self._noise_windows(n_noise, rng)

    def _keywords(self, n: int, rng: torch.Generator) -> Placed:
        a, k = self.augmentation, self.keywords
        # Each keyword as often as the next, whatever its number of recordings.
        column = torch.randint(self.n_columns, (n,), generator=rng)
        pick = torch.zeros(n, dtype=torch.long)
        for c in range(self.n_columns):
            chosen = column == c
            pick[chosen] = self._recordings(c, int(chosen.sum()), rng)
        speed = self._speeds(n, rng)
        late, early = self.end_n
        end = self.clip_n - late - (early - late) * torch.rand(n, generator=rng)
        windows = Windows(k.index[pick], (k.end[pick] - end * speed).long(), speed)
        start = end - (k.end[pick] - k.start[pick]) / speed

        kind = torch.rand(n, generator=rng)
        own = (kind >= a.context_p) & (kind < a.context_p + a.own_context_p)
        spoken = ((kind < a.context_p) & (len(self.speech) > 0)).nonzero().flatten()
        context, context_db = Windows(spoken, spoken, torch.zeros(0)), torch.zeros(0)  # of none, if there is none
        if len(spoken):
            context = self._speech_windows(len(spoken), rng)
            context_db = uniform(len(spoken), a.context_db, rng)
        return Placed(windows, column, start, end, own, spoken, context, context_db)

    def _placed(self, k: Placed) -> Tensor:
        """Keywords with what stands around them."""
        clip = self._window(k.windows)
        around = clip * k.own.to(clip.device)[:, None]
        if len(k.spoken):
            where = k.spoken.to(clip.device)
            other = self._window(k.context)
            gain = 10 ** (k.context_db.to(clip.device) / 20)
            around[where] = other * (augment.loudest(clip[where]) / augment.loudest(other) * gain)[:, None]
        return augment.crossfade(clip, around, k.start.to(clip.device), k.end.to(clip.device), self.RAMP_N)

    def _recordings(self, column: int, n: int, rng: torch.Generator) -> Tensor:
        """Recordings of one keyword, each as often as the next among the real ones and among the synthesised."""
        mine = (self.keywords.column == column).nonzero().flatten()
        real = self.keywords.real[mine]
        if self.real_share is None or real.all() or not real.any():
            return mine[torch.randint(len(mine), (n,), generator=rng)]
        from_real = torch.rand(n, generator=rng) < self.real_share
        real_ones, others = mine[real], mine[~real]
        return torch.where(
            from_real,
            real_ones[torch.randint(len(real_ones), (n,), generator=rng)],
            others[torch.randint(len(others), (n,), generator=rng)],
        )

    def vary_features(self, x: Tensor, rows: Tensor, n: int, rng: torch.Generator) -> Tensor:
        """Colour and mask log-mel frames: `rows` of a batch of `n`. Shape: x [len(rows), M, N]; returns the same."""
        a = self.augmentation
        if a.colour_db:
            x = augment.recolour(x, augment.colours(n, x.shape[1], a.colour_db, rng)[rows])
        for axis, longest, count in ((2, self.time_mask_n, a.time_masks), (1, a.mel_mask_n, a.mel_masks)):
            x = augment.mask(x, axis, augment.spans(n, x.shape[axis], longest, count, rng)[rows])
        return x


def uniform(n: int, bounds: Sequence[float], rng: torch.Generator) -> Tensor:
    """`n` draws between two bounds. Shape: returns [n]."""
    low, high = bounds
    return low + (high - low) * torch.rand(n, generator=rng)
