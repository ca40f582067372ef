"""Clips that a person brings or has made: recordings that are not the keyword, or sound like it."""

import csv
from collections.abc import Callable
from pathlib import Path

from kws.common.errors import KwsError
from kws.data.audio import BadAudio, content_hash, load, sound_files, to_int16
from kws.data.manifest import Source, Split, SplitBy, read
from kws.replay.buffer import Added, Buffer
from kws.replay.exchange import inside
from kws.replay.exchange_format import MAX_CLIP_S
from kws.replay.records import Kind, NewClip

RUN = "kws buffer import"
MADE = "kws confuse"


def brought(
    folder: Path,
    kind: Kind,
    keyword: str,
    text: str,
    sample_rate: int,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[NewClip], list[BadAudio]]:
    """Every recording of a folder as a clip, whole, and those that do not decode.

    Args:
        folder: searched through; a link that leads out of it is refused.
        kind: what they come in as.
        keyword: what they are not, though they may sound like it.
        text: what is said in all of them, where it is known.
        sample_rate: Hz of the buffer.
        progress: called after each recording with how many are done, and of how many.

    Raises:
        KwsError: no recording there, one that lies elsewhere, one that is no clip but hours to be mined, or what
            `kws confuse` said, part of which is to measure by.
    """
    if all((folder / name).is_file() for name in ("manifest.csv", "arguments.json")):  # it holds test voices too
        raise KwsError(f"folder={folder}: kws confuse made it, and brings its clips for training with buffer=DIR")
    found, bad, files = [], [], sound_files(folder, "folder")
    for number, file in enumerate(files, 1):
        try:
            pcm = to_int16(load(inside(folder, file), sample_rate))
        except BadAudio as error:
            bad.append(error)
            continue
        if len(pcm) > MAX_CLIP_S * sample_rate:
            raise KwsError(
                f"{file}: {len(pcm) / sample_rate:.0f} s long; a clip is at most {MAX_CLIP_S} s, kws mine finds those"
            )
        source = Source(content_hash(pcm), file.relative_to(folder).as_posix(), Split.TRAIN)
        found.append(NewClip(pcm, kind, keyword, source, 0.0, None, "", RUN, 0, text))
        progress(number, len(files))
    return found, bad


def into_buffer(buffer: Buffer, folder: Path, progress: Callable[[int, int], None] = lambda done, of: None) -> Added:
    """Bring the confusables that `confuse.say` made: those of the train part; what measures is barred for good.

    Each comes in with its text, the keyword it sounds like, and whose voice it is in the name of its recording. Nothing
    quarantines one for how it scores: it is known not to be the keyword.

    Args:
        buffer: that they enter.
        folder: with its manifest.csv; every recording of it that is not for training is held out, positives too.
        progress: called after each recording with how many are done, and of how many.

    Raises:
        KwsError: no manifest of that kind, a damaged clip, or one longer than a clip may be.
        LeakError: the buffer has a clip of a recording that is not for training here, or holds out one that is.
    """
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        raise KwsError(f"{folder}: no manifest.csv; the clips are not all made")
    recordings = read(folder, split=SplitBy.column)
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        keyword_of = {line["path"]: line.get("keyword", "") for line in csv.DictReader(file)}
    found, held = [], []
    for number, one in enumerate(recordings, 1):
        if one.split is not Split.TRAIN or one.label == Kind.confusable:
            pcm = to_int16(load(one.path, buffer.sample_rate))
            source = Source(content_hash(pcm), f"{one.name} ({one.source})", one.split)
            if one.split is not Split.TRAIN:
                held.append(source)
            elif len(pcm) > MAX_CLIP_S * buffer.sample_rate:
                raise KwsError(
                    f"{one.path}: {len(pcm) / buffer.sample_rate:.0f} s long, a clip is at most {MAX_CLIP_S} s"
                )
            elif not (keyword := keyword_of.get(one.name, "")):
                raise KwsError(f"{manifest}: path={one.name!r} has no keyword; which does it sound like?")
            else:
                found.append(NewClip(pcm, Kind.confusable, keyword, source, 0.0, None, "", MADE, 0, one.text))
        progress(number, len(recordings))
    buffer.hold_out(held)
    return buffer.add(found)
