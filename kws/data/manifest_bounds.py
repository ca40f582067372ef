"""Bounds of keywords that a person corrected, written into a manifest."""

import csv
import io
import unicodedata
from collections.abc import Mapping

from kws.common.errors import KwsError


def with_bounds(text: str, bounds: Mapping[str, tuple[float, float]], delimiter: str = ",") -> str:
    """The text of a CSV manifest with columns `start` and `end` for some recordings; all other values stay.

    Args:
        text: with a header line; the columns are added at the end where they are missing.
        bounds: start and end in seconds, by the path of the recording.
        delimiter: of the columns.

    Raises:
        KwsError: there is no column `path`, or a path is not in the table.
    """
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    names = [name.strip().casefold() for name in rows[0]] if rows else []
    if "path" not in names:
        raise KwsError(f"column 'path' is missing, found {', '.join(names) or 'none'}")
    for column in ("start", "end"):
        if column not in names:
            names.append(column)
            rows[0].append(column)
    wanted = {_key(path): pair for path, pair in bounds.items()}
    for row in rows[1:]:
        row.extend([""] * (len(names) - len(row)))
        if pair := wanted.pop(_key(row[names.index("path")]), None):
            row[names.index("start")], row[names.index("end")] = (f"{seconds:.3f}" for seconds in pair)
    if wanted:
        raise KwsError(f"{min(wanted)}: must be a path of the manifest")
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return out.getvalue()


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path.strip().replace("\\", "/"))
