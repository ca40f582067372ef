"""Distances of candidates from the keyword, the edits between them, and which candidates contain the keyword."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from kws.confusables.candidates import Draft, Keyword
from kws.confusables.distance import SAME, code, distances, edits, rows, weight
from kws.confusables.ipa import Phones
from kws.confusables.pronunciation import espeak_phones, pronunciations
from kws.confusables.synthesis.espeak import is_phonemes

NEAR = 2.0  # a candidate farther than this, some three phones, is a homophone in no other dialect


@dataclass(frozen=True)
class Scored:
    """A candidate with its pronunciation and distance.

    Attributes:
        draft: the proposed text or phoneme string.
        spoken: its phones as espeak-ng pronounces it.
        phones: the one of its pronunciations that is nearest to the keyword.
        nearest: index of the keyword's pronunciation that is nearest to it.
        distance: between the two, as a share of the keyword's distance from silence: 0 is the same sound, 1 silence.
    """

    draft: Draft
    spoken: Phones
    phones: Phones
    nearest: int
    distance: float


def score(drafts: Sequence[Draft], keyword: Keyword, language: str) -> list[Scored]:
    """The pronunciation and distance of each draft; drafts without a phone are left out."""
    each = pronunciations([draft.text for draft in drafts], language)
    pairs = [(i, phones) for i, known in enumerate(each) if known[0] for phones in known]
    if not pairs:
        return []
    coded = code([phones for _, phones in pairs])
    apart = np.stack([distances(one, coded) / weight(one) for one in keyword.pronunciations])
    nearest: dict[int, int] = {}
    for k in np.argsort(apart.min(axis=0), kind="stable").tolist():
        nearest.setdefault(pairs[k][0], k)
    return [
        Scored(drafts[i], each[i][0], pairs[k][1], int(apart[:, k].argmin()), float(apart[:, k].min()))
        for i, k in sorted(nearest.items())
    ]


def homophones(scored: Sequence[Scored], keyword: Keyword, dialects: Sequence[str]) -> set[int]:
    """Indexes of the candidates that sound like the keyword in the language, or in one of its other dialects."""
    same = {i for i, one in enumerate(scored) if one.distance < SAME or one.spoken in keyword.pronunciations}
    weights = [weight(one) for one in keyword.pronunciations]
    near = [i for i, one in enumerate(scored) if one.distance * weights[one.nearest] < NEAR]
    for name in dialects:
        of_keyword, *others = espeak_phones([keyword.text, *(scored[i].draft.text for i in near)], name)
        same |= {i for i, phones in zip(near, others, strict=True) if phones == of_keyword}
    return same


def containing(scored: Sequence[Scored], keyword: Keyword) -> set[int]:
    """Indexes of the candidates that contain all phones of the keyword in a row, also within a word."""
    patterns = [_joined(one) for one in keyword.pronunciations]
    sounds = [_joined(one.phones) + _joined(one.spoken) for one in scored]
    return {i for i, sound in enumerate(sounds) if any(pattern in sound for pattern in patterns)}


def _joined(phones: Phones) -> str:
    return f" {' '.join(phones)} "


def distinct(scored: Sequence[Scored]) -> list[Scored]:
    """The first candidate of each sound."""
    firsts: dict[Phones, Scored] = {}
    for one in scored:
        firsts.setdefault(one.spoken, one)
    return list(firsts.values())


def traits(scored: Sequence[Scored], keyword: Keyword) -> list[list[Hashable]]:
    """For each candidate its edits (place, phone before and after), their places, and words that the keyword lacks."""
    found: list[list[Hashable]] = [[] for _ in scored]
    for number, phones in enumerate(keyword.pronunciations):
        which = [i for i, one in enumerate(scored) if one.nearest == number]
        if not which:
            continue
        table = np.stack(list(rows(phones, code([scored[i].phones for i in which]))))
        for k, i in enumerate(which):
            changes = edits(phones, table[:, :, k], scored[i].phones)
            found[i] += [*changes, *sorted({place for place, _, _ in changes})]
    own = set(keyword.text.casefold().split())
    for one, its in zip(scored, found, strict=True):
        if not is_phonemes(one.draft.text):
            its += [word for word in one.draft.text.casefold().split() if word not in own]
    return found
