"""Search for confusables of a keyword: candidates of all kinds, their phonetic distances, and a diverse selection."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.confusables import candidates, scoring, table
from kws.confusables.candidates import Draft, Keyword, Kind
from kws.confusables.ipa import Phones
from kws.confusables.lexicon import Lexicon, lexicon
from kws.confusables.phonemes import Inventory, phonemes, phones_of
from kws.confusables.pronunciation import dialects, espeak_phones, parse_pronunciation, pronunciations
from kws.confusables.scoring import Scored
from kws.confusables.selection import quotas, spread
from kws.confusables.settings import CandidatesConfig
from kws.confusables.synthesis.espeak import is_phonemes
from kws.data.manifest import contains_phrase

POOL = 10  # candidates that the selection considers for each that it takes, at most
DRAWN = 8  # word sequences drawn for each candidate: most are too far or come twice


@dataclass(frozen=True)
class Candidate:
    """A text or phoneme string that sounds similar to the keyword.

    Attributes:
        text: words, or espeak-ng's phoneme string such as `[[k'at]]`.
        is_phonemes: whether `text` is a phoneme string.
        phones: the one of its pronunciations that is nearest to the keyword, in IPA.
        kind: where it comes from.
        distance: to the keyword, as a share of the keyword's distance from silence.
        band: band of the distance, from 1; 0 is nearer than the first. Everything beyond the last counts to it.
    """

    text: str
    is_phonemes: bool
    phones: Phones
    kind: Kind
    distance: float
    band: int


@dataclass(frozen=True)
class Found:
    """The selected candidates, and those left out.

    Attributes:
        keyword: its text and pronunciations.
        chosen: the candidates, by distance.
        homophones: texts that sound like the keyword, in the language or in another dialect.
        containing: texts that contain the whole sound of the keyword.
        too_near: texts nearer than the first band.
        available: number of candidates that could be selected, by band and kind.
    """

    keyword: Keyword
    chosen: list[Candidate]
    homophones: list[str]
    containing: list[str]
    too_near: list[str]
    available: Counter[tuple[int, Kind]]


def find(text: str, config: CandidatesConfig, seed: int = 0) -> Found:
    """Find confusables of a keyword. The same arguments give the same candidates.

    Args:
        text: the keyword.
        config: number, distances, kinds, language, and the texts that are always or never taken.
        seed: of all random choices.

    Raises KwsError for a text that cannot be pronounced or read, and for an included one that contains the keyword.
    """
    n, bands, language = config.n, config.bands, config.language
    given = [config.pronunciations] if isinstance(config.pronunciations, str) else config.pronunciations or []
    include, exclude = table.texts(config.include, "confuse.include"), table.texts(config.exclude, "confuse.exclude")
    kind_shares = {Kind(kind): share for kind, share in asdict(config.kinds).items()}
    text, others = " ".join(text.split()), dialects(language)[1:]
    if not any(char.isalnum() for char in text):
        raise KwsError(f"keyword={text}: must contain a letter or digit")
    known = lexicon(language, None if config.words is None else Path(config.words))
    inventory = Inventory([*known.phonemes, *phonemes([text], language)], language)
    keyword = _keyword(text, language, given, inventory)
    excluded = {_plain(one) for one in exclude}
    wanted = [_included(one, kind, keyword, inventory) for one, kind in include.items()]
    first = scoring.score([draft for draft in wanted if _plain(draft.text) not in excluded], keyword, language)
    drafts = _drafts(keyword, known, inventory, n, bands[-1], kind_shares, seed)
    once: dict[str, Draft] = {}
    for draft in sorted(drafts, key=lambda draft: is_phonemes(draft.text)):  # text rather than phonemes
        once.setdefault(_plain(draft.text), draft)  # the first kind of a text counts
    pool = [draft for plain, draft in once.items() if plain not in excluded and not _says(draft, keyword)]
    # A part of the keyword is a candidate at any distance.
    scored = [s for s in scoring.score(pool, keyword, language) if s.distance < bands[-1] or s.draft.kind is Kind.PART]
    same = scoring.homophones(scored, keyword, () if given else others)
    containing = scoring.containing(scored, keyword) - same
    near = {i for i, one in enumerate(scored) if one.distance < bands[0]} - same - containing
    taken = {one.draft.text for one in first} | {one.spoken for one in first}
    free = scoring.distinct([one for i, one in enumerate(scored) if i not in same | containing | near])
    free = [one for one in free if not {one.draft.text, one.spoken} & taken]
    picked = _pick(free, first, keyword, max(n - len(first), 0), bands, config.quotas, kind_shares, seed)
    return Found(
        keyword,
        sorted((_candidate(one, bands) for one in [*first, *picked]), key=lambda one: (one.distance, one.text)),
        _texts(scored[i] for i in same),
        _texts(scored[i] for i in containing),
        _texts(scored[i] for i in near),
        Counter((_band(one, bands), one.draft.kind) for one in free),
    )


def _plain(text: str) -> str:
    return text if is_phonemes(text) else " ".join(text.casefold().split())


def _says(draft: Draft, keyword: Keyword) -> bool:
    return not is_phonemes(draft.text) and contains_phrase(draft.text, keyword.text)


def _texts(scored: Iterable[Scored]) -> list[str]:
    return [one.draft.text for one in sorted(scored, key=lambda one: (one.distance, one.draft.text))]


def _keyword(text: str, language: str, given: Sequence[str], inventory: Inventory) -> Keyword:
    if given:
        strings = [inventory.from_ipa(parse_pronunciation(one, language)) for one in given]
        spoken = espeak_phones([inventory.write(one) for one in strings], language)
        return Keyword(text, list(dict.fromkeys([*spoken, *map(phones_of, strings)])), strings)
    (known,) = pronunciations([text], language)
    if not known[0]:
        raise KwsError(f"keyword={text}: espeak-ng has no pronunciation of it in {language}")
    return Keyword(text, known, [one for one in phonemes([text], language) if one])


def _included(text: str, kind: Kind, keyword: Keyword, inventory: Inventory) -> Draft:
    """A candidate of the user's own; raises KwsError for unknown phonemes, and where it contains the keyword."""
    draft = Draft(text, kind)
    if is_phonemes(text):
        inventory.read(text)
    if _says(draft, keyword):
        raise KwsError(f"confuse.include: {text!r} contains the keyword; must be texts without {keyword.text!r}")
    return draft


def _drafts(
    keyword: Keyword,
    known: Lexicon,
    inventory: Inventory,
    n: int,
    max_distance: float,
    kind_shares: Mapping[Kind, float],
    seed: int,
) -> list[Draft]:
    """Drafts of all kinds that have a share, more of each kind than are taken."""

    def rng(kind: Kind) -> np.random.Generator:
        return numpy_generator(seed, "confuse", keyword.text, kind)

    sources: dict[Kind, Callable[[], list[Draft]]] = {
        Kind.PART: lambda: candidates.parts(keyword, inventory),
        Kind.WORD: lambda: candidates.words(keyword, known, max_distance, n, rng(Kind.WORD)),
        Kind.SEQUENCE: lambda: candidates.word_sequences(keyword, known, max_distance, DRAWN * n, rng(Kind.SEQUENCE)),
        Kind.SPELLING: lambda: candidates.spellings(keyword, known, n, rng(Kind.SPELLING)),
        Kind.PHONES: lambda: candidates.edited_phones(keyword, inventory, n, rng(Kind.PHONES)),
    }
    return [draft for kind, source in sources.items() if n and kind_shares.get(kind) for draft in source()]


def _band(one: Scored, bands: Sequence[float]) -> int:
    return min(int(np.searchsorted(bands, one.distance, side="right")), len(bands) - 1)


def _pick(
    free: Sequence[Scored],
    first: Sequence[Scored],
    keyword: Keyword,
    n: int,
    bands: Sequence[float],
    band_shares: Sequence[float],
    kind_shares: Mapping[Kind, float],
    seed: int,
) -> list[Scored]:
    """Select n candidates by the shares of bands and kinds, diverse in their edits and words within each."""
    cells: dict[tuple[int, Kind], list[Scored]] = {}
    for one in free:
        cells.setdefault((_band(one, bands), one.draft.kind), []).append(one)
    sizes = {(b, k): len(cells.get((b, k), ())) for b in range(1, len(bands)) for k in kind_shares}
    in_band = [sum(sizes[b, k] for k in kind_shares if kind_shares[k]) for b in range(1, len(bands))]
    seen: Counter[Hashable] = Counter(trait for each in scoring.traits(first, keyword) for trait in each)
    picked: list[Scored] = []
    for band, of_band in enumerate(quotas(n, band_shares, in_band), start=1):
        each = quotas(of_band, list(kind_shares.values()), [sizes[band, kind] for kind in kind_shares])
        for kind, size in zip(kind_shares, each, strict=True):
            rng = numpy_generator(seed, "confuse", keyword.text, "spread", band, kind)
            cell = cells.get((band, kind), [])
            cell = [cell[i] for i in np.sort(rng.permutation(len(cell))[: POOL * size])]
            picked += [cell[i] for i in spread(scoring.traits(cell, keyword), size, seen, rng)]
    return picked


def _candidate(one: Scored, bands: Sequence[float]) -> Candidate:
    text = one.draft.text
    return Candidate(text, is_phonemes(text), one.phones, one.draft.kind, one.distance, _band(one, bands))
