"""Distances of candidates from the keyword, the edits between them, and which candidates contain the keyword."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kws.confusables.candidates import Keyword, Kind
from kws.confusables.distance import SAME, code, distances, edits, rows, weight
from kws.confusables.ipa import Phones
from kws.confusables.pronunciation import espeak_phones, pronunciations
from kws.confusables.synthesis.espeak import is_phonemes

NEAR = 2.0  # a candidate farther than this, some three phones, is a homophone in no other dialect


@dataclass(frozen=True)
class Candidate:
    """A text or phoneme string that sounds similar to the keyword.

    Attributes:
        text: words, or espeak-ng's phoneme string such as `[[k'at]]`.
        kind: where it comes from.
        spoken: its phones in IPA as espeak-ng pronounces it.
        phones: the one of its pronunciations that is nearest to the keyword.
        nearest: index of the keyword's pronunciation that is nearest to it.
        distance: between the two, as a share of the keyword's distance from silence: 0 is the same sound, 1 silence.
        band: band of the distance, from 1; 0 is nearer than the first. The last band includes all that is farther.
    """

    text: str
    kind: Kind
    spoken: Phones
    phones: Phones
    nearest: int
    distance: float
    band: int

    @property
    def is_phonemes(self) -> bool:
        """Whether `text` is a phoneme string."""
        return is_phonemes(self.text)


def score(kinds: Mapping[str, Kind], keyword: Keyword, language: str, bands: Sequence[float]) -> list[Candidate]:
    """The pronunciation and distance of each text. Texts that espeak-ng does not pronounce are left out.

    Args:
        kinds: kind of each text.
        keyword: to compare with.
        language: of espeak-ng.
        bands: edges of the bands of distance.
    """
    each = pronunciations(list(kinds), language)
    pairs = [(i, phones) for i, known in enumerate(each) if known[0] for phones in known]
    if not pairs:
        return []
    coded = code([phones for _, phones in pairs])
    apart = np.stack([distances(one, coded) / weight(one) for one in keyword.pronunciations])
    nearest: dict[int, int] = {}
    for k in np.argsort(apart.min(axis=0), kind="stable").tolist():
        nearest.setdefault(pairs[k][0], k)
    found = []
    for i, (text, kind) in enumerate(kinds.items()):
        if (k := nearest.get(i)) is not None:
            distance, which = float(apart[:, k].min()), int(apart[:, k].argmin())
            band = min(int(np.searchsorted(bands, distance, side="right")), len(bands) - 1)
            found.append(Candidate(text, kind, each[i][0], pairs[k][1], which, distance, band))
    return found


def homophones(scored: Sequence[Candidate], keyword: Keyword, dialects: Sequence[str]) -> set[int]:
    """Indexes of the candidates that sound like the keyword in the language, or in one of its other dialects."""
    same = {i for i, one in enumerate(scored) if one.distance < SAME or one.spoken in keyword.pronunciations}
    weights = [weight(one) for one in keyword.pronunciations]
    near = [i for i, one in enumerate(scored) if one.distance * weights[one.nearest] < NEAR]
    for name in dialects:
        of_keyword, *others = espeak_phones([keyword.text, *(scored[i].text for i in near)], name)
        same |= {i for i, phones in zip(near, others, strict=True) if phones == of_keyword}
    return same


def containing(scored: Sequence[Candidate], keyword: Keyword) -> set[int]:
    """Indexes of the candidates that contain all phones of the keyword in a row, also within a word."""

    def joined(phones: Phones) -> str:
        return f" {' '.join(phones)} "

    patterns = [joined(one) for one in keyword.pronunciations]
    sounds = [joined(one.phones) + joined(one.spoken) for one in scored]
    return {i for i, sound in enumerate(sounds) if any(pattern in sound for pattern in patterns)}


def traits(scored: Sequence[Candidate], keyword: Keyword) -> list[list[Hashable]]:
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
        if not one.is_phonemes:
            its += [word for word in one.text.casefold().split() if word not in own]
    return found
