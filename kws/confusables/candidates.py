"""Candidates for confusables: words, sequences of words, edited phonemes or letters, parts of the keyword.

Each function returns texts, or phoneme strings such as `[[k'at]]`. `scoring` computes their distances, `search` leaves
out the keyword itself.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache, partial
from itertools import chain, combinations, pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kws.confusables.distance import Floats, distances, rows, weight
from kws.confusables.ipa import Phones, is_vowel, same_class
from kws.confusables.lexicon import Lexicon, triples
from kws.confusables.phonemes import GAP, Inventory, Phoneme, Phonemes, phones_of

MAX_EDITS = 3
PARENTS = 60  # strings of each number of edits that are edited once more
NEAREST, OTHERS = 80, 80  # words for each piece: the nearest, and random ones of the rest
MAX_WORDS = 3

T = TypeVar("T")


class Kind(StrEnum):
    """Where a candidate comes from."""

    WORD = "word"  # of the lexicon
    SEQUENCE = "sequence"  # of its words
    PHONES = "phones"  # the keyword's phonemes, 1 to 3 of them edited
    PART = "part"  # of the keyword
    SPELLING = "spelling"  # the keyword's letters, 1 to 3 of them edited
    GIVEN = "given"  # by the user


@dataclass(frozen=True)
class Keyword:
    """A keyword and its pronunciations.

    Attributes:
        text: its words.
        pronunciations: its phones in the language; the first are espeak-ng's.
        phonemes: sequences that are edited and cut; empty where espeak-ng does not show the single phonemes.
    """

    text: str
    pronunciations: list[Phones]
    phonemes: list[Phonemes]


def words(keyword: Keyword, lexicon: Lexicon, max_distance: float, n: int, rng: np.random.Generator) -> list[str]:
    """Words within a distance, a share of the keyword's weight: the n nearest, and n of the rest at random."""
    apart = np.min([distances(one, lexicon.coded) / weight(one) for one in keyword.pronunciations], axis=0)
    order = np.argsort(apart, kind="stable")[: np.count_nonzero(apart <= max_distance)]
    return [lexicon.words[i] for i in [*order[:n], *rng.permutation(order[n:])[:n]]]


def edited_phones(keyword: Keyword, inventory: Inventory, n: int, rng: np.random.Generator) -> list[str]:
    """The keyword with 1 to 3 phonemes substituted within their articulatory class, inserted or deleted; n of each."""
    added = list({one.phones: one for one in reversed(inventory.phonemes)}.values())  # the commonest of equal phones

    @cache
    def replacements(one: Phoneme) -> list[Phoneme]:
        others = [o for o in added if one.phones and o.phones != one.phones and same_class(one.phones[0], o.phones[0])]
        return [replace(other, stress=one.stress) for other in others]

    strings = (edited(own, replacements, added, partial(inventory.fits, like=own), n, rng) for own in keyword.phonemes)
    return [inventory.write(one) for one in chain.from_iterable(strings)]


def spellings(keyword: Keyword, lexicon: Lexicon, n: int, rng: np.random.Generator) -> list[str]:
    """The keyword with 1 to 3 letters edited so that it is spelled like a word; n of each (Zhang et al., 2025)."""
    together = lexicon.triples.union(*map(triples, keyword.text.casefold().split()))
    alphabet = sorted({triple[1] for triple in together if triple[1].isalpha()})

    def fits(text: tuple[str, ...]) -> bool:
        pieces = "".join(text).split(" ")
        return all(pieces) and all(triples(piece) <= together for piece in pieces)

    def replacements(letter: str) -> list[str]:
        return [other for other in alphabet if other != letter] if letter != " " else []

    return ["".join(text) for text in edited(tuple(keyword.text.casefold()), replacements, alphabet, fits, n, rng)]


def parts(keyword: Keyword, inventory: Inventory) -> list[str]:
    """Beginnings, endings, halves, doubled halves and words; for several words also each alone and any two swapped."""
    own = keyword.text.split()
    texts = [*own, *(f"{word} {word}" for word in own)]
    for i, j in combinations(range(len(own)), 2):
        texts.append(" ".join([*own[:i], own[j], *own[i + 1 : j], own[i], *own[j + 1 :]]))
    return texts + [inventory.write(part) for phonemes in keyword.phonemes for part in _cuts(phonemes)]


def _cuts(whole: Phonemes) -> Iterator[Phonemes]:
    half = len(whole) // 2
    ends = (part for n in range(2, len(whole)) for part in (whole[:n], whole[-n:]))
    yield from {part: _stressed(part) for part in ends if _is_speakable(part)}.values()
    for part in (whole[:half], whole[half:]):
        if _is_speakable(part):
            yield (*_stressed(part), GAP, *_stressed(part))


def _is_speakable(part: Phonemes) -> bool:
    """Whether a part has a vowel, and neither begins nor ends with a gap between words."""
    return any(map(is_vowel, phones_of(part))) and GAP not in (part[0], part[-1])


def _stressed(part: Phonemes) -> Phonemes:
    """The part with a stress: on the first vowel where it has none."""
    if any(one.stress == "'" for one in part):
        return part
    first = next(i for i, one in enumerate(part) if any(map(is_vowel, one.phones)))
    return (*part[:first], replace(part[first], stress="'"), *part[first + 1 :])


def edited(
    whole: tuple[T, ...],
    replacements: Callable[[T], Sequence[T]],
    additions: Sequence[T],
    fits: Callable[[tuple[T, ...]], bool],
    limit: int,
    rng: np.random.Generator,
) -> list[tuple[T, ...]]:
    """Strings that fit, at 1 to 3 edits from `whole`: all at one edit, and a random sample at two and three.

    Args:
        whole: the string to edit.
        replacements: the symbols that may replace a symbol.
        additions: the symbols that may be inserted.
        fits: whether a string is plausible in the language.
        limit: most strings of each number of edits.
        rng: chooses the strings to edit once more, and the strings to keep.
    """
    seen, found = {whole}, []
    level = [whole]
    for _ in range(MAX_EDITS):
        parents = [level[i] for i in rng.permutation(len(level))[:PARENTS]]
        new = dict.fromkeys(one for parent in parents for one in _once(parent, replacements, additions) if fits(one))
        level = [one for one in new if one not in seen]
        level = [level[i] for i in np.sort(rng.permutation(len(level))[:limit])]
        seen.update(level)
        found += level
    return found


def _once(
    whole: tuple[T, ...], replacements: Callable[[T], Sequence[T]], additions: Sequence[T]
) -> Iterator[tuple[T, ...]]:
    """All strings at one edit from `whole`."""
    for i in range(len(whole) + 1):
        head, tail = whole[:i], whole[i:]
        yield from ((*head, one, *tail) for one in additions)
        if tail:
            yield (*head, *tail[1:])
            yield from ((*head, one, *tail[1:]) for one in replacements(tail[0]))


def sequences(keyword: Phones, lexicon: Lexicon, max_distance: float, n: int, rng: np.random.Generator) -> list[str]:
    """Sequences of two or three words within a distance of a keyword, sampled over all ways to cut it into pieces.

    Args:
        keyword: its phones.
        lexicon: the words; only common ones are used.
        max_distance: as a share of the keyword's weight.
        n: sequences to sample; repeated ones and those beyond `max_distance` are left out.
        rng: chooses the words.
    """
    common = np.flatnonzero(lexicon.common)
    many = lexicon.coded.take(common)
    end, budget = len(keyword), max_distance * weight(keyword)
    costs = {(i, i + j): row[-1] for i in range(end) for j, row in enumerate(rows(keyword[i:], many)) if j}
    words = {piece: _near(cost, budget, rng) for piece, cost in costs.items()}
    cuts = [(0, *inner, end) for k in range(1, MAX_WORDS) for inner in combinations(range(1, end), k)]
    texts: dict[str, None] = {}
    for cut in cuts:
        pieces = list(pairwise(cut))
        if not all(len(words[piece]) for piece in pieces):
            continue
        place = rng.random((len(pieces), -(-n // len(cuts)))) ** 2  # near words come more often
        sample = np.stack([words[p][(of * len(words[p])).astype(int)] for p, of in zip(pieces, place, strict=True)])
        total = sum(costs[piece][chosen] for piece, chosen in zip(pieces, sample, strict=True))
        for chosen in sample.T[np.asarray(total) <= budget]:
            texts.setdefault(" ".join(lexicon.words[common[i]] for i in chosen))
    return list(texts)


def _near(cost: Floats, budget: float, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """The words nearest to a piece, and random others within the budget."""
    within = np.flatnonzero(cost <= budget)
    within = within[np.argsort(cost[within], kind="stable")]
    return np.concatenate([within[:NEAREST], rng.permutation(within[NEAREST:])[:OTHERS]])
