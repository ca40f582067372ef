"""Prioritized sampling: which clips of the replay buffer a batch replays, and their importance weights."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from kws.common.errors import KwsError
from kws.common.settings import SettingError

EPS = 1e-3  # a clip with loss 0 keeps a small probability, since it may be forgotten again


class Sampling(StrEnum):
    """How clips are sampled that were sampled before."""

    uniform = "uniform"
    proportional = "proportional"  # P ~ (priority + EPS) ** priority_exponent
    rank = "rank"  # P ~ (1 / rank) ** priority_exponent: one huge loss is sampled no more than a large one


Share = Annotated[float | None, Field(ge=0, le=1000)]


@dataclass
class MixConfig:
    """Share of each kind in the replayed clips of a batch; all null: as the priorities have it."""

    false_trigger: Annotated[Share, Field(description="false triggers of streams")] = None
    batch_hard: Annotated[Share, Field(description="hardest negatives of training batches")] = None
    neighbour: Annotated[Share, Field(description="neighbours of the keyword in embedding space")] = None
    confusable: Annotated[Share, Field(description="confusables")] = None
    user: Annotated[Share, Field(description="clips that a person added")] = None


@dataclass
class SamplingConfig:
    """How batches sample clips from the replay buffer."""

    sampling: Annotated[
        Sampling, Field(description="how clips are sampled that were sampled before; new clips always come first")
    ] = Sampling.proportional
    priority_exponent: Annotated[
        float, Field(ge=0, le=2, description="0 samples uniformly, 1 in proportion to the priority (the last loss)")
    ] = 0.6
    importance_exponent: Annotated[
        float | None, Field(ge=0, le=1, description="of the importance weights at first, rising to 1; null: no weights")
    ] = 0.4
    mix: MixConfig = field(default_factory=MixConfig)

    def check(self) -> None:
        """Raise SettingError where no kind has a share."""
        if (shares := self.shares()) and not any(shares.values()):
            raise SettingError("mix", shares, "must have a share above 0")

    def shares(self) -> dict[str, float]:
        """The shares that are set, by kind."""
        return {kind: share for kind, share in asdict(self.mix).items() if share is not None}


class Sampler:
    """Samples clips: those never sampled first, then by priority (Schaul et al., 2016), each at most once a batch.

    A sampler built anew from `priority` and `drawn` samples what this one would, bit by bit. So a run can resume.

    Args:
        priority: the latest loss of each clip, finite and at least 0; copied.
        drawn: how often each clip was sampled; copied.
        how: the rule for clips that were sampled before.
        exponent: 0 samples uniformly, 1 in proportion to the priority; ignored by uniform sampling.

    Shape: priority, drawn [R].

    Raises:
        KwsError: a priority is negative or not finite.
    """

    def __init__(self, priority: NDArray[np.float64], drawn: NDArray[np.int64], how: Sampling, exponent: float) -> None:
        self.priority, self.drawn = np.array(_checked(priority)), np.array(drawn, np.int64)
        self.how, self.exponent = how, exponent
        self._fresh = np.flatnonzero(self.drawn == 0)
        # One weight per slot. A slot is a clip; for rank sampling it is a rank, and `_ranking` holds the clip.
        n_clips = len(self.priority)
        if how == Sampling.rank:
            self._ranking = np.sort(self._keys(np.arange(n_clips)))
            self._weight = _powers((1 / rank for rank in range(1, n_clips + 1)), exponent)
        else:
            self._weight = np.ones(n_clips) if how == Sampling.uniform else self._proportional(np.arange(n_clips))

    def __len__(self) -> int:
        return len(self.priority)

    def sample(self, n: int, rng: torch.Generator) -> NDArray[np.int64]:
        """Sample different clips: first those never sampled, evenly, then others by `how`.

        Args:
            n: clips, at least 0; all of them where there are fewer.

        Shape: returns [min(n, R)].
        """
        n = min(n, len(self))
        fresh = self._fresh[successive(np.ones(len(self._fresh)), min(n, len(self._fresh)), rng)]
        if len(fresh) == n:
            return fresh
        weight = self._weight.copy()
        weight[self._slots(self._fresh)] = 0  # all of them are in already
        return np.concatenate([fresh, self._clips(successive(weight, n - len(fresh), rng))])

    def probability(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability of each of these clips in one sample by `how`; over all clips it sums to 1. Shape: index [N]."""
        chance: NDArray[np.float64] = self._weight[self._slots(index)] / self._weight.sum()
        return chance

    def set_priorities(self, index: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """Set the priorities of clips that were sampled once more.

        Args:
            index: different clips.
            priority: finite and at least 0.

        Shape: index, priority [N].

        Raises:
            KwsError: a priority is negative or not finite; nothing changes then.
        """
        priority, old = _checked(priority), self._slots(index)
        self.priority[index] = priority
        self.drawn[index] += 1
        if len(self._fresh):
            self._fresh = self._fresh[self.drawn[self._fresh] == 0]
        if self.how == Sampling.rank:  # sorting all of them again would take ten times as long as sampling
            others, moved = np.delete(self._ranking, old), np.sort(self._keys(index))
            self._ranking = np.insert(others, np.searchsorted(others, moved), moved)
        elif self.how == Sampling.proportional:
            self._weight[index] = self._proportional(index)

    def _proportional(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        return _powers((self.priority[index] + EPS).tolist(), self.exponent)

    def _keys(self, index: NDArray[np.int64]) -> NDArray[np.complex128]:
        """Sort keys of clips: complex numbers sort by their real parts, equal ones by the imaginary parts."""
        return -self.priority[index] + 1j * index

    def _slots(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._ranking, self._keys(index)) if self.how == Sampling.rank else index

    def _clips(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._ranking[slot].imag.astype(np.int64) if self.how == Sampling.rank else slot


def successive(weight: NDArray[np.float64], n: int, rng: torch.Generator) -> NDArray[np.int64]:
    """`n` different positions, one after another, each in proportion to its weight among those that are left.

    Sampling with replacement and skipping repeats gives this distribution. Positions found are removed before the next
    pass, so that each pass finds at least one.

    Args:
        weight: at least 0.
        n: 0 to the number of weights above 0.

    Shape: weight [R]; returns [n].
    """
    found: dict[int, None] = {}  # a set that keeps the order
    while len(found) < n:
        if found:
            weight = weight.copy()
            weight[list(found)] = 0
        # Summed anew each time. A running sum would depend on its history.
        bound = np.cumsum(weight)
        # In most cases twice as many are enough at once.
        at = torch.rand(2 * (n - len(found)), generator=rng, dtype=torch.float64).numpy() * bound[-1]
        found.update(dict.fromkeys(np.searchsorted(bound, at, side="right").tolist()))
    return np.array(list(found)[:n], np.int64)


def importance(probability: NDArray[np.float64], n_clips: int, exponent: float) -> NDArray[np.float64]:
    """Importance weights of the losses of one batch, which correct for its sampling (Schaul et al., 2016).

    They only scale down.

    Args:
        probability: of each clip of the batch, above 0.
        n_clips: clips that the batch was sampled from.
        exponent: 0 corrects nothing, 1 corrects the sampling fully.

    Shape: probability [N]; returns [N], the largest is 1.
    """
    weight: NDArray[np.float64] = (n_clips * probability) ** -exponent
    weight /= weight.max(initial=0)
    return weight


def importance_exponent_at(step: int, first: int, last: int, exponent: float) -> float:
    """The exponent of `importance` at a step: constant up to step `first`, then rising linearly to 1 at `last`."""
    if step >= last:
        return 1.0
    return exponent if step <= first else exponent + (1 - exponent) * (step - first) / (last - first)


def split(n: int, mix: Mapping[str, float], available: Mapping[str, int], rng: torch.Generator) -> dict[str, int]:
    """How many clips of each kind a batch gets: the share rounded down or up, exact in the mean over batches.

    Systematic sampling (Madow, 1949): one uniform number rounds all cumulative shares. Clips that a kind lacks are
    taken from the others in proportion.

    Args:
        n: clips in all, at least 0; fewer where the kinds with a share have fewer.
        mix: the share of each kind, at least 0, of any sum above 0; a kind of share 0 gives nothing.
        available: clips of each kind; 0 for a kind that is not named.

    Raises:
        KwsError: a share is negative or not finite, or all are 0.
    """
    if not all(0 <= share < math.inf for share in mix.values()) or not any(mix.values()):
        raise KwsError(f"replay.mix={dict(mix)}: finite shares of at least 0 expected, one of them above 0")
    # Fractions: with floats the last sum would now and then be a clip off.
    u = Fraction(torch.rand(1, generator=rng, dtype=torch.float64).item())
    share = {kind: Fraction(value) for kind, value in mix.items() if value > 0}
    counts, left = dict.fromkeys(mix, 0), n
    while share:
        each = left / sum(share.values(), Fraction())
        short = [kind for kind in share if share[kind] * each >= available.get(kind, 0)]
        if not short:
            break
        for kind in short:
            counts[kind] = available.get(kind, 0)
            left -= counts[kind]
            del share[kind]
    upto = u
    for kind, value in share.items():
        counts[kind] = math.floor(upto + value * each) - math.floor(upto)
        upto += value * each
    return counts


def _checked(priority: NDArray[np.float64]) -> NDArray[np.float64]:
    priority = np.asarray(priority, np.float64)
    wrong = priority[~((priority >= 0) & (priority < np.inf))]
    if len(wrong):
        raise KwsError(f"priority={wrong[0]}: finite and at least 0 expected")
    return priority


def _powers(values: Iterable[float], exponent: float) -> NDArray[np.float64]:
    """Powers one by one, since those of NumPy may differ in the last bit with the place in the array."""
    return np.array([value**exponent for value in values], np.float64)
