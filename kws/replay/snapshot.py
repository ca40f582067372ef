"""The replay buffer during training: its clips on the device, and the priorities that training learns."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.common.errors import KwsError
from kws.data.clip_bank import ClipBank
from kws.replay.buffer import Buffer
from kws.replay.records import ClipTable
from kws.replay.sampler import SamplingConfig, importance, priority_of_score, sample, sampling_weights, split

ALL = ""  # the one pool without a mix of kinds
Contents = tuple[ClipTable, NDArray[np.int64]]  # clips with their priorities, and `times_drawn` in the buffer


class Snapshot:
    """Clips of the replay buffer at one moment, oldest first.

    Args:
        contents: the clips, and how often each was sampled according to the buffer; changes are written back.
        audio: samples of a clip by its hash, int16 [T]; read when a batch first replays it.
        clip_n: samples of a training clip.
        device: where the audio goes.
        config: how clips are sampled.
    """

    def __init__(
        self,
        contents: Contents,
        audio: Callable[[str], NDArray[np.int16]],
        clip_n: int,
        device: torch.device,
        config: SamplingConfig,
    ) -> None:
        self._clips, self._written = contents
        self._config, self._shares = config, config.shares()
        self.hashes = hashes = self._clips.hash
        self.gone = 0  # clips of a checkpoint that are no longer active
        self.bank = ClipBank(self._clips.n_samples.tolist(), lambda i: audio(hashes[i]), 2 * clip_n, device)
        self.priority, self.drawn = self._clips.priority.copy(), self._clips.times_drawn.copy()
        kinds = np.array(self._clips.kind, str)
        self._pools = {k: np.flatnonzero(kinds == k) for k in self._shares} or {ALL: np.arange(len(hashes))}

    @classmethod
    def of(
        cls,
        buffer: Buffer,
        clip_n: int,
        device: torch.device,
        config: SamplingConfig,
        state: Mapping[str, Any] | None = None,
        spoken: Mapping[str, Collection[str]] | None = None,
        keywords: Collection[str] = (),
    ) -> "Snapshot":
        """The active clips of a buffer.

        Args:
            buffer: holds the clips.
            clip_n, device, config: as above.
            state: the `state()` of a checkpoint, to resume with its clips and priorities; None: those of the buffer.
            spoken: hashes of recordings of a keyword of this run, whose clips are left out, and of each recording those
                of its stretches without a keyword, whose clips stay. They may be negatives of another run.
            keywords: of this run; clips whose text contains one are left out.

        `gone` counts the clips of the checkpoint that are no longer active, because of a user or another run.
        """
        if state is None:
            clips = buffer.samplable(spoken, keywords)
            new = (clips.times_drawn == 0) & np.isfinite(clips.score)  # imported clips may have no score
            clips = replace(clips, priority=np.where(new, priority_of_score(clips.score), clips.priority))
            return cls((clips, clips.times_drawn), buffer.audio, clip_n, device, config)
        clips = buffer.samplable()
        place = {clip: i for i, clip in enumerate(clips.hash)}
        there = np.array([clip in place for clip in state["hashes"]], bool)
        clips = clips.select(np.array([place[clip] for clip in state["hashes"] if clip in place], np.int64))
        priority, drawn, written = (state[name].numpy()[there] for name in ("priority", "drawn", "given"))
        clips = replace(clips, priority=priority, times_drawn=drawn)
        made = cls((clips, written), buffer.audio, clip_n, device, config)
        made.gone = len(there) - len(clips)
        return made

    def contents(self) -> Contents:
        """The first argument of a snapshot that samples as this one does, in another process."""
        return replace(self._clips, priority=self.priority, times_drawn=self.drawn), self._written

    def __len__(self) -> int:
        return len(self.hashes)

    def sample(self, n: int, importance_exponent: float | None, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample different clips for a batch.

        Args:
            n: clips; all that may be sampled where there are fewer.
            importance_exponent: see `importance`; None: all weights are 1.
            rng: random numbers.

        Shape: returns indexes int64 and importance weights float32 [n or fewer].
        """
        counts = split(n, self._shares or {ALL: 1.0}, {kind: len(index) for kind, index in self._pools.items()}, rng)
        chosen, importances = [torch.zeros(0, dtype=torch.long)], [torch.zeros(0)]
        for kind, index in self._pools.items():
            weights = sampling_weights(self.priority[index], self._config)
            picked = sample(weights, counts[kind], rng)
            chance = weights[picked] / weights.sum()
            chosen.append(torch.from_numpy(index)[picked])
            importances.append(importance(chance, len(index), importance_exponent or 0.0).float())
        return torch.cat(chosen), torch.cat(importances)

    def set_priorities(self, index: Tensor, loss: Tensor) -> None:
        """Set the priorities of sampled clips to their losses, finite and at least 0. Shape: index, loss [R].

        Raises:
            KwsError: a loss is negative or not finite; nothing changes then.
        """
        place, priority = index.numpy(), loss.detach().double().cpu().numpy()
        if len(wrong := priority[~((priority >= 0) & (priority < np.inf))]):
            raise KwsError(f"priority={wrong[0]}: must be finite and at least 0")
        self.priority[place] = priority
        self.drawn[place] += 1

    def state(self) -> dict[str, Any]:
        """Clips and priorities, for a checkpoint."""
        return {
            "hashes": self.hashes,
            "priority": torch.tensor(self.priority),
            "drawn": torch.tensor(self.drawn),
            "given": torch.from_numpy(self._written),
        }

    def write_back(self, buffer: Buffer) -> None:
        """Update the buffer with the priorities of the clips that training sampled: their latest losses."""
        priority, drawn = self.priority, self.drawn
        sampled = np.flatnonzero(drawn != self._written)
        hashes, losses = [self.hashes[i] for i in sampled], priority[sampled].tolist()
        buffer.update(hashes, losses, drawn[sampled].tolist())
