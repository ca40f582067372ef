"""Manifests: the recordings with their labels and splits. No audio is opened here."""

import csv
import hashlib
import io
import json
import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath

from kws.common.errors import KwsError
from kws.data.audio import EXTENSIONS

CONFUSABLE = "confusable"  # label of phrases that sound like a keyword
NOISE = "noise"
_NOISE_FOLDER = "_background_noise_"


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


class Layout(StrEnum):
    """Layout of a folder of recordings."""

    auto = "auto"
    csv = "csv"
    jsonl = "jsonl"
    folders = "folders"
    speech_commands = "speech_commands"


class SplitBy(StrEnum):
    """Source of the splits: a column or lists of the manifest, or a hash of the speaker."""

    auto = "auto"
    column = "column"
    hash = "hash"


_FILES = {Layout.csv: "manifest.csv", Layout.jsonl: "manifest.jsonl", Layout.speech_commands: "testing_list.txt"}
_LISTS = {Split.VALIDATION: "validation_list.txt", Split.TEST: "testing_list.txt"}
_Row = tuple[str, dict[str, str]]  # file and line; fields of one recording, unchecked


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file of the manifest. `name` is its path below the root, for display."""

    path: Path
    name: str
    label: str
    split: Split
    speaker: str = ""
    text: str = ""
    source: str = ""


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
) -> list[Recording]:
    """Read the recordings below `root`, in the order of the manifest, or sorted by name.

    Args:
        root: folder of the recordings. No path may lead out of it, also through symbolic links.
        file: manifest, relative to `root` or absolute; None for manifest.csv or manifest.jsonl in `root`.
        layout: auto takes the manifest if there is one, else the lists of Speech Commands, else one folder per label.
        split: auto takes the column (or the lists of Speech Commands) if there is one, else the hash.
        part_column: column with `train`, `validation` or `test`.

    Raises:
        KwsError: no recordings, a malformed or missing value, a path outside of `root`, or a path given twice.
    """
    if not root.is_dir():
        raise KwsError(f"data.root={root}: no such folder")
    root = root.resolve()
    layout = _layout(root, file, layout)
    if layout in {Layout.csv, Layout.jsonl}:
        source = root / (file or _FILES[layout])
        rows = _csv_rows(source) if layout is Layout.csv else _jsonl_rows(source)
    else:
        source, rows = root, _folder_rows(root)
        if layout is Layout.speech_commands and split is not SplitBy.hash:
            rows = _listed(root, rows, part_column, required=split is SplitBy.column)
    if not rows:
        raise KwsError(f"{source}: no recordings (layout {layout.value})")
    by_column = split is SplitBy.column or (split is SplitBy.auto and any(part_column in f for _, f in rows))
    recordings, seen = [], dict[Path, str]()
    for where, fields in rows:
        recording = _recording(root, where, fields, part_column if by_column else None)
        if (first := seen.setdefault(recording.path, where)) is not where:
            raise KwsError(f"{where}: path={recording.name!r} was given at {first}")
        recordings.append(recording)
    return recordings


def contains_phrase(text: str, phrase: str) -> bool:
    """Whether a transcript contains a keyword, or its plural in -s, as whole words.

    Case, punctuation and `_` are ignored. A phrase without a letter or digit is never contained.
    """
    words = _words(phrase)
    return bool(words) and any(f" {words}{ending} " in f" {_words(text)} " for ending in ("", "s"))


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _layout(root: Path, file: Path | None, layout: Layout) -> Layout:
    if layout is not Layout.auto:
        return layout
    if file is not None:
        if file.suffix.lower() not in (".csv", ".jsonl"):
            raise KwsError(f"data.manifest={file}: must end in .csv or .jsonl, or data.layout must be set")
        return Layout(file.suffix.lower()[1:])
    return next((kind for kind, name in _FILES.items() if (root / name).is_file()), Layout.folders)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # with or without the byte order mark of spreadsheets
    except (OSError, UnicodeDecodeError) as error:
        raise KwsError(f"{path}: cannot be read as UTF-8 text ({error})") from error


def _csv_rows(path: Path) -> list[_Row]:
    reader = csv.DictReader(io.StringIO(_text(path)), restval="", strict=True)
    try:
        columns = reader.fieldnames or []
        for column in ("path", "label"):
            if column not in columns:
                found = ", ".join(columns) or "none"
                raise KwsError(f"{path.name}: column {column!r} is missing, found {found}")
        rows = [(f"{path.name}:{reader.line_num}", fields) for fields in reader]
    except csv.Error as error:
        raise KwsError(f"{path.name}:{reader.line_num}: malformed CSV ({error})") from error
    for where, fields in rows:
        if None in fields:
            raise KwsError(f"{where}: more values than the {len(columns)} columns")
    return rows


def _jsonl_rows(path: Path) -> list[_Row]:
    rows = []
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise KwsError(f"{where}: malformed JSON ({error})") from error
        if not isinstance(fields, dict):
            raise KwsError(f"{where}: must be a JSON object, not {line.strip()[:40]!r}")
        # Numbers pass as text: speaker ids are often numbers. Lists and objects are ignored.
        rows.append((where, {k: str(v) for k, v in fields.items() if isinstance(v, str | int | float)}))
    return rows


def _folder_rows(root: Path) -> list[_Row]:
    """All audio files below the root, labelled by the first folder of their path, without hidden ones."""
    rows = []
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        if any(piece.startswith(".") for piece in name.parts):
            continue
        if path.is_dir() and path.is_symlink():
            raise KwsError(f"{name.as_posix()}: a link to a folder, which is not followed below data.root")
        if path.is_dir() or path.suffix.lower() not in EXTENSIONS:
            continue
        if len(name.parts) == 1:
            raise KwsError(f"{name}: must lie in the folder of its label, <label>/{name}")
        label = NOISE if name.parts[0] == _NOISE_FOLDER else name.parts[0]
        speaker, separator, _ = name.stem.partition("_nohash_")  # file names of Speech Commands
        fields = {"path": name.as_posix(), "label": label, "speaker": speaker if separator else ""}
        rows.append((name.as_posix(), fields))
    return rows


def _listed(root: Path, rows: list[_Row], column: str, required: bool) -> list[_Row]:
    """Add the splits of the two lists of Speech Commands. Files in neither list are train."""
    present = [name for name in _LISTS.values() if (root / name).is_file()]
    if not present and not required:
        return rows
    if missing := [name for name in _LISTS.values() if name not in present]:
        raise KwsError(f"{root}: {' and '.join(missing)} missing, needed unless data.split_by=hash")
    splits: dict[str, Split] = {}
    for split, list_name in _LISTS.items():
        for number, line in enumerate(_text(root / list_name).split("\n"), 1):
            name = line.strip()
            if name and splits.setdefault(name, split) is not split:
                raise KwsError(f"{list_name}:{number}: {name!r} is in the {splits[name]} list too")
    return [(name, fields | {column: splits.get(name, Split.TRAIN)}) for name, fields in rows]


def _recording(root: Path, where: str, fields: dict[str, str], part_column: str | None) -> Recording:
    fields = {key: value.strip() for key, value in fields.items()}
    for column in ("path", "label", *([part_column] if part_column else [])):
        if not fields.get(column):
            raise KwsError(f"{where}: {column!r} is missing, empty or not text")
    path, name = _inside(root, fields["path"], where), PurePosixPath(fields["path"])
    speaker = fields.get("speaker", "")
    if part_column is None:
        split = hash_split(speaker or name.stem)
    elif fields[part_column] in set(Split):
        split = Split(fields[part_column])
    else:
        raise KwsError(f"{where}: {part_column}={fields[part_column]!r}: must be one of {', '.join(Split)}")
    text, source = fields.get("text", ""), fields.get("source", "")
    return Recording(path, name.as_posix(), fields["label"], split, speaker, text, source)


def _inside(root: Path, given: str, where: str) -> Path:
    """Resolve a path of the manifest. It must be below the root, because a manifest may come from anywhere."""
    if PurePosixPath(given).is_absolute():
        raise KwsError(f"{where}: path={given!r}: must be relative to data.root")
    try:
        path = (root / given).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise KwsError(f"{where}: path={given!r}: must be a path ({error})") from error
    if not path.is_relative_to(root):
        raise KwsError(f"{where}: path={given!r}: must be below data.root")
    return path
