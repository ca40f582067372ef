"""The buffer as training sees it: its clips on the device, and what training learns about their priorities."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.data.clip_bank import ClipBank
from kws.replay.buffer import Buffer
from kws.replay.sampler import Draw, Sampler, importance, split

ALL = ""  # the one pool where no mix of kinds is asked for


@dataclass(frozen=True)
class Drawing:
    """How clips are drawn.

    Args:
        how, alpha: see `Sampler`.
        mix: share of each kind in what a batch replays; empty: as the draw has it.
    """

    how: Draw = Draw.PROPORTIONAL
    alpha: float = 0.6
    mix: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Contents:
    """What a snapshot holds but for the sound: enough for another process to draw what it would. Shape: [R] each."""

    hashes: list[str]
    n_samples: list[int]
    kinds: NDArray[np.str_]
    priority: NDArray[np.float64]
    drawn: NDArray[np.int64]
    given: NDArray[np.int64]  # how often each was drawn before: what changed is written back


class Snapshot:
    """The active clips of a buffer at one moment, in the order they came in.

    Args:
        buffer: where the clips lie; their sound is read when a batch first replays it.
        clip_n: samples a training clip.
        device: where the sound goes.
        drawing: how clips are drawn.
        state: what `state()` gave, to go on with the very clips and priorities of a checkpoint; None: as the buffer
            has them now.
        spoken: hashes of recordings that hold a keyword: a negative of another run may be one of them, its clips are
            left out.
        keywords: of the run; clips whose text says one are left out.

    `gone` counts the clips of the checkpoint that are no longer active: a person or another run took them out since.
    """

    def __init__(
        self,
        buffer: Buffer,
        clip_n: int,
        device: torch.device,
        drawing: Drawing | None = None,
        state: Mapping[str, Any] | None = None,
        spoken: Collection[str] = (),
        keywords: Collection[str] = (),
    ) -> None:
        self.drawing = drawing or Drawing()
        here = {
            line["hash"]: line for line in (buffer.drawable(spoken, keywords) if state is None else buffer.drawable())
        }
        wanted: list[str] = list(here) if state is None else list(state["hashes"])
        there = np.array([h in here for h in wanted], bool)
        lines = [here[h] for h in wanted if h in here]
        hashes = [line["hash"] for line in lines]
        self.gone = len(wanted) - len(hashes)
        if state is None:
            priority = np.array([line["priority"] for line in lines], np.float64)
            drawn = np.array([line["times_drawn"] for line in lines], np.int64)
            given = drawn
        else:
            priority, drawn, given = (state[name].numpy()[there] for name in ("priority", "drawn", "given"))
        kinds = np.array([line["kind"] for line in lines], str)
        contents = Contents(hashes, [line["n_samples"] for line in lines], kinds, priority, drawn, given)
        self._hold(contents, buffer.audio, clip_n, device)

    @classmethod
    def of(
        cls,
        contents: Contents,
        read: Callable[[str], NDArray[np.int16]],
        clip_n: int,
        device: torch.device,
        drawing: Drawing | None = None,
    ) -> "Snapshot":
        """One with the contents of another.

        Args:
            contents: of that one.
            read: the sound of a clip by its hash.
            clip_n, device, drawing: as above.
        """
        made = cls.__new__(cls)
        made.drawing, made.gone = drawing or Drawing(), 0
        made._hold(contents, read, clip_n, device)
        return made

    def _hold(
        self, held: Contents, read: Callable[[str], NDArray[np.int16]], clip_n: int, device: torch.device
    ) -> None:
        self.hashes, self._given, self._held = held.hashes, held.given, held
        self.bank = ClipBank.lazy(held.n_samples, lambda i: read(held.hashes[i]), 2 * clip_n, device)
        # Clips of each kind that is asked for, and what draws them.
        members = {kind: np.flatnonzero(held.kinds == kind) for kind in self.drawing.mix}
        members = members or {ALL: np.arange(len(held.hashes))}
        self._pools = {
            kind: (index, Sampler(held.priority[index], held.drawn[index], self.drawing.how, self.drawing.alpha))
            for kind, index in members.items()
        }
        self._aside = (held.priority, held.drawn)  # of clips that no pool has

    def contents(self) -> Contents:
        """What `of` makes another one from that draws what this one would."""
        return replace(self._held, priority=self.priority, drawn=self.drawn)

    def __len__(self) -> int:
        return len(self.hashes)

    def draw(self, n: int, beta: float, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Indexes of `n` different clips, and what each weighs in the loss.

        Args:
            n: how many; all that may be drawn where there are fewer.
            beta: exponent of the importance weights; see `importance`. A clip that was never drawn weighs 1.
            rng: for the draws.

        Shape: returns int64 and float32 [n or fewer].
        """
        available = {kind: len(index) for kind, (index, _) in self._pools.items()}
        counts = split(n, self.drawing.mix or {ALL: 1.0}, available, rng)
        chosen, weights = [np.zeros(0, np.int64)], [np.zeros(0)]
        for kind, (index, sampler) in self._pools.items():
            picked = sampler.draw(counts[kind], rng)
            known = sampler.drawn[picked] > 0
            weight = np.ones(len(picked))
            weight[known] = importance(sampler.probability(picked[known]), len(sampler), beta)
            chosen.append(index[picked])
            weights.append(weight)
        return torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(np.concatenate(weights)).float()

    def learn(self, index: Tensor, loss: Tensor) -> None:
        """The clips were drawn and cost this loss: that is their priority now. Shape: index, loss [R]."""
        place, cost = index.numpy(), loss.detach().double().cpu().numpy()
        for members, sampler in self._pools.values():
            at = np.searchsorted(members, place).clip(max=max(0, len(members) - 1))
            mine = members[at] == place if len(members) else np.zeros(len(place), bool)
            sampler.learn(at[mine], cost[mine])

    @property
    def priority(self) -> np.ndarray:
        """The priority of each clip. Shape: float64 [R]."""
        return self._gathered(0)

    @property
    def drawn(self) -> np.ndarray:
        """How often each clip was drawn. Shape: int64 [R]."""
        return self._gathered(1)

    def _gathered(self, which: int) -> np.ndarray:
        out = np.array(self._aside[which])
        for index, sampler in self._pools.values():
            out[index] = (sampler.priority, sampler.drawn)[which]
        return out

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {
            "hashes": self.hashes,
            "priority": torch.from_numpy(self.priority),
            "drawn": torch.from_numpy(self.drawn),
            "given": torch.from_numpy(self._given),
        }

    def write_back(self, buffer: Buffer) -> None:
        """Give the buffer what training learned of the clips that it drew: the latest loss is their priority."""
        priority, drawn = self.priority, self.drawn
        told = np.flatnonzero(drawn != self._given)
        hashes, cost = [self.hashes[i] for i in told], priority[told].tolist()
        buffer.update(hashes, priority=cost, last_loss=cost, times_drawn=drawn[told].tolist())
