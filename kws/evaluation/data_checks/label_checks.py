"""Checks of labels and transcripts: what looks like noise or like a keyword, and negatives that say a keyword."""

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from kws.common.text import plural
from kws.data.dataset import nearly_noise
from kws.data.manifest import CONFUSABLE, Recording
from kws.data.names import folded, same_word
from kws.data.overlap import ambiguous, contained_lines
from kws.data.transcripts import forms_listed
from kws.evaluation.data_checks.finding import Case, Finding, Level

_ALIKE = 0.75  # share of equal letters from which two labels may be one word


def noise_labels(found: Sequence[Recording], keywords: Sequence[str], noise_label: str) -> list[Finding]:
    """Labels that probably mean background noise, but would count as speech."""
    counts = Counter(one.label for one in found)
    return [
        Finding(
            "label like noise",
            Level.fault,
            f"label {label!r} of {plural(counts[label], 'recording')} looks like noise, and would count as speech",
            f"Rename it to {noise_label!r} if it is noise, or set data.noise_label={label}.",
            [Case(one.name) for one in found if one.label == label],
        )
        for label in nearly_noise(counts, keywords, noise_label)
    ]


def keyword_labels(found: Sequence[Recording], keywords: Sequence[str], noise_label: str) -> list[Finding]:
    """Labels that are nearly a keyword, but count as negatives."""
    counts = Counter(one.label for one in found)
    return [
        Finding(
            "label like a keyword",
            Level.warning,
            f"label {label!r} of {plural(counts[label], 'recording')} is nearly {keyword!r}, and counts as negative",
            "Rename it if it means the keyword; else nothing must be done.",
            [Case(one.name) for one in found if one.label == label],
        )
        for label in sorted(counts)
        if label not in (noise_label, CONFUSABLE) and not any(same_word(label, k) for k in keywords)
        for keyword in keywords
        if _alike(folded(label), folded(keyword)) and not ambiguous(label, keyword)
    ]


def _alike(label: str, keyword: str) -> bool:
    """Whether two names may mean one word: one holds the other, or most letters are the same."""
    return keyword in label or SequenceMatcher(None, label, keyword, autojunk=False).ratio() >= _ALIKE


def spoken(left_out: Sequence[tuple[Recording, str]]) -> list[Finding]:
    """Negatives that are left out, because their transcript contains a keyword.

    Args:
        left_out: recordings, each with the form of the keyword in its transcript.
    """
    if not left_out:
        return []
    forms = forms_listed(form for _, form in left_out)
    text = f"{plural(len(left_out), 'negative')} left out, with a keyword in the transcript ({forms})"
    cases = [Case(one.name, one.text) for one, _ in left_out]
    return [
        Finding("says the keyword", Level.warning, text, "Nothing must be done if the transcripts are right.", cases)
    ]


def contain(left_out: Sequence[Recording]) -> list[Finding]:
    """Recordings that are left out, because their label contains a keyword and no transcript says what they are."""
    if not left_out:
        return []
    labels = forms_listed(one.label for one in left_out)
    text = f"{plural(len(left_out), 'recording')} left out, with a keyword in the label and no transcript ({labels})"
    mend = "Give transcripts, or a label such as not_KEYWORD if they do not say it."
    return [Finding("label contains a keyword", Level.warning, text, mend, [Case(one.name) for one in left_out])]


def overlapping(keywords: Sequence[str]) -> list[Finding]:
    """Keywords that contain one another, a note for each."""
    return [Finding("keywords overlap", Level.note, line) for line in contained_lines(keywords)]
