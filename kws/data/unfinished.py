"""Files whose header was never finished: a recorder that was killed leaves a length of 0, all ones, or of long ago.

libsndfile reads W64, AIFF and Ogg to the end in spite of it. WAV, RF64, AU and CAF are read here as plain samples.
"""

import io
import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import soundfile

UNKNOWN_N = 2**63 - 1  # length of a file of unknown length, as soundfile gives it
_ONES = 0xFFFFFFFF
_TOO_MANY = 2**31  # channels, or samples a second: libsndfile counts them in 32 bits

# Types of samples, one after another, by the codes and bits of the formats.
_WAV = {(1, 8): "PCM_U8", (1, 16): "PCM_16", (1, 24): "PCM_24", (1, 32): "PCM_32", (3, 32): "FLOAT", (3, 64): "DOUBLE"}
_WAV |= {(6, 8): "ALAW", (7, 8): "ULAW"}
_AU = {1: "ULAW", 2: "PCM_S8", 3: "PCM_16", 4: "PCM_24", 5: "PCM_32", 6: "FLOAT", 7: "DOUBLE", 27: "ALAW"}
_CAF = {(b"lpcm", 0, bits): f"PCM_{'S' * (bits == 8)}{bits}" for bits in (8, 16, 24, 32)}
_CAF |= {(b"lpcm", 1, 32): "FLOAT", (b"lpcm", 1, 64): "DOUBLE", (b"alaw", 0, 8): "ALAW", (b"ulaw", 0, 8): "ULAW"}


@dataclass(frozen=True)
class Samples:
    """Samples from byte `start` of a file to its end; `form` is what soundfile needs to read them as RAW."""

    start: int
    form: Mapping[str, str | int]


class Tail(io.FileIO):
    """The bytes of a file from `start` to its end."""

    def __init__(self, path: Path, start: int) -> None:
        super().__init__(os.fsencode(path))
        self.start = start
        self.seek(0)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return super().seek(offset + (self.start if whence == os.SEEK_SET else 0), whence) - self.start

    def tell(self) -> int:
        return super().tell() - self.start


class Endless(soundfile.SoundFile):  # type: ignore[misc]
    """A file of unknown length, such as FLAC without the number of its samples. It is read without seeking."""

    def seekable(self) -> bool:
        return False


def unfinished(path: Path) -> Samples | None:
    """The samples of a file whose header gives a wrong length for them.

    None if it is right, if the samples are in blocks (ADPCM), or if libsndfile reads the format to the end by itself.
    """
    readers: dict[bytes, Callable[[BinaryIO, int], Samples | None]]
    readers = {b"RIFF": _riff, b"RIFX": _riff, b"RF64": _riff, b".snd": _au, b"caff": _caf}
    with path.open("rb") as file:
        reader = readers.get(file.read(4))
        file.seek(0)
        found = reader(file, path.stat().st_size) if reader else None
    if found and not all(1 <= int(found.form[key]) < _TOO_MANY for key in ("samplerate", "channels")):
        return None  # libsndfile refuses the file with a reason
    return found


def _riff(file: BinaryIO, size: int) -> Samples | None:
    """WAV, and RF64, whose lengths have 64 bits."""
    magic = file.read(12)[:4]
    order = ">" if magic == b"RIFX" else "<"
    fmt, long = b"", 0
    while True:
        name, length = _chunk(file.read(8), order)
        start = file.tell()
        if name == b"data" or not name:
            break
        if name == b"ds64":
            long = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        if name == b"fmt ":
            fmt = file.read(min(length, 40)).ljust(40, b"\0")
        file.seek(start + length + length % 2)
    if name != b"data" or not fmt or start >= size:
        return None
    tag, channels, rate, bytes_per_s, _, bits, tag_of_extensible = struct.unpack(f"{order}HHIIHH8xH14x", fmt)
    subtype = _WAV.get((tag_of_extensible if tag == 0xFFFE else tag, bits))
    endian = "BIG" if order == ">" else "LITTLE"
    form = {"subtype": subtype, "samplerate": rate, "channels": channels, "endian": endian}
    if subtype is None:
        return None
    if magic == b"RF64" and length == _ONES:
        length = long
    if start + length > size:
        return Samples(start, form)
    # What follows the samples must be other chunks, else it is sound, if it is a second or all there is.
    file.seek(start + length + length % 2)
    while file.tell() < size:
        name, skipped = _chunk(file.read(8), order)
        if not name or file.tell() + skipped > size + 1:
            more = size - start - length > (bytes_per_s if length else 0)
            return Samples(start, form) if more else None
        file.seek(file.tell() + skipped + skipped % 2)
    return None


def _chunk(head: bytes, order: str) -> tuple[bytes, int]:
    """Name and length of a chunk; an empty name for what is no head of a chunk."""
    if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
        return b"", 0
    return head[:4], int(struct.unpack(f"{order}I", head[4:])[0])


def _au(file: BinaryIO, size: int) -> Samples | None:
    start, length, code, rate, channels = struct.unpack(">4x5I", file.read(24).ljust(24, b"\0"))
    if length or start >= size or code not in _AU:
        return None
    return Samples(start, {"subtype": _AU[code], "samplerate": rate, "channels": channels, "endian": "BIG"})


def _caf(file: BinaryIO, size: int) -> Samples | None:
    file.seek(8)
    form: dict[str, str | int] = {}
    while len(head := file.read(12)) == 12:
        name, length = head[:4], struct.unpack(">q", head[4:])[0]
        start = file.tell()
        if name == b"desc":
            rate, kind, flags, channels, bits = struct.unpack(">d4sI8xII", file.read(32).ljust(32, b"\0"))
            subtype = _CAF.get((kind, flags & 1, bits))
            if subtype is None or not 0 < rate < _TOO_MANY:  # it may be infinite, or no number
                return None
            endian = "LITTLE" if flags & 2 else "BIG"
            form = {"subtype": subtype, "samplerate": round(rate), "channels": channels, "endian": endian}
        if name == b"data":
            start += 4  # the number of edits
            whole = 4 <= length <= size - start + 4
            return None if whole or start >= size or not form else Samples(start, form)
        if length < 0:
            return None
        file.seek(start + length)
    return None
