"""When a keyword is said: spans from the files that people annotate with."""

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from kws.common.errors import KwsError
from kws.data.dataset import same_word
from kws.data.streams import Span

LATEST_S = 1e8  # three years: beyond, a time is surely not in seconds
ANSWER_S = (0.0, 0.5)  # how long before a word and after its end a detector may answer it, where nobody says else
_Line = tuple[str, object, object, str | None]  # where it stands; start, end and label as read


class Marked(NamedTuple):
    """A span within which a detector may answer, and when the keyword has been said, where that is known; seconds."""

    span: Span
    spoken_s: float | None


def read_annotations(
    path: Path,
    keyword: str,
    collar_s: tuple[float, float] | None = None,
    needed: bool = True,
    labelled: bool = False,
) -> list[Marked]:
    """The spans within which a detector may answer, for each time that a file says the keyword is said.

    The name of the file tells its format:

    - `.json`: pairs `[start, end]`, or objects with `start`, `end` and perhaps `label`;
    - `.csv`: columns `start`, `end` and perhaps `label`;
    - `.txt`: labels as Audacity exports them, start, end and text divided by tabs;
    - `.rttm`: NIST Rich Transcription; the word is the orthography field, or the name where there is none.

    Times are seconds. Lines with another label than the keyword are other words.

    Args:
        path: the file.
        keyword: whose spans are wanted; case and `_` for a space do not matter.
        collar_s: seconds added before the start and after the end of each; None adds `ANSWER_S`, but nothing to JSON
            without labels: those are spans to answer in already, as the referee's are.
        needed: nothing of the keyword is an error.
        labelled: a line without a label is one too, as where several keywords are told apart.

    Raises:
        KwsError: it cannot be read, a line is malformed, or nothing in it is the keyword where that is needed.
    """
    readers = {".json": _json, ".csv": _csv, ".txt": _audacity, ".rttm": _rttm}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise KwsError(f"{path}: a name in {', '.join(readers)} expected")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise KwsError(f"{path}: no events can be read ({error})") from error
    found, others = [], set()
    for where, start, end, label in _lines(reader(path, text), path):
        span = _span(start, end, f"{path}: {where}")
        if labelled and label is None:
            raise KwsError(f"{path}: {where} has no label; allowed are labels that tell which keyword it is")
        if label is None or same_word(label, keyword):
            plain = label is None and path.suffix.lower() == ".json" and collar_s is None
            wide = span if plain else _widened(span, ANSWER_S if collar_s is None else collar_s)
            found.append(Marked(wide, None if plain else span[1]))
        else:
            others.add(label)
    if needed and not found and others:
        there = ", ".join(map(repr, sorted(others)[:5]))
        raise KwsError(f"{path}: nothing there is labelled {keyword!r}; there are {there}")
    return found


def _lines(read: Iterator[_Line], path: Path) -> Iterator[_Line]:
    try:
        yield from read
    except csv.Error as error:
        raise KwsError(f"{path}: malformed CSV ({error})") from error


def _widened(span: Span, collar_s: tuple[float, float]) -> Span:
    before, after = collar_s
    return max(0.0, span[0] - before), span[1] + after


def _json(path: Path, text: str) -> Iterator[_Line]:
    try:
        entries = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise KwsError(f"{path}: not a readable JSON file of events ({error})") from error
    if not isinstance(entries, list):
        raise KwsError(f"{path}: holds a {type(entries).__name__}, a list of [start, end] pairs expected")
    for i, entry in enumerate(entries):
        if isinstance(entry, dict) and {"start", "end"} <= entry.keys():
            yield f"event {i}", entry["start"], entry["end"], str(entry.get("label", "")) or None
        elif isinstance(entry, list) and len(entry) == 2:
            yield f"event {i}", *entry, None
        else:
            raise KwsError(f"{path}: event {i} is {str(entry)[:80]}, [start, end] expected")


def _csv(path: Path, text: str) -> Iterator[_Line]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if missing := [name for name in ("start", "end") if name not in (reader.fieldnames or ())]:
        raise KwsError(
            f"{path}: column {missing[0]!r} is missing, found {', '.join(reader.fieldnames or ()) or 'none'}"
        )
    for line in reader:
        yield f"line {reader.line_num}", _number(line["start"]), _number(line["end"]), line.get("label") or None


def _audacity(path: Path, text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("\\"):  # a second line with the frequencies of a spectral selection
            continue
        start, end, label = (*line.split("\t", 2), "", "")[:3]
        yield f"line {number}", _number(start), _number(end), label.strip() or None


def _rttm(path: Path, text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith(";;"):
            continue
        fields = line.split()
        if len(fields) < 8:
            raise KwsError(f"{path}: line {number}: {len(fields)} fields, at least 8 expected")
        start, length = _number(fields[3]), _number(fields[4])
        end = start + length if isinstance(start, float) and isinstance(length, float) else length
        words = [word for word in (fields[5], fields[7]) if word != "<NA>"]
        yield f"line {number}", start, end, words[0] if words else None


def _number(text: str | None) -> object:
    """What was meant as a number, or the text itself, for the error."""
    try:
        return float(text or "")
    except ValueError:
        return text


def _span(start: object, end: object, where: str) -> Span:
    if type(start) in (int, float) and type(end) in (int, float):  # no bool
        a, b = cast(float, start), cast(float, end)
        if 0 <= a < b <= LATEST_S:
            return float(a), float(b)
    raise KwsError(f"{where} is {str([start, end])[:80]}, [start, end] in seconds with 0 <= start < end expected")
