"""Which clips of the buffer a batch replays, and what each of them weighs."""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray

from kws.common.errors import KwsError

EPS = 1e-3  # a solved clip keeps a small chance: it may be forgotten again


class Draw(StrEnum):
    """How clips are drawn that were drawn before."""

    UNIFORM = "uniform"
    PROPORTIONAL = "proportional"  # P ~ (priority + EPS) ** alpha
    RANK = "rank"  # P ~ (1 / rank) ** alpha: one huge loss draws no more than a large one


class Sampler:
    """Draws clips, those never drawn first, then by priority (Schaul et al., 2016), each at most once a batch.

    One built anew from `priority` and `drawn` draws what this one would, bit by bit: a run can resume from them.

    Args:
        priority: the latest loss of each clip, finite and at least 0; copied.
        drawn: how often each was drawn; copied.
        how: the rule for clips that were drawn before.
        alpha: 0 draws uniformly, 1 in proportion; UNIFORM ignores it.

    Shape: priority, drawn [R].

    Raises:
        KwsError: a priority is negative or not finite.
    """

    def __init__(self, priority: NDArray[np.float64], drawn: NDArray[np.int64], how: Draw, alpha: float) -> None:
        self.priority, self.drawn = np.array(_checked(priority)), np.array(drawn, np.int64)
        self.how, self.alpha = how, alpha
        self._fresh = np.flatnonzero(self.drawn == 0)
        # Weights stand in slots: one a clip, in order; for RANK one a rank, where `_ranking` says whose it is.
        n_clips = len(self.priority)
        if how == Draw.RANK:
            self._ranking = np.sort(self._keys(np.arange(n_clips)))
            self._weight = _powers((1 / rank for rank in range(1, n_clips + 1)), alpha)
        else:
            self._weight = np.ones(n_clips) if how == Draw.UNIFORM else self._proportional(np.arange(n_clips))

    def __len__(self) -> int:
        return len(self.priority)

    def draw(self, n: int, rng: torch.Generator) -> NDArray[np.int64]:
        """Different clips in the order they were drawn: first those never drawn, evenly, then others by `how`.

        Args:
            n: how many, at least 0; all of them where there are fewer.

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
        """How likely one draw by `how` gives each of these clips; over all clips it sums to 1. Shape: index [N]."""
        chance: NDArray[np.float64] = self._weight[self._slots(index)] / self._weight.sum()
        return chance

    def learn(self, index: NDArray[np.int64], priority: NDArray[np.float64]) -> None:
        """These clips were drawn once more, and this is their priority now.

        Args:
            index: different clips.
            priority: finite and at least 0.

        Shape: index, priority [N].

        Raises:
            KwsError: a priority is negative or not finite; nothing is learned then.
        """
        priority, old = _checked(priority), self._slots(index)
        self.priority[index] = priority
        self.drawn[index] += 1
        if len(self._fresh):
            self._fresh = self._fresh[self.drawn[self._fresh] == 0]
        if self.how == Draw.RANK:  # to sort all of them again would take ten times as long as the draw
            others, moved = np.delete(self._ranking, old), np.sort(self._keys(index))
            self._ranking = np.insert(others, np.searchsorted(others, moved), moved)
        elif self.how == Draw.PROPORTIONAL:
            self._weight[index] = self._proportional(index)

    def _proportional(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        return _powers((self.priority[index] + EPS).tolist(), self.alpha)

    def _keys(self, index: NDArray[np.int64]) -> NDArray[np.complex128]:
        """What clips are ranked by; complex numbers sort by their real parts, equal ones by the imaginary parts."""
        return -self.priority[index] + 1j * index

    def _slots(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._ranking, self._keys(index)) if self.how == Draw.RANK else index

    def _clips(self, slot: NDArray[np.int64]) -> NDArray[np.int64]:
        return self._ranking[slot].imag.astype(np.int64) if self.how == Draw.RANK else slot


def successive(weight: NDArray[np.float64], n: int, rng: torch.Generator) -> NDArray[np.int64]:
    """`n` different positions, one after the other, each in proportion to its weight among those that are left.

    Draws with replacement whose repeats are skipped are just that; what is found is taken out where more is needed,
    so that each pass finds at least one.

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
        # Summed anew each time: a sum that is kept up to date would depend on its history.
        bound = np.cumsum(weight)
        # In most cases twice as many are enough at once.
        at = torch.rand(2 * (n - len(found)), generator=rng, dtype=torch.float64).numpy() * bound[-1]
        found.update(dict.fromkeys(np.searchsorted(bound, at, side="right").tolist()))
    return np.array(list(found)[:n], np.int64)


def importance(probability: NDArray[np.float64], n_clips: int, beta: float) -> NDArray[np.float64]:
    """Weights of the losses of one batch that make up for how it was drawn; they only scale down (Schaul et al., 2016).

    Args:
        probability: of each clip of the batch, above 0.
        n_clips: how many it was drawn from.
        beta: 0 makes up for nothing, 1 for all of it.

    Shape: probability [N]; returns [N], the largest is 1.
    """
    weight: NDArray[np.float64] = (n_clips * probability) ** -beta
    weight /= weight.max(initial=0)
    return weight


def beta_at(step: int, first: int, last: int, beta: float) -> float:
    """The exponent of `importance` at `step`: `beta` up to step `first`, from there in a line to 1 at step `last`."""
    if step >= last:
        return 1.0
    return beta if step <= first else beta + (1 - beta) * (step - first) / (last - first)


def split(n: int, mix: Mapping[str, float], available: Mapping[str, int], rng: torch.Generator) -> dict[str, int]:
    """How many clips of each kind a batch gets: its share rounded down or up, right on average over batches.

    Systematic sampling (Madow, 1949): one uniform number rounds all the cumulative shares. What a kind cannot give,
    the others give in proportion.

    Args:
        n: clips in all, at least 0; fewer where the kinds with a share have fewer.
        mix: the share of each kind, at least 0, of any sum above 0; a kind of share 0 gives nothing.
        available: how many clips there are of each kind; none of one that is not named.

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


def _powers(values: Iterable[float], alpha: float) -> NDArray[np.float64]:
    """Powers one by one: NumPy's may differ in the last bit with the place in the array."""
    return np.array([value**alpha for value in values], np.float64)
