"""Plan of a batch: positions to cut and augmentation parameters, sampled before any audio is read.

A plan depends only on the seed, the step and the content of the buffer. So every process samples the same plan and
renders its own rows.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Windows to cut from a bank: clip, offset in samples, and playback speed. Shape: [N] each."""

    index: Tensor
    offset: Tensor
    speed: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> "Windows":
        return Windows(self.index[rows], self.offset[rows], self.speed[rows])

    def __add__(self, more: "Windows") -> "Windows":
        index, offset = torch.cat([self.index, more.index]), torch.cat([self.offset, more.offset])
        return Windows(index, offset, torch.cat([self.speed, more.speed]))


@dataclass(frozen=True)
class PlacedKeywords:
    """Keywords and the audio around them.

    Args:
        windows: window of each keyword with its recorded surroundings.
        column: score column of the keyword.
        start, end: position of the keyword in the clip, samples.
        keeps_own: true where the recorded surroundings stay.
        in_speech: rows with other speech around the keyword.
        context, context_db: that speech, and its level relative to the keyword.

    Shape: [P] each; in_speech, context and context_db [at most P].
    """

    windows: Windows
    column: Tensor
    start: Tensor
    end: Tensor
    keeps_own: Tensor
    in_speech: Tensor
    context: Windows
    context_db: Tensor

    def __len__(self) -> int:
        return len(self.windows)

    def rows(self, rows: Tensor) -> "PlacedKeywords":
        """Select rows, each at most once, in the order of `rows`."""
        place = torch.full((len(self),), -1)
        place[rows] = torch.arange(len(rows))
        kept = place[self.in_speech] >= 0
        return PlacedKeywords(
            self.windows[rows],
            self.column[rows],
            self.start[rows],
            self.end[rows],
            self.keeps_own[rows],
            place[self.in_speech[kept]],
            self.context[kept],
            self.context_db[kept],
        )


@dataclass(frozen=True)
class BatchPlan:
    """Plan of a batch: rows of keywords, then of fresh negatives, then of replayed negatives.

    Args:
        keywords: keywords and the audio around them.
        fresh: windows of the training bank.
        replayed: windows of the bank of the replay buffer.
        noise: background noise of each row; None without noise recordings.
        snr_db: level of the row above its noise, inf for a row without noise.
        level_db: final level of each row, dBFS.
        seeds: seed of the registered augmentations of each row; None without registered augmentations.
        rooms: impulse response of each row, -1 for none; None without rooms.

    Shape: noise, snr_db, level_db, seeds and rooms [B], B rows of the first three together.
    """

    keywords: PlacedKeywords
    fresh: Windows
    replayed: Windows
    noise: Windows | None
    snr_db: Tensor
    level_db: Tensor
    seeds: Tensor | None = None
    rooms: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keywords) + len(self.fresh) + len(self.replayed)

    def rows(self, rows: Tensor) -> "BatchPlan":
        """Select rows, in ascending order. Shape: rows int64 [at most B]."""
        n, end = len(self.keywords), len(self.keywords) + len(self.fresh)
        return replace(
            self,
            keywords=self.keywords.rows(rows[rows < n]),
            fresh=self.fresh[rows[(rows >= n) & (rows < end)] - n],
            replayed=self.replayed[rows[rows >= end] - end],
            noise=None if self.noise is None else self.noise[rows],
            snr_db=self.snr_db[rows],
            level_db=self.level_db[rows],
            seeds=None if self.seeds is None else self.seeds[rows],
            rooms=None if self.rooms is None else self.rooms[rows],
        )
