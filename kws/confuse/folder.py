"""A folder of clips that the program makes: claimed by the arguments of its making, complete once it has a manifest."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from kws.audio import replacing
from kws.errors import KwsError

MANIFEST, ARGUMENTS = "manifest.csv", "arguments.json"
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_")


def is_complete(folder: Path, arguments: Mapping[str, object]) -> bool:
    """Whether the clips that these arguments make are all there; some or none may be, for `begin` to go on with.

    Raises KwsError for a folder that holds something else.
    """
    file, complete = folder / ARGUMENTS, (folder / MANIFEST).exists()
    if (complete or file.exists()) and not (file.exists() and file.read_bytes() == _encoded(arguments)):
        raise KwsError(f"{folder}: holds other recordings; name a new folder, or delete this one")
    return complete


def begin(folder: Path, arguments: Mapping[str, object], files: Iterable[str]) -> None:
    """Claim the folder for these arguments, and make the folders of its files."""
    for parent in sorted({(folder / file).parent for file in files}):
        parent.mkdir(parents=True, exist_ok=True)
    with replacing(folder / ARGUMENTS) as target:
        target.write(_encoded(arguments))


def _encoded(arguments: Mapping[str, object]) -> bytes:
    return json.dumps(arguments, indent=1).encode()


def finish(folder: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    """Write the manifest, the last of a folder, and return its path."""
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([columns, *rows])
    with replacing(folder / MANIFEST) as target:
        target.write(table.getvalue().encode())
    return folder / MANIFEST


def plain_name(text: str) -> str:
    """`text` where it is a plain name, else what is plain of it and a hash: never a path."""
    plain = "".join(char if char in _PLAIN else "-" for char in text.lower())[:40]
    return plain if plain == text else f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
