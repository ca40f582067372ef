"""A batch as numbers: what is cut from where and how it is varied, before any sound is touched.

The numbers depend on the seed, the step and what the buffer held alone: whoever makes some of the rows makes what any
other process would.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Windows:
    """Windows of a bank: clips they are cut from, where (samples), and how fast they are played. Shape: [N] each."""

    index: Tensor
    offset: Tensor
    speed: Tensor

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Tensor) -> "Windows":
        return Windows(self.index[rows], self.offset[rows], self.speed[rows])

    def __add__(self, more: "Windows") -> "Windows":
        pairs = ((self.index, more.index), (self.offset, more.offset), (self.speed, more.speed))
        return Windows(*(torch.cat(pair) for pair in pairs))


@dataclass(frozen=True)
class Placed:
    """Keywords in context.

    Args:
        windows: of each with the sound around it.
        column: the label.
        start, end: where it lies in the clip, samples.
        own: true where it keeps the sound around it.
        spoken: rows that are set into other speech; `context` and `context_db` are that speech and its level.

    Shape: [P] each; spoken, context and context_db [fewer].
    """

    windows: Windows
    column: Tensor
    start: Tensor
    end: Tensor
    own: Tensor
    spoken: Tensor
    context: Windows
    context_db: Tensor

    def __len__(self) -> int:
        return len(self.windows)

    def part(self, rows: Tensor) -> "Placed":
        """Some of them, each at most once, in the order of `rows`."""
        place = torch.full((len(self),), -1)
        place[rows] = torch.arange(len(rows))
        kept = place[self.spoken] >= 0
        return Placed(
            self.windows[rows],
            self.column[rows],
            self.start[rows],
            self.end[rows],
            self.own[rows],
            place[self.spoken[kept]],
            self.context[kept],
            self.context_db[kept],
        )


@dataclass(frozen=True)
class BatchPlan:
    """A whole batch: keywords, then fresh negatives, then replayed ones.

    Args:
        keywords: in context.
        fresh: windows of the bank of training.
        replayed: windows of the bank of the buffer.
        beneath: the noise beneath each row; None where there is no noise.
        snr_db: how far below the row it lies, inf for none.
        level_db: how loud each row is in the end, dBFS.
        seeds: of the registered augmentations of each row; None where there are none.

    Shape: beneath, snr_db, level_db and seeds [B], B rows of the first three together.
    """

    keywords: Placed
    fresh: Windows
    replayed: Windows
    beneath: Windows | None
    snr_db: Tensor
    level_db: Tensor
    seeds: Tensor | None = None

    def __len__(self) -> int:
        return len(self.keywords) + len(self.fresh) + len(self.replayed)

    def part(self, rows: Tensor) -> "BatchPlan":
        """Some of its rows, in ascending order: a batch of its own. Shape: rows int64 [at most B]."""
        n, end = len(self.keywords), len(self.keywords) + len(self.fresh)
        return replace(
            self,
            keywords=self.keywords.part(rows[rows < n]),
            fresh=self.fresh[rows[(rows >= n) & (rows < end)] - n],
            replayed=self.replayed[rows[rows >= end] - end],
            beneath=None if self.beneath is None else self.beneath[rows],
            snr_db=self.snr_db[rows],
            level_db=self.level_db[rows],
            seeds=None if self.seeds is None else self.seeds[rows],
        )
