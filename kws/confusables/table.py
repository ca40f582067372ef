"""Candidates as a CSV table that a person can edit and give back."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.confusables.candidates import Kind
from kws.confusables.scoring import Candidate

HEADER = ("text", "phones", "kind", "distance", "band")


def line(one: Candidate) -> tuple[str, str, str, str, str]:
    """The cells of a candidate."""
    return one.text, "".join(one.phones), one.kind.value, f"{one.distance:.3f}", str(one.band)


def write(path: Path, candidates: Iterable[Candidate]) -> None:
    """Write a CSV file of candidates; raises KwsError for an existing file, which the user may have edited."""
    if path.exists():
        raise KwsError(f"out={path}: must be a new file; it exists already")
    rows = io.StringIO(newline="")
    csv.writer(rows, lineterminator="\n").writerows([HEADER, *map(line, candidates)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(rows.getvalue().encode())


def texts(value: Any, key: str) -> dict[str, Kind]:
    """The distinct texts of a setting, with their kinds.

    Args:
        value: None, a list of texts, or the path of a CSV file with a column `text`, or of a file with a text a line.
        key: name of the setting, for messages.

    Raises:
        KwsError: the value is none of these, a text has no letter or digit, or a kind is unknown.
    """
    if value is None:
        return {}
    rows = [(one, "") for one in value] if isinstance(value, list) else _read(value, key)
    found: dict[str, Kind] = {}
    for text, kind in rows:
        if not isinstance(text, str) or not any(char.isalnum() for char in text) or not text.isprintable():
            raise KwsError(f"{key}: {text!r} must be a text with a letter or digit")
        if kind and kind not in list(Kind):
            raise KwsError(f"{key}={value}: kind={kind!r} of {text!r}: must be one of {', '.join(Kind)}")
        found.setdefault(" ".join(text.split()), Kind(kind or Kind.GIVEN))
    return found


def _read(value: Any, key: str) -> list[tuple[str, str]]:
    path = Path(str(value))
    if not path.is_file():
        raise KwsError(f"{key}={value}: no such file; texts are given as a list: {key}=[{value}]")
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise KwsError(f"{key}={path}: cannot be read as UTF-8 text ({error})") from error
    if path.suffix.lower() != ".csv":
        return [(each, "") for each in text.splitlines() if each.strip()]
    try:
        rows = list(csv.DictReader(io.StringIO(text), restval="", strict=True))
    except csv.Error as error:
        raise KwsError(f"{key}={path}: malformed CSV ({error})") from error
    if rows and "text" not in rows[0]:
        raise KwsError(f"{key}={path}: no column text; found {', '.join(map(str, rows[0]))}")
    if any(None in row for row in rows):
        raise KwsError(f"{key}={path}: more values than columns; a text with a comma needs quotes")
    return [(row["text"], row.get("kind", "")) for row in rows]
