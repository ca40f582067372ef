"""Kept clips that a user has marked: keywords become recordings to train on, false alarms clips of a replay buffer."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from kws.common.files import plain_name, replacing
from kws.data.audio import content_hash, save_flac
from kws.data.manifest import Source, Split
from kws.data.tables import csv_rows
from kws.replay.buffer import Added, Buffer, Decision, Kind, NewClip
from kws.replay.records import ClipHash
from kws.replay.review import Choice
from kws.runtime.kept import KeptClip

CHOICES = (
    Choice("keyword", "y", "somebody said it, train on it as the keyword"),
    Choice("false_alarm", "n", "nobody said it, train on it as a false alarm"),
    Choice("unsure", "s", "do not train on it"),
)
BEFORE_S, AFTER_S = 1.6, 0.4  # of a false alarm, around its trigger: as long as a clip of training
MANIFEST, BUFFER = "manifest.csv", "buffer"
_KEYWORDS, _COLUMNS = "keywords", ("path", "label", "part", "source")


class Marks(BaseModel):
    """The clips of each choice."""

    model_config = ConfigDict(extra="forbid", strict=True)
    keyword: list[ClipHash]
    false_alarm: list[ClipHash]
    unsure: list[ClipHash]


def write_keywords(folder: Path, keywords: Sequence[KeptClip], others: Sequence[KeptClip]) -> int:
    """Add clips to a folder of keyword recordings with a manifest, take out others, and return how many it lists.

    The manifest is written last. It gives the train split: a clip measures nothing, since the detector chose it.
    """
    manifest = folder / MANIFEST
    rows = {fields["path"]: fields for _, fields in csv_rows(manifest)} if manifest.is_file() else {}
    for clip in others:
        rows.pop(_name(clip), None)
    (folder / _KEYWORDS).mkdir(parents=True, exist_ok=True)
    for clip in keywords:
        save_flac(folder / _name(clip), clip.pcm, clip.sample_rate)
        source = f"{clip.file.name} ({clip.known.detector})"
        rows[_name(clip)] = dict(zip(_COLUMNS, (_name(clip), clip.known.keyword, Split.TRAIN, source), strict=True))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, _COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows.values())
    with replacing(manifest) as file:
        file.write(table.getvalue().encode(errors="replace"))
    return len(rows)


def fill_buffer(buffer: Buffer, alarms: Sequence[KeptClip], others: Sequence[KeptClip]) -> Added:
    """Add false alarms as clips that a user released; clips of `others` that are in the buffer are rejected.

    Raises:
        LeakError: a clip is of a recording that the buffer holds out.
    """
    added = buffer.add([_false_alarm(one) for one in alarms])
    stored = {row.hash for row in buffer.rows(None)}
    for clips, decision in ((alarms, Decision.released), (others, Decision.rejected)):
        hashes = dict.fromkeys(content_hash(_around_trigger(one)) for one in clips)
        buffer.decide([clip for clip in hashes if clip in stored], decision)
    return added


def _name(clip: KeptClip) -> str:
    return f"{_KEYWORDS}/{plain_name(clip.known.keyword)}-{clip.id[:16]}.flac"


def _around_trigger(clip: KeptClip) -> NDArray[np.int16]:
    first = max(0, round((clip.trigger_s - BEFORE_S) * clip.sample_rate))
    return clip.pcm[first : round((clip.trigger_s + AFTER_S) * clip.sample_rate)]


def _false_alarm(clip: KeptClip) -> NewClip:
    known, source = clip.known, Source(content_hash(clip.pcm), clip.file.name, Split.TRAIN)
    offset_s = max(0.0, clip.trigger_s - BEFORE_S)
    return NewClip(_around_trigger(clip), Kind.user, known.keyword, source, offset_s, known.score, "", "kws review", 0)
