"""Speech out of phones: what no spelling says, such as a keyword with one sound changed.

Phones are IPA, as `speech.phonemes` writes it. espeak-ng says phones by names of its own, its mnemonics; which IPA sign
is which, it shows itself when it reads a vocabulary in both. What is not in that table never reaches it: phones come
from outside, and some of what espeak-ng reads between its brackets are commands.
"""

import functools
import importlib.resources
import unicodedata
from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from kws.common.errors import KwsError
from kws.confusables.synthesis.espeak import Voice, read_out, synthesised

# speak_lib.h of espeak-ng 1.52: phonemes in `[[...]]` are obeyed; read_out's modes, which put `|` between phonemes
_OBEY_PHONEMES, _MNEMONICS, _IPA = 0x100, ord("|") << 8, ord("|") << 8 | 2
_STRESS = {"ˈ": "'", "ˌ": ","}
_RARE = ("loch", "tour")  # sounds that the vocabulary lacks
_OTHER_WAYS = {"g": "ɡ", "r": "ɹ", "ɝ": "ɜː", "\u0361": "", "\u035c": "", ".": ""}  # of writing the same in IPA


def spelt(ipa: str) -> str:
    """Phones in one way of writing: NFD, without ties, syllable dots and needless spaces."""
    decomposed = unicodedata.normalize("NFD", ipa)
    return " ".join("".join(_OTHER_WAYS.get(sign, sign) for sign in decomposed).split())


@functools.cache
def _table(accent: str) -> dict[str, str]:
    """The mnemonic of each IPA sign of an accent: the one that it most often stands for."""
    words = (
        importlib.resources.files("kws.confusables.synthesis").joinpath("words.txt").read_text(encoding="utf-8").split()
    )
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for ipa, own in zip(*(read_out([*words, *_RARE], accent, mode) for mode in (_IPA, _MNEMONICS)), strict=True):
        for sign, mnemonic in zip(ipa.split("|"), own.split("|"), strict=True):
            counts[spelt(sign.strip("ˈˌ "))][mnemonic.strip("', ")] += 1
    table = {sign: names.most_common(1)[0][0] for sign, names in counts.items() if sign}
    return {sign.rstrip("ː"): name for sign, name in table.items()} | table  # length need not be written


def mnemonics(ipa: str, accent: str = "en-us") -> str:
    """Phones as espeak-ng names them: `kəmpjˈuːɾɚ` is `k|@|m|p|j|'u:|t#|3`.

    Args:
        ipa: phones of `accent`, spaces between words. Where no vowel is stressed, the first one is.
        accent: one of `speech.accents()`; the phones can then be said in any.

    Raises KwsError for a sign that is no sound of the accent.
    """
    table = _table(accent)
    longest = max(map(len, table))
    words = []
    plain = spelt(ipa)
    for word in (plain if "ˈ" in plain else f"ˈ{plain}").split():
        names, stress, at = [], "", 0
        while at < len(word):
            if word[at] in _STRESS:
                stress, at = _STRESS[word[at]], at + 1
                continue
            n = next((n for n in range(longest, 0, -1) if word[at : at + n] in table), 0)
            if not n:
                known = " ".join(sorted(table))
                raise KwsError(f"phones: {ipa!r}: {word[at]!r} is no sound of {accent}, which are {known}")
            names.append(stress + table[word[at : at + n]])
            stress, at = "", at + n
        words.append("|".join(names))
    if not any(words):
        raise KwsError(f"phones: {ipa!r} holds no sound to say")
    return " ".join(words)


def speak_phones(ipa: str, voice: Voice, sample_rate: int = 16000, accent: str = "en-us") -> npt.NDArray[np.float32]:
    """Says phones, as `speech.speak` says a text; the phones of a word, said in the same accent, are its sound.

    Args:
        ipa, accent: as of `mnemonics`.
        voice: a name out of `speech.voices()`, in any accent; rate and pitch.
        sample_rate: of the result, in Hz.

    Shape: [T].

    Raises KwsError as `mnemonics` and `speech.speak` do.
    """
    return synthesised(f"[[{mnemonics(ipa, accent)}]]", _OBEY_PHONEMES, voice, sample_rate)
