"""Which voices belong to which split: no timbre of the test split is used in training.

A timbre is what identifies a speaker: one espeak-ng variant is the same larynx in every accent, one Piper speaker the
same person at every quality. All voices of a timbre therefore belong to one split.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kws.data.manifest import Split, hash_split

SHARES = (0.60, 0.15)  # of train and validation; test gets the rest
Voices = dict[Split, list[list[str]]]  # for each split and timbre, the voices


def assign_splits(n: int, shares: tuple[float, float] = SHARES) -> list[Split]:
    """The splits of n items in exact shares, in the order train, validation, test."""
    return [tuple(Split)[(x > shares[0]) + (x > sum(shares))] for x in ((i + 0.5) / n for i in range(n))]


def split_exactly(timbres: Mapping[str, list[str]], rng: np.random.Generator) -> Voices:
    """Divide timbres at random in exact shares, for a set of voices that never changes.

    Args:
        timbres: the voices of each timbre.
        rng: source of the random order.
    """
    voices: Voices = {split: [] for split in Split}
    in_order = list(timbres.values())
    for split, i in zip(assign_splits(len(timbres)), rng.permutation(len(timbres)), strict=True):
        voices[split].append(in_order[i])
    return voices


def split_by_hash(timbres: Mapping[str, list[str]]) -> Voices:
    """Divide timbres by a hash of their names, as speakers are divided, for a set that may grow.

    A timbre keeps its split when others come or go. In a small set the shares are rough, and a split may have no voice;
    only train always has one: the first by name where the hash leaves none.
    """
    split_of = {name: hash_split(name) for name in sorted(timbres)}
    if split_of and Split.TRAIN not in split_of.values():
        split_of[min(split_of)] = Split.TRAIN
    return {split: [timbres[name] for name, its in split_of.items() if its is split] for split in Split}


def choose_voices(timbres: Sequence[list[str]], n: int, rng: np.random.Generator) -> list[str]:
    """Choose n voices: every timbre before any repeats, each in a random one of its voices."""
    return [some[rng.integers(len(some))] for some in (timbres[i % len(timbres)] for i in range(n))]
