"""The phonemes of a language by the names that espeak-ng speaks them from, and which may stand beside which.

A phoneme string such as `[[k@mpj'u:t#3]]` is said as it stands, where text would be read by spelling. Which phonemes a
language has, and which neighbours, is learnt from how its words are said.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from kws.common.errors import KwsError
from kws.confusables.ipa import Phones, is_vowel
from kws.confusables.pronunciation import to_phones
from kws.confusables.synthesis.espeak import transcribe

_STRESS = "',%="
RARE = 0.001  # phonemes in fewer of the words are loans or slips


@dataclass(frozen=True)
class Sound:
    """One phoneme: espeak-ng's name, its stress mark, its phones (a diphthong has two, a pause none)."""

    name: str
    phones: Phones
    stress: str = ""


GAP = Sound(" ", ())  # between words
Sounds = tuple[Sound, ...]


def phones_of(sounds: Sounds) -> Phones:
    """The phones of a string of phonemes."""
    return tuple(phone for sound in sounds for phone in sound.phones)


def sounds(texts: Sequence[str], language: str) -> list[Sounds]:
    """How espeak-ng says each text, phoneme by phoneme; empty where that cannot be told."""
    return [tuple(_sound(name, ipa, language) for name, ipa in pairs) for pairs in transcribe(texts, language)]


def _sound(name: str, ipa: str, language: str) -> Sound:
    if name == " ":
        return GAP
    bare = name.lstrip(_STRESS)
    return Sound(bare, to_phones(ipa, language), name[: len(name) - len(bare)])


class Inventory:
    """What a language says: its phonemes, the commonest first, and which three may follow one another in its words."""

    def __init__(self, said: Sequence[Sounds], language: str) -> None:
        self.language = language
        counts: Counter[Sound] = Counter()
        self._run_on: dict[tuple[str, str], bool] = {}
        self._triples: set[tuple[str, ...]] = set()
        for word in said:
            bare = [replace(sound, stress="") for sound in word]
            counts.update(dict.fromkeys(bare, 1))  # a set would go through them in another order in each process
            self._triples |= _triples(tuple(bare))
        # Some names have another IPA before a vowel: the commonest stands for all.
        self._by_name = {sound.name: sound for sound, _ in reversed(counts.most_common()) if sound != GAP}
        common = (sound for sound, n in counts.most_common() if n >= RARE * len(said))
        self.sounds = [sound for sound in common if sound.phones and sound == self._by_name[sound.name]]

    def fits(self, said: Sounds, like: Sounds = ()) -> bool:
        """Whether all neighbours are such as the language's words have, or as `like` has."""
        return bool(said) and _triples(said) - _triples(like) <= self._triples

    def write(self, said: Sounds) -> str:
        """The string that espeak-ng speaks these phonemes from: `[[k'at]]`."""
        text = ""
        for sound, after in pairwise([*said, GAP]):
            text += sound.stress + sound.name + ("|" if self._runs_on(sound.name, after.stress + after.name) else "")
        return f"[[{text}]]"

    def _runs_on(self, name: str, after: str) -> bool:
        """Whether the two together would be read as one, as t and S as tS."""
        if (name, after) not in self._run_on:
            longer = (other for other in self._by_name if len(other) > len(name))
            self._run_on[name, after] = any((name + after).startswith(other) for other in longer)
        return self._run_on[name, after]

    def read(self, text: str) -> Sounds:
        """The phonemes of such a string; raises KwsError for names that the language's words do not have."""
        rest, said, stress = text.removeprefix("[[").removesuffix("]]"), [], ""
        while rest:
            name = next((rest[:n] for n in range(len(rest), 0, -1) if rest[:n] in self._by_name), "")
            if name:
                said.append(replace(self._by_name[name], stress=stress))
            elif rest[0] == " ":
                said.append(GAP)
            elif rest[0] not in "|" + _STRESS:
                raise KwsError(f"{text}: {rest[0]!r} begins no phoneme that espeak-ng has in {self.language}")
            stress = rest[0] if not name and rest[0] in _STRESS else ""
            rest = rest[len(name) or 1 :]
        return tuple(said)

    def of_ipa(self, ipa: str) -> Sounds:
        """The phonemes that sound like IPA, each stress mark at the vowel after it.

        Raises KwsError for a phone that the language does not have.
        """
        by_phones = {sound.phones: sound for sound in reversed(self.sounds)}
        said: list[Sound] = []
        for mark, part in re.findall("([ˈˌ ]?)([^ˈˌ ]*)", ipa):
            rest, stress = to_phones(part, self.language), {"ˈ": "'", "ˌ": ","}.get(mark, "")
            if mark == " " and said:
                said.append(GAP)
            while rest:
                found = next((by_phones[rest[:n]] for n in range(len(rest), 0, -1) if rest[:n] in by_phones), None)
                if found is None:
                    raise KwsError(f"confuse.pronunciations: {ipa!r}: espeak-ng has no {rest[0]!r} in {self.language}")
                carries = bool(stress) and is_vowel(found.phones[0])
                said.append(replace(found, stress=stress if carries else ""))
                rest, stress = rest[len(found.phones) :], "" if carries else stress
        return tuple(said)


def _triples(said: Sounds) -> set[tuple[str, ...]]:
    """The names of three phonemes in a row, within words and at their ends."""
    names = [" ", *(sound.name for sound in said), " "]
    found = zip(names, names[1:], names[2:], strict=False)
    return {triple for triple in found if triple[1] != " "}
