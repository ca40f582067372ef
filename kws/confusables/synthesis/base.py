"""What every synthesiser is to the rest: voices that have parts, and utterances that become sound."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from kws.common.seeding import numpy_generator
from kws.confusables.synthesis.espeak import Voice, speak, timbres
from kws.confusables.synthesis.mnemonics import speak_phones
from kws.confusables.synthesis.voices import Voices, by_lot
from kws.data.audio import to_int16
from kws.data.manifest import Split

OWN_PACE_WPM = 175  # where a synthesiser takes a factor instead of words a minute, this rate is 1


@dataclass(frozen=True)
class Utterance:
    """One clip to be said.

    Args:
        file: of the clip, relative to its folder; made of plain characters.
        label: of the recording.
        text: what is said; empty where there are phones and no spelling.
        phones: IPA, said instead of the text unless empty.
        keyword: that it is, or sounds like; empty for neither.
        voice: by a name that its synthesiser knows.
        rate_wpm: words a minute.
        pitch: 0 to 99, 50 is the voice's own.
        part: what the clip may be used for.
    """

    file: str
    label: str
    text: str
    phones: str
    keyword: str
    voice: str
    rate_wpm: int
    pitch: int
    split: Split


class Synthesiser(Protocol):
    """Plain values that can be sent to another process, where the sound is made."""

    name: ClassVar[str]
    says_phones: ClassVar[bool]
    at_once: ClassVar[int]  # utterances that one call of `say` gets, at most

    def voices(self) -> Voices:
        """Its voices, by part and timbre."""

    def speaker(self, voice: str) -> str:
        """The timbre of a voice."""

    def model(self, voice: str) -> str:
        """What has to be loaded for it: one call of `say` gets utterances of one model."""

    def manner(self, utterance: Utterance) -> str:
        """Voice, rate and pitch as far as the synthesiser can, in words."""

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        """What else, beside the utterances, their bytes depend on; `voices` are those in use."""

    def say(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        """The sound of each, in order. The same utterances in one call are the same samples in every process.

        Shape: yields int16 [T].
        """


@dataclass(frozen=True)
class Espeak:
    """espeak-ng inside the process; see `speech`.

    Args:
        lots: seed of the lots that divide the timbres over the parts, one for all folders that are used together. The
            quickstart's corpus draws by the seed of its run, which is 0 unless set.
        accent: that phones are written in.
    """

    lots: int = 0
    accent: str = "en-us"
    name: ClassVar[str] = "espeak-ng"
    says_phones: ClassVar[bool] = True
    at_once: ClassVar[int] = 50

    def voices(self) -> Voices:
        """Every variant in every accent, the variants in exact shares."""
        return by_lot(timbres(), numpy_generator(self.lots, "corpus", "cast"))

    def speaker(self, voice: str) -> str:
        """The variant."""
        return voice.partition("+")[2]

    def model(self, voice: str) -> str:
        """One for all: each utterance loads the library anew."""
        return self.name

    def manner(self, utterance: Utterance) -> str:
        """All three."""
        return f"{utterance.voice}, {utterance.rate_wpm} wpm, pitch {utterance.pitch}"

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        """The release of the library and the accent of phones."""
        return {"synthesiser": self.name, "release": version("espeakng-loader"), "accent": self.accent}

    def say(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        """See `Synthesiser`."""
        for one in utterances:
            voice = Voice(one.voice, one.rate_wpm, one.pitch)
            if one.phones:
                yield to_int16(speak_phones(one.phones, voice, sample_rate, self.accent))
            else:
                yield to_int16(speak(one.text, voice, sample_rate))
