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
from kws.data.manifest import SPLIT_COLUMNS, Source, Split, hash_split
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


def keyword_rows(folder: Path, keywords: Sequence[KeptClip], others: Sequence[KeptClip]) -> list[dict[str, str]]:
    """Rows of the manifest of a folder with the keywords added and the others taken out; nothing is written.

    Rows that are there keep their columns and values, such as the bounds of a keyword. New ones have the train split: a
    clip measures nothing, since the detector chose it. Where no column gives splits, the other rows get theirs by hash.

    Raises:
        KwsError: the manifest cannot be read.
    """
    manifest = folder / MANIFEST
    out, rows = set(map(_name, others)), list[dict[str, str]]()
    if manifest.is_file():
        rows = [fields for _, fields in csv_rows(manifest) if fields["path"] not in out]
    split = next((name for name in ("part", *SPLIT_COLUMNS) if rows and name in rows[0]), "part")
    for row in rows:
        row.setdefault(split, hash_split(row.get("speaker", "").strip() or Path(row["path"].strip()).stem))
    listed = {row["path"] for row in rows}
    for name, clip in {_name(one): one for one in keywords}.items():
        if name not in listed:
            source = f"{clip.file.name} ({clip.known.detector})"
            rows.append({"path": name, "label": clip.known.keyword, split: Split.TRAIN, "source": source})
    return rows


def write_keywords(folder: Path, keywords: Sequence[KeptClip], rows: Sequence[dict[str, str]]) -> None:
    """Write the clips to a folder of recordings, and then its manifest with the rows of `keyword_rows`."""
    (folder / _KEYWORDS).mkdir(parents=True, exist_ok=True)
    for clip in keywords:
        save_flac(folder / _name(clip), clip.pcm, clip.sample_rate)
    table = io.StringIO(newline="")
    columns = dict.fromkeys(name for row in rows for name in row) or _COLUMNS
    writer = csv.DictWriter(table, list(columns), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with replacing(folder / MANIFEST) as file:
        file.write(table.getvalue().encode(errors="replace"))


def fill_buffer(buffer: Buffer, alarms: Sequence[KeptClip], others: Sequence[KeptClip]) -> Added:
    """Add false alarms as clips that a user released; clips of `others` that are in the buffer are rejected.

    A false alarm that was rejected before and purged since gets its file again.

    Raises:
        LeakError: a clip is of a recording that the buffer holds out.
    """
    added = buffer.add([_false_alarm(one) for one in alarms])
    stored = {row.hash for row in buffer.rows(None)}
    for pcm in map(_around_trigger, alarms):
        file = buffer.path(clip := content_hash(pcm))
        if clip in stored and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            save_flac(file, pcm, buffer.sample_rate)
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
