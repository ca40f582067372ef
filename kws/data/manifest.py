"""Which recordings there are, what each one is, and the part it belongs to; no sound is opened here."""

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

CONFUSABLE = "confusable"  # the label of clips that sound like a keyword and are not it


NOISE = "noise"
_NOISE_FOLDER = "_background_noise_"


class Split(StrEnum):
    """What a recording may be used for, in the order of distance from training."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, slots=True)
class Source:
    """A recording: hash of its content, its name as people know it (never used as a path), its part."""

    hash: str
    name: str
    split: Split

    def __post_init__(self) -> None:
        if not self.hash:
            raise KwsError(f"{self.name!r}: a recording without a content hash cannot be guarded against leaks")


class Layout(StrEnum):
    """How a folder of recordings says what they are."""

    auto = "auto"
    csv = "csv"
    jsonl = "jsonl"
    folders = "folders"
    speech_commands = "speech_commands"


class SplitBy(StrEnum):
    """Where the parts come from: the manifest's own column or lists, or a hash of the speaker."""

    auto = "auto"
    column = "column"
    hash = "hash"


_FILES = {
    Layout.csv: "manifest.csv",
    Layout.jsonl: "manifest.jsonl",
    Layout.speech_commands: "testing_list.txt",
}
_LISTS = {Split.VALIDATION: "validation_list.txt", Split.TEST: "testing_list.txt"}
_Row = tuple[str, dict[str, str]]  # file and line; what they say about one recording, unchecked


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of sound and what is known about it; `name` is its path below the root, as shown to people."""

    path: Path
    name: str
    label: str
    split: Split
    speaker: str = ""
    text: str = ""
    source: str = ""


def hash_split(name: str) -> Split:
    """The part of a speaker: 60 % train, 15 % validation, 25 % test, whatever else there is.

    Args:
        name: the speaker, or the file's stem where the speaker is unknown.
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
    """The recordings below `root`: in the manifest's order, folders sorted by name.

    Args:
        root: folder of the recordings; no path leaves it, symbolic links followed.
        file: the manifest, relative to `root` or absolute; None for manifest.csv or manifest.jsonl in `root`.
        layout: auto takes the manifest, then Speech Commands' lists, then a folder for each label.
        split: auto takes the column (or Speech Commands' lists) where there is one, else the hash.
        part_column: column with `train`, `validation` or `test`.

    Raises:
        KwsError: nothing there, a malformed or missing value, a path outside of `root`, or one given twice.
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
    recordings = []
    seen: dict[Path, str] = {}
    for where, fields in rows:
        recording = _recording(root, where, fields, part_column if by_column else None)
        if recording.path in seen:
            raise KwsError(f"{where}: path={recording.name!r} was given at {seen[recording.path]}")
        seen[recording.path] = where
        recordings.append(recording)
    return recordings


def says(text: str, phrase: str) -> bool:
    """Whether a transcript holds a keyword, or its plural in -s, as whole words.

    Case, punctuation and `_` count for nothing. A phrase without a letter or digit is never said.
    """
    words = _words(phrase)
    return bool(words) and any(f" {words}{ending} " in f" {_words(text)} " for ending in ("", "s"))


def _words(text: str) -> str:
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def _layout(root: Path, file: Path | None, layout: Layout) -> Layout:
    if layout is not Layout.auto:
        return layout
    if file is not None:
        by_suffix = {".csv": Layout.csv, ".jsonl": Layout.jsonl}
        if file.suffix.lower() not in by_suffix:
            raise KwsError(f"data.manifest={file}: a name in .csv or .jsonl expected, or set data.layout")
        return by_suffix[file.suffix.lower()]
    return next((kind for kind, name in _FILES.items() if (root / name).is_file()), Layout.folders)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")  # with or without the mark that spreadsheets write
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
            raise KwsError(f"{where}: a JSON object expected, not {line.strip()[:40]!r}")
        # Numbers pass as text: speaker ids often are. Lists and objects are not asked for.
        rows.append((where, {k: str(v) for k, v in fields.items() if isinstance(v, str | int | float)}))
    return rows


def _folder_rows(root: Path) -> list[_Row]:
    """Each sound below the root, labelled by the first folder of its path; hidden ones left out."""
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
            raise KwsError(f"{name}: lies in no label's folder, <label>/{name} expected")
        label = NOISE if name.parts[0] == _NOISE_FOLDER else name.parts[0]
        speaker, separator, _ = name.stem.partition("_nohash_")  # as Speech Commands names its files
        fields = {"path": name.as_posix(), "label": label, "speaker": speaker if separator else ""}
        rows.append((name.as_posix(), fields))
    return rows


def _listed(root: Path, rows: list[_Row], column: str, required: bool) -> list[_Row]:
    """The rows with the parts of Speech Commands' two lists; what is in neither is for training."""
    present = [name for name in _LISTS.values() if (root / name).is_file()]
    if not present and not required:
        return rows
    if missing := [name for name in _LISTS.values() if name not in present]:
        raise KwsError(f"{root}: {' and '.join(missing)} missing, needed unless data.split=hash")
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
        raise KwsError(f"{where}: {part_column}={fields[part_column]!r}, one of {', '.join(Split)} expected")
    text, source = fields.get("text", ""), fields.get("source", "")
    return Recording(path, name.as_posix(), fields["label"], split, speaker, text, source)


def _inside(root: Path, given: str, where: str) -> Path:
    """Where `given` leads, which must be below the root: a manifest may come from anywhere."""
    if PurePosixPath(given).is_absolute():
        raise KwsError(f"{where}: path={given!r} is absolute, one relative to data.root expected")
    try:
        path = (root / given).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a NUL
        raise KwsError(f"{where}: path={given!r} is no path ({error})") from error
    if not path.is_relative_to(root):
        raise KwsError(f"{where}: path={given!r} leads out of data.root")
    return path
