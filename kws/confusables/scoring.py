"""How candidates sound: how far from the keyword, what sets them apart from it, and which of them are it."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from kws.confusables.candidates import Draft, Keyword
from kws.confusables.distance import SAME, code, distances, edits, rows, weight
from kws.confusables.ipa import Phones
from kws.confusables.pronunciation import is_phonemes, spoken, ways

NEAR = 2.0  # what is farther, some three phones, becomes no homophone in another dialect


@dataclass(frozen=True)
class Heard:
    """A candidate's sound.

    Attributes:
        draft: what is to be said.
        said: its phones as espeak-ng says it.
        phones: those among its pronunciations that are nearest to the keyword.
        way: the number of the keyword's pronunciation that they are nearest to.
        distance: between the two, as a share of that pronunciation's distance from silence: 0 is the same, 1 is as far
            as saying nothing.
    """

    draft: Draft
    said: Phones
    phones: Phones
    way: int
    distance: float


def hear(drafts: Sequence[Draft], keyword: Keyword, language: str) -> list[Heard]:
    """How each of the drafts sounds; without those that sound like nothing."""
    each = ways([draft.text for draft in drafts], language)
    pairs = [(i, phones) for i, said in enumerate(each) if said[0] for phones in said]
    if not pairs:
        return []
    coded = code([phones for _, phones in pairs])
    apart = np.stack([distances(way, coded) / weight(way) for way in keyword.ways])  # [ways, pairs]
    nearest: dict[int, int] = {}
    for k in np.argsort(apart.min(axis=0), kind="stable").tolist():
        nearest.setdefault(pairs[k][0], k)
    return [
        Heard(drafts[i], each[i][0], pairs[k][1], int(apart[:, k].argmin()), float(apart[:, k].min()))
        for i, k in sorted(nearest.items())
    ]


def homophones(heard: Sequence[Heard], keyword: Keyword, dialects: Sequence[str]) -> set[int]:
    """The indexes of those that sound like the keyword: in the language, or both alike in one of its other dialects."""
    same = {i for i, one in enumerate(heard) if one.distance < SAME or one.said in keyword.ways}
    weights = [weight(way) for way in keyword.ways]
    asked = [i for i, one in enumerate(heard) if one.distance * weights[one.way] < NEAR]
    for name in dialects:
        as_keyword, *others = spoken([keyword.text, *(heard[i].draft.text for i in asked)], name)
        same |= {i for i, phones in zip(asked, others, strict=True) if phones == as_keyword}
    return same


def holding(heard: Sequence[Heard], keyword: Keyword) -> set[int]:
    """The indexes of those that hold the keyword's phones one after another, wherever they stand."""
    patterns = [_joined(way) for way in keyword.ways]
    sounds = [_joined(one.phones) + _joined(one.said) for one in heard]
    return {i for i, sound in enumerate(sounds) if any(pattern in sound for pattern in patterns)}


def _joined(phones: Phones) -> str:
    return f" {' '.join(phones)} "


def differing(heard: Sequence[Heard]) -> list[Heard]:
    """One of each sound: the first."""
    firsts: dict[Phones, Heard] = {}
    for one in heard:
        firsts.setdefault(one.said, one)
    return list(firsts.values())


def traits(heard: Sequence[Heard], keyword: Keyword) -> list[list[Hashable]]:
    """What sets each apart: which phone became which and where, where at all, and words that are not the keyword's."""
    found: list[list[Hashable]] = [[] for _ in heard]
    for way, phones in enumerate(keyword.ways):
        which = [i for i, one in enumerate(heard) if one.way == way]
        if not which:
            continue
        table = np.stack(list(rows(phones, code([heard[i].phones for i in which]))))
        for k, i in enumerate(which):
            changes = edits(phones, table[:, :, k], heard[i].phones)
            found[i] += [*changes, *sorted({place for place, _, _ in changes})]
    own = set(keyword.text.casefold().split())
    for one, its in zip(heard, found, strict=True):
        if not is_phonemes(one.draft.text):
            its += [word for word in one.draft.text.casefold().split() if word not in own]
    return found
