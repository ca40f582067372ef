"""The interface of every synthesiser: voices by split, and utterances that become sound; espeak-ng behind it."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from kws.common.seeding import numpy_generator
from kws.confusables.synthesis.espeak import Voice, speak, speak_phonemes, timbres
from kws.confusables.synthesis.voices import Voices, split_exactly
from kws.data.audio import to_int16
from kws.data.manifest import Split

OWN_PACE_WPM = 175  # where a synthesiser takes a factor instead of words per minute, this rate is 1


@dataclass(frozen=True)
class Utterance:
    """One clip to synthesise.

    Args:
        file: path of the clip relative to its folder, of plain characters.
        label: label of the recording.
        text: the text; empty where there is a phoneme string instead.
        phonemes: phoneme string such as `[[k'at]]`, synthesised in place of the text unless empty.
        keyword: the keyword of a positive, or the one that a confusable resembles; empty for neither.
        voice: name of a voice of the synthesiser.
        rate_wpm: words per minute.
        pitch: 0 to 99; 50 is the voice's own.
        split: split of the clip.
    """

    file: str
    label: str
    text: str
    phonemes: str
    keyword: str
    voice: str
    rate_wpm: int
    pitch: int
    split: Split


class Synthesiser(ABC):
    """Plain values that can be pickled for another process, which synthesises."""

    name: ClassVar[str]
    speaks_phonemes: ClassVar[bool] = False
    batch_size: ClassVar[int] = 50  # most utterances of one call of `synthesise`

    @abstractmethod
    def voices(self) -> Voices:
        """The voices, by split and timbre."""

    def speaker(self, voice: str) -> str:
        """The timbre of a voice."""
        return voice

    def model(self, voice: str) -> str:
        """The model of a voice: one call of `synthesise` gets utterances of one model."""
        return self.name

    @abstractmethod
    def describe(self, utterance: Utterance) -> str:
        """Voice, rate and pitch in words, as far as the synthesiser uses them."""

    @abstractmethod
    def identity(self, voices: Collection[str]) -> dict[str, object]:
        """Everything else that determines the bytes of utterances by `voices`, such as releases and model hashes."""

    @abstractmethod
    def synthesise(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        """The sound of each utterance, in order. The same utterances in one call give the same samples everywhere.

        Shape: yields int16 [T].
        """


@dataclass(frozen=True)
class Espeak(Synthesiser):
    """espeak-ng inside the process. Every English accent has every variant; the variants are the timbres.

    Args:
        seed: of the assignment of timbres to splits; it must be equal for all folders that are used together.
    """

    seed: int = 0
    name: ClassVar[str] = "espeak-ng"
    speaks_phonemes: ClassVar[bool] = True

    def voices(self) -> Voices:
        return split_exactly(timbres(), numpy_generator(self.seed, "corpus", "cast"))

    def speaker(self, voice: str) -> str:
        return voice.partition("+")[2]

    def describe(self, utterance: Utterance) -> str:
        return f"{utterance.voice}, {utterance.rate_wpm} wpm, pitch {utterance.pitch}"

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        return {"synthesiser": self.name, "release": version("espeakng-loader")}

    def synthesise(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        for one in utterances:
            voice = Voice(one.voice, one.rate_wpm, one.pitch)
            if one.phonemes:
                yield to_int16(speak_phonemes(one.phonemes, voice, sample_rate))
            else:
                yield to_int16(speak(one.text, voice, sample_rate))
