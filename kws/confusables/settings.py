"""Settings of the search for confusables, and of synthetic clips."""

from dataclasses import asdict, dataclass, field
from enum import StrEnum, auto
from itertools import pairwise
from typing import Annotated, Any

from pydantic import Field

from kws.common.settings import INPUT, PATH, TEXT, Each, SettingError

MIN_CLIPS = 12  # clips for training where everything is synthetic; with fewer, a split may get none


@dataclass
class SyntheticConfig:
    """Clips made for training (extra kws[speech]); other voices of espeak-ng speak validation and test."""

    positives: Annotated[
        int, Field(ge=0, le=10**6, description="clips of each keyword, beside its recordings or in place of them")
    ] = 0
    spliced: Annotated[
        int,
        Field(
            ge=0,
            le=10**5,
            description="clips of each keyword spliced from transcribed train recordings, and as many of other phrases",
        ),
    ] = 0
    confusables: Annotated[
        int, Field(ge=0, le=10**6, description="clips of confusables of each keyword; they enter the replay buffer")
    ] = 0
    sentences: Annotated[
        int, Field(ge=0, le=10**5, description="negatives, sentences of random words, where the recordings hold less")
    ] = 0
    noises: Annotated[int, Field(ge=0, le=10**5, description="noise, clips of 5 s, where the recordings hold less")] = 0


@dataclass
class CandidateKinds:
    """Share of each kind of candidate in each band of distance; 0: none."""

    word: Annotated[float, Field(ge=0, le=1, description="words of the lexicon")] = 0.3
    sequence: Annotated[float, Field(ge=0, le=1, description="sequences of such words")] = 0.3
    phones: Annotated[float, Field(ge=0, le=1, description="the keyword with 1 to 3 phonemes edited")] = 0.2
    part: Annotated[
        float, Field(ge=0, le=1, description="parts of the keyword: beginnings, endings, halves, its words alone")
    ] = 0.05
    spelling: Annotated[float, Field(ge=0, le=1, description="the keyword with 1 to 3 letters edited")] = 0.15


class Synth(StrEnum):
    """Synthesisers."""

    espeak = auto()
    piper = auto()
    command = auto()


@dataclass
class CandidatesConfig:
    """Texts and phoneme strings that are confusable with the keyword.

    A distance is a share of the cost of deleting the keyword: 0 is the same sound, 1 as far as silence.
    """

    n: Annotated[int, Field(ge=0, le=50000, description="candidates in all; those of include are always taken")] = 3000
    bands: Annotated[
        list[float], Each(0, 2), Field(description="edges of the bands of distance; nearer candidates are left out")
    ] = field(default_factory=lambda: [0.05, 0.15, 0.25, 0.4, 0.55, 0.9])
    quotas: Annotated[
        list[float], Each(0, 1), Field(description="share of each band; a band with too few is filled from the others")
    ] = field(default_factory=lambda: [0.2, 0.25, 0.25, 0.2, 0.1])
    kinds: CandidateKinds = field(default_factory=CandidateKinds)
    language: Annotated[str, Field(description="of espeak-ng: en-us, en, de, fr, cmn and so on")] = "en-us"
    pronunciations: Annotated[
        Any,
        TEXT,
        Field(description="of the keyword, in IPA or in ARPAbet, [K AH0 M P Y UW1 T ER0]; null: known ones"),
    ] = None
    words: Annotated[
        str | None,
        INPUT,
        Field(description="file of words, one a line; null: common words of CMUdict, for English"),
    ] = None
    include: Annotated[Any, PATH, Field(description="always taken: texts, or a file as kws confuse list writes it")] = (
        None
    )
    exclude: Annotated[Any, PATH, Field(description="never taken: the same")] = None

    def given(self) -> list[str]:
        """The pronunciations as a list, empty where none is given."""
        return [self.pronunciations] if isinstance(self.pronunciations, str) else self.pronunciations or []

    def check(self) -> None:
        if len(self.bands) < 2 or any(low >= high for low, high in pairwise(self.bands)):
            raise SettingError("bands", self.bands, "must be two edges or more, each above the one before")
        if len(self.quotas) != len(self.bands) - 1 or not any(self.quotas):
            rule = f"must be a share for each of the {len(self.bands) - 1} bands, one above 0"
            raise SettingError("quotas", self.quotas, rule)
        given = self.pronunciations
        listed = isinstance(given, list) and all(isinstance(one, str) for one in given)
        if not (given is None or isinstance(given, str) or listed):
            raise SettingError("pronunciations", given, "must be one pronunciation or a list of them")
        if not any(asdict(self.kinds).values()):
            raise SettingError("kinds", asdict(self.kinds), "must have at least one share above 0")
