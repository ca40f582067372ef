"""Too hard is suspect: a negative that scores like the keyword, or whose text says it, may be the keyword."""

import math
from collections.abc import Collection, Mapping

from kws.data.manifest import says
from kws.replay.records import Kind

TRUSTED = (Kind.CONFUSABLE, Kind.USER)  # a person chose them: they may score as they like


def suspicion(
    kind: Kind,
    keyword: str,
    text: str,
    score: float | None,
    limits: Mapping[str, float],
    keywords: Collection[str] = (),
) -> str:
    """Why a clip is suspected to hold the keyword; empty where it is not.

    Positive-aware mining drops negatives that score above 95 % of what the positives score (de Souza Pereira Moreira et
    al., NV-Retriever, 2024). Curated confusables are exempt: they are known not to be the keyword.

    Args:
        kind, keyword, text: of the clip.
        score: its latest; None where nothing has scored it.
        limits: by keyword, the score from which a clip is suspect; the highest of them holds for keywords not named;
            empty where scores do not matter.
        keywords: of the run, beside that of the clip: none of them may be said in a negative.
    """
    if kind != Kind.CONFUSABLE and text:
        for word in dict.fromkeys((keyword, *keywords)):
            if says(text, word):
                return f"its text says {word}"
    limit = limits.get(keyword, max(limits.values(), default=math.inf))
    if kind not in TRUSTED and score is not None and score >= limit:
        return f"scores {score:.3f}, suspect from {limit:.3f}"
    return ""


def limits(positive_scores: object, share: float | None) -> dict[str, float]:
    """The score from which a clip of each keyword is suspect.

    Args:
        positive_scores: median score of held-out positives by keyword, as a checkpoint's facts hold it; else nothing.
        share: of these scores, at least 0; None where no score is suspect.
    """
    if share is None or not isinstance(positive_scores, Mapping):
        return {}
    return {str(keyword): share * score for keyword, score in positive_scores.items() if isinstance(score, float)}
