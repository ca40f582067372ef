"""The words of candidates: the words of CMUdict in use, or the user's list for another language."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.common.errors import KwsError
from kws.confusables.distance import Coded, code
from kws.confusables.ipa import Phones
from kws.confusables.phonemes import Inventory, phonemes
from kws.confusables.pronunciation import cmudict, frequencies, is_english, pronunciations

SAMPLE = 15000  # words from which the phonemes of a language are learnt
COMMON = 1000  # count in film subtitles from which a word is common


@dataclass(frozen=True)
class Lexicon:
    """Words and their pronunciations, one entry for each; common words may be put into sequences."""

    language: str
    words: list[str]
    phones: list[Phones]
    coded: Coded
    common: list[bool]

    @functools.cached_property
    def unique(self) -> list[str]:
        """Each word once."""
        return list(dict.fromkeys(self.words))

    @functools.cached_property
    def inventory(self) -> Inventory:
        """The phonemes of the language, learnt from a sample of the words."""
        return Inventory(phonemes(self.unique[:: -(-len(self.unique) // SAMPLE)], self.language), self.language)

    @functools.cached_property
    def triples(self) -> set[str]:
        """All runs of three neighbouring letters of the words; see `triples`."""
        return set().union(*(triples(word.casefold()) for word in self.unique))


def triples(word: str) -> set[str]:
    """All runs of three neighbouring letters, with marks at both ends of the word."""
    marked = f"^{word}$"
    return {marked[i : i + 3] for i in range(len(marked) - 2)}


def lexicon(language: str, file: Path | None = None) -> Lexicon:
    """The words of a language with their pronunciations.

    Args:
        language: one of espeak-ng's.
        file: words, one a line; None for English: the words of CMUdict.

    Raises:
        KwsError: there is no file for another language, or the file has no words.
    """
    if file is not None:
        words = read_words(file)
        return _pronounced(words, language, set(words))
    if is_english(language):
        return _english(language)
    raise KwsError(
        f"confuse.words=FILE must be given: words of confuse.language={language}, one a line; only English has its own"
    )


@functools.cache
def _english(language: str) -> Lexicon:
    """The words of CMUdict that are in use: most others are rare names."""
    used = frequencies()
    words = [w for w in cmudict() if w in used and w.replace("'", "").isalpha() and (len(w) > 1 or w in "ai")]
    return _pronounced(words, language, {word for word in words if used[word] >= COMMON})


def _pronounced(words: Sequence[str], language: str, common: set[str]) -> Lexicon:
    known = pronunciations(words, language)
    entries = [word for word, each in zip(words, known, strict=True) for phones in each if phones]
    phones = [phones for each in known for phones in each if phones]
    return Lexicon(language, entries, phones, code(phones), [word in common for word in entries])


def read_words(file: Path) -> list[str]:
    """The distinct lines of a file; raises KwsError if there are none or a line is no word."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KwsError(f"confuse.words={file}: cannot be read as UTF-8 text ({error})") from error
    words = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not words:
        raise KwsError(f"confuse.words={file}: must hold words, one a line")
    for word in words:
        if not any(char.isalnum() for char in word) or word.startswith("[[") or not word.isprintable():
            raise KwsError(f"confuse.words={file}: {word!r} is no word")
    return words
