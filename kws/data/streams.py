"""Streams composed of recordings, with the position of each recording, for evaluation, calibration and mining.

Levels follow one rule for streams with and without the keyword, so that loudness does not reveal the keyword: the noise
bed has its own level, and each recording is scaled to a given SNR above the noise under it. Nothing is normalised over
a stream.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from kws.common.errors import KwsError
from kws.common.settings import Pair
from kws.data.audio import loudest_rms, to_float, to_int16
from kws.data.mending import Fault
from kws.data.noise import repeated

Span = tuple[float, float]

AFTER_S = 0.5  # a detection counts as a hit until this long after the end of the recording
AROUND_S = 0.5  # and in a long one from this long before the keyword to AFTER_S and this long after it
_WINDOW_S = 0.032  # levels are measured on the loudest 32 ms
_SILENT = 1e-4  # -80 dBFS: a quieter noise recording is silent
_NOISE_S = 2.0  # a shorter noise recording is repeated
_FLOOR = 1e-3  # -60 dBFS: under speech, the bed counts as at least this loud


@dataclass
class StreamConfig:
    """How streams are composed of recordings, and how events on them are counted."""

    snr_db: Annotated[list[float], Pair(-20, 60), Field(description="recordings against the noise, dB")] = field(
        default_factory=lambda: [10.0, 10.0]
    )
    noise_db: Annotated[list[float], Pair(-80, 0), Field(description="level of the noise, dBFS")] = field(
        default_factory=lambda: [-40.0, -26.0]
    )
    gap_s: Annotated[float, Field(ge=0, le=60, description="gap between keywords, s")] = 1.0
    negative_gap_s: Annotated[float, Field(ge=0, le=60, description="gap between negatives, s")] = 0.33
    chunk_s: Annotated[
        float, Field(ge=0.01, le=10, description="chunk of a stream, s; a trigger counts from the end of its chunk")
    ] = 0.08
    refractory_s: Annotated[float, Field(ge=0, le=60, description="time without triggers after a trigger, s")] = 1.0
    max_keyword_s: Annotated[
        float, Field(ge=0.2, le=5, description="longest keyword, s, to find the end from which latency counts")
    ] = 1.2


@dataclass(frozen=True)
class Piece:
    """Position of a recording: samples start to start + n_samples hold speech[index], `snr_db` above the noise.

    `snr_db` is infinite in a stream without noise. `keyword` holds the bounds of the keyword in the stream, if known.
    """

    start: int
    n_samples: int
    index: int
    snr_db: float
    keyword: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Stream:
    """A composed stream: samples (int16 [T]), its recordings in order of time, and the noise recordings of the bed.

    `noise_ends` holds the sample at which each of these ends, `faults` those of a single recording.
    """

    pcm: NDArray[np.int16]
    pieces: list[Piece]
    noises: list[int]  # indexes in order of time; a recording sampled twice is listed twice
    sample_rate: int
    noise_ends: list[int] = field(default_factory=list)
    faults: frozenset[Fault] = frozenset()


class _Bed:
    """Endless noise bed: randomly chosen recordings one after another, each at its own level; or silence.

    A short one is repeated from a random place on.
    """

    def __init__(
        self, noise: Sequence[NDArray[np.int16]], rng: np.random.Generator, noise_db: Sequence[float], sample_rate: int
    ) -> None:
        self.noise, self.rng, self.noise_db, self.sample_rate = noise, rng, noise_db, sample_rate
        self.window = window = round(_WINDOW_S * sample_rate)
        self.used, self.ends = list[int](), list[int]()
        self.rest = np.zeros(0, np.float32)
        if len(noise) and not any(loudest_rms(to_float(x), window) > _SILENT for x in noise):
            raise KwsError(f"all {len(noise)} noise recordings are silent or shorter than 32 ms")

    def take(self, n_samples: int) -> NDArray[np.float32]:
        """Next samples of the bed, float32 [n_samples]."""
        if not len(self.noise):
            return np.zeros(n_samples, np.float32)
        taken, missing = [self.rest[:n_samples]], n_samples - len(self.rest)
        self.rest = self.rest[n_samples:]
        while missing > 0:
            i = int(self.rng.integers(len(self.noise)))
            x = to_float(self._long(self.noise[i]))
            if (top := loudest_rms(to_float(self.noise[i]), self.window)) > _SILENT:
                x *= np.float32(10 ** (self.rng.uniform(self.noise_db[0], self.noise_db[1]) / 20) / top)
                taken.append(x[:missing])
                self.rest, missing = x[missing:], missing - len(x)
                self.used.append(i)
                self.ends.append((self.ends[-1] if self.ends else 0) + len(x))
        return np.concatenate(taken)

    def _long(self, x: NDArray[np.int16]) -> NDArray[np.int16]:
        n = round(_NOISE_S * self.sample_rate)
        if len(x) >= n:
            return x
        x = repeated(x, n, self.sample_rate)
        start = int(self.rng.integers(len(x) - n + 1))
        return x[start : start + n]


def compose(
    speech: Sequence[NDArray[np.int16]],
    noise: Sequence[NDArray[np.int16]],
    rng: np.random.Generator,
    gap_s: float,
    snr_db: Sequence[float] = (10, 10),
    noise_db: Sequence[float] = (-40, -26),
    lead_s: float = 0.0,
    sample_rate: int = 16000,
    keywords: Sequence[tuple[int, int]] | None = None,
) -> Stream:
    """Concatenate recordings, in the given order, over a bed of noise.

    Levels are RMS of the loudest 32 ms. Each noise recording gets a random level from `noise_db`. Each speech recording
    gets a random SNR from `snr_db` above the noise under it, measured at its keyword if the bounds are given. Without
    noise recordings the bed is silence and speech keeps its own level. Only the result is held for the whole stream.

    Args:
        speech: recordings at `sample_rate`; one that is silent or below 32 ms adds no audio but has its piece.
        noise: recordings at `sample_rate`, sampled with replacement; silent ones are not used.
        rng: samples noise recordings and both levels.
        gap_s: seconds of bed after each recording, 0 or more.
        snr_db: lowest and highest SNR in dB.
        noise_db: lowest and highest level of a noise recording in dBFS.
        lead_s: seconds of bed before the first recording, 0 or more.
        sample_rate: Hz.
        keywords: first sample, and the sample after the last, of the keyword in each recording.

    Shape: each recording int16 [T], T at least 1.

    Source: the mixing rule of Picovoice's wake-word benchmark.
    """
    window = round(_WINDOW_S * sample_rate)
    bed = _Bed(noise, rng, noise_db, sample_rate)
    gap_n, at = round(gap_s * sample_rate), round(lead_s * sample_rate)
    pcm = np.empty(at + sum(len(x) + gap_n for x in speech), np.int16)
    pcm[:at] = to_int16(bed.take(at))
    pieces = []
    for index, x in enumerate(speech):
        under, piece, snr = bed.take(len(x)), to_float(x), math.inf
        if len(noise):
            snr = float(rng.uniform(snr_db[0], snr_db[1]))
            wanted = max(loudest_rms(under, window), _FLOOR) * 10 ** (snr / 20)
            first, last = (0, len(x)) if keywords is None else keywords[index]
            whole = first // window * window, -(-last // window) * window  # the same windows as in the recording
            top = loudest_rms(piece[slice(*whole)], window) or loudest_rms(piece, window)
            piece *= np.float32(wanted / top if top else 0.0)
        end = at + len(x)
        pcm[at:end] = to_int16(under + piece)
        pcm[end : end + gap_n] = to_int16(bed.take(gap_n))
        keyword = None if keywords is None else (at + keywords[index][0], at + keywords[index][1])
        pieces.append(Piece(at, len(x), index, snr, keyword))
        at = end + gap_n
    return Stream(pcm, pieces, bed.used, sample_rate, bed.ends)


def spans(stream: Stream) -> list[Span]:
    """Time span in which a detection is a hit, for each piece: see `hit_spans`."""
    return hit_spans(stream.pieces, stream.sample_rate)


def hit_spans(pieces: Sequence[Piece], sample_rate: int) -> list[Span]:
    """Time span in which a detection is a hit, for each piece, in seconds.

    From the start of the recording to 0.5 s after its end. Where the bounds of the keyword are known, a hit is also no
    earlier than 0.5 s before its start, and no later than 1 s after its end.
    """
    around_n, found = round(AROUND_S * sample_rate), []
    for piece in pieces:
        start, end = piece.start, piece.start + piece.n_samples
        if piece.keyword is not None:
            start, end = max(start, piece.keyword[0] - around_n), min(end, piece.keyword[1] + around_n)
        found.append((start / sample_rate, end / sample_rate + AFTER_S))
    return found
