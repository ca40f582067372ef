"""A replay buffer as a folder to carry elsewhere, and back; a folder that comes from elsewhere is believed nothing.

`clips/<hash>.flac` holds the sound, `clips.jsonl` a line of settings and then all that is known of each clip, a line
each, and `held_out.jsonl` the recordings that may not enter, so that a leak stays impossible.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
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
from kws.replay.buffer import Buffer, BufferClip, Decision, State
from kws.replay.exchange_format import FORMAT, MAX_CLIP_S, ClipLine, HeldOut, Settings, parse

CLIPS, HELD_OUT = "clips.jsonl", "held_out.jsonl"
_MAX_BYTES = 16 << 20  # a line


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
        return row.state not in (State.evicted, State.retired) or buffer.path(row.hash).exists()

    def wanted(row: BufferClip) -> bool:
        return state in (None, row.state) and (has_sound(row) or row.decision is Decision.rejected)

    (out / "clips").mkdir(parents=True)
    try:
        # Without its last file, clips.jsonl, a folder is no export: so one that was killed is none.
        with replacing(out / HELD_OUT) as file:
            for one in buffer.held_out():
                file.write(_json({"recording": one.hash, "name": one.name, "part": one.split}))
        with replacing(out / CLIPS) as file, closing(buffer.records(wanted)) as records:
            file.write(_json({"format": FORMAT, "sample_rate": buffer.sample_rate}))
            for row, record in records:
                if row.n_samples > MAX_CLIP_S * buffer.sample_rate:
                    raise KwsError(f"clip {row.hash}: must be at most {MAX_CLIP_S} s long to be exported")
                sound = has_sound(row)
                if sound:
                    save_flac(out / "clips" / f"{row.hash}.flac", buffer.audio(row.hash), buffer.sample_rate)
                file.write(_json({**record, "sound": sound}))
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
    where, line = next(_read(folder, CLIPS), (f"{folder / CLIPS}:1", b"{}"))
    rate = parse(Settings, where, line).sample_rate
    held_out = [parse(HeldOut, where, line) for where, line in _read(folder, HELD_OUT)]
    held = {one.recording: Source(one.recording, one.name, one.part) for one in held_out}
    n_samples: dict[str, int] = {}  # of the clips with sound
    for n, (where, clip) in enumerate(_read_clips(folder, rate), 1):
        for origin in clip.origins:
            if one := held.get(origin.recording):
                raise LeakError(f"{where}: the clip comes from the {one.split} recording {one.name!r}")
        if clip.sound:
            n_samples[clip.hash] = clip.n_samples
            _sound(folder, clip.hash, clip.n_samples, rate)
        progress(n)

    def sound_of(clip: str) -> NDArray[np.int16] | None:
        return _sound(folder, clip, n_samples[clip], rate) if clip in n_samples else None

    records = (clip.model_dump(mode="json", exclude={"sound"}) for _, clip in _read_clips(folder, rate))
    with buffer(rate) as into:
        return into.restore(held.values(), records, sound_of)


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


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode() + b"\n"


def _read(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """The lines of a file, with file name and line number."""
    path = inside(folder, folder / name)
    if not path.is_file():
        raise KwsError(f"{path}: no such file, which an export has")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_MAX_BYTES + 1), b""), 1):
            if len(line) > _MAX_BYTES:
                raise KwsError(f"{path}:{number}: must be a line of at most {_MAX_BYTES >> 20} MB")
            yield f"{path}:{number}", line


def _read_clips(folder: Path, sample_rate: int) -> Iterator[tuple[str, ClipLine]]:
    """The clips of an export, with file name and line number."""
    lines = _read(folder, CLIPS)
    next(lines)  # settings
    seen = set()
    for where, line in lines:
        clip = parse(ClipLine, where, line)
        if clip.n_samples > MAX_CLIP_S * sample_rate:
            raise KwsError(f"{where}: n_samples={clip.n_samples}: must be at most {MAX_CLIP_S} s")
        if clip.hash in seen:
            raise KwsError(f"{where}: clip {clip.hash} stands there twice")
        seen.add(clip.hash)
        yield where, clip


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
