"""The phonemes of a language by espeak-ng's names, their IPA, and which phonemes may follow one another.

This is the only mapping between IPA and espeak-ng. A phoneme string such as `[[k@mpj'u:t#3]]` carries the stress, is
scored as espeak-ng pronounces it, and is synthesised as it stands. The phonemes of a language, and their neighbours,
are learnt from the pronunciations of its words.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from kws.common.errors import KwsError
from kws.confusables.ipa import Phones, is_vowel
from kws.confusables.pronunciation import to_phones
from kws.confusables.synthesis.espeak import text_to_phonemes

_STRESS = "',%="
RARE = 0.001  # phonemes in fewer of the words are loans or slips


@dataclass(frozen=True)
class Phoneme:
    """One phoneme: espeak-ng's name, its phones (a diphthong has two, a pause none) and its stress mark."""

    name: str
    phones: Phones
    stress: str = ""


GAP = Phoneme(" ", ())  # between words
Phonemes = tuple[Phoneme, ...]


def phones_of(phonemes: Phonemes) -> Phones:
    """The phones of a sequence of phonemes."""
    return tuple(phone for one in phonemes for phone in one.phones)


def phonemes(texts: Sequence[str], language: str) -> list[Phonemes]:
    """The phonemes of each text as espeak-ng pronounces it; empty where names and IPA cannot be aligned."""
    return [tuple(_phoneme(name, ipa, language) for name, ipa in pairs) for pairs in text_to_phonemes(texts, language)]


@functools.cache
def _phoneme(name: str, ipa: str, language: str) -> Phoneme:
    if name == " ":
        return GAP
    bare = name.lstrip(_STRESS)
    return Phoneme(bare, to_phones(ipa, language), name[: len(name) - len(bare)])


@functools.cache
def _unstressed(one: Phoneme) -> Phoneme:
    return replace(one, stress="")


class Inventory:
    """The phonemes of a language, the commonest first, and which three of them follow one another in its words."""

    def __init__(self, pronunciations: Sequence[Phonemes], language: str, base: "Inventory | None" = None) -> None:
        """Learn from pronunciations, beside those of `base`."""
        self.language = language
        self._words_n: int = len(pronunciations) + (base._words_n if base else 0)
        self._counts: Counter[Phoneme] = base._counts.copy() if base else Counter()
        self._run_on: dict[tuple[str, str], bool] = {}
        self._triples: set[tuple[str, ...]] = base._triples.copy() if base else set()
        for word in pronunciations:
            bare = tuple(map(_unstressed, word))
            self._counts.update(dict.fromkeys(bare, 1))  # a set would have another order in each process
            self._triples |= _triples(bare)
        ranked = self._counts.most_common()
        # Some names have another IPA before a vowel: the commonest one represents the name.
        self._by_name = {one.name: one for one, _ in reversed(ranked) if one != GAP}
        common = (one for one, n in ranked if n >= RARE * self._words_n)
        self.phonemes = [one for one in common if one.phones and one == self._by_name[one.name]]

    def fits(self, phonemes: Phonemes, like: Phonemes = ()) -> bool:
        """Whether any three neighbours follow one another in a word of the language, or in `like`."""
        return bool(phonemes) and _triples(phonemes) - _triples(like) <= self._triples

    def write(self, phonemes: Phonemes) -> str:
        """Write phonemes as a phoneme string, such as `[[k'at]]`."""
        text = ""
        for one, after in pairwise([*phonemes, GAP]):
            text += one.stress + one.name + ("|" if self._runs_on(one.name, after.stress + after.name) else "")
        return f"[[{text}]]"

    def _runs_on(self, name: str, after: str) -> bool:
        """Whether espeak-ng would read the two together as one, as t and S as tS."""
        if (name, after) not in self._run_on:
            longer = (other for other in self._by_name if len(other) > len(name))
            self._run_on[name, after] = any((name + after).startswith(other) for other in longer)
        return self._run_on[name, after]

    def read(self, text: str) -> Phonemes:
        """Parse a phoneme string; raises KwsError for names that the words of the language lack."""
        rest, found, stress = text.removeprefix("[[").removesuffix("]]"), [], ""
        while rest:
            name = next((rest[:n] for n in range(len(rest), 0, -1) if rest[:n] in self._by_name), "")
            if name:
                found.append(replace(self._by_name[name], stress=stress))
            elif rest[0] == " ":
                found.append(GAP)
            elif rest[0] not in "|" + _STRESS:
                raise KwsError(f"{text}: {rest[0]!r} begins no phoneme that espeak-ng has in {self.language}")
            stress = rest[0] if not name and rest[0] in _STRESS else ""
            rest = rest[len(name) or 1 :]
        return tuple(found)

    def from_ipa(self, ipa: str) -> Phonemes:
        """The phonemes of a transcription in IPA; each stress mark goes to the next vowel.

        Raises:
            KwsError: the language lacks a phone.
        """
        by_phones = {one.phones: one for one in reversed(self.phonemes)}
        phonemes: list[Phoneme] = []
        for mark, part in re.findall("([ˈˌ ]?)([^ˈˌ ]*)", ipa):
            rest, stress = to_phones(part, self.language), {"ˈ": "'", "ˌ": ","}.get(mark, "")
            if mark == " " and phonemes:
                phonemes.append(GAP)
            while rest:
                found = next((by_phones[rest[:n]] for n in range(len(rest), 0, -1) if rest[:n] in by_phones), None)
                if found is None:
                    raise KwsError(f"confuse.pronunciations: {ipa!r}: espeak-ng has no {rest[0]!r} in {self.language}")
                carries = bool(stress) and is_vowel(found.phones[0])
                phonemes.append(replace(found, stress=stress if carries else ""))
                rest, stress = rest[len(found.phones) :], "" if carries else stress
        return tuple(phonemes)


def _triples(phonemes: Phonemes) -> set[tuple[str, ...]]:
    """The names of three phonemes in a row, within words and at their ends."""
    names = [" ", *(one.name for one in phonemes), " "]
    found = zip(names, names[1:], names[2:], strict=False)
    return {triple for triple in found if triple[1] != " "}
