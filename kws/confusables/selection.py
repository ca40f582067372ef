"""Which candidates are taken: a quota for each band of distance and kind, and in each those that repeat the least."""

import heapq
from collections import Counter
from collections.abc import Hashable, Sequence
from math import sqrt

import numpy as np


def quotas(n: int, shares: Sequence[float], available: Sequence[int]) -> list[int]:
    """How many of each: n by their shares, at most what there is, the rest to those that have more.

    What has no share gets none. The sum is n, or less where there is not so much.

    Args:
        n: in all.
        shares: of each, 0 or more; they need not add up to 1.
        available: how many there are of each.
    """
    got = [0] * len(shares)
    while True:
        open_ = [i for i, share in enumerate(shares) if share > 0 and got[i] < available[i]]
        left = n - sum(got)
        if not left or not open_:
            return got
        whole = sum(shares[i] for i in open_)
        given = {i: min(int(left * shares[i] / whole), available[i] - got[i]) for i in open_}
        if not any(given.values()):  # fewer are left than there are to share them
            for i in sorted(open_, key=lambda i: -shares[i])[:left]:
                given[i] = 1
        for i, more in given.items():
            got[i] += more


def spread(
    traits: Sequence[Sequence[Hashable]], n: int, seen: Counter[Hashable], rng: np.random.Generator
) -> list[int]:
    """The indexes of n candidates whose traits are spread as widely as may be; counts what it takes in `seen`.

    Each next one adds most to the sum of the square roots of how often each trait was taken, in the mean over its own
    traits: what came rarely counts more. A concave sum is submodular, so a greedy choice is near the best (Lin and
    Bilmes, 2011), and a gain that has sunk need be looked at again only when it comes up (Minoux, 1978).

    Args:
        traits: of each candidate.
        n: how many to take, at most.
        seen: how often each trait was taken before.
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
