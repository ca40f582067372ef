"""What sounds like a keyword and is not it: candidates of every kind, judged by their phones, and a choice of them."""

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.confusables import candidates, scoring
from kws.confusables.candidates import Draft, Keyword, Kind
from kws.confusables.ipa import Phones
from kws.confusables.lexicon import Lexicon, lexicon
from kws.confusables.phonemes import Inventory, phones_of, sounds
from kws.confusables.pronunciation import dialects, given, is_phonemes, spoken, ways
from kws.confusables.scoring import Heard
from kws.confusables.selection import quotas, spread
from kws.data.manifest import says

LOOKED_AT = 10  # candidates for each that is taken, at most
DRAWN = 8  # sequences of words are drawn for each candidate that is wanted: most are too far, or come twice


@dataclass(frozen=True)
class Candidate:
    """Something to be said that is not the keyword.

    Attributes:
        text: words to be said; or espeak-ng's string of phonemes, such as `[[k'at]]`.
        as_phones: whether `text` is such a string, of the language that was asked for.
        phones: those among its pronunciations that are nearest to the keyword, in IPA.
        kind: where it comes from.
        distance: to the keyword, as a share of the keyword's distance from silence.
        band: of the distance, from 1; 0 is nearer than the first. What is farther than the last counts to it.
    """

    text: str
    as_phones: bool
    phones: Phones
    kind: Kind
    distance: float
    band: int


@dataclass(frozen=True)
class Found:
    """The candidates, and what was left out.

    Attributes:
        keyword: its text and pronunciations.
        chosen: the candidates, by distance.
        homophones: texts that sound like the keyword, here or in another dialect.
        holding: texts with the keyword's whole sound in them.
        too_near: texts nearer than the first band.
        available: how many there were to choose from, by band and kind.
    """

    keyword: Keyword
    chosen: list[Candidate]
    homophones: list[str]
    holding: list[str]
    too_near: list[str]
    available: Counter[tuple[int, Kind]]


def find(
    text: str,
    n: int,
    bands: Sequence[float],
    band_shares: Sequence[float],
    kind_shares: Mapping[Kind, float],
    language: str = "en-us",
    pronunciations: Sequence[str] = (),
    words: Path | None = None,
    include: Mapping[str, Kind] | None = None,
    exclude: Collection[str] = (),
    seed: int = 0,
) -> Found:
    """Candidates that sound somewhat like a keyword. The same arguments give the same candidates.

    Args:
        text: the keyword.
        n: how many in all; those of `include` count, and are taken even where they are more.
        bands: edges of the bands of distance, as shares of the keyword's distance from silence, ascending.
        band_shares: how much of the choice each band gets.
        kind_shares: how much of each band each kind gets; what one lacks, the others fill.
        language: of espeak-ng's, which says the words.
        pronunciations: of the keyword, in IPA (or ARPAbet for English), in place of the known ones.
        words: a file of words, one a line; None for English: CMUdict's that are in use.
        include: texts, or espeak-ng's strings of phonemes, that are taken whatever their distance, and their kinds.
        exclude: texts that are not taken.
        seed: of every draw.

    Raises KwsError for what cannot be said or read, and for an included text that holds the keyword.
    """
    text, others = " ".join(text.split()), dialects(language)[1:]
    if not any(char.isalnum() for char in text):
        raise KwsError(f"keyword={text}: allowed is what has a letter or digit to say")
    known = lexicon(language, words)
    inventory = Inventory([*known.sounds, *sounds([text], language)], language)
    keyword = _keyword(text, language, pronunciations, inventory)
    refused = {_plain(one) for one in exclude}
    wanted = [_given(one, kind, keyword, inventory) for one, kind in (include or {}).items()]
    first = scoring.hear([draft for draft in wanted if _plain(draft.text) not in refused], keyword, language)
    drafts = _drafts(keyword, known, inventory, n, bands[-1], kind_shares, seed)
    once: dict[str, Draft] = {}
    for draft in sorted(drafts, key=lambda draft: is_phonemes(draft.text)):  # text rather than phonemes
        once.setdefault(_plain(draft.text), draft)  # of one text, the first kind counts
    pool = [draft for plain, draft in once.items() if plain not in refused and not _says(draft, keyword)]
    # A part of the keyword is one at any distance.
    heard = [h for h in scoring.hear(pool, keyword, language) if h.distance < bands[-1] or h.draft.kind is Kind.PART]
    same = scoring.homophones(heard, keyword, () if pronunciations else others)
    held = scoring.holding(heard, keyword) - same
    near = {i for i, one in enumerate(heard) if one.distance < bands[0]} - same - held
    taken = {one.draft.text for one in first} | {one.said for one in first}
    free = scoring.differing([one for i, one in enumerate(heard) if i not in same | held | near])
    free = [one for one in free if not {one.draft.text, one.said} & taken]
    picked = _pick(free, first, keyword, max(n - len(first), 0), bands, band_shares, kind_shares, seed)
    return Found(
        keyword,
        sorted((_candidate(one, bands) for one in [*first, *picked]), key=lambda one: (one.distance, one.text)),
        _texts(heard[i] for i in same),
        _texts(heard[i] for i in held),
        _texts(heard[i] for i in near),
        Counter((_band(one, bands), one.draft.kind) for one in free),
    )


def _plain(text: str) -> str:
    return text if is_phonemes(text) else " ".join(text.casefold().split())


def _says(draft: Draft, keyword: Keyword) -> bool:
    return not is_phonemes(draft.text) and says(draft.text, keyword.text)


def _texts(heard: Iterable[Heard]) -> list[str]:
    return [one.draft.text for one in sorted(heard, key=lambda one: (one.distance, one.draft.text))]


def _keyword(text: str, language: str, pronunciations: Sequence[str], inventory: Inventory) -> Keyword:
    if pronunciations:
        strings = [inventory.of_ipa(given(one, language)) for one in pronunciations]
        as_said = spoken([inventory.write(said) for said in strings], language)
        return Keyword(text, list(dict.fromkeys([*as_said, *map(phones_of, strings)])), strings)
    (known,) = ways([text], language)
    if not known[0]:
        raise KwsError(f"keyword={text}: espeak-ng says nothing for it in {language}")
    return Keyword(text, known, [said for said in sounds([text], language) if said])


def _given(text: str, kind: Kind, keyword: Keyword, inventory: Inventory) -> Draft:
    """What a person wants to be among the candidates."""
    draft = Draft(text, kind)
    if is_phonemes(text):
        inventory.read(text)  # or it is no phoneme's name
    if _says(draft, keyword):
        raise KwsError(f"confuse.include: {text!r} holds the keyword; allowed is what does not say {keyword.text!r}")
    return draft


def _drafts(
    keyword: Keyword,
    known: Lexicon,
    inventory: Inventory,
    n: int,
    most_distance: float,
    kind_shares: Mapping[Kind, float],
    seed: int,
) -> list[Draft]:
    """Those of all kinds that have a share, more of each than will be taken."""

    def rng(kind: Kind) -> np.random.Generator:
        return numpy_generator(seed, "confuse", keyword.text, kind)

    sources: dict[Kind, Callable[[], list[Draft]]] = {
        Kind.PART: lambda: candidates.parts(keyword, inventory),
        Kind.WORD: lambda: candidates.words(keyword, known, most_distance, n, rng(Kind.WORD)),
        Kind.SEQUENCE: lambda: candidates.word_sequences(keyword, known, most_distance, DRAWN * n, rng(Kind.SEQUENCE)),
        Kind.SPELLING: lambda: candidates.spellings(keyword, known, n, rng(Kind.SPELLING)),
        Kind.PHONES: lambda: candidates.edited_phones(keyword, inventory, n, rng(Kind.PHONES)),
    }
    return [draft for kind, source in sources.items() if n and kind_shares.get(kind) for draft in source()]


def _band(one: Heard, bands: Sequence[float]) -> int:
    return min(int(np.searchsorted(bands, one.distance, side="right")), len(bands) - 1)


def _pick(
    free: Sequence[Heard],
    first: Sequence[Heard],
    keyword: Keyword,
    n: int,
    bands: Sequence[float],
    band_shares: Sequence[float],
    kind_shares: Mapping[Kind, float],
    seed: int,
) -> list[Heard]:
    """So many out of all bands and kinds, spread over what is changed and where, and over words."""
    cells: dict[tuple[int, Kind], list[Heard]] = {}
    for one in free:
        cells.setdefault((_band(one, bands), one.draft.kind), []).append(one)
    sizes = {(b, k): len(cells.get((b, k), ())) for b in range(1, len(bands)) for k in kind_shares}
    in_band = [sum(sizes[b, k] for k in kind_shares if kind_shares[k]) for b in range(1, len(bands))]
    seen: Counter[Hashable] = Counter(trait for each in scoring.traits(first, keyword) for trait in each)
    picked: list[Heard] = []
    for band, most in enumerate(quotas(n, band_shares, in_band), start=1):
        each = quotas(most, list(kind_shares.values()), [sizes[band, kind] for kind in kind_shares])
        for kind, size in zip(kind_shares, each, strict=True):
            rng = numpy_generator(seed, "confuse", keyword.text, "spread", band, kind)
            cell = cells.get((band, kind), [])
            cell = [cell[i] for i in np.sort(rng.permutation(len(cell))[: LOOKED_AT * size])]
            picked += [cell[i] for i in spread(scoring.traits(cell, keyword), size, seen, rng)]
    return picked


def _candidate(one: Heard, bands: Sequence[float]) -> Candidate:
    draft = one.draft
    return Candidate(draft.text, is_phonemes(draft.text), one.phones, draft.kind, one.distance, _band(one, bands))
