"""Negatives for runs without recordings: sentences of random words, and generated noise."""

import importlib.resources
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from kws.common.errors import KwsError
from kws.common.seeding import numpy_generator
from kws.confusables.synthesis.base import OWN_PACE_WPM, Synthesiser, Utterance
from kws.confusables.synthesis.espeak import accents, text_to_ipa
from kws.confusables.synthesis.voices import Voices, assign_splits
from kws.data.audio import to_int16
from kws.data.manifest import Split

MIN_VOCABULARY = 50
# The rate of false alarms needs more hours to measure than training needs sentences, so test gets half of them.
SENTENCE_SHARES = (0.35, 0.15)
COLOURS = {"white": 0, "pink": 0.5, "brown": 1}  # amplitude falls with this power of the frequency
KINDS = (*COLOURS, "hum", "ticks", "chirps")
LENGTH_S = 5.0  # of noise


def sentences(keywords: Sequence[str], n: int, seed: int) -> list[str]:
    """Generate n sentences of 4 to 12 random words that contain no keyword and no homophone of one.

    Raises:
        KwsError: most words contain a keyword.
    """
    vocabulary = without_keywords(keywords, words())
    if len(vocabulary) < MIN_VOCABULARY:
        raise KwsError(f"keyword={list(keywords)}: must be longer; most words of the sentences contain one")
    found = []
    for i in range(n):
        rng = numpy_generator(seed, "corpus", "sentence", i)
        sentence = ""
        while not sentence or any(_letters(keyword) in _letters(sentence) for keyword in keywords):  # across spaces too
            sentence = " ".join(rng.choice(vocabulary, size=rng.integers(4, 13)))
        found.append(sentence)
    return found


def words() -> list[str]:
    """The vocabulary of the sentences, some 600 English words."""
    return importlib.resources.files("kws.confusables.synthesis").joinpath("words.txt").read_text("utf-8").split()


def without_keywords(keywords: Sequence[str], texts: Sequence[str]) -> list[str]:
    """The texts that contain no keyword by spelling or by sound in any accent: homophones are no negatives."""
    spellings = [[_letters(text) for text in (*keywords, *texts)]]
    spellings += [[_letters(ipa) for ipa in text_to_ipa([*keywords, *texts], accent)] for accent in accents()]
    n = len(keywords)
    return [
        text
        for i, text in enumerate(texts, start=n)
        if not any(keyword in spelling[i] for spelling in spellings for keyword in spelling[:n])
    ]


def _letters(text: str) -> str:
    """Letters and digits alone, for comparing spellings or IPA: no spaces, case, stress or length (category Lm)."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in plain if char.isalnum() and unicodedata.category(char) != "Lm")


def plan_noise(n: int, label: str) -> list[Utterance]:
    """Plan n clips of noise, the kinds in turn, divided over the splits."""
    found = []
    for i, split in enumerate(assign_splits(n)):
        kind = KINDS[i % len(KINDS)]
        found.append(Utterance(f"{split}/{kind}-{i:05d}.flac", label, "", "", "", kind, OWN_PACE_WPM, 50, split))
    return found


@dataclass(frozen=True)
class Noise(Synthesiser):
    """Clips of `LENGTH_S` at an RMS level between -50 and -20 dBFS. Every kind of noise is in every split.

    Args:
        seed: of the noise.
    """

    seed: int = 0
    name: ClassVar[str] = "generated"

    def voices(self) -> Voices:
        return {split: [[kind] for kind in KINDS] for split in Split}

    def describe(self, utterance: Utterance) -> str:
        return utterance.voice

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        return {"synthesiser": self.name, "seed": self.seed}

    def synthesise(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        for one in utterances:
            yield to_int16(noise(one.voice, sample_rate, numpy_generator(self.seed, "corpus", one.file)))


def noise(kind: str, sample_rate: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Generate one clip of a kind of noise, in [-1, 1].

    Shape: [LENGTH_S * sample_rate].
    """
    time_s = np.arange(int(LENGTH_S * sample_rate)) / sample_rate
    if kind in COLOURS:
        spectrum = np.fft.rfft(rng.standard_normal(time_s.size))
        frequency_hz = np.maximum(np.fft.rfftfreq(time_s.size, 1 / sample_rate), 20)
        sound = np.fft.irfft(spectrum / frequency_hz ** COLOURS[kind], time_s.size)
    elif kind == "hum":
        order, phase = np.arange(1, 9)[:, None], rng.uniform(0, 2 * np.pi, (8, 1))
        sound = (np.sin(2 * np.pi * order * rng.choice([50, 60]) * time_s + phase) / order).sum(axis=0)
    else:
        since_s = time_s % rng.uniform(0.2, 1.0)
        if kind == "ticks":  # bursts of 2 ms
            sound = rng.standard_normal(time_s.size) * np.exp(-since_s / 0.002)
        else:  # tones that rise until the next one begins
            start_hz, climb_hz_s = rng.uniform(300, 1500), rng.uniform(1000, 5000)
            sound = np.sin(2 * np.pi * (start_hz + climb_hz_s / 2 * since_s) * since_s)
    rms = 10 ** (rng.uniform(-50, -20) / 20)
    return np.asarray(np.clip(sound * rms / np.sqrt(np.mean(sound**2)), -1, 1), dtype=np.float32)
