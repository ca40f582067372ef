"""Selection of candidates: quotas by band and kind, and within each the most diverse ones."""

import heapq
from collections import Counter
from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np


def quotas(n: int, shares: Sequence[float], available: Sequence[int]) -> list[int]:
    """Divide n by shares, limited by what is available; the rest goes to those that have more.

    A share of 0 gets nothing. The quotas add up to n, or to less where too few are available.

    Args:
        n: the total.
        shares: of each, 0 or more; they need not add up to 1.
        available: the most that each can give.
    """
    got = [0] * len(shares)
    while True:
        open_ = [i for i, share in enumerate(shares) if share > 0 and got[i] < available[i]]
        left = n - sum(got)
        if not left or not open_:
            return got
        whole = sum(shares[i] for i in open_)
        given = {i: min(int(left * shares[i] / whole), available[i] - got[i]) for i in open_}
        if not any(given.values()):  # fewer are left than there are open shares
            for i in sorted(open_, key=lambda i: -shares[i])[:left]:
                given[i] = 1
        for i, more in given.items():
            got[i] += more


def spread(
    traits: Sequence[Sequence[Hashable]], n: int, seen: Counter[Hashable], rng: np.random.Generator
) -> list[int]:
    """Select n candidates with diverse traits; returns their indexes and counts their traits in `seen`.

    The objective is the sum over traits of the square root of their counts, which favours rare traits. Each step takes
    the candidate with the largest mean gain over its traits. The objective is submodular, so the greedy choice is near
    the best (Lin and Bilmes, 2011), and gains are updated only when they come to the top (Minoux, 1978).

    Args:
        traits: of each candidate.
        n: most candidates to take.
        seen: counts of the traits taken before.
        rng: breaks ties.
    """

    def gain(i: int) -> float:
        return sum(sqrt(seen[t] + 1) - sqrt(seen[t]) for t in traits[i]) / max(len(traits[i]), 1)

    lot = rng.permutation(len(traits)).tolist()
    heap = [(-gain(i), lot[i], i) for i in range(len(traits))]
    heapq.heapify(heap)
    taken: list[int] = []
    while heap and len(taken) < n:
        before, order, i = heapq.heappop(heap)
        if -gain(i) > before:
            heapq.heappush(heap, (-gain(i), order, i))
            continue
        seen.update(traits[i])
        taken.append(i)
    return taken
