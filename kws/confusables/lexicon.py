"""The words that candidates are made of: CMUdict's that are in use, or a person's list for another language."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kws.common.errors import KwsError
from kws.confusables.distance import Coded, code
from kws.confusables.ipa import Phones
from kws.confusables.phonemes import Sounds, sounds
from kws.confusables.pronunciation import cmudict, frequencies, is_english, ways

SAMPLE = 15000  # words that the phonemes of a language are learnt from
COMMON = 1000  # times in the subtitles: words that most people know


@dataclass(frozen=True)
class Lexicon:
    """Words, each of their pronunciations beside them, and which words are common enough to be put into sequences."""

    language: str
    words: list[str]
    phones: list[Phones]
    coded: Coded
    common: list[bool]

    @property
    def unique(self) -> list[str]:
        """Each word once."""
        return list(dict.fromkeys(self.words))

    @functools.cached_property
    def sounds(self) -> list[Sounds]:
        """How some of the words are said, phoneme by phoneme: what a language has is learnt from them."""
        return sounds(self.unique[:: -(-len(self.unique) // SAMPLE)], self.language)


def lexicon(language: str, file: Path | None = None) -> Lexicon:
    """The words of a language as they are said there.

    Args:
        language: of espeak-ng's.
        file: words, one a line; None for English: CMUdict's.

    Raises KwsError for a language without words, and for a file that holds none.
    """
    if file is not None:
        words = read_words(file)
        return _said(words, language, set(words))
    if is_english(language):
        return _english(language)
    raise KwsError(
        f"confuse.words=FILE must be given: words of confuse.language={language}, one a line; only English comes with "
        "its own"
    )


@functools.cache
def _english(language: str) -> Lexicon:
    """CMUdict's words that are in use: most others are names that few could say."""
    used = frequencies()
    words = [w for w in cmudict() if w in used and w.replace("'", "").isalpha() and (len(w) > 1 or w in "ai")]
    return _said(words, language, {word for word in words if used[word] >= COMMON})


def _said(words: Sequence[str], language: str, common: set[str]) -> Lexicon:
    said = ways(words, language)
    pairs = [(word, phones) for word, each in zip(words, said, strict=True) for phones in each if phones]
    return Lexicon(
        language,
        [word for word, _ in pairs],
        [phones for _, phones in pairs],
        code([phones for _, phones in pairs]),
        [word in common for word, _ in pairs],
    )


def read_words(file: Path) -> list[str]:
    """The lines of a file, each once, without empty ones; raises KwsError where there are none or one is no text."""
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KwsError(f"confuse.words={file}: cannot be read as UTF-8 text ({error})") from error
    words = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    if not words:
        raise KwsError(f"confuse.words={file}: no words; one a line is expected")
    for word in words:
        if not any(char.isalnum() for char in word) or word.startswith("[[") or not word.isprintable():
            raise KwsError(f"confuse.words={file}: {word!r} is no word to say")
    return words
