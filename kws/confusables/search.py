"""Search for confusables of a keyword: candidates of all kinds, their phonetic distances, and a diverse selection."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.confusables import candidates, scoring, table
from kws.confusables.candidates import Keyword, Kind
from kws.confusables.ipa import Phones
from kws.confusables.lexicon import Lexicon, lexicon
from kws.confusables.phonemes import Inventory, phonemes, phones_of
from kws.confusables.pronunciation import dialects, espeak_phones, parse_pronunciation, pronunciations
from kws.confusables.scoring import Candidate
from kws.confusables.selection import quotas, spread
from kws.confusables.settings import CandidatesConfig
from kws.confusables.synthesis.espeak import is_phonemes
from kws.data.transcripts import contains_phrase

POOL = 10  # candidates that the selection considers for each that it takes, at most
SAMPLED = 8  # word sequences sampled for each candidate: most are too far or repeated
STEPS = 4 + len(Kind)  # of a search, some 20 s: words, phonemes, sources, distances, homophones, selection


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


def find(
    text: str, config: CandidatesConfig, seed: int = 0, progress: Callable[[int, str], None] = lambda done, next_: None
) -> Found:
    """Find confusables of a keyword. The same arguments give the same candidates.

    Args:
        text: the keyword.
        config: number, distances, kinds, language, and the texts that are always or never taken.
        seed: of all random choices.
        progress: called with the steps done, of `STEPS`, and a name of the next one.

    Raises:
        KwsError: a text cannot be pronounced or read, or an included one contains the keyword.
    """
    bands, language = config.bands, config.language
    spoken = [parse_pronunciation(one, language) for one in config.given()]
    include, exclude = table.texts(config.include, "confuse.include"), table.texts(config.exclude, "confuse.exclude")
    text, others = " ".join(text.split()), dialects(language)[1:]
    if not any(char.isalnum() for char in text):
        raise KwsError(f"keyword={text}: must contain a letter or digit")
    for one in include:
        if _contains(one, text):
            raise KwsError(f"confuse.include: {one!r} contains the keyword; must be texts without {text!r}")
    progress(0, "pronunciations of words")
    words = lexicon(language, None if config.words is None else Path(config.words))
    progress(1, "phonemes")
    inventory = Inventory(phonemes([text], language), language, words.inventory)
    keyword = _keyword(text, language, spoken, inventory)
    for one in filter(is_phonemes, include):
        inventory.read(one)
    drafts: list[tuple[str, Kind]] = []
    for done, (kind, source) in enumerate(_sources(keyword, words, inventory, config, seed).items(), 2):
        progress(done, f"candidates: {kind}")
        drafts += [(one, kind) for one in (source() if config.n and asdict(config.kinds)[kind] else ())]
    excluded = {_plain(one) for one in exclude}
    wanted = {one: kind for one, kind in include.items() if _plain(one) not in excluded}
    first = scoring.score(wanted, keyword, language, bands)
    progress(STEPS - 3, "distances")
    scored = scoring.score(_distinct(drafts, excluded, text), keyword, language, bands)
    # A part of the keyword is a candidate at any distance.
    scored = [one for one in scored if one.distance < bands[-1] or one.kind is Kind.PART]
    progress(STEPS - 2, "homophones")
    same = scoring.homophones(scored, keyword, () if spoken else others)
    containing = scoring.containing(scored, keyword) - same
    near = {i for i, one in enumerate(scored) if one.distance < bands[0]} - same - containing
    left_out = same | containing | near
    free = _free([one for i, one in enumerate(scored) if i not in left_out], first)
    progress(STEPS - 1, "selection")
    chosen = [*first, *_select(free, first, keyword, config, seed)]

    def texts(which: set[int]) -> list[str]:
        return [one.text for one in _by_distance(scored[i] for i in which)]

    available = Counter((one.band, one.kind) for one in free)
    progress(STEPS, "")
    return Found(keyword, _by_distance(chosen), texts(same), texts(containing), texts(near), available)


def _sources(
    keyword: Keyword, words: Lexicon, inventory: Inventory, config: CandidatesConfig, seed: int
) -> dict[Kind, Callable[[], Iterable[str]]]:
    """What makes the candidates of each kind. A kind that is not wanted costs nothing."""
    limit = config.bands[-1]

    def rng(kind: Kind) -> np.random.Generator:
        return numpy_generator(seed, "confuse", keyword.text, kind)

    def sequences() -> Iterable[str]:
        each, kind_rng = -(-SAMPLED * config.n // len(keyword.pronunciations)), rng(Kind.SEQUENCE)
        return chain.from_iterable(
            candidates.sequences(one, words, limit, each, kind_rng) for one in keyword.pronunciations
        )

    return {
        Kind.PART: lambda: candidates.parts(keyword, inventory),
        Kind.WORD: lambda: candidates.words(keyword, words, limit, config.n, rng(Kind.WORD)),
        Kind.SEQUENCE: sequences,
        Kind.SPELLING: lambda: candidates.spellings(keyword, words, config.n, rng(Kind.SPELLING)),
        Kind.PHONES: lambda: candidates.edited_phones(keyword, inventory, config.n, rng(Kind.PHONES)),
    }


def _distinct(drafts: Iterable[tuple[str, Kind]], excluded: Iterable[str], text: str) -> dict[str, Kind]:
    """Candidates without repeated ones, excluded ones, and ones that contain the text of the keyword."""
    pool: dict[str, Kind] = {}
    known = {*excluded}
    for one, kind in sorted(drafts, key=lambda draft: is_phonemes(draft[0])):  # text rather than phonemes
        if _plain(one) not in known and not _contains(one, text):
            pool[one] = kind
        known.add(_plain(one))  # the first kind of a text counts
    return pool


def _free(scored: Iterable[Candidate], first: Iterable[Candidate]) -> list[Candidate]:
    """One candidate for each sound, without the texts and sounds that are taken first."""
    by_sound: dict[Phones, Candidate] = {}
    for candidate in scored:
        by_sound.setdefault(candidate.spoken, candidate)
    taken = {one.text for one in first} | {one.spoken for one in first}
    return [one for one in by_sound.values() if not {one.text, one.spoken} & taken]


def _by_distance(some: Iterable[Candidate]) -> list[Candidate]:
    return sorted(some, key=lambda one: (one.distance, one.text))


def _plain(text: str) -> str:
    return text if is_phonemes(text) else " ".join(text.casefold().split())


def _contains(text: str, keyword: str) -> bool:
    return not is_phonemes(text) and contains_phrase(text, keyword)


def _keyword(text: str, language: str, given: Sequence[str], inventory: Inventory) -> Keyword:
    if given:
        strings = [inventory.from_ipa(one) for one in given]
        spoken = espeak_phones([inventory.write(one) for one in strings], language)
        return Keyword(text, list(dict.fromkeys([*spoken, *map(phones_of, strings)])), strings)
    (known,) = pronunciations([text], language)
    if not known[0]:
        raise KwsError(f"keyword={text}: espeak-ng has no pronunciation of it in {language}")
    return Keyword(text, known, [one for one in phonemes([text], language) if one])


def _select(
    free: Sequence[Candidate], first: Sequence[Candidate], keyword: Keyword, config: CandidatesConfig, seed: int
) -> list[Candidate]:
    """Select candidates by the shares of bands and kinds, diverse in their edits and words within each."""
    cells: dict[tuple[int, Kind], list[Candidate]] = {}
    for one in free:
        cells.setdefault((one.band, one.kind), []).append(one)
    shares: Mapping[Kind, float] = {Kind(kind): share for kind, share in asdict(config.kinds).items()}
    n_bands = len(config.bands) - 1
    sizes = {(b, k): len(cells.get((b, k), ())) for b in range(1, n_bands + 1) for k in shares}
    in_band = [sum(sizes[b, k] for k in shares if shares[k]) for b in range(1, n_bands + 1)]
    seen: Counter[Hashable] = Counter(chain.from_iterable(scoring.traits(first, keyword)))
    picked: list[Candidate] = []
    for band, of_band in enumerate(quotas(max(config.n - len(first), 0), config.quotas, in_band), start=1):
        each = quotas(of_band, list(shares.values()), [sizes[band, kind] for kind in shares])
        for kind, size in zip(shares, each, strict=True):
            rng = numpy_generator(seed, "confuse", keyword.text, "spread", band, kind)
            cell = cells.get((band, kind), [])
            cell = [cell[i] for i in np.sort(rng.permutation(len(cell))[: POOL * size])]
            picked += [cell[i] for i in spread(scoring.traits(cell, keyword), size, seen, rng)]
    return picked
