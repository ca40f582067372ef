"""Which voices speak in which part: nobody who is heard in the test part was heard in training.

What counts is the timbre. One espeak-ng variant is the same larynx in every accent, one Piper speaker the same person
at every quality, so all voices of a timbre are in one part.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kws.data.manifest import Split, hash_split

PARTS = tuple(Split)
SHARES = (0.60, 0.15)  # of train and validation; test gets the rest
Voices = dict[Split, list[list[str]]]  # of each part: for each timbre, the voices that have it


def spread(n: int, shares: tuple[float, float] = SHARES) -> list[Split]:
    """The part of each of n things."""
    return [PARTS[(x > shares[0]) + (x > sum(shares))] for x in ((i + 0.5) / n for i in range(n))]


def by_lot(timbres: Mapping[str, list[str]], rng: np.random.Generator) -> Voices:
    """The timbres divided in exact shares, for a set of voices that never changes.

    Args:
        timbres: the voices of each, by its name.
        rng: the lots.
    """
    splits: Voices = {split: [] for split in PARTS}
    in_order = list(timbres.values())
    for split, lot in zip(spread(len(timbres)), rng.permutation(len(timbres)), strict=True):
        splits[split].append(in_order[lot])
    return splits


def by_name(timbres: Mapping[str, list[str]]) -> Voices:
    """The timbres divided by a hash of their names, as speakers are, for a set that may grow.

    A timbre keeps its part whatever voices come or go; the smaller the set, the rougher the shares, and a part may have
    no voice. Only training always has one: where the hash leaves none, the first by name is for training.
    """
    part_of = {name: hash_split(name) for name in sorted(timbres)}
    if part_of and Split.TRAIN not in part_of.values():
        part_of[min(part_of)] = Split.TRAIN
    return {split: [timbres[name] for name, its in part_of.items() if its is split] for split in PARTS}


def cast(timbres: Sequence[list[str]], n: int, rng: np.random.Generator) -> list[str]:
    """So many voices: all timbres are in use before one comes twice, each in a voice drawn from those that have it."""
    return [some[rng.integers(len(some))] for some in (timbres[i % len(timbres)] for i in range(n))]
