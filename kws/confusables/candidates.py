"""What may sound like a keyword: words, sequences of words, phonemes or letters edited, parts of the keyword.

Each function proposes; how far a candidate is from the keyword, and whether it is one, is judged elsewhere.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import chain, combinations, pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from kws.confusables.distance import Floats, distances, rows, weight
from kws.confusables.ipa import Phones, is_vowel, same_class
from kws.confusables.lexicon import Lexicon
from kws.confusables.phonemes import GAP, Inventory, Sound, Sounds, phones_of

LETTERS_IN_A_ROW = 3  # so many of a misspelling stand together in some word


class Kind(StrEnum):
    """Where a candidate comes from."""

    WORD = "word"  # of the lexicon
    SEQUENCE = "sequence"  # of its words
    PHONES = "phones"  # the keyword's phonemes, 1 to 3 of them edited
    PART = "part"  # of the keyword
    SPELLING = "spelling"  # the keyword's letters, 1 to 3 of them edited
    GIVEN = "given"  # by a person


@dataclass(frozen=True)
class Draft:
    """A text to be said, or a string of espeak-ng's names for phonemes, such as `[[k'at]]`."""

    text: str
    kind: Kind


@dataclass(frozen=True)
class Keyword:
    """What the candidates are near to.

    Attributes:
        text: its words.
        ways: how they are pronounced in the language; the first is espeak-ng's.
        sounds: phoneme strings that are edited and cut; none where espeak-ng's are not known one by one.
    """

    text: str
    ways: list[Phones]
    sounds: list[Sounds]


def words(keyword: Keyword, lexicon: Lexicon, most_distance: float, n: int, rng: np.random.Generator) -> list[Draft]:
    """Words no farther than asked for, as a share of the keyword's weight: the n nearest, and n of the rest by lot."""
    apart = np.min([distances(way, lexicon.coded) / weight(way) for way in keyword.ways], axis=0)
    order = np.argsort(apart, kind="stable")[: np.count_nonzero(apart <= most_distance)]
    return [Draft(lexicon.words[i], Kind.WORD) for i in [*order[:n], *rng.permutation(order[n:])[:n]]]


def word_sequences(
    keyword: Keyword, lexicon: Lexicon, most_distance: float, n: int, rng: np.random.Generator
) -> list[Draft]:
    """Sequences of two or three words, n of them drawn."""
    each = -(-n // len(keyword.ways))
    texts = (sequences(way, lexicon, most_distance, each, rng) for way in keyword.ways)
    return [Draft(text, Kind.SEQUENCE) for text in dict.fromkeys(chain.from_iterable(texts))]


def edited_phones(keyword: Keyword, inventory: Inventory, n: int, rng: np.random.Generator) -> list[Draft]:
    """The keyword's phonemes edited: replaced within their articulatory class, put in, left out; n of each number."""
    added = list({sound.phones: sound for sound in reversed(inventory.sounds)}.values())  # the commonest of a sound
    beside = {sound.phones: [o for o in added if _alike(sound, o)] for sound in added}

    def replacements(sound: Sound) -> list[Sound]:
        others = beside.get(sound.phones) or [o for o in added if _alike(sound, o)]
        return [replace(other, stress=sound.stress) for other in others if sound != GAP]

    strings = (edited(said, replacements, added, partial(inventory.fits, like=said), n, rng) for said in keyword.sounds)
    return [Draft(inventory.write(said), Kind.PHONES) for said in chain.from_iterable(strings)]


def _alike(sound: Sound, other: Sound) -> bool:
    return bool(sound.phones) and sound.phones != other.phones and same_class(sound.phones[0], other.phones[0])


def spellings(keyword: Keyword, lexicon: Lexicon, n: int, rng: np.random.Generator) -> list[Draft]:
    """The keyword's letters edited so that it still looks like a word, n of each number (Zhang et al., 2025)."""
    together, letters = set(), set()
    for word in [*lexicon.unique, *keyword.text.split()]:
        together |= _in_a_row(word.casefold())
        letters |= set(word.casefold())
    alphabet = sorted(letter for letter in letters if letter.isalpha())

    def fits(text: tuple[str, ...]) -> bool:
        pieces = "".join(text).split(" ")
        return all(pieces) and all(_in_a_row(piece) <= together for piece in pieces)

    def replacements(letter: str) -> list[str]:
        return [other for other in alphabet if other != letter] if letter != " " else []

    texts = edited(tuple(keyword.text.casefold()), replacements, alphabet, fits, n, rng)
    return [Draft("".join(text), Kind.SPELLING) for text in texts]


def _in_a_row(word: str) -> set[str]:
    """All letters that stand together, its beginning and end marked."""
    marked = f"^{word}$"
    return {marked[i : i + LETTERS_IN_A_ROW] for i in range(len(marked) - LETTERS_IN_A_ROW + 1)}


def parts(keyword: Keyword, inventory: Inventory) -> list[Draft]:
    """Beginnings, endings, halves, halves and words doubled, and of several words each alone and any two swapped."""
    texts = keyword.text.split()
    drafts = [Draft(text, Kind.PART) for text in texts] + [Draft(f"{text} {text}", Kind.PART) for text in texts]
    for i, j in combinations(range(len(texts)), 2):
        swapped = [*texts[:i], texts[j], *texts[i + 1 : j], texts[i], *texts[j + 1 :]]
        drafts.append(Draft(" ".join(swapped), Kind.PART))
    cut = chain.from_iterable(_cuts(said) for said in keyword.sounds)
    return drafts + [Draft(inventory.write(part), Kind.PART) for part in cut]


def _cuts(said: Sounds) -> Iterator[Sounds]:
    half = len(said) // 2
    parts = {part: _stressed(part) for n in range(2, len(said)) for part in (said[:n], said[-n:]) if _is_sayable(part)}
    yield from parts.values()
    for part in (said[:half], said[half:]):
        if _is_sayable(part):
            yield (*_stressed(part), GAP, *_stressed(part))


def _is_sayable(part: Sounds) -> bool:
    """Whether it begins and ends within a word, and has a vowel."""
    return any(map(is_vowel, phones_of(part))) and GAP not in (part[0], part[-1])


def _stressed(part: Sounds) -> Sounds:
    """With a stress on the first vowel, where there is none."""
    first = next(i for i, sound in enumerate(part) if any(map(is_vowel, sound.phones)))
    if any(sound.stress == "'" for sound in part):
        return part
    return (*part[:first], replace(part[first], stress="'"), *part[first + 1 :])


MOST_EDITS = 3
PARENTS = 60  # strings that are edited on, of each round

T = TypeVar("T")


def edited(
    whole: tuple[T, ...],
    replacements: Callable[[T], Sequence[T]],
    additions: Sequence[T],
    fits: Callable[[tuple[T, ...]], bool],
    most: int,
    rng: np.random.Generator,
) -> list[tuple[T, ...]]:
    """Strings that fit, at 1 to 3 edits from `whole`: all at one edit, and some that the lot falls on at two and three.

    Args:
        whole: what is edited.
        replacements: what may stand in place of a symbol.
        additions: what may be put in.
        fits: whether a string is such as the language has.
        most: strings of each number of edits, at most.
        rng: draws which are edited on, and which are kept.
    """
    seen, found = {whole}, []
    level = [whole]
    for _ in range(MOST_EDITS):
        parents = [level[i] for i in rng.permutation(len(level))[:PARENTS]]
        new = dict.fromkeys(one for parent in parents for one in _once(parent, replacements, additions) if fits(one))
        level = [one for one in new if one not in seen]
        level = [level[i] for i in np.sort(rng.permutation(len(level))[:most])]
        seen.update(level)
        found += level
    return found


def _once(
    whole: tuple[T, ...], replacements: Callable[[T], Sequence[T]], additions: Sequence[T]
) -> Iterator[tuple[T, ...]]:
    """Everything at one edit from `whole`."""
    for i in range(len(whole) + 1):
        head, tail = whole[:i], whole[i:]
        yield from ((*head, one, *tail) for one in additions)
        if tail:
            yield (*head, *tail[1:])
            yield from ((*head, one, *tail[1:]) for one in replacements(tail[0]))


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
