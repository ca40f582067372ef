"""Search of a keyword in transcripts, in any script."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

# First word of the Unicode names of letters that are written without blanks between words.
_UNSPACED = {"CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO", "THAI", "LAO", "KHMER"}
_UNSPACED |= {"MYANMAR", "JAVANESE", "BALINESE", "TAI"}
_OPTIONAL_MARKS = {"ARABIC", "HEBREW", "SYRIAC", "VARIATION"}  # vowels that are mostly left out; no letters
_NO_SOUND = {0x0640, 0x034F}  # Arabic tatweel stretches a word; combining grapheme joiner
_AFTER, _MARK = "\v", "\b"  # behind a letter of such a script; before a mark, which belongs to that letter
_APOSTROPHES = re.compile("['\N{RIGHT SINGLE QUOTATION MARK}\N{MODIFIER LETTER APOSTROPHE}`]")
_FORMS_SHOWN = 8
_STRESS = re.compile("(?<=[\u0400-\u04ff])[\u0300\u0301]")  # in Cyrillic text for learners


class Match(StrEnum):
    """Forms of a keyword that count in a transcript."""

    word = "word"
    prefix = "prefix"
    anywhere = "anywhere"


class _Letters(dict[int, str]):
    """Table of `str.translate`: letters, marks and digits stay, all else becomes a blank."""

    def __missing__(self, code: int) -> str:
        self[code] = out = _letter(chr(code))
        return out


def _letter(c: str) -> str:
    kind, script = unicodedata.category(c), unicodedata.name(c, "").split(" ")[0]
    if kind == "Cf" or ord(c) in _NO_SOUND:  # soft hyphens, joiners
        return ""
    if kind[0] == "M":
        return "" if kind == "Mn" and script in _OPTIONAL_MARKS else f"{_MARK}{c}"
    if kind[0] not in "LN":
        return " "
    return f" {c}{_AFTER}" if _unspaced(c) else c


def _unspaced(c: str) -> bool:
    return unicodedata.name(c, "").split(" ")[0] in _UNSPACED


_LETTERS = _Letters()


def contains_phrase(text: str, phrase: str, match: Match = Match.word) -> bool:
    """Whether a transcript contains a keyword; see `form_in`."""
    return bool(form_in(text, phrase, match))


def form_in(text: str, phrase: str, match: Match = Match.word) -> str:
    """The words of a transcript that contain a keyword, normalised; empty if it does not contain the keyword.

    Case, punctuation, `_`, Unicode forms and the vowels of Arabic and Hebrew are ignored. A phrase without a letter or
    digit is never contained. Scripts without blanks have no word boundaries: each letter counts as a word. A Korean
    keyword may have an ending, since particles follow almost every noun.

    Args:
        text: of a recording.
        phrase: the keyword.
        match: word, the whole keyword or its plural in -s or -es; prefix, with any ending; anywhere, also within words.
    """
    for apostrophe in (" ", ""):  # l'ordinateur, but what's up = whats up
        if not (words := _words(phrase, apostrophe)):
            return ""
        before, after = "", "(?:e?s)?"
        if match is not Match.word or unicodedata.name(words[-1], "").startswith("HANGUL"):
            after = "[^ ]*"
        if match is Match.anywhere:
            before = "[^ ]*"
        if found := re.search(f"(?<= ){before}{re.escape(words)}{after}(?= )", f" {_words(text, apostrophe)} "):
            return found.group()
    return ""


@lru_cache(2**14)
def _words(text: str, apostrophe: str) -> str:
    """Words, or single letters in a script without blanks, with one blank between them."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    text = text.replace("i\u0307", "i").replace("ı", "i")  # Turkish: I is the capital of ı, İ of i
    text = _STRESS.sub("", _APOSTROPHES.sub(apostrophe, text)).translate(_LETTERS)
    return " ".join(text.replace(f"{_AFTER}{_MARK}", "").replace(_MARK, "").split())  # \v is a blank for split


def words_of(text: str) -> list[str]:
    """Words of a text, normalised as for `form_in`; single letters in a script without blanks."""
    return _words(text, " ").split(" ")


def forms_listed(forms: Iterable[str]) -> str:
    """Forms of `form_in` as people write them, with the number of each, the most frequent first."""
    counts = Counter(map(_written, forms)).most_common()
    return ", ".join(f"{form} {n}" for form, n in counts[:_FORMS_SHOWN]) + ", ..." * (len(counts) > _FORMS_SHOWN)


def _written(form: str) -> str:
    """A form without the blanks between letters of a script that has none."""
    first, *others = form.split()
    for word in others:
        first += word if _unspaced(first[-1]) and _unspaced(word[0]) else f" {word}"
    return first
