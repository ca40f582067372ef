"""Bounds of keywords that a person set on the page, and the copy of the manifest that holds them."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from kws.common.errors import KwsError
from kws.common.validated_json import read_json
from kws.data.manifest import Recording
from kws.data.tables import Row

_FIRST = ("path", "label", "start", "end")  # columns

Seconds = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]


class Bound(BaseModel):
    """First and last moment of the keyword in a recording, seconds."""

    model_config = ConfigDict(extra="forbid", strict=True)
    recording: str
    start: Seconds
    end: Seconds


class _Bounds(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)
    bounds: list[Bound]


def read_bounds(path: Path) -> list[Bound]:
    """Read the file that the page saves.

    Raises:
        KwsError: missing, above 50 MB, of other content, none in it, one twice, or an end before its start.
    """
    found = read_json(path, _Bounds, f"bounds={path}").bounds
    if not found:
        raise KwsError(f"bounds={path}: holds no bounds")
    seen = set[str]()
    for one in found:
        if one.end <= one.start:
            raise KwsError(f"bounds={path}: {one.recording}: end={one.end:g}: must be after start={one.start:g}")
        if one.recording in seen:
            raise KwsError(f"bounds={path}: {one.recording}: is there twice")
        seen.add(one.recording)
    return found


def with_bounds(rows: Sequence[Row], recordings: Sequence[Recording], bounds: Sequence[Bound]) -> str:
    """A manifest, as CSV, with these bounds in the columns start and end. All else stays.

    Args:
        rows: of the manifest.
        recordings: of the same rows.
        bounds: each of one of the recordings.

    Raises:
        KwsError: there is no such recording.
    """
    given: Mapping[str, Bound] = {one.recording: one for one in bounds}
    if unknown := given.keys() - {one.name for one in recordings}:
        raise KwsError(f"bounds: {min(unknown)}: no such recording in the manifest")
    columns = [*_FIRST, *dict.fromkeys(key for _, fields in rows for key in fields if key not in _FIRST)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for (_, fields), recording in zip(rows, recordings, strict=True):
        own = given.get(recording.name)
        times = {} if own is None else {"start": f"{own.start:.3f}", "end": f"{own.end:.3f}"}
        writer.writerow(fields | times)
    return text.getvalue()
