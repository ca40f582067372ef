"""What is said of a keyword: itself and its candidates, by the same voices."""

import math
from collections.abc import Sequence

from kws.confuse.find import Candidate
from kws.confuse.plan import CONFUSABLE, Role, Saying
from kws.confuse.synthesis import Synthesiser
from kws.confuse.voices import PARTS, SHARES
from kws.manifest import Part


def roles(
    synthesiser: Synthesiser, keyword: str, candidates: Sequence[Candidate], positives: int, confusables: int | None
) -> list[Role]:
    """The roles of a plan whose training part has so many clips; other voices say some more to measure by.

    Args:
        synthesiser: who speaks.
        keyword: what is to be heard.
        candidates: what sounds like it; those that are phonemes are left out where the synthesiser cannot say them.
        positives: clips of the keyword, for training.
        confusables: of the candidates, for training; None: one of each.
    """
    said = [one for one in candidates if synthesiser.says_phones or not one.as_phones]
    sayings = [
        Saying(phones="".join(one.phones), keyword=keyword) if one.as_phones else Saying(one.text, keyword=keyword)
        for one in said
    ]
    label = " ".join(keyword.split()).replace(" ", "_")
    return [
        Role(label, [Saying(keyword, keyword=keyword)], in_all(synthesiser, positives)),
        Role(CONFUSABLE, sayings, in_all(synthesiser, len(sayings) if confusables is None else confusables)),
    ]


def in_all(synthesiser: Synthesiser, train_n: int) -> int:
    """Clips of all parts, of which so many are for training: parts without a voice get none."""
    shares = dict(zip(PARTS, (*SHARES, 1 - sum(SHARES)), strict=True))
    whole = sum(share for part, share in shares.items() if synthesiser.voices()[part])
    return math.ceil(train_n * whole / shares[Part.TRAIN] - 1e-9)
