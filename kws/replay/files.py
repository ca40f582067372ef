"""The sound of a replay buffer: FLAC files named by the hash of their samples, whole or not there."""

import os
import re
import time
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.audio import content_hash, load, save_flac, to_int16
from kws.errors import KwsError

_HASH = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"([0-9a-f]{64})\.flac(\..+\.tmp)?")  # a clip, or its draft


def path_of(folder: Path, clip: str) -> Path:
    """Where the file of a clip lies: `<hash[:2]>/<hash>.flac` below `folder`.

    Raises:
        KwsError: `clip` is no hash; nothing else becomes a path.
    """
    if not _HASH.fullmatch(clip):
        raise KwsError(f"clip {clip!r}: 64 hexadecimal digits expected")
    return folder / clip[:2] / f"{clip}.flac"


def read(folder: Path, clip: str, sample_rate: int) -> NDArray[np.int16]:
    """The sound of a clip, checked against its hash.

    Shape: int16 [T].

    Raises:
        KwsError: the file is missing or damaged.
    """
    path = path_of(folder, clip)
    pcm = to_int16(load(path, sample_rate))
    if content_hash(pcm) != clip:
        raise KwsError(f"{path}: damaged, its sound is not the one that it is named by")
    return pcm


def save(folder: Path, clips: Mapping[str, NDArray[np.int16]], sample_rate: int) -> None:
    """Write clips, down to the disk; where one fails, none is left that was not there before.

    Args:
        folder: below which they lie.
        clips: sound by its hash.
        sample_rate: Hz.

    Raises:
        OSError: the disk is full or fails.
    """
    new: list[Path] = []
    try:
        for clip, pcm in clips.items():
            path = path_of(folder, clip)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                new.append(path)
            save_flac(path, pcm, sample_rate)
        for changed in {folder, *(path.parent for path in new)}:
            _sync(changed)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def purge(folder: Path, known: Collection[str], evicted: Collection[str], min_age_s: float) -> int:
    """Delete the files of `evicted` clips, and old ones that are unfinished or not `known`; no other file.

    Args:
        folder: below which they lie.
        known: clips of the index.
        evicted: those of them that are not needed.
        min_age_s: seconds since the last change of a file that nobody knows.

    Returns:
        How many files were deleted.
    """
    n, now = 0, time.time()
    for path in sorted(folder.glob("*/*")):
        if not (name := _FILE.fullmatch(path.name)):
            continue
        clip, draft = name.groups()
        old = now - path.stat().st_mtime >= min_age_s
        if (old and (draft or clip not in known)) or (not draft and clip in evicted):
            path.unlink()
            n += 1
    return n


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk too, so that no row outlives a power cut without its file."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
