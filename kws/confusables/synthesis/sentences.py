"""Sentences of random words as negatives, for runs without recordings."""

import importlib.resources
import unicodedata
from collections.abc import Sequence

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.confusables.synthesis.espeak import accents, text_to_ipa

MIN_VOCABULARY = 50
# The rate of false alarms needs more hours to measure than training needs sentences, so test gets half of them.
SENTENCE_SHARES = (0.35, 0.15)


def sentences(keywords: Sequence[str], n: int, seed: int) -> list[str]:
    """n sentences of 4 to 12 random words that contain no keyword and no homophone of one.

    Raises KwsError where most words contain a keyword.
    """
    vocabulary = without_keywords(keywords, words())
    if len(vocabulary) < MIN_VOCABULARY:
        raise KwsError(f"keyword={list(keywords)}: must be longer, most words of the sentences contain one")
    found = []
    for i in range(n):
        rng = numpy_generator(seed, "corpus", "sentence", i)
        sentence = ""
        while not sentence or any(_letters(keyword) in _letters(sentence) for keyword in keywords):  # across spaces too
            sentence = " ".join(rng.choice(vocabulary, size=rng.integers(4, 13)))
        found.append(sentence)
    return found


def words() -> list[str]:
    """The vocabulary of the sentences, some 600 English words."""
    return importlib.resources.files("kws.confusables.synthesis").joinpath("words.txt").read_text("utf-8").split()


def without_keywords(keywords: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The texts that contain no keyword by spelling or by sound in any accent: homophones are no negatives."""
    spellings = [[_letters(text) for text in (*keywords, *texts)]]
    spellings += [[_letters(ipa) for ipa in text_to_ipa([*keywords, *texts], accent)] for accent in accents()]
    n = len(keywords)
    return [
        text
        for i, text in enumerate(texts, start=n)
        if not any(keyword in spelling[i] for spelling in spellings for keyword in spelling[:n])
    ]


def _letters(text: str) -> str:
    """Letters and digits alone, for comparing spellings or IPA: no spaces, case, stress or length (category Lm)."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in plain if char.isalnum() and unicodedata.category(char) != "Lm")
