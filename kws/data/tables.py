"""Tables as people have them: CSV with any delimiter, JSON lines, in the encodings of spreadsheets."""

import codecs
import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from kws.common.errors import KwsError
from kws.data.names import folded

Row = tuple[str, dict[str, str]]  # file and line; fields of one recording, unchecked
Say = Callable[[str], None]  # prints how something was read

_DELIMITERS = ",;\t|"
_LATEST_S = 1e7  # of a time within a recording, about four months
# Other names of the columns: Common Voice, Hugging Face, DeepSpeech, NeMo, ESC-50.
KNOWN = {
    "path": ("file", "filename", "file_name", "filepath", "audio", "audio_path", "audio_file", "audio_filepath",
             "wav", "wav_filename"),
    "label": ("keyword", "word", "class", "category"),
    "speaker": ("client_id", "speaker_id", "spk", "spk_id", "user_id"),
    "text": ("sentence", "transcript", "transcription"),
    "source": ("dataset", "corpus", "locale"),
}  # fmt: skip
NEEDED = ("path", "label")
# Words for the splits, in tables and as names of folders.
SPLITS = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "devel", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}


def silent(_: str) -> None:
    """Print nothing."""


def csv_rows(path: Path, say: Say = silent, needed: Sequence[str] = NEEDED) -> list[Row]:
    """Rows of a CSV file with a header, with the names of the columns folded to those of a manifest.

    The delimiter is that of `,`, `;`, tab and `|` which finds the columns; the line `sep=` of Excel may name it. Commas
    in a last column of text need no quotes.

    Args:
        path: the file; UTF-8, UTF-16, or cp1252.
        say: prints the encoding and the columns, where they are not those of a manifest.
        needed: columns that must be there.

    Raises:
        KwsError: unreadable, malformed, or a column is missing.
    """
    text, skipped = text_of(path, say), 0
    named = re.match(r"sep=(.)[ \t]*\n", text, re.IGNORECASE)
    if named:
        text, skipped = text[named.end() :], 1
    delimiter = named.group(1) if named else _delimiter(text, needed)
    lines = _lines(path.name, text, skipped, delimiter)
    columns = [name.strip() for name in lines[0][1]] if lines else []
    names = _columns(path.name, columns, say, needed)
    rows, joined = [], 0
    for number, values in lines[1:]:
        where = f"{path.name}:{number}"
        extra = values[len(columns) :]
        if any(value.strip() for value in extra):
            if names[columns[-1]] != "text":
                raise KwsError(
                    f"{where}: {len(values)} values, but {len(columns)} columns: put a value that holds "
                    f"{delimiter!r} in quotes"
                )
            values[len(columns) - 1 :] = [delimiter.join(values[len(columns) - 1 :])]
            joined += 1
        if any(value.strip() for value in values):
            fields = dict(zip(columns, values, strict=False))
            rows.append((where, {names[column]: fields.get(column, "") for column in columns}))
    if joined:
        say(f"{path.name}: {joined} texts hold {delimiter!r} without quotes; read to the end of the line")
    return rows


def json_rows(path: Path, say: Say = silent) -> list[Row]:
    """Rows of a file with one JSON object a line, with the names of the keys folded to those of a manifest."""
    rows: list[tuple[str, dict[str, str]]] = []
    for number, line in enumerate(text_of(path, say).split("\n"), 1):
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
    if not rows:
        return []
    names = _columns(path.name, list(dict.fromkeys(key for _, fields in rows for key in fields)), say, ())
    return [(where, {names[key]: value for key, value in fields.items()}) for where, fields in rows]


def text_of(path: Path, say: Say = silent) -> str:
    r"""Text of a file, with \n at the end of each line. Raises KwsError if it is neither UTF-8, UTF-16 nor cp1252."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise KwsError(f"{path}: cannot be read ({error.strerror})") from error
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif b"\0" in content[:2]:
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise KwsError(f"{path}: cannot be read as UTF-16 ({error})") from error
        text = _western(path, content, error.start, say)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _western(path: Path, content: bytes, first: int, say: Say) -> str:
    """Text in cp1252. Raises KwsError if it is more likely in the encoding of another script."""
    number = content[:first].count(b"\n") + 1
    line = content.split(b"\n")[number - 1]
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        text = ""
    if not text or re.search(r"[^\0-\x7f]{3}", text):  # accents stand alone, letters of other scripts in rows
        raise KwsError(
            f"{path}: line {number} cannot be read as UTF-8: byte 0x{content[first]:02x} in {line[:60]!r}; save the "
            "table as UTF-8"
        )
    say(f"{path.name}: read as cp1252, because line {number} is not UTF-8: {line.decode('cp1252').strip()[:60]!r}")
    return text


def _delimiter(text: str, needed: Sequence[str]) -> str:
    """The delimiter that finds the needed columns, else the most frequent one in the header."""
    header = text.lstrip("\n").partition("\n")[0][:10000]

    def fitting(delimiter: str) -> tuple[int, int]:
        columns = {
            _canonical(name) for name in next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        }
        return len(columns & set(needed)), header.count(delimiter)

    return max(_DELIMITERS, key=fitting)


def _lines(file: str, text: str, skipped: int, delimiter: str) -> list[tuple[int, list[str]]]:
    """Number and values of each line that is not blank."""

    blanks = f'{delimiter} "' in text  # before quotes

    def read(quoting: Literal[0, 3]) -> list[tuple[int, list[str]]]:
        reader = csv.reader(
            io.StringIO(text), delimiter=delimiter, quoting=quoting, skipinitialspace=blanks, strict=True
        )
        try:
            return [(reader.line_num + skipped, values) for values in reader if values]
        except csv.Error as error:
            raise KwsError(f"{file}:{reader.line_num + skipped}: malformed CSV ({error})") from error

    if delimiter != "\t":
        return read(csv.QUOTE_MINIMAL)
    try:  # tables of Common Voice have quotes in their texts that quote nothing
        lines = read(csv.QUOTE_MINIMAL)
    except KwsError:
        lines = []
    plain = lines and not any("\n" in value for _, values in lines for value in values)
    return lines if plain else read(csv.QUOTE_NONE)


def _canonical(column: str) -> str:
    """Name of a column in a manifest."""
    key = folded(column)
    for name, others in KNOWN.items():
        if key == name or key in map(folded, others):
            return name
    return column.strip().casefold()


def _columns(file: str, columns: Sequence[str], say: Say, needed: Sequence[str]) -> dict[str, str]:
    """Name in a manifest of each column. The right name is preferred, then the first of the known ones."""
    keys = [folded(name) for name in columns if name]
    if twice := [name for name in columns if keys.count(folded(name)) > 1]:
        raise KwsError(f"{file}: column {twice[0]!r} is there twice")
    names = {column: column.strip().casefold() for column in columns}
    for name, others in KNOWN.items():
        if any(folded(column) == name for column in columns):
            names |= {column: name for column in columns if folded(column) == name}
            continue
        known = [column for other in others for column in columns if folded(column) == folded(other)]
        if known:
            names[known[0]] = name
            say(f"{file}: column {known[0]!r} is read as {name!r}")
    for column in needed:
        if column not in names.values():
            raise KwsError(
                f"{file}: column {column!r} is missing in its first line, found {', '.join(columns) or 'none'}"
            )
    return names


def seconds_of(fields: dict[str, str], column: str, where: str) -> float | None:
    """A time of the manifest, with a decimal point or comma; None if it is empty."""
    if not (given := fields.get(column, "")):
        return None
    try:
        seconds = float(given.replace(",", "."))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _LATEST_S:
        raise KwsError(f"{where}: {column}={given!r}: must be seconds, from 0 to {_LATEST_S:g}, or empty")
    return seconds
