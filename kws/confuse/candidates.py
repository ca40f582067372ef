"""What may sound like a keyword: words, sequences of words, phonemes or letters edited, parts of the keyword.

Each function proposes; how far a candidate is from the keyword, and whether it is one, is judged elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from itertools import chain, combinations

import numpy as np

from kws.confuse.articulation import Phones, is_vowel, same_class
from kws.confuse.distance import distances, weight
from kws.confuse.edits import edited
from kws.confuse.lexicon import Lexicon
from kws.confuse.sequences import sequences
from kws.confuse.sounds import GAP, Inventory, Sound, Sounds, phones_of

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
