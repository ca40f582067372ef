"""WAV files whose header does not hold: a recorder that was killed leaves its length 0, all ones, or as of long ago."""

import io
import os
import struct
from pathlib import Path

_PLAIN = {"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"}  # one sample after another


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


def unfinished(path: Path, subtype: str) -> int | None:
    """First byte of the samples in a WAV file whose header gives a wrong length for them; None if it is right.

    Args:
        path: a WAV file.
        subtype: type of its samples, as soundfile names it; None is returned for those in blocks, such as ADPCM.
    """
    if subtype not in _PLAIN:
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        order = ">" if file.read(12)[:4] == b"RIFX" else "<"
        bytes_per_s = 0
        while True:
            name, length = _chunk(file.read(8), order)
            start = file.tell()
            if name == b"data" or not name:
                break
            if name == b"fmt ":
                bytes_per_s = struct.unpack(f"{order}I", file.read(12)[8:12].ljust(4, b"\0"))[0]
            file.seek(start + length + length % 2)
        if name != b"data" or start >= size:
            return None
        if start + length > size:
            return start
        # What follows the samples must be other chunks, else it is sound, if it is a second or all there is.
        file.seek(start + length + length % 2)
        while file.tell() < size:
            name, skipped = _chunk(file.read(8), order)
            if not name or file.tell() + skipped > size + 1:
                return start if size - start - length > (bytes_per_s if length else 0) else None
            file.seek(file.tell() + skipped + skipped % 2)
    return None


def _chunk(head: bytes, order: str) -> tuple[bytes, int]:
    """Name and length of a chunk; an empty name for what is no head of a chunk."""
    if len(head) < 8 or not all(32 <= byte < 127 for byte in head[:4]):
        return b"", 0
    return head[:4], int(struct.unpack(f"{order}I", head[4:])[0])
