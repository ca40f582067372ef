"""The phonetic distance of pronunciations: a weighted edit distance over articulatory features.

A substitution costs the distance of two phones in the feature space. An insertion or deletion costs the distance of the
phone from silence, a point in the middle of the space. Phones and silence form a metric space, so the edit distance is
a metric (Kruskal, 1983). One pronunciation is compared with many at once, a row of the edit table at a time.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.confusables.ipa import Phone, Phones, point

Floats = npt.NDArray[np.float32]
SAME = 1e-4  # pronunciations nearer than this are equal but for rounding


@dataclass(frozen=True)
class Coded:
    """Many pronunciations as one array [longest, N] of indexes into `alphabet`, padded with 0 for silence."""

    alphabet: dict[Phone, int]
    codes: npt.NDArray[np.intp]

    def take(self, which: npt.NDArray[np.intp]) -> "Coded":
        """Some of the pronunciations, padded to the longest of them."""
        codes = self.codes[:, which]
        return Coded(self.alphabet, np.ascontiguousarray(codes[codes.any(axis=1)]))


def code(many: Sequence[Phones]) -> Coded:
    """Encode pronunciations for a comparison with one."""
    alphabet = {"": 0}
    for phones in many:
        for phone in phones:
            alphabet.setdefault(phone, len(alphabet))
    codes = np.zeros((len(many), max(map(len, many), default=0)), np.intp)
    for row, phones in zip(codes, many, strict=True):
        row[: len(phones)] = [alphabet[phone] for phone in phones]
    return Coded(alphabet, np.ascontiguousarray(codes.T))


def rows(phones: Phones, many: Coded) -> Iterator[Floats]:
    """The edit table (Wagner and Fischer, 1974): row i holds the distances of phones[:i] to all prefixes of each.

    Shape: len(phones) + 1 rows of [longest + 1, N]; the last entry of the last row is the distance.
    """
    points = np.stack([point(phone) for phone in many.alphabet])
    inserted = _costs("", points)[many.codes]
    row = np.concatenate([np.zeros((1, many.codes.shape[1]), np.float32), np.cumsum(inserted, axis=0)])
    yield row
    for phone in phones:
        replaced = row[:-1] + _costs(phone, points)[many.codes]
        row = row + np.float32(between(phone, ""))  # deleted
        for j in range(len(inserted)):
            np.minimum(row[j + 1], replaced[j], out=row[j + 1])
            np.minimum(row[j + 1], row[j] + inserted[j], out=row[j + 1])
        yield row


def distances(phones: Phones, many: Coded) -> Floats:
    """The distance of `phones` from each of `many`. Shape: [N]."""
    *_, last = rows(phones, many)
    distance_of: Floats = last[-1]
    return distance_of


def distance(one: Phones, other: Phones) -> float:
    """The distance of two pronunciations."""
    return float(distances(one, code([other]))[0])


def weight(phones: Phones) -> float:
    """The distance of a pronunciation from silence."""
    return distance(phones, ())


def edits(phones: Phones, table: Floats, other: Phones) -> list[tuple[int, Phone, Phone]]:
    """The edits from `phones` to `other` at least cost, each as (place, phone before, phone after); "" is no phone.

    Args:
        phones: the pronunciation before.
        table: all `rows` between the two. Shape: [len(phones) + 1, longest + 1].
        other: the pronunciation after.
    """
    i, j, found = len(phones), len(other), []
    while i or j:
        one, two = phones[i - 1] if i else "", other[j - 1] if j else ""
        ways = []
        if i and j:
            ways.append((table[i - 1, j - 1] + between(one, two), i - 1, j - 1, one, two))
        if i:
            ways.append((table[i - 1, j] + between(one, ""), i - 1, j, one, ""))
        if j:
            ways.append((table[i, j - 1] + between("", two), i, j - 1, "", two))
        _, i, j, one, two = min(ways, key=lambda way: way[0])
        if one != two:
            found.append((i, one, two))
    return found[::-1]


@functools.cache
def between(one: Phone, two: Phone) -> float:
    """The distance of two phones, or of one from silence (`""`)."""
    return float(_costs(one, point(two)[None])[0])


def _costs(phone: Phone, points: Floats) -> Floats:
    """Distances of one phone from points. A concave function of a metric is a metric too. Shape: [P]."""
    costs: Floats = np.sqrt(np.abs(points - point(phone)).sum(axis=1))
    return costs
