"""Clips that a user adds: recordings that are not the keyword, and synthetic confusables."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from kws.common.errors import KwsError
from kws.data.audio import BadAudio, content_hash, load, to_int16
from kws.data.manifest import Source, Split, SplitBy, read
from kws.data.mending import Fault
from kws.data.sound_files import sound_files
from kws.replay.buffer import Added, Buffer
from kws.replay.exchange import MAX_CLIP_S, inside
from kws.replay.records import Kind, NewClip

SYNTHETIC = "kws confuse"  # run of the clips that it synthesised
Progress = Callable[[int, int], None]  # called after each recording with the recordings done, and of how many


def read_recordings(
    folder: Path, kind: Kind, keyword: str, text: str, sample_rate: int, progress: Progress = lambda done, of: None
) -> tuple[list[NewClip], list[BadAudio], Counter[Fault]]:
    """Each recording of a folder as one clip, those that do not decode, and the number of those with each fault.

    Args:
        folder: searched recursively; a link that leads out of it is refused.
        kind: of the clips.
        keyword: that the recordings are not, though they may resemble it.
        text: transcript of all of them, if known.
        sample_rate: Hz of the buffer.

    Raises:
        KwsError: no recording, one outside the folder or too long for a clip, or a folder of `kws confuse`, which
            holds test voices too.
    """
    if all((folder / name).is_file() for name in ("manifest.csv", "arguments.json")):
        raise KwsError(f"folder={folder}: kws confuse made it, and adds its clips for training with buffer=DIR")
    found, bad, faults, files = [], [], Counter[Fault](), sound_files(folder, "folder")
    for number, file in enumerate(files, 1):
        try:
            name = file.relative_to(folder).as_posix()
            own = set[Fault]()
            clip = _clip(inside(folder, file), name, kind, keyword, text, "kws buffer import", sample_rate, own)
        except BadAudio as error:
            bad.append(error)
            continue
        found.append(clip)
        faults.update(own)
        progress(number, len(files))
    return found, bad, faults


def into_buffer(buffer: Buffer, folder: Path, progress: Progress = lambda done, of: None) -> Added:
    """Add the synthetic confusables of the train split, and hold out all recordings of the other splits.

    Each clip has its text, the keyword that it resembles, and its voice in the name of its recording. No score
    quarantines it, since it is known not to be the keyword.

    Args:
        buffer: to fill.
        folder: of `kws confuse`, with manifest.csv.

    Raises:
        KwsError: no such manifest, or a clip that is damaged or too long.
        LeakError: the buffer has a clip of a recording that is not for training here, or holds out one that is.
    """
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise KwsError(f"{folder}: no manifest.csv; the clips are not all made")
    recordings = read(folder, split=SplitBy.column)
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        keyword_of = {line["path"]: line.get("keyword", "") for line in csv.DictReader(file)}
    found, held_out = [], []
    for number, one in enumerate(recordings, 1):
        name = f"{one.name} ({one.source})"
        if one.split is not Split.TRAIN:
            pcm = to_int16(load(one.path, buffer.sample_rate))
            held_out.append(Source(content_hash(pcm), name, one.split))
        elif one.label == Kind.confusable:
            if not (keyword := keyword_of.get(one.name, "")):
                raise KwsError(f"{manifest}: path={one.name!r}: must have the keyword that it resembles")
            found.append(_clip(one.path, name, Kind.confusable, keyword, one.text, SYNTHETIC, buffer.sample_rate))
        progress(number, len(recordings))
    buffer.hold_out(held_out)
    return buffer.add(found)


def _clip(
    path: Path,
    name: str,
    kind: Kind,
    keyword: str,
    text: str,
    run: str,
    sample_rate: int,
    faults: set[Fault] | None = None,
) -> NewClip:
    """A recording as a clip from its start to its end."""
    pcm = to_int16(load(path, sample_rate, faults))
    if len(pcm) > MAX_CLIP_S * sample_rate:
        raise KwsError(
            f"{path}: {len(pcm) / sample_rate:.0f} s long, a clip must be at most {MAX_CLIP_S} s; kws mine finds clips "
            "in longer recordings"
        )
    return NewClip(pcm, kind, keyword, Source(content_hash(pcm), name, Split.TRAIN), 0.0, None, "", run, 0, text)
