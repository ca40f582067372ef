"""The only door for sound: decode anything, mono, 16-bit, one rate; FLAC written whole or not at all."""

import hashlib
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import librosa
import numpy as np
import soundfile
from numpy.typing import NDArray

from kws.errors import KwsError

_BLOCK_N = 1 << 20  # frames read at once: a header that lies about its length then costs no memory
_LOWEST_RATE = 1000  # Hz; below it a header is damaged, and resampling would fill the memory

# What soundfile decodes, by file name; RAW says nothing about its own format.
EXTENSIONS = frozenset(
    {f".{name.lower()}" for name in soundfile.available_formats() if name != "RAW"}
    | {".aif", ".aifc", ".oga", ".opus", ".snd", ".sph"}
)


class BadAudio(KwsError):
    """A file that gives no usable sound.

    Args:
        name: the file, as people know it.
        reason: what is wrong with it, in a few words.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def sound_files(place: Path, key: str) -> list[Path]:
    """The recording `place`, or all of that folder, sorted; raises KwsError, naming `key`, where there is none."""
    if place.is_file():
        return [place]
    found = sorted(path for path in place.rglob("*") if path.suffix.lower() in EXTENSIONS)
    if not found:
        raise KwsError(f"{key}={place}: no recording there; allowed is a sound file or a folder of them")
    return found


def load(path: Path, sample_rate: int = 16000) -> NDArray[np.float32]:
    """Sound of a file, mono (mean of the channels), at `sample_rate`.

    Args:
        path: any format, rate and number of channels that libsndfile reads.
        sample_rate: Hz of the result; other rates are resampled by soxr at high quality.

    Shape: float32 [T] in [-1, 1], T at least 1.

    Raises:
        BadAudio: missing, undecodable, empty, or not finite.
    """
    name = path.as_posix()
    if not path.is_file():
        raise BadAudio(name, "no such file")
    try:
        x, rate = _decode(path)
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        # libsndfile's own words, without the path that it puts before some of them.
        raise BadAudio(name, str(error).rsplit(": ", 1)[-1].rstrip(".")) from error
    if len(x) == 0:
        raise BadAudio(name, "empty")
    if not np.isfinite(x).all():
        raise BadAudio(name, "holds NaN or infinite samples")
    if rate < _LOWEST_RATE:
        raise BadAudio(name, f"sample rate {rate} Hz, at least {_LOWEST_RATE} expected")
    if rate != sample_rate:
        x = librosa.resample(x, orig_sr=rate, target_sr=sample_rate, res_type="soxr_hq")
        if len(x) == 0:
            raise BadAudio(name, "empty")
    clipped: NDArray[np.float32] = np.clip(x, -1, 1)  # float files and the resampler may overshoot
    return clipped


def _decode(path: Path) -> tuple[NDArray[np.float32], int]:
    with soundfile.SoundFile(path) as file:
        blocks = [np.zeros(0, np.float32)]
        while len(block := file.read(_BLOCK_N, dtype="float32", always_2d=True)):
            blocks.append(block.mean(axis=1))
        return np.concatenate(blocks), int(file.samplerate)


def to_int16(x: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples in [-1, 1] as 16-bit integers, rounded and clipped.

    Shape: any; the same is returned.
    """
    pcm: NDArray[np.int16] = np.clip(np.rint(x * np.float32(32768)), -32768, 32767).astype(np.int16)
    return pcm


def to_float(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """16-bit integers as samples in [-1, 1); `to_int16` gives them back exactly.

    Shape: any; the same is returned.
    """
    return pcm.astype(np.float32) / np.float32(32768)


def save_flac(path: Path, pcm: NDArray[np.int16], sample_rate: int) -> None:
    """Write 16-bit FLAC, lossless and atomic: the file is there whole, or as it was before.

    Args:
        path: where to; its folder exists.
        pcm: the samples.
        sample_rate: Hz.

    Shape: pcm int16 [T].
    """
    encoded = io.BytesIO()  # libsndfile swallows the errors of a Python file; here a full disk raises
    soundfile.write(encoded, pcm, sample_rate, format="FLAC", subtype="PCM_16")
    with replacing(path) as file:
        file.write(encoded.getbuffer())


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` at the end, or leaves it as it was on any error."""
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def content_hash(pcm: NDArray[np.int16]) -> str:
    """SHA-256, in hex, of the samples: the same sound in another container has the same hash.

    Shape: pcm int16 [T], at the project's rate.
    """
    return hashlib.sha256(np.ascontiguousarray(pcm, dtype="<i2").tobytes()).hexdigest()


def loudest_rms(x: NDArray[np.float32], window: int = 512) -> float:
    """RMS of the loudest of the windows that follow one another without overlap; 0 for less than one window.

    Args:
        x: samples.
        window: length in samples; 512 are 32 ms at 16 kHz.

    Shape: x float32 [T].
    """
    n = len(x) // window
    return float(np.sqrt((x[: n * window].reshape(n, window) ** 2).mean(axis=1).max())) if n else 0.0


def keyword_bounds(x: NDArray[np.float32], sample_rate: int, longest_s: float) -> tuple[int, int]:
    """Where the keyword lies in a recording of it: trimmed harder and harder until no more than `longest_s` is left.

    A noisy room stays above a soft limit; a keyword does not last as long as its recording.

    Args:
        x: samples.
        sample_rate: Hz.
        longest_s: seconds that a keyword may last.

    Shape: x float32 [T]; returns (start, end) with 0 <= start < end <= T.
    """
    hop_n = max(1, round(0.008 * sample_rate))
    for top_db in (30, 25, 20, 15, 10):
        start, end = librosa.effects.trim(x, top_db=top_db, frame_length=4 * hop_n, hop_length=hop_n)[1]
        if 0 < end - start <= longest_s * sample_rate:
            return int(start), int(end)
    # Noise throughout: the stretch with the most energy.
    longest_n = min(len(x), round(longest_s * sample_rate))
    energy = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    start = int(np.argmax(energy[longest_n:] - energy[: len(energy) - longest_n]))
    return start, start + longest_n
