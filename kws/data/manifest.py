"""Manifests: the recordings with their labels and splits. No audio is opened here."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from kws.common.errors import KwsError
from kws.common.text import plural
from kws.data.folders import NOISE, OPENWAKEWORD, PRECISE, folder_rows, has_all
from kws.data.names import folded, same_word, shown
from kws.data.sound_files import Listing, listed, place_of, scan
from kws.data.tables import SPLITS, Row, Say, csv_rows, json_rows, seconds_of, silent, text_of
from kws.data.transcripts import contains_phrase

CONFUSABLE = "confusable"  # label of phrases that sound like a keyword


class Split(StrEnum):
    """Split of a recording, in the order of distance from training."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Source:
    """Identity of a recording: content hash, name for display (never used as a path), split."""

    hash: str
    name: str
    split: Split

    def __post_init__(self) -> None:
        if not self.hash:
            raise KwsError(f"{self.name!r}: a recording without a content hash cannot be checked for leaks")
        object.__setattr__(self, "name", shown(self.name))  # the database takes text only


class Layout(StrEnum):
    """Layout of a folder of recordings."""

    auto = "auto"
    csv = "csv"
    jsonl = "jsonl"
    folders = "folders"
    speech_commands = "speech_commands"
    precise = "precise"
    openwakeword = "openwakeword"


class SplitBy(StrEnum):
    """Source of the splits: a column or lists of the manifest, or a hash of the speaker."""

    auto = "auto"
    column = "column"
    hash = "hash"


_FILES = {Layout.csv: "manifest.csv", Layout.jsonl: "manifest.jsonl", Layout.speech_commands: "testing_list.txt"}
_SUFFIXES = {".csv": Layout.csv, ".tsv": Layout.csv, ".txt": Layout.csv, ".jsonl": Layout.jsonl}
_LISTS = {Split.VALIDATION: "validation_list.txt", Split.TEST: "testing_list.txt"}
SPLIT_COLUMNS = ("split", "subset", "set", "partition")  # of Common Voice and Hugging Face
_NAMED_FOLDERS = {Layout.precise: PRECISE, Layout.openwakeword: OPENWAKEWORD}


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file of the manifest, or a stretch of it.

    `name` is its path below the root, for display. `given` is true where a column or a list gives the split, and false
    where it is that of a hash.
    """

    path: Path
    name: str
    label: str
    split: Split
    speaker: str = ""
    text: str = ""
    source: str = ""
    given: bool = False
    start_s: float | None = None  # of the keyword in it, where a person gave it
    end_s: float | None = None
    offset_s: float | None = None  # where it begins in its file, if it is a stretch of it
    made_of: tuple[Source, ...] = ()  # the recordings that it is spliced from


def hash_split(name: str) -> Split:
    """Split of a speaker by hash: 60 % train, 15 % validation, 25 % test, independent of other speakers.

    Args:
        name: the speaker, or the stem of the file if the speaker is unknown.
    """
    percent = int(hashlib.sha256(b"part:" + name.encode("utf-8", "surrogateescape")).hexdigest(), 16) % 100
    return Split.TRAIN if percent < 60 else Split.VALIDATION if percent < 75 else Split.TEST


def read(
    root: Path,
    file: Path | None = None,
    layout: Layout = Layout.auto,
    split: SplitBy = SplitBy.auto,
    part_column: str = "part",
    say: Say = silent,
    keywords: Sequence[str] = (),
    allow_outside: bool = False,
) -> list[Recording]:
    """Read the recordings below `root`, in the order of the manifest, or sorted by name.

    Args:
        root: folder of the recordings. No path may lead out of it, also through symbolic links, unless `allow_outside`.
        file: manifest, relative to `root` or absolute; None for manifest.csv or manifest.jsonl in `root`.
        layout: auto takes the manifest if there is one, else the lists of Speech Commands, else the folders of other
            trainers if all are there, else one folder per label.
        split: auto takes the column (or the lists of Speech Commands) if there is one, else the hash.
        part_column: column with the splits. Without it, the usual names of such a column are tried.
        say: prints how the manifest was read, where that is not plain.
        keywords: of the run; recordings in the folder for the keyword of other trainers get the one keyword as label.
        allow_outside: paths may be absolute and may lead out of `root`, and links to folders are followed.

    Raises:
        KwsError: no recordings, a malformed or missing value, a path outside of `root`, or rows of one file that
            contradict each other.
    """
    layout, source, rows = read_rows(root, file, layout, split, part_column, say, keywords, allow_outside)
    root = root.resolve()
    splits = _splits(rows, source.name, split, part_column, say)
    recordings, seen, renamed, linked = list[Recording](), dict[Path, list[int]](), list[str](), list[str]()
    listing: Listing = {}
    for (where, fields), part in zip(rows, splits, strict=True):
        recording = _recording(root, where, fields, part, listing, allow_outside)
        if layout is Layout.speech_commands and recording.label == NOISE:
            recording = replace(recording, given=False)  # its lists are of words alone
        own = seen.setdefault(recording.path, [])
        if own and source == root:
            linked.append(_link(recordings[own[0]], recording))
            continue
        own.append(len(recordings))
        recordings.append(recording)
        if recording.name != fields["path"].strip():
            renamed.append(f"{fields['path'].strip()!r} is {recording.name!r}")
    if renamed and source != root:
        say(f"{source.name}: {len(renamed)} names differ from those on disk: {renamed[0]}")
    if linked:
        say(f"{len(linked)} links to recordings that are found elsewhere are left out: {linked[0]}")
    for several in (own for own in seen.values() if len(own) > 1):
        stretches = _of_one_file([(rows[i][0], recordings[i]) for i in several])
        for i, stretch in zip(several, stretches, strict=True):
            recordings[i] = stretch
    return recordings


def _link(one: Recording, other: Recording) -> str:
    """Name of a recording that is the same file as another one. Raises KwsError if label or split differ."""
    if (one.label, one.given and one.split) != (other.label, other.given and other.split):
        raise KwsError(
            f"{other.name}: must not link to the file of {one.name}, which has another label or split: "
            f"{other.label!r} in {other.split}, {one.label!r} in {one.split}"
        )
    return other.name


def stretch_name(name: str, start_s: float, end_s: float) -> str:
    """Name of a part of a recording."""
    return f"{name} ({start_s:.3f}-{end_s:.3f} s)"


def _of_one_file(rows: Sequence[tuple[str, Recording]]) -> list[Recording]:
    """Recordings of several rows that name one file: each with its bounds in its name, all in the split of the first.

    Args:
        rows: recordings, each with its place in the manifest.

    Raises:
        KwsError: bounds are missing, rows overlap or have several splits.
    """
    (first, one), *others = rows
    for where, other in others:
        if None in (one.start_s, one.end_s, other.start_s, other.end_s):
            raise KwsError(
                f"{where}: path={other.name!r} was given at {first}; rows of one file must have start and end"
            )
        if other.given and other.split is not one.split:
            raise KwsError(f"{where}: {other.split}: must be {one.split} as at {first}, since it is the same file")
    open_rows = list[tuple[str, Recording]]()  # those that begin before the next one and end after its start
    for where, other in sorted(rows, key=lambda row: (row[1].start_s or 0.0, row[1].end_s or 0.0)):
        open_rows = [row for row in open_rows if (row[1].end_s or 0.0) > (other.start_s or 0.0)]
        for at, longer in open_rows:
            within = contains_phrase(other.label, longer.label) or contains_phrase(longer.label, other.label)
            same = (other.start_s, other.end_s) == (longer.start_s, longer.end_s)
            if same or same_word(other.label, longer.label) or not within:  # computer may overlap hey computer
                raise KwsError(
                    f"{where}: start={other.start_s:g}: must not overlap {at}, which ends at {longer.end_s:g}"
                )
        open_rows.append((where, other))
    return [
        replace(other, name=stretch_name(other.name, other.start_s or 0.0, other.end_s or 0.0), split=one.split)
        for _, other in rows
    ]


def read_rows(
    root: Path,
    file: Path | None,
    layout: Layout,
    split: SplitBy,
    part_column: str,
    say: Say = silent,
    keywords: Sequence[str] = (),
    allow_outside: bool = False,
) -> tuple[Layout, Path, list[Row]]:
    """The layout of a folder, its manifest (the folder itself if it has none), and the rows of it.

    The arguments are those of `read`. Raises KwsError: there is no recording, or a line is malformed.
    """
    if not root.is_dir():
        raise KwsError(f"data.root={root}: {'must be a folder, not a file' if root.exists() else 'no such folder'}")
    root = root.resolve()
    layout = _layout(root, file, layout, keywords, say)
    if layout in {Layout.csv, Layout.jsonl}:
        source = root / (file or _FILES[layout])
        rows = csv_rows(source, say) if layout is Layout.csv else json_rows(source, say)
        rows = _without_hidden(source.name, rows, say)
    else:
        named = _NAMED_FOLDERS.get(layout, {})
        source, rows = root, folder_rows(root, named, keywords, part_column, say, follow=allow_outside)
        if layout is Layout.speech_commands and split is not SplitBy.hash:
            rows = _listed(root, rows, part_column, required=split is SplitBy.column)
    if not rows:
        raise KwsError(f"{source}: no recordings (layout {layout.value})" + listed(scan(root)[1], "; found "))
    return layout, source, rows


def _layout(root: Path, file: Path | None, layout: Layout, keywords: Sequence[str], say: Say) -> Layout:
    if layout is not Layout.auto:
        return layout
    if file is not None:
        if file.suffix.lower() not in _SUFFIXES:
            raise KwsError(f"data.manifest={file}: must end in {', '.join(_SUFFIXES)}, or data.layout must be set")
        return _SUFFIXES[file.suffix.lower()]
    if found := next((kind for kind, name in _FILES.items() if (root / name).is_file()), None):
        return found
    for kind, folders in _NAMED_FOLDERS.items():
        if len(keywords) <= 1 and has_all(root, folders):
            word = f", {next(iter(folders))}/ as keyword={keywords[0]}" if keywords else ""
            say(f"{', '.join(f'{name}/' for name in folders)}: read as data.layout={kind}{word}")
            return kind
    return Layout.folders


def _without_hidden(file: str, rows: Sequence[Row], say: Say) -> list[Row]:
    """The rows without those of `._name.wav`, which a Mac leaves beside `name.wav`, and which hold no sound."""
    kept = [row for row in rows if not re.search(r"(^|[/\\])\._[^/\\]*$", row[1].get("path", ""))]
    if len(kept) < len(rows):
        say(f"{file}: left out, leftovers of a Mac (._NAME): {plural(len(rows) - len(kept), 'file')}")
    return kept


def _splits(rows: Sequence[Row], file: str, split: SplitBy, part_column: str, say: Say) -> list[Split | None]:
    """The split of each row from its column; None for all if there is none, or `split` is hash."""
    nothing: list[Split | None] = [None] * len(rows)
    if split is SplitBy.hash:
        return nothing
    keys = {folded(key): key for _, fields in rows for key in fields}
    column = keys.get(folded(part_column))
    for other in SPLIT_COLUMNS if column is None else ():
        if (key := keys.get(other)) is None:
            continue
        if any(folded(fields.get(key, "")) in SPLITS for _, fields in rows):
            column = key
            say(f"{file}: column {key!r} is read as the split")
            break
        say(f"{file}: column {key!r} holds no split, such as train, and is not used: {rows[0][1].get(key)!r}")
    if column is None:
        if split is SplitBy.column:
            raise KwsError(f"{file}: {part_column!r} is missing, the column with the split (data.part_column)")
        return nothing
    found: list[Split | None] = []
    others: dict[str, Split] = {}
    for where, fields in rows:
        if not (value := fields.get(column, "").strip()):
            raise KwsError(f"{where}: {column!r} is missing, empty or not text")
        if (word := SPLITS.get(folded(value))) is None:
            raise KwsError(f"{where}: {column}={value!r}: must be one of {', '.join(Split)}")
        one = Split(word)
        if value != one:
            others[value] = one
        found.append(one)
    if others:
        say(f"{file}: {column}: " + ", ".join(f"{value!r} is read as {one}" for value, one in others.items()))
    return found


def _listed(root: Path, rows: list[Row], column: str, required: bool) -> list[Row]:
    """Add the splits of the two lists of Speech Commands. Files in neither list are train."""
    present = [name for name in _LISTS.values() if (root / name).is_file()]
    if not present and not required:
        return rows
    if missing := [name for name in _LISTS.values() if name not in present]:
        raise KwsError(f"{root}: {' and '.join(missing)} missing, needed unless data.split_by=hash")
    splits: dict[str, Split] = {}
    for split, list_name in _LISTS.items():
        for number, line in enumerate(text_of(root / list_name).split("\n"), 1):
            name = line.strip()
            if name and splits.setdefault(name, split) is not split:
                raise KwsError(f"{list_name}:{number}: {name!r} is in the {splits[name]} list too")
    return [(name, fields | {column: splits.get(name, Split.TRAIN)}) for name, fields in rows]


def _recording(
    root: Path, where: str, fields: dict[str, str], split: Split | None, listing: Listing, allow_outside: bool
) -> Recording:
    fields = {key: shown(value.strip()) if key != "path" else value.strip() for key, value in fields.items()}
    for column in ("path", "label"):
        if not fields.get(column):
            raise KwsError(f"{where}: {column!r} is missing, empty or not text")
    path, name = place_of(root, fields["path"], where, listing, allow_outside)
    speaker = fields.get("speaker", "")
    text, source = fields.get("text", ""), fields.get("source", "")
    start_s, end_s = (seconds_of(fields, column, where) for column in ("start", "end"))
    if end_s is not None and end_s <= (start_s or 0):
        raise KwsError(f"{where}: end={fields['end']}: must be after start={fields.get('start') or 0}")
    return Recording(
        path,
        shown(name.as_posix()),
        fields["label"],
        split or hash_split(speaker or name.stem),
        speaker,
        text,
        source,
        split is not None,
        start_s,
        end_s,
    )
