"""The recordings of a run, kept in its folder: a run resumes with the same ones only."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.data.audio_cache import Entry

FILE = "recordings.json"
_SHOWN = 3  # names of each kind of change


def claim_data(out: Path, entries: Sequence[Entry]) -> None:
    """Write the recordings of a run into its folder; if they are there, compare.

    Raises:
        KwsError: they have changed since the run began. The message says how, with names.
    """
    mine, file = _described(entries), out / FILE
    if not file.is_file():
        with replacing(file) as target:
            target.write(json.dumps(mine, indent=0).encode())
        return
    try:
        theirs: dict[str, list[str]] = {name: list(row) for name, row in json.loads(file.read_bytes()).items()}
    except (OSError, ValueError, AttributeError, TypeError):
        raise KwsError(f"{file}: unreadable, so nobody knows the recordings of this run; give another out") from None
    if changes := _changes(theirs, mine):
        raise KwsError(
            f"out={out}: the recordings changed since this run began: {'; '.join(changes)}; give another out, or bring "
            "back the recordings"
        )


def _described(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """By name: split, content hash, label, and a hash of what else counts. The order is that of the recordings."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        one = entry.recording
        bounds = (one.start_s, one.end_s)
        known = [one.speaker, one.text, one.source, *([] if bounds == (None, None) else [repr(bounds)])]
        rest = hashlib.sha256("\0".join(known).encode("utf-8", "replace")).hexdigest()
        name = one.name
        while name in found:  # a synthetic clip may be named like a recording
            name += "'"
        found[name] = [str(one.split), entry.hash[:16], one.label, rest[:8]]
    return found


def _changes(old: dict[str, list[str]], new: dict[str, list[str]]) -> list[str]:
    both = [name for name in old if name in new]
    kinds = {
        "gone": [name for name in old if name not in new],
        "new": [name for name in new if name not in old],
        "moved to another split": [
            f"{name}: {old[name][0]} to {new[name][0]}" for name in both if old[name][0] != new[name][0]
        ],
        "with other sound": [name for name in both if old[name][1] != new[name][1]],
        "with another label": [name for name in both if old[name][2] != new[name][2]],
        "with another speaker, transcript, source or bounds": [name for name in both if old[name][3:] != new[name][3:]],
    }
    changes = [
        f"{len(names)} {kind} ({', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)})"
        for kind, names in kinds.items()
        if names
    ]
    if not changes and list(old) != list(new):
        changes.append("they are in another order")
    return changes
