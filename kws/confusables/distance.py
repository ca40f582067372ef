"""How far pronunciations are apart: a weighted edit distance over articulatory features.

Replacing a phone costs the distance of two points, putting one in or leaving it out its distance from silence, which is
a point in the middle of them. So phones and silence are one metric space, and the edit distance over it is a metric
(Kruskal, 1983). One pronunciation is held against many at once, a column of the table of edits at a time.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kws.confusables.ipa import Phone, Phones, point

Floats = npt.NDArray[np.float32]
SAME = 1e-4  # what is nearer is the same, but for rounding


@dataclass(frozen=True)
class Coded:
    """Many pronunciations as one array [longest, N]: the number of each phone in `alphabet`; 0, silence, pads."""

    alphabet: dict[Phone, int]
    codes: npt.NDArray[np.intp]

    def only(self, which: npt.NDArray[np.intp]) -> "Coded":
        """Some of them."""
        return Coded(self.alphabet, self.codes[:, which])


def code(many: Sequence[Phones]) -> Coded:
    """Pronunciations made ready to be held against one."""
    alphabet = {"": 0}
    for phones in many:
        for phone in phones:
            alphabet.setdefault(phone, len(alphabet))
    codes = np.zeros((len(many), max(map(len, many), default=0)), np.intp)
    for row, phones in zip(codes, many, strict=True):
        row[: len(phones)] = [alphabet[phone] for phone in phones]
    return Coded(alphabet, np.ascontiguousarray(codes.T))


def rows(phones: Phones, many: Coded) -> Iterator[Floats]:
    """The table of edits (Wagner and Fischer, 1974): row i has the distances of phones[:i] to all beginnings of each.

    Shape: len(phones) + 1 rows of [longest + 1, N]; the last place of the last row is the distance.
    """
    points = np.stack([point(phone) for phone in many.alphabet])
    put_in = _costs("", points)[many.codes]
    row = np.concatenate([np.zeros_like(put_in[:1]), np.cumsum(put_in, axis=0)]) if len(put_in) else _nothing(many)
    yield row
    for phone in phones:
        replaced = row[:-1] + _costs(phone, points)[many.codes]
        row = row + np.float32(between(phone, ""))  # left out
        for j in range(len(put_in)):
            np.minimum(row[j + 1], replaced[j], out=row[j + 1])
            np.minimum(row[j + 1], row[j] + put_in[j], out=row[j + 1])
        yield row


def distances(phones: Phones, many: Coded) -> Floats:
    """The least weighted edits that lead from `phones` to each of `many`. Shape: [N]."""
    *_, last = rows(phones, many)
    distance_of: Floats = last[-1]
    return distance_of


def distance(one: Phones, other: Phones) -> float:
    """The same of two."""
    return float(distances(one, code([other]))[0])


def weight(phones: Phones) -> float:
    """The distance from silence."""
    return distance(phones, ())


def edits(phones: Phones, table: Floats, other: Phones) -> list[tuple[int, Phone, Phone]]:
    """Those edits that lead from `phones` to `other` at least cost: where, from which phone, to which; "" is none.

    Args:
        phones: what is edited.
        table: all `rows` between the two. Shape: [len(phones) + 1, longest + 1].
        other: what comes out.
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
    """From one phone to each of some points: a concave function of a metric, so one too. Shape: [P]."""
    costs: Floats = np.sqrt(np.abs(points - point(phone)).sum(axis=1))
    return costs


def _nothing(many: Coded) -> Floats:
    return np.zeros((1, many.codes.shape[1]), np.float32)
