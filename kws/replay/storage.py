"""Audio files of a replay buffer: FLAC, named by the hash of their samples, complete or absent."""

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
from kws.data.audio import content_hash, read_exactly, save_flac
from kws.replay.records import checked_hash

CLIPS = "clips"  # the folder of the files
WRITERS = 8  # a disk syncs many files in little more time than one
AT_ONCE = 256  # clips in memory
_FILE = re.compile(r"([0-9a-f]{64})\.flac(\..+\.tmp)?")  # a clip, or its unfinished file


def path_of(folder: Path, clip: str) -> Path:
    """The file of a clip: `<hash[:2]>/<hash>.flac`. Raises KwsError if `clip` is not a hash."""
    try:
        return folder / checked_hash(clip)[:2] / f"{clip}.flac"
    except ValueError as error:
        raise KwsError(f"clip {clip!r}: {error}") from error


def read(folder: Path, clip: str) -> NDArray[np.int16]:
    """The samples of a clip, int16 [T]. Raises KwsError if the file is missing, damaged or of another clip."""
    path = path_of(folder, clip)
    pcm = read_exactly(path)
    if content_hash(pcm) != clip:
        raise KwsError(f"{path}: damaged, its samples do not have the hash that names it")
    return pcm


def save(folder: Path, clips: Iterable[tuple[str, NDArray[np.int16]]], sample_rate: int) -> None:
    """Write clips, given by hash and samples, and sync them to the disk. If one fails, new files are deleted again.

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
    """Files of `unwanted` clips, and files of this age, in seconds, that are unfinished or of no `known` clip."""
    found, now = [], time.time()
    for path in sorted(folder.glob("*/*")):
        if not (name := _FILE.fullmatch(path.name)):
            continue
        clip, draft = name.groups()
        try:
            old = now - path.stat().st_mtime >= min_age_s
        except FileNotFoundError:  # a writer has just renamed it
            continue
        if (old and (draft or clip not in known)) or (not draft and clip in unwanted):
            found.append(path)
    return found


def _sync(folder: Path) -> None:
    """Sync the entries of a folder, so that no row survives a power cut without its file."""
    if os.name == "posix":  # Windows cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
