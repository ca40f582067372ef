"""Which clips are to be said, by whom and how: plain records, drawn by a seed.

Positives and confusables of a plan are said by the same voices, as often as one another, at the same rates and pitches:
a voice never tells the class.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.confusables.search import Candidate
from kws.confusables.synthesis.base import Synthesiser, Utterance
from kws.confusables.synthesis.espeak import PITCHES, RATES_WPM, plain
from kws.confusables.synthesis.mnemonics import spelt
from kws.confusables.synthesis.render import plain_name
from kws.confusables.synthesis.voices import PARTS, SHARES, cast, spread
from kws.data.manifest import CONFUSABLE, NOISE, Split


@dataclass(frozen=True)
class Saying:
    """Something to say: a text, or phones (IPA) with the text as their spelling, if they have one.

    Args:
        text: with a letter or digit, unless there are phones.
        phones: said instead of the text where not empty.
        keyword: that this is, or sounds like.

    Raises KwsError for one with nothing to say.
    """

    text: str = ""
    phones: str = ""
    keyword: str = ""

    def __post_init__(self) -> None:
        if self.text or not spelt(self.phones):
            object.__setattr__(self, "text", " ".join(plain(self.text).split()))


@dataclass(frozen=True)
class Role:
    """What a label of a plan says: so many clips of these sayings, each as often as the next.

    Raises KwsError for less than no clips, and for clips of no sayings.
    """

    label: str
    sayings: Sequence[Saying]
    n: int

    def __post_init__(self) -> None:
        if self.n < 0 or (self.n and not self.sayings):
            raise KwsError(f"label {self.label!r}: {self.n} clips of {len(self.sayings)} sayings")


def plan(
    synthesiser: Synthesiser,
    roles: Sequence[Role],
    seed: int,
    split: Split,
    rates: tuple[int, int] = (130, 210),
    pitches: tuple[int, int] = (20, 80),
) -> list[Utterance]:
    """The clips of one part; depends on nothing but its arguments.

    As many voices as the smallest role has clips, each said by all roles, as often as the next. The i-th clips of all
    roles have the same voice, rate and pitch.

    Args:
        synthesiser: whose voices of the part are drawn from.
        roles: each keyword under its label, and confusables under `CONFUSABLE`.
        seed: of all that is drawn. It does not move a voice to another part.
        part: of the clips.
        rates: lowest and highest words a minute, in [80, 450].
        pitches: lowest and highest pitch, in [0, 99].

    Raises KwsError for values out of range, a label that comes twice or is noise, phones for a synthesiser that says
    none, and a part without a voice.
    """
    _check(synthesiser, roles, rates, pitches)
    roles = [role for role in roles if role.n]
    if not roles:
        return []
    timbres = synthesiser.voices()[split]
    if not timbres:
        raise KwsError(f"{synthesiser.name}: none of its voices is for the {split} part; more voices are needed")
    rng = numpy_generator(seed, "said", split)
    counts = [role.n for role in roles]
    voices = cast([timbres[i] for i in rng.permutation(len(timbres))], min(counts), rng)
    rate, pitch = (rng.integers(low, high + 1, max(counts)) for low, high in (rates, pitches))
    found = []
    for role in roles:
        for i, one in enumerate(_in_turn(role, seed, split)):
            file = f"{split}/{plain_name(role.label)}/{plain_name(one.text or one.phones)}-{i:05d}.flac"
            manner = voices[i % len(voices)], int(rate[i]), int(pitch[i])
            found.append(Utterance(file, role.label, one.text, one.phones, one.keyword, *manner, split))
    return found


def plan_parts(
    synthesiser: Synthesiser,
    roles: Sequence[Role],
    seed: int,
    shares: tuple[float, float] = SHARES,
    rates: tuple[int, int] = (130, 210),
    pitches: tuple[int, int] = (20, 80),
) -> list[Utterance]:
    """The clips of all parts: the `n` of each role divided among those that have voices.

    Args:
        synthesiser, roles, seed, rates, pitches: as of `plan`.
        shares: of train and validation, at least 0 and at most 1 in all; test gets the rest.

    Raises KwsError as `plan` does.
    """
    if min(shares) < 0 or sum(shares) > 1:
        raise KwsError(f"shares={list(shares)}: at least 0 each and at most 1 in all expected")
    voices = synthesiser.voices()
    of = {p: share * bool(voices[p]) for p, share in zip(PARTS, (*shares, 1 - sum(shares)), strict=True)}
    if not (whole := sum(of.values())):
        raise KwsError(f"{synthesiser.name}: no voice in the parts that get clips; more voices are needed")
    splits = [spread(role.n, (of[PARTS[0]] / whole, of[PARTS[1]] / whole)) for role in roles]
    found = []
    for split in PARTS:
        counted = [replace(role, n=its.count(split)) for role, its in zip(roles, splits, strict=True)]
        found += plan(synthesiser, counted, seed, split, rates, pitches)
    return found


def _check(synthesiser: Synthesiser, roles: Sequence[Role], rates: tuple[int, int], pitches: tuple[int, int]) -> None:
    for name, (low, high), (least, most) in (("rates", rates, RATES_WPM), ("pitches", pitches, PITCHES)):
        if not least <= low <= high <= most:
            raise KwsError(f"{name}=[{low}, {high}]: lowest and highest, in [{least}, {most}], expected")
    seen = set()
    for role in roles:
        folder = plain_name(role.label)
        if not role.label or role.label != role.label.strip() or role.label == NOISE or folder in seen:
            raise KwsError(
                f"label {role.label!r}: one that comes once, without spaces around it, and not noise expected"
            )
        seen.add(folder)
        if not synthesiser.says_phones and any(one.phones for one in role.sayings):
            raise KwsError(f"label {role.label!r}: phones, which the synthesiser {synthesiser.name} cannot say")


def _in_turn(role: Role, seed: int, split: Split) -> Iterator[Saying]:
    """All sayings in an order by lot, then all in another, so that each is said by many voices."""
    for start in range(0, role.n, len(role.sayings)):
        order = numpy_generator(seed, "said", split, role.label, start).permutation(len(role.sayings))
        yield from (role.sayings[i] for i in order[: role.n - start])


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
    whole = sum(share for split, share in shares.items() if synthesiser.voices()[split])
    return math.ceil(train_n * whole / shares[Split.TRAIN] - 1e-9)
