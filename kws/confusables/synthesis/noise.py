"""Generated background noise, for runs without recordings: a synthesiser whose voices are kinds of noise."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from kws.common.seeding import numpy_generator
from kws.confusables.synthesis.base import OWN_PACE_WPM, Utterance
from kws.confusables.synthesis.voices import Voices, assign_splits
from kws.data.audio import to_int16
from kws.data.manifest import Split

COLOURS = {"white": 0, "pink": 0.5, "brown": 1}  # amplitude falls with this power of the frequency
KINDS = (*COLOURS, "hum", "ticks", "chirps")
LENGTH_S = 5.0


def plan_noise(n: int, label: str) -> list[Utterance]:
    """n clips of noise, the kinds in turn, divided over the splits."""
    found = []
    for i, split in enumerate(assign_splits(n)):
        kind = KINDS[i % len(KINDS)]
        found.append(Utterance(f"{split}/{kind}-{i:05d}.flac", label, "", "", "", kind, OWN_PACE_WPM, 50, split))
    return found


@dataclass(frozen=True)
class Noise:
    """Clips of `LENGTH_S` at an RMS level between -50 and -20 dBFS.

    Args:
        seed: of the noise.
    """

    seed: int = 0
    name: ClassVar[str] = "generated"
    speaks_phonemes: ClassVar[bool] = False
    batch_size: ClassVar[int] = 50

    def voices(self) -> Voices:
        """Every kind of noise, in every split."""
        return {split: [[kind] for kind in KINDS] for split in Split}

    def speaker(self, voice: str) -> str:
        """The kind."""
        return voice

    def model(self, voice: str) -> str:
        """One model for all kinds."""
        return self.name

    def describe(self, utterance: Utterance) -> str:
        """The kind."""
        return utterance.voice

    def identity(self, voices: Collection[str]) -> dict[str, object]:
        """The seed."""
        return {"synthesiser": self.name, "seed": self.seed}

    def synthesise(self, utterances: Sequence[Utterance], sample_rate: int) -> Iterator[npt.NDArray[np.int16]]:
        """See `Synthesiser`."""
        for one in utterances:
            yield to_int16(noise(one.voice, sample_rate, numpy_generator(self.seed, "corpus", one.file)))


def noise(kind: str, sample_rate: int, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """One clip of a kind of noise, in [-1, 1].

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
