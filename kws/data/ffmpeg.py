"""Recordings that only ffmpeg decodes: voice memos of phones, sound of videos."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# File extensions of sound that soundfile does not decode.
EXTENSIONS = frozenset(
    f".{name}"
    for name in [
        "3ga",
        "3gp",
        "aac",
        "ac3",
        "amr",
        "ape",
        "awb",
        "dsf",
        "m4a",
        "m4b",
        "m4r",
        "mka",
        "mp2",
        "mp4",
        "mpc",
        "ra",
        "spx",
        "tta",
        "weba",
        "webm",
        "wma",
        "wv",
    ]
)
CONVERT = "ffmpeg -i FILE FILE.wav"

# Formats of one file each: a playlist could name other files, or the network.
_FORMATS = "aac,ac3,eac3,amr,amrnb,amrwb,ape,asf,dsf,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,rm,tta,wav,wv"
_ONE_FILE = ["-format_whitelist", _FORMATS, "-protocol_whitelist", "file"]
_LIMIT_S = 1800.0  # of work; some hundred hours of speech
_LIMIT_BYTES = 16 << 30  # of sound: a day in stereo at 48 kHz
_MAGIC = re.compile(rb"....ftyp|\x1a\x45\xdf\xa3|#!AMR|\x30\x26\xb2\x75\x8e\x66\xcf\x11", re.DOTALL)


class FfmpegError(Exception):
    """ffmpeg is missing, failed, or took too long; the reason in a few words."""


def needed(path: Path) -> bool:
    """Whether only ffmpeg decodes a file: by its suffix, or by its first bytes, since memos get renamed to .wav."""
    if path.suffix.lower() in EXTENSIONS:
        return True
    try:
        with path.open("rb") as file:
            return _MAGIC.match(file.read(12)) is not None
    except OSError:
        return False


def installed() -> bool:
    """Whether ffmpeg is on the path."""
    return shutil.which("ffmpeg") is not None


@contextmanager
def converted(path: Path) -> Iterator[Path]:
    """Convert the first sound of a file to a temporary WAV of 16 bits, at its own rate and channels.

    The temporary file keeps memory flat, and is read like any recording.

    Raises:
        FfmpegError: ffmpeg is missing, failed, or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="kws-ffmpeg-") as folder:
        out = Path(folder) / "sound.w64"  # not limited to 4 GB, as WAV is
        _run("ffmpeg", ["-nostdin", *_ONE_FILE, "-i", _url(path), "-map", "0:a:0", "-c:a", "pcm_s16le",
                        "-fs", str(_LIMIT_BYTES), "-f", "w64", str(out)])  # fmt: skip
        yield out


def length_s(path: Path) -> float:
    """Duration in seconds from the header of a file; 0 if it cannot be read."""
    try:
        return float(_run("ffprobe", [*_ONE_FILE, "-show_entries", "format=duration", "-of", "csv=p=0", _url(path)]))
    except (FfmpegError, ValueError):
        return 0.0


def _url(path: Path) -> bytes:
    return b"file:" + os.fsencode(path.absolute())  # never an option, nor another protocol


def _run(program: str, arguments: Sequence[str | bytes]) -> str:
    """Standard output of a program, without a shell."""
    if (place := shutil.which(program)) is None:
        raise FfmpegError(f"needs {program}, which is not on the path; or convert it with {CONVERT}")
    try:
        done = subprocess.run(
            [place, "-v", "error", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FfmpegError(f"{program} took longer than {_LIMIT_S:.0f} s") from None
    except OSError as error:
        raise FfmpegError(f"{program} does not run ({error.strerror})") from error
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise FfmpegError(f"{program}: {lines[-1].rsplit(': ', 1)[-1]}" if lines else f"{program} failed")
    return done.stdout.decode("utf-8", "replace")
