"""Quarantine: a negative that scores like the keyword, or whose text contains it, may be the keyword."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from kws.data.transcripts import Match, contains_phrase
from kws.replay.records import Kind

TRUSTED = (Kind.confusable, Kind.user)  # chosen by a user, so no score is suspect


@dataclass
class QuarantineConfig:
    """Which clips are suspected to contain the keyword."""

    quarantine_above: Annotated[
        float | None,
        Field(
            ge=0,
            le=2,
            description="quarantine clips above this share of the median score of validation keywords; null: off",
        ),
    ] = 0.95


def suspicion(
    kind: Kind,
    keyword: str,
    text: str,
    score: float | None,
    limits: Mapping[str, float],
    keywords: Collection[str] = (),
    match: Match = Match.word,
) -> str:
    """Reason to suspect that a clip contains the keyword; empty without suspicion.

    Positive-aware mining drops negatives that score above 95 % of the positives' score (de Souza Pereira Moreira et
    al., NV-Retriever, 2024). Confusables are exempt, since they are known not to be the keyword.

    Args:
        kind, keyword, text: of the clip.
        score: the latest; None without a score.
        limits: score from which a clip of a keyword is suspect. Other keywords get the highest of them. Empty: no score
            is suspect.
        keywords: of the run; a negative must not contain one of them.
        match: forms of a keyword that count in the text.
    """
    if kind != Kind.confusable and text:
        for word in dict.fromkeys((keyword, *keywords)):
            if contains_phrase(text, word, match):
                return f"its text says {word}"
    limit = limits.get(keyword, max(limits.values(), default=math.inf))
    if kind not in TRUSTED and score is not None and score >= limit:
        return f"scores {score:.3f}, suspect from {limit:.3f}"
    return ""


def limits(positive_scores: object, share: float | None) -> dict[str, float]:
    """Score from which a clip of each keyword is suspect.

    Args:
        positive_scores: median score of validation keywords, by keyword, as a checkpoint's facts hold it.
        share: `quarantine_above`.
    """
    if share is None or not isinstance(positive_scores, Mapping):
        return {}
    return {str(keyword): share * score for keyword, score in positive_scores.items() if isinstance(score, float)}
