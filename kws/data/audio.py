"""Audio files: decoding to mono 16-bit PCM at one sample rate, atomic FLAC writes, levels and keyword bounds.

Recordings come as devices and recorders write them; see `kws.data.mending` for what is mended while they are decoded.
"""

import hashlib
import io
import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.data import ffmpeg
from kws.data.mending import Fault, Mender, divisor_of
from kws.data.unfinished import UNKNOWN_N, Endless, Tail, unfinished

_BLOCK_N = 1 << 20  # frames read at once, so that a header with a wrong length costs no memory
_SHORT_N = 1024  # the same in a file that may end anywhere, of which at most this is lost
_LOWEST_RATE = 1000  # Hz; a lower rate means a damaged header, and resampling would fill the memory

# File extensions of sound, most of which soundfile decodes. RAW files have no header.
EXTENSIONS = frozenset(
    {f".{name.lower()}" for name in soundfile.available_formats() if name != "RAW"}
    | {".aif", ".aifc", ".oga", ".opus", ".snd", ".sph", ".wave"}
    | ffmpeg.EXTENSIONS
)


class BadAudio(KwsError):
    """An audio file that cannot be decoded: the file, as shown to the user, and the reason in a few words."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def load(path: Path, sample_rate: int = 16000, faults: set[Fault] | None = None) -> NDArray[np.float32]:
    """Decode a recording to mono (mean of the channels) at `sample_rate`.

    Args:
        path: any format, sample rate and number of channels that libsndfile or ffmpeg reads.
        sample_rate: Hz of the result. Other rates are resampled by soxr at high quality.
        faults: the faults of the recording are added to it.

    Shape: float32 [T] in [-1, 1], T at least 1.

    Raises:
        BadAudio: missing, undecodable, empty, silent, or not finite.
    """
    return np.concatenate(list(_sound(path, sample_rate, set() if faults is None else faults)))


def pcm_blocks(
    path: Path, sample_rate: int, block_n: int, faults: set[Fault] | None = None
) -> Iterator[NDArray[np.int16]]:
    """Decode a recording block by block, in flat memory. The blocks together equal `to_int16(load(...))`.

    Args:
        path: as for `load`.
        sample_rate: Hz of the result.
        block_n: samples of a block, at least 1. The last block may be shorter.
        faults: as for `load`, once all blocks are read.

    Raises:
        BadAudio: as for `load`, when the damaged block, or the end of a silent recording, is reached.
    """
    rest = np.zeros(0, np.int16)
    for block in _pcm(path, sample_rate, set() if faults is None else faults):
        rest = np.concatenate([rest, block])
        whole = len(rest) - len(rest) % block_n
        for at in range(0, whole, block_n):
            yield rest[at : at + block_n]
        rest = rest[whole:]
    if len(rest):
        yield rest


def cut(path: Path, sample_rate: int, start_s: float, end_s: float) -> NDArray[np.int16]:
    """Decode a recording from `start_s` to `end_s`, clamped to it. Shape: returns int16 [T]; raises as `load`."""
    with _open(path, set()) as file, _named_errors(path):
        rate, mender = file.samplerate, _mender(path, file)
        start, end = (min(max(0, round(at * rate)), file.frames) for at in (start_s, end_s))
        if isinstance(file, Endless):
            block = _part(_read(path, file, "float32"), start, end)
        else:
            file.seek(start)
            block = file.read(end - start, dtype="float32", always_2d=True)
        x = mender.mono(block) if len(block) else block[:, 0]
    if rate != sample_rate and len(x):
        x = soxr.resample(x, rate, sample_rate, quality="soxr_hq")
    return to_int16(np.clip(x, -1, 1))


def _part(blocks: Iterator[NDArray[np.float32]], start: int, end: int) -> NDArray[np.float32]:
    """Frames `start` to `end` of blocks that cannot be skipped, in the memory of the part."""
    at, kept = 0, list[NDArray[np.float32]]()
    for block in blocks:
        if at + len(block) > start or not kept:
            kept.append(block[max(0, start - at) : max(0, end - at)])
        at += len(block)
        if at >= end:
            break
    return np.concatenate(kept)


def read_exactly(path: Path) -> NDArray[np.int16]:
    """Read a mono file that kws wrote, such as a clip of a replay buffer, sample for sample.

    Shape: int16 [T], T at least 1.

    Raises:
        BadAudio: missing, undecodable, or empty.
    """
    with _open(path, set()) as file:
        return np.concatenate(list(_read(path, file, "int16")))


def length_s(path: Path) -> float:
    """Duration in seconds from the header of a file; 0 if the header cannot be read, or does not give it."""
    if ffmpeg.needed(path):
        return ffmpeg.length_s(path)
    try:
        with _open(path, set()) as file:
            return 0.0 if isinstance(file, Endless) else float(file.frames / file.samplerate)
    except BadAudio:
        return 0.0


def _pcm(path: Path, sample_rate: int, faults: set[Fault]) -> Iterator[NDArray[np.int16]]:
    plain = False
    if not ffmpeg.needed(path):  # ffmpeg converts a file once, not twice
        with _open(path, faults) as file:
            plain = file.subtype == "PCM_16" and file.channels == 1 and file.samplerate == sample_rate
            if plain:  # the common case: decoding to float and back gives the same in three times the time
                mender = _mender(path, file)
                for block in _read(path, file, "int16"):
                    yield mender.pcm(block)
                _check(path, mender, faults)
    if not plain:
        for sound in _sound(path, sample_rate, faults):
            yield to_int16(sound)


def _sound(path: Path, sample_rate: int, faults: set[Fault]) -> Iterator[NDArray[np.float32]]:
    """Blocks of `load`: at least one, none empty."""
    n_out = n_in = 0
    with _open(path, faults) as file:
        rate, mender = int(file.samplerate), _mender(path, file)
        resampler = soxr.ResampleStream(rate, sample_rate, 1, "float32", "soxr_hq") if rate != sample_rate else None
        for block in _read(path, file, "float32"):
            if not np.isfinite(block).all():
                raise BadAudio(path.as_posix(), "holds NaN or infinite samples")
            x = mender.mono(block)
            n_in += len(x)
            if resampler is not None:
                x = resampler.resample_chunk(x)
            if len(x):
                n_out += len(x)
                yield np.clip(x, -1, 1)  # float files and the resampler may exceed the range
    _check(path, mender, faults)
    if resampler is not None:
        # Exactly as long as the file: the tail of the filter is cut, or padded with silence.
        last = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        wanted = math.ceil(n_in * sample_rate / rate) - n_out
        x = np.append(last, np.zeros(max(0, wanted - len(last)), np.float32))[: max(0, wanted)]
        if len(x):
            yield np.clip(x, -1, 1)


@contextmanager
def _open(path: Path, faults: set[Fault]) -> Iterator[soundfile.SoundFile]:
    """Open a recording, converted by ffmpeg where soundfile does not decode it.

    A file whose header gives a wrong length, or none, is read to its end.
    """
    if not path.is_file():
        raise BadAudio(path.as_posix(), "a folder, not a file" if path.is_dir() else "no such file")
    with ExitStack() as stack:
        with _named_errors(path):
            readable = stack.enter_context(ffmpeg.converted(path)) if ffmpeg.needed(path) else path
            name = os.fsencode(readable)  # it need not be UTF-8
            if samples := unfinished(readable):
                faults.add(Fault.unfinished)
                tail = stack.enter_context(Tail(readable, samples.start))
                file = stack.enter_context(soundfile.SoundFile(tail, format="RAW", **samples.form))
            else:
                file = stack.enter_context(soundfile.SoundFile(name))
            if file.frames == UNKNOWN_N:
                faults.add(Fault.unfinished)
                file = stack.enter_context(Endless(name))
        if file.samplerate < _LOWEST_RATE:
            reason = f"sample rate {file.samplerate} Hz, at least {_LOWEST_RATE} expected"
            raise BadAudio(path.as_posix(), reason)
        yield file


def _mender(path: Path, file: soundfile.SoundFile) -> Mender:
    """Mends the blocks of a recording. Float samples are read once before, since their range is of the whole."""
    divisor = 1.0
    if file.subtype in ("FLOAT", "DOUBLE"):
        with _named_errors(path):
            divisor = divisor_of(_read(path, file, "float32"))
            file.seek(0)
    return Mender(file.samplerate, divisor)


def _check(path: Path, mender: Mender, faults: set[Fault]) -> None:
    """Add the faults of a recording once it is read, or raise BadAudio if it is unusable."""
    if reason := mender.check():
        raise BadAudio(path.as_posix(), reason)
    faults |= mender.faults


def _read(path: Path, file: soundfile.SoundFile, kind: str) -> Iterator[NDArray[Any]]:
    """Decoded blocks, int16 [n] or float32 [n, channels]."""
    empty, endless = True, isinstance(file, Endless)
    while True:
        with _named_errors(path):
            try:
                block = file.read(_SHORT_N if endless else _BLOCK_N, dtype=kind, always_2d=kind == "float32")
            except soundfile.LibsndfileError:
                if empty or not endless:
                    raise
                break  # within a block of samples that was never finished
        if not len(block):
            break
        empty = False
        yield block
    if empty:
        raise BadAudio(path.as_posix(), "empty")


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (soundfile.SoundFileError, ffmpeg.FfmpegError, OSError, TypeError, ValueError) as error:
        # libsndfile puts the path before some of its messages.
        raise BadAudio(path.as_posix(), str(error).rsplit(": ", 1)[-1].rstrip(".")) from error


def to_int16(x: NDArray[np.float32]) -> NDArray[np.int16]:
    """Convert samples in [-1, 1] to 16-bit integers, rounded and clipped. Shape: any; the same is returned."""
    pcm: NDArray[np.int16] = np.clip(np.rint(x * np.float32(32768)), -32768, 32767).astype(np.int16)
    return pcm


def to_float(pcm: NDArray[np.int16]) -> NDArray[np.float32]:
    """Convert 16-bit integers to samples in [-1, 1); the inverse of `to_int16`. Shape: any; the same is returned."""
    return pcm.astype(np.float32) / np.float32(32768)


def save_flac(path: Path, pcm: NDArray[np.int16], sample_rate: int) -> None:
    """Write samples (int16 [T]) as 16-bit FLAC, atomically."""
    encoded = flac(pcm, sample_rate)  # libsndfile ignores the errors of a Python file object, such as a full disk
    with replacing(path) as file:
        file.write(encoded)


def flac(pcm: NDArray[np.int16], sample_rate: int) -> bytes:
    """Encode samples (int16 [T]) as 16-bit FLAC."""
    encoded = io.BytesIO()
    soundfile.write(encoded, pcm, sample_rate, format="FLAC", subtype="PCM_16")
    return encoded.getvalue()


def file_hash(path: Path, sample_rate: int) -> str:
    """The `content_hash` of a recording of any length at a sample rate in Hz, in flat memory. Raises as `load`."""
    digest = hashlib.sha256()
    for block in pcm_blocks(path, sample_rate, 60 * sample_rate):
        digest.update(block.astype("<i2").tobytes())
    return digest.hexdigest()


def content_hash(pcm: NDArray[np.int16]) -> str:
    """SHA-256 of the samples (int16 [T]), in hex. The same audio in another container has the same hash."""
    return hashlib.sha256(np.ascontiguousarray(pcm, dtype="<i2").tobytes()).hexdigest()


def loudest_rms(x: NDArray[np.float32], window: int = 512) -> float:
    """RMS of the loudest of consecutive windows of `window` samples; 0 for less than one window.

    Shape: x float32 [T].
    """
    n = len(x) // window
    return float(np.sqrt((x[: n * window].reshape(n, window) ** 2).mean(axis=1).max())) if n else 0.0


def keyword_bounds(x: NDArray[np.float32], sample_rate: int, longest_s: float) -> tuple[int, int]:
    """Find a keyword in a recording: silence is trimmed at rising thresholds until at most `longest_s` is left.

    Shape: x float32 [T]; returns (start, end) with 0 <= start < end <= T.
    """
    # As librosa.effects.trim, whose import takes seconds: frames of 32 ms every 8 ms, in dB below the loudest.
    hop_n = max(1, round(0.008 * sample_rate))
    frames = sliding_window_view(np.pad(x, 2 * hop_n), 4 * hop_n)[::hop_n]
    rms = np.sqrt(np.square(frames, dtype=np.float32).mean(axis=1)).clip(1e-5)
    level_db = 20 * np.log10(rms / rms.max())
    for top_db in (30, 25, 20, 15, 10):
        loud = np.flatnonzero(level_db > -top_db)
        start, end = loud[0] * hop_n, min(len(x), (loud[-1] + 1) * hop_n)
        if 0 < end - start <= longest_s * sample_rate:
            return int(start), int(end)
    # Noise at every threshold: the window with the most energy.
    longest_n = min(len(x), round(longest_s * sample_rate))
    energy = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
    start = int(np.argmax(energy[longest_n:] - energy[: len(energy) - longest_n]))
    return start, start + longest_n
