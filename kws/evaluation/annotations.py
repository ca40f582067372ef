"""Annotations of keyword occurrences, from JSON, CSV, Audacity label and RTTM files."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

from kws.common.errors import KwsError
from kws.data.names import same_word
from kws.data.streams import Span
from kws.data.tables import csv_rows, text_of

LATEST_S = 1e8  # three years: a larger time is not in seconds
COLLAR_S = (0.0, 0.5)  # default tolerance before the start and after the end of a keyword
_Line = tuple[str, object, object, str | None]  # place in the file; start, end and label as read


class Annotation(NamedTuple):
    """Span within which a trigger is a hit, and the end of the spoken keyword where known; seconds."""

    span: Span
    spoken_s: float | None


def read_annotations(
    path: Path,
    keyword: str,
    collar_s: tuple[float, float] | None = None,
    required: bool = True,
    labelled: bool = False,
) -> list[Annotation]:
    """Read the occurrences of a keyword from a file.

    The suffix of the file gives the format:

    - `.json`: pairs `[start, end]`, or objects with `start`, `end` and optionally `label`;
    - `.csv`: columns `start`, `end` and optionally `label`;
    - `.txt`: Audacity labels, start, end and text separated by tabs;
    - `.rttm`: NIST Rich Transcription; the label is the orthography field, or the name where that is <NA>.

    Times are seconds. Lines with another label than the keyword are ignored.

    Args:
        path: the file.
        keyword: label to find; case is ignored, and `_` equals a space.
        collar_s: seconds added before the start and after the end. None adds `COLLAR_S`, but nothing to JSON without
            labels, which holds spans for hits already.
        required: raise an error if no line has the label.
        labelled: raise an error for a line without a label, as needed with several keywords.

    Raises:
        KwsError: the file cannot be read, a line is malformed, or a required label is missing.
    """
    readers = {".json": _json, ".csv": _csv, ".txt": _audacity, ".rttm": _rttm}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise KwsError(f"{path}: the suffix must be one of {', '.join(readers)}")
    lines = list(reader(path))
    found, others = [], set()
    before_s, after_s = COLLAR_S if collar_s is None else collar_s
    for where, first, last, label in lines:
        start, end = _span(first, last, f"{path}: {where}")
        if labelled and label is None:
            raise KwsError(f"{path}: {where} has no label; with several keywords each line must have one")
        if label is not None and not same_word(label, keyword):
            others.add(label)
        elif label is None and path.suffix.lower() == ".json" and collar_s is None:
            found.append(Annotation((start, end), None))
        else:
            found.append(Annotation((max(0.0, start - before_s), end + after_s), end))
    if required and not found and others:
        labels = ", ".join(map(repr, sorted(others)[:5]))
        raise KwsError(f"{path}: no line is labelled {keyword!r}; labels are {labels}")
    return found


def _json(path: Path) -> Iterator[_Line]:
    try:
        entries = json.loads(text_of(path))
    except (ValueError, RecursionError) as error:
        raise KwsError(f"{path}: not a readable JSON file of events ({error})") from error
    if not isinstance(entries, list):
        raise KwsError(f"{path}: must hold a list of [start, end] pairs, not a {type(entries).__name__}")
    for i, entry in enumerate(entries):
        if isinstance(entry, dict) and {"start", "end"} <= entry.keys():
            label = entry.get("label")
            if not isinstance(label, str | None):
                raise KwsError(f"{path}: event {i}: label={label!r}: must be text, or left out")
            yield f"event {i}", entry["start"], entry["end"], label or None
        elif isinstance(entry, list) and len(entry) == 2:
            yield f"event {i}", *entry, None
        else:
            raise KwsError(f"{path}: event {i} must be [start, end], not {str(entry)[:80]}")


def _csv(path: Path) -> Iterator[_Line]:
    rows = csv_rows(path, needed=("start", "end"))
    _of_one(path, (fields.get("path", "").strip() for _, fields in rows))
    for where, fields in rows:
        number = where.rpartition(":")[2]
        yield (
            f"line {number}",
            _number(fields["start"]),
            _number(fields["end"]),
            fields.get("label", "").strip() or None,
        )


def _audacity(path: Path) -> Iterator[_Line]:
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip() or line.startswith("\\"):  # the frequencies of a spectral selection
            continue
        start, end, label = (*line.split("\t", 2), "", "")[:3]
        yield f"line {number}", _number(start), _number(end), label.strip() or None


def _of_one(path: Path, recordings: Iterable[str]) -> None:
    """Raise KwsError if the lines of a file are those of several recordings."""
    names = sorted({*recordings} - {""})
    if len(names) > 1:
        raise KwsError(f"{path}: must annotate one recording, not {len(names)}: {', '.join(names[:3])}")


def _rttm(path: Path) -> Iterator[_Line]:
    lines = []
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split()
        if len(fields) < 8:
            raise KwsError(f"{path}: line {number}: must have at least 8 fields, not {len(fields)}")
        lines.append((number, fields))
    _of_one(path, (fields[1] for _, fields in lines))
    for number, fields in lines:
        start, length = _number(fields[3]), _number(fields[4])
        end = start + length if isinstance(start, float) and isinstance(length, float) else length
        words = [word for word in (fields[5], fields[7]) if word != "<NA>"]
        yield f"line {number}", start, end, words[0] if words else None


def _number(text: str | None) -> object:
    """The number, or the text itself for the error message. Decimal commas are of tables with semicolons or tabs."""
    try:
        return float((text or "").replace(",", "."))
    except ValueError:
        return text


def _span(start: object, end: object, where: str) -> Span:
    if type(start) in (int, float) and type(end) in (int, float):  # no bool
        a, b = cast(float, start), cast(float, end)
        if 0 <= a < b <= LATEST_S:
            return float(a), float(b)
    raise KwsError(f"{where} must be [start, end] in seconds with 0 <= start < end, not {str([start, end])[:80]}")
