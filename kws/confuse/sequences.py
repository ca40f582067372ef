"""Sequences of two or three words that together sound like a keyword: "a marvel in" for "hey marvin".

The edit distance of words said one after another to a keyword is the least sum of their distances to consecutive
pieces of it, over all ways to cut it. So each word is held once against each piece, and words that are near to pieces
are put together.
"""

from itertools import combinations, pairwise

import numpy as np
import numpy.typing as npt

from kws.confuse.articulation import Phones
from kws.confuse.distance import Floats, rows, weight
from kws.confuse.lexicon import Lexicon

NEAREST, OTHERS = 80, 80  # words for each piece: so many of the nearest, and so many of the rest by lot
MOST_WORDS = 3


def sequences(keyword: Phones, lexicon: Lexicon, most_distance: float, n: int, rng: np.random.Generator) -> list[str]:
    """Texts of words that are as near to a keyword as asked for, drawn over all ways to cut it.

    Args:
        keyword: its phones.
        lexicon: the words; those that are common are used.
        most_distance: as a share of the keyword's weight.
        n: texts that are drawn; fewer come out where they are too far or come twice.
        rng: draws the words.
    """
    common = np.flatnonzero(lexicon.common)
    many = lexicon.coded.only(common)
    end, budget = len(keyword), most_distance * weight(keyword)
    costs = {(i, i + j): row[-1] for i in range(end) for j, row in enumerate(rows(keyword[i:], many)) if j}
    words = {piece: _near(cost, budget, rng) for piece, cost in costs.items()}
    cuts = [(0, *inner, end) for k in range(1, MOST_WORDS) for inner in combinations(range(1, end), k)]
    texts: dict[str, None] = {}
    for cut in cuts:
        pieces = list(pairwise(cut))
        if not all(len(words[piece]) for piece in pieces):
            continue
        lot = rng.random((len(pieces), -(-n // len(cuts)))) ** 2  # the nearer, the oftener
        drawn = np.stack([words[p][(of * len(words[p])).astype(int)] for p, of in zip(pieces, lot, strict=True)])
        total = sum(costs[piece][chosen] for piece, chosen in zip(pieces, drawn, strict=True))
        for chosen in drawn.T[np.asarray(total) <= budget]:
            texts.setdefault(" ".join(lexicon.words[common[i]] for i in chosen))
    return list(texts)


def _near(cost: Floats, budget: float, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """The words nearest to a piece, and others that are within the budget."""
    within = np.flatnonzero(cost <= budget)
    within = within[np.argsort(cost[within], kind="stable")]
    return np.concatenate([within[:NEAREST], rng.permutation(within[NEAREST:])[:OTHERS]])
