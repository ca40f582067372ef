"""Keywords that contain one another, and labels that contain a keyword: `hey computer` contains `computer`."""

from collections.abc import Sequence

from kws.data.transcripts import contains_phrase, form_in, words_of

# In a label, these say that recordings are not the keyword: not_computer, computer-negatives, no computer.
_NOT = {"not", "no", "non", "without", "neg", "negative", "negatives", "anti", "other", "others", "near", "like"}
_NOT |= {"unlike", "similar", "confusable", "confusables", "nicht", "kein", "keine", "pas", "sans", "niet", "geen"}


def contained(keywords: Sequence[str]) -> list[list[int]]:
    """For each keyword the positions of those that it contains, such as `computer` for `hey computer`."""
    return [
        [j for j, part in enumerate(keywords) if j != i and contains_phrase(k, part)] for i, k in enumerate(keywords)
    ]


def contained_lines(keywords: Sequence[str]) -> list[str]:
    """A line for each keyword that contains others: how they are told apart."""
    lines = []
    for keyword, parts in zip(keywords, contained(keywords), strict=True):
        if parts:
            names = " and ".join(keywords[j] for j in parts)
            lines.append(
                f"{keyword!r} contains {names}: its recordings do not train {names}, and a trigger of {names} in them "
                f"is neither a hit nor a false alarm; where both trigger, {keyword!r} was spoken"
            )
    return lines


def named(label: str, keyword: str) -> bool:
    """Whether a label contains a keyword and does not say that it is absent, as `not_computer` does."""
    form = form_in(label, keyword)
    return bool(form) and not _NOT & (set(words_of(label)) - set(form.split()))


def ambiguous(label: str, keyword: str) -> bool:
    """Whether recordings with this label may say the keyword: `hey computer`, `ok_computer`, `computer lights on`.

    A label that begins with the keyword and is no phrase with blanks is taken for the name of a class: `clock_alarm`.
    """
    form = form_in(label, keyword)
    return named(label, keyword) and (" " in label.strip() or words_of(label)[-len(form.split()) :] == form.split())
