"""The replay buffer during training: its clips on the device, and the priorities that training learns."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.data.clip_bank import ClipBank
from kws.replay.buffer import Buffer
from kws.replay.records import ClipTable
from kws.replay.sampler import Sampler, SamplingConfig, importance, split

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
        self._shares = config.shares()
        self.hashes = hashes = self._clips.hash
        self.gone = 0  # clips of a checkpoint that are no longer active
        self.bank = ClipBank(self._clips.n_samples.tolist(), lambda i: audio(hashes[i]), 2 * clip_n, device)
        kinds = np.array(self._clips.kind, str)
        members = {kind: np.flatnonzero(kinds == kind) for kind in self._shares} or {ALL: np.arange(len(hashes))}
        priority, drawn = self._clips.priority, self._clips.times_drawn
        self._pools = {
            kind: (index, Sampler(priority[index], drawn[index], config.sampling, config.priority_exponent))
            for kind, index in members.items()
        }

    @classmethod
    def of(
        cls,
        buffer: Buffer,
        clip_n: int,
        device: torch.device,
        config: SamplingConfig,
        state: Mapping[str, Any] | None = None,
        spoken: Collection[str] = (),
        keywords: Collection[str] = (),
    ) -> "Snapshot":
        """The active clips of a buffer.

        Args:
            buffer: holds the clips.
            clip_n, device, config: as above.
            state: the `state()` of a checkpoint, to resume with its clips and priorities; None: those of the buffer.
            spoken: hashes of recordings of a keyword of this run, whose clips are left out. They may be negatives of
                another run.
            keywords: of this run; clips whose text contains one are left out.

        `gone` counts the clips of the checkpoint that are no longer active, because of a user or another run.
        """
        if state is None:
            clips = buffer.samplable(spoken, keywords)
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

    def sample(self, n: int, importance_exponent: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sample different clips for a batch.

        Args:
            n: clips; all that may be sampled where there are fewer.
            importance_exponent: see `importance`. A clip that was never sampled gets weight 1.
            rng: random numbers.

        Shape: returns indexes int64 and importance weights float32 [n or fewer].
        """
        available = {kind: len(index) for kind, (index, _) in self._pools.items()}
        counts = split(n, self._shares or {ALL: 1.0}, available, rng)
        chosen, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
        for kind, (index, sampler) in self._pools.items():
            picked = sampler.sample(counts[kind], rng)
            known = sampler.drawn[picked] > 0
            weight = np.ones(len(picked))
            weight[known] = importance(sampler.probability(picked[known]), len(sampler), importance_exponent)
            chosen.append(index[picked])
            weights.append(weight)
        return torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(np.concatenate(weights)).float()

    def set_priorities(self, index: Tensor, loss: Tensor) -> None:
        """Set the priorities of sampled clips to their losses. Shape: index, loss [R]."""
        place, priority = index.numpy(), loss.detach().double().cpu().numpy()
        for members, sampler in self._pools.values():
            at = np.searchsorted(members, place).clip(max=max(0, len(members) - 1))
            mine = members[at] == place if len(members) else np.zeros(len(place), bool)
            sampler.set_priorities(at[mine], priority[mine])

    @property
    def priority(self) -> NDArray[np.float64]:
        """The priority of each clip. Shape: [R]."""
        out = self._clips.priority.copy()
        for index, sampler in self._pools.values():
            out[index] = sampler.priority
        return out

    @property
    def drawn(self) -> NDArray[np.int64]:
        """How often each clip was sampled. Shape: [R]."""
        out = self._clips.times_drawn.copy()
        for index, sampler in self._pools.values():
            out[index] = sampler.drawn
        return out

    def state(self) -> dict[str, Any]:
        """Clips and priorities, for a checkpoint."""
        return {
            "hashes": self.hashes,
            "priority": torch.from_numpy(self.priority),
            "drawn": torch.from_numpy(self.drawn),
            "given": torch.from_numpy(self._written),
        }

    def write_back(self, buffer: Buffer) -> None:
        """Update the buffer with the priorities of the clips that training sampled: their latest losses."""
        priority, drawn = self.priority, self.drawn
        sampled = np.flatnonzero(drawn != self._written)
        hashes, losses = [self.hashes[i] for i in sampled], priority[sampled].tolist()
        buffer.update(hashes, losses, drawn[sampled].tolist())
