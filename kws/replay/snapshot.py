"""The buffer as training sees it: its clips on the device, and what training learns about their priorities."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from kws.bank import Bank
from kws.errors import KwsError
from kws.replay.buffer import Buffer
from kws.replay.draw import draw


class Snapshot:
    """The active clips of a buffer at one moment, in the order they came in.

    Args:
        buffer: where the clips lie.
        clip_n: samples a training clip.
        device: where the sound goes.
        state: what `state()` gave, to go on with the very clips and priorities of a checkpoint; None: as the buffer
            has them now.
        spoken: hashes of recordings of the keywords: a negative of another run may be one of them, its clips are left
            out.

    Raises:
        KwsError: a clip of the checkpoint is no longer in the buffer.
    """

    def __init__(
        self,
        buffer: Buffer,
        clip_n: int,
        device: torch.device,
        state: Mapping[str, Any] | None = None,
        spoken: Collection[str] = (),
    ) -> None:
        rows = {row.hash: row for row in buffer.rows()}
        fit = [h for h, row in rows.items() if not any(s.hash in spoken for s in (row.source, *row.mixed_with))]
        self.hashes: list[str] = fit if state is None else list(state["hashes"])
        gone = [h for h in self.hashes if h not in rows]
        if gone:
            raise KwsError(f"{buffer.folder}: clip {gone[0]} of the checkpoint is no longer active there")
        self.bank = Bank.of([buffer.audio(h) for h in self.hashes], 2 * clip_n, device)
        if state is None:
            self.priority = torch.tensor([rows[h].priority for h in self.hashes], dtype=torch.float64)
            self.drawn = torch.tensor([rows[h].times_drawn for h in self.hashes], dtype=torch.long)
        else:
            self.priority, self.drawn = state["priority"].clone(), state["drawn"].clone()

    def __len__(self) -> int:
        return len(self.hashes)

    def draw(self, n: int, alpha: float, rng: torch.Generator) -> Tensor:
        """Indexes of `n` different clips, by priority; see `kws.replay.draw`. Shape: int64 [n or fewer]."""
        return draw(self.priority, n, alpha, rng)

    def learn(self, index: Tensor, loss: Tensor) -> None:
        """The clips were drawn and cost this loss: that is their priority now. Shape: index, loss [R]."""
        self.priority[index] = loss.detach().double().cpu()
        self.drawn[index] += 1

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"hashes": self.hashes, "priority": self.priority.clone(), "drawn": self.drawn.clone()}

    def write_back(self, buffer: Buffer) -> None:
        """Give the buffer what training learned."""
        priority: Sequence[float] = self.priority.tolist()
        buffer.update(self.hashes, priority=priority, times_drawn=self.drawn.tolist())
        told = [i for i, n in enumerate((self.drawn > 0).tolist()) if n]  # a clip that was never drawn has no loss yet
        buffer.update([self.hashes[i] for i in told], last_loss=[priority[i] for i in told])
