"""Where live audio comes from: a microphone, standard input, or a file."""

import queue
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError, first_line, missing_extra
from kws.common.settings import shown
from kws.data.audio import pcm_blocks

LOST = "audio was lost: the machine is too slow, or something stopped it"
_CODED = {b"fLaC", b"RIFX", b"OggS", b"FORM", b"caff", b"RF64"} | {b"ID3" + bytes([version]) for version in range(256)}
_GONE_S = 5.0  # a microphone without a block for so long is gone
_QUEUED = 200  # blocks: 16 s of 80 ms


def from_file(path: Path, sample_rate: int, block_n: int) -> Iterator[NDArray[np.int16]]:
    """Blocks of a recording in any format."""
    yield from pcm_blocks(path, sample_rate, block_n)


def from_pipe(pipe: IO[bytes], sample_rate: int, block_n: int) -> Iterator[NDArray[np.int16]]:
    """Blocks of a pipe: a WAV, or samples alone, 16 bits, little-endian, one channel.

    Raises:
        KwsError: a WAV of another sample rate, of several channels, or of other samples.
    """
    start = pipe.read(4)
    if start == b"RIFF":
        yield from _wav(pipe, start, sample_rate, block_n)
    elif start in _CODED:
        raise KwsError("input=-: must be a WAV or raw samples; ffmpeg -i FILE -f s16le -ac 1 -ar RATE - makes them")
    else:
        yield from _raw(pipe, start, block_n)


def _raw(pipe: IO[bytes], rest: bytes, block_n: int) -> Iterator[NDArray[np.int16]]:
    while block := pipe.read(2 * block_n - len(rest)):
        rest += block
        if len(rest) == 2 * block_n:
            yield np.frombuffer(rest, "<i2").astype(np.int16)
            rest = b""
    if len(rest) > 1:
        yield np.frombuffer(rest[: len(rest) // 2 * 2], "<i2").astype(np.int16)


class _Started:
    """A pipe of which the first bytes were read already."""

    def __init__(self, start: bytes, pipe: IO[bytes]) -> None:
        self.start, self.pipe = start, pipe

    def read(self, n: int = -1) -> bytes:
        if not self.start:
            return self.pipe.read(n)
        taken, self.start = (self.start, b"") if n < 0 else (self.start[:n], self.start[n:])
        return taken + (self.pipe.read(n - len(taken)) if n < 0 or len(taken) < n else b"")

    def close(self) -> None:
        self.pipe.close()


def _wav(pipe: IO[bytes], start: bytes, sample_rate: int, block_n: int) -> Iterator[NDArray[np.int16]]:
    try:
        file = wave.open(_Started(start, pipe), "rb")  # type: ignore[call-overload]  # noqa: SIM115
    except (wave.Error, EOFError) as error:
        raise KwsError(f"input=-: not a WAV that can be read ({first_line(error)})") from None
    is_ = (file.getframerate(), file.getnchannels(), 8 * file.getsampwidth())
    if is_ != (sample_rate, 1, 16):
        raise KwsError(
            f"input=-: must be a WAV of {sample_rate} Hz, 1 channel and 16 bits, not of {is_[0]} Hz, {is_[1]} "
            f"channels and {is_[2]} bits; sox or ffmpeg converts it"
        )
    if not file.getnframes():  # a recorder that pipes does not know the length
        yield from _raw(pipe, b"", block_n)
    while block := file.readframes(block_n):
        yield np.frombuffer(block[: len(block) // 2 * 2], "<i2").astype(np.int16)


def microphones() -> str:
    """The devices that record, one a line."""
    return str(_sounddevice().query_devices())


def from_microphone(device: str | None, sample_rate: int, block_n: int, warn: Any) -> Iterator[NDArray[np.int16]]:
    """Blocks of a microphone, until the program is stopped.

    Args:
        device: number or part of the name of a device; None for the default one.
        sample_rate: Hz.
        block_n: samples of a block.
        warn: called with a sentence where audio was lost.

    Raises:
        KwsError: the extra kws[listen] is not installed, or there is no such device.
    """
    sounddevice, blocks = _sounddevice(), queue.Queue[NDArray[np.int16]](_QUEUED)

    def add(pcm: Any, frames: int, time: Any, status: Any) -> None:
        if status or blocks.full():
            warn(LOST)
        if not blocks.full():
            blocks.put(np.frombuffer(bytes(pcm), np.int16))

    chosen = int(device) if device is not None and device.isdigit() else device
    try:
        with sounddevice.RawInputStream(
            samplerate=sample_rate, blocksize=block_n, device=chosen, channels=1, dtype="int16", callback=add
        ):
            while True:
                yield blocks.get(timeout=_GONE_S)
    except queue.Empty:
        raise KwsError(f"device={shown(device)}: gives no audio any more; was it unplugged?") from None
    except (sounddevice.PortAudioError, ValueError) as error:
        raise KwsError(
            f"device={shown(device)}: cannot record ({first_line(error)}); device=list shows the devices"
        ) from None


def _sounddevice() -> Any:
    """The module; raises KwsError where it or its library is missing."""
    try:
        import sounddevice
    except ImportError as error:
        raise missing_extra("the microphone", "listen") from error
    except OSError as error:  # PortAudio
        raise KwsError(f"the microphone needs PortAudio, Debian's libportaudio2 ({first_line(error)})") from error
    return sounddevice
