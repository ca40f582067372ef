"""The sound of a replay buffer: FLAC files named by the hash of their samples, whole or not there."""

import os
import re
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, repeat
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import content_hash, load, save_flac, to_int16
from kws.replay.records import HASH

CLIPS = "clips"  # the folder of a buffer that holds them
WRITERS = 8  # a disk makes many files last in little more time than one
AT_ONCE = 256  # clips in memory
_FILE = re.compile(r"([0-9a-f]{64})\.flac(\..+\.tmp)?")  # a clip, or its draft


def path_of(folder: Path, clip: str) -> Path:
    """Where the file of a clip lies: `<hash[:2]>/<hash>.flac` below `folder`.

    Raises:
        KwsError: `clip` is no hash; nothing else becomes a path.
    """
    if not HASH.fullmatch(clip):
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


def save(folder: Path, clips: Iterable[tuple[str, NDArray[np.int16]]], sample_rate: int) -> None:
    """Write clips, down to the disk; where one fails, none is left that was not there before.

    Args:
        folder: below which they lie.
        clips: each hash, and its sound.
        sample_rate: Hz.

    Raises:
        OSError: the disk is full or fails.
    """
    new: list[Path] = []
    changed, left = {folder}, iter(clips)
    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            while some := {path_of(folder, clip): pcm for clip, pcm in islice(left, AT_ONCE)}:
                new += [path for path in some if not path.exists()]
                parents = {path.parent for path in some}
                for parent in parents:
                    parent.mkdir(parents=True, exist_ok=True)
                list(pool.map(save_flac, some, some.values(), repeat(sample_rate)))
                changed |= parents
            list(pool.map(_sync, changed))
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise


def needless(folder: Path, known: Collection[str], unwanted: Collection[str], min_age_s: float) -> list[Path]:
    """The files of `unwanted` clips, and old ones that are unfinished or not `known`; no other file.

    Args:
        folder: below which they lie.
        known: clips of the index.
        unwanted: those of them that need no file.
        min_age_s: seconds since the last change of a file that nobody knows.
    """
    found, now = [], time.time()
    for path in sorted(folder.glob("*/*")):
        if not (name := _FILE.fullmatch(path.name)):
            continue
        clip, draft = name.groups()
        try:
            old = now - path.stat().st_mtime >= min_age_s
        except FileNotFoundError:  # a writer has just finished it
            continue
        if (old and (draft or clip not in known)) or (not draft and clip in unwanted):
            found.append(path)
    return found


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk too, so that no row outlives a power cut without its file."""
    if os.name == "posix":  # elsewhere a folder cannot be opened
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
