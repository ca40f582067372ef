"""A replay buffer as a folder to carry elsewhere, and back; a folder that comes from elsewhere is believed nothing.

`clips/<hash>.flac` holds the sound, `clips.jsonl` a line of settings and then all that is known of each clip, a line
each, and `held_out.jsonl` the recordings that may not enter, so that a leak stays impossible.
"""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from kws.common.errors import KwsError, LeakError
from kws.common.files import replacing
from kws.data.audio import content_hash, load, save_flac, to_int16
from kws.data.manifest import Source
from kws.replay import exchange_format
from kws.replay.buffer import Buffer, BufferClip, Decision, State
from kws.replay.database import Dossier, Line

CLIPS, HELD_OUT = "clips.jsonl", "held_out.jsonl"
_MOST_BYTES = 16 << 20  # a line


def export(
    buffer: Buffer, out: Path, state: State | None = None, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Write a buffer to a folder that `restore` reads back; whole, or nothing is left of it.

    Clips whose file was deleted stay behind, except those that a person rejected: nothing that repeats them may come in
    elsewhere either.

    Args:
        buffer: what to write; others may use it meanwhile.
        out: a folder that is empty, or not there.
        state: the clips to write; None for those of every state.
        progress: called after each clip with how many are done.

    Returns:
        How many clips were written.

    Raises:
        KwsError: a folder that is not empty, or a clip whose sound is damaged.
        OSError: the disk is full or fails.
    """
    made = not out.exists()
    if not made and not (out.is_dir() and not any(out.iterdir())):
        raise KwsError(f"out={out}: something is there; allowed is a folder that is empty or not there")
    n = 0

    def has_sound(row: BufferClip) -> bool:
        return row.state not in (State.EVICTED, State.RETIRED) or buffer.path(row.hash).exists()

    def wanted(row: BufferClip) -> bool:
        return state in (None, row.state) and (has_sound(row) or row.decision is Decision.REJECTED)

    (out / "clips").mkdir(parents=True)
    try:
        # Without its last file, clips.jsonl, a folder is no export: so one that was killed is none.
        with replacing(out / HELD_OUT) as file:
            file.writelines(_line(exchange_format.held_out_line(one)) for one in buffer.held_out())
        with replacing(out / CLIPS) as file, closing(buffer.dossiers(wanted)) as dossiers:
            file.write(_line(exchange_format.settings_line(buffer.sample_rate)))
            for row, dossier in dossiers:
                sound = has_sound(row)
                if row.n_samples > exchange_format.LONGEST_S * buffer.sample_rate:
                    raise KwsError(
                        f"clip {row.hash}: longer than {exchange_format.LONGEST_S} s, which no export may hold"
                    )
                if sound:
                    save_flac(out / "clips" / f"{row.hash}.flac", buffer.audio(row.hash), buffer.sample_rate)
                file.write(_line(exchange_format.clip_line(dossier, sound)))
                n += 1
                progress(n)
    except BaseException:
        shutil.rmtree(out / "clips", ignore_errors=True)
        (out / HELD_OUT).unlink(missing_ok=True)
        if made:
            out.rmdir()
        raise
    return n


def restore(
    buffer: Callable[[int], Buffer], folder: Path, progress: Callable[[int], None] = lambda _: None
) -> tuple[int, int]:
    """Take a folder that `export` wrote into a buffer; all of it, or nothing.

    Everything is read and checked before the buffer is opened, and again as it goes in.

    Args:
        buffer: opens the buffer, given the sample rate in Hz of the clips; raises where it has another.
        folder: from anywhere: values are checked, sound must match its hash, no path leads out.
        progress: called after each clip with how many were checked.

    Returns:
        How many clips are new in the buffer, and how many it knew.

    Raises:
        KwsError: a malformed, missing or damaged line or file; the message names file and line.
        LeakError: a clip comes from a held-out recording of the folder or the buffer.
        OSError: the disk is full or fails.
    """
    where, values = next(_read(folder, CLIPS), (f"{folder / CLIPS}:1", Line()))
    rate = exchange_format.sample_rate_of(where, values)
    held: dict[str, Source] = {}
    for where, values in _read(folder, HELD_OUT):
        one = exchange_format.held_out_of(where, values)
        held[one.hash] = one
    without_sound = set()
    for n, (where, dossier, sound) in enumerate(_read_clips(folder, rate), 1):
        clip = dossier.clip["hash"]
        for origin in dossier.origins:
            if origin["recording"] in held:
                one = held[origin["recording"]]
                raise LeakError(f"{where}: the clip comes from the {one.split} recording {one.name!r}")
        if sound:
            _sound(folder, clip, dossier.clip["n_samples"], rate)
        else:
            without_sound.add(clip)
        progress(n)

    def sound_of(clip: str, n_samples: int) -> NDArray[np.int16] | None:
        return None if clip in without_sound else _sound(folder, clip, n_samples, rate)

    with buffer(rate) as it:
        return it.restore(held.values(), (dossier for _, dossier, _ in _read_clips(folder, rate)), sound_of)


def is_export(folder: Path) -> bool:
    """Whether `export` wrote this folder; raises KwsError for one that it did not write to the end."""
    if (folder / HELD_OUT).exists() and not (folder / CLIPS).exists():
        raise KwsError(f"folder={folder}: {HELD_OUT} without {CLIPS}: an export that was not finished")
    return (folder / CLIPS).exists()


def inside(folder: Path, path: Path) -> Path:
    """`path`, which must lead to something below `folder`, links followed; raises KwsError where it does not."""
    try:
        good = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        good = False
    if not good:
        raise KwsError(f"{path}: leads out of {folder}, which is not followed")
    return path


def _line(values: Line) -> bytes:
    return json.dumps(values, allow_nan=False).encode() + b"\n"


def _read(folder: Path, name: str) -> Iterator[tuple[str, Line]]:
    """The lines of a file, one JSON object each, with where they stand."""
    path = inside(folder, folder / name)
    if not path.is_file():
        raise KwsError(f"{path}: no such file, which an export has")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_MOST_BYTES + 1), b""), 1):
            where = f"{path}:{number}"
            if len(line) > _MOST_BYTES:
                raise KwsError(f"{where}: a line above {_MOST_BYTES >> 20} MB")
            try:
                values: Any = json.loads(line)
            except (ValueError, RecursionError) as error:  # also of text that is no UTF-8
                raise KwsError(f"{where}: malformed JSON") from error
            if not isinstance(values, dict):
                raise KwsError(f"{where}: a JSON object expected")
            yield where, values


def _read_clips(folder: Path, sample_rate: int) -> Iterator[tuple[str, Dossier, bool]]:
    """Where each clip stands, what is known of it, and whether its sound is there."""
    lines = _read(folder, CLIPS)
    next(lines)  # settings
    seen = set()
    for where, values in lines:
        dossier, sound = exchange_format.clip_of(where, values, sample_rate)
        if (clip := dossier.clip["hash"]) in seen:
            raise KwsError(f"{where}: clip {clip} stands there twice")
        seen.add(clip)
        yield where, dossier, sound


def _sound(folder: Path, clip: str, n_samples: int, sample_rate: int) -> NDArray[np.int16]:
    path = inside(folder, folder / "clips" / f"{clip}.flac")
    if not path.is_file():
        raise KwsError(f"{path}: no such file")
    try:
        header = soundfile.info(path)  # before anything is decoded: a small file may decode to hours
    except (soundfile.SoundFileError, OSError) as error:
        raise KwsError(f"{path}: damaged, no sound can be read") from error
    if (header.format, header.channels, header.samplerate, header.frames) != ("FLAC", 1, sample_rate, n_samples):
        raise KwsError(f"{path}: FLAC of 1 channel, {sample_rate} Hz and {n_samples} samples expected")
    pcm = to_int16(load(path, sample_rate))
    if content_hash(pcm) != clip:
        raise KwsError(f"{path}: damaged, its sound is not the one that it is named by")
    return pcm
