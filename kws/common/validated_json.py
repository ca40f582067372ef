"""JSON from outside, checked against a pydantic model: what a page saves, and the lines of an export."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from kws.common.errors import KwsError

_MAX_MB = 50

Model = TypeVar("Model", bound=BaseModel)


def read_json(path: Path, kind: type[Model], where: str) -> Model:
    """Read a JSON file.

    Args:
        path: the file.
        kind: what it must hold.
        where: names the file in messages.

    Raises:
        KwsError: missing, above 50 MB, not JSON, a key twice, or other content.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_MB * 10**6 + 1)
    except OSError as error:
        raise KwsError(f"{where}: cannot be read ({error.strerror})") from error
    if len(content) > _MAX_MB * 10**6:
        raise KwsError(f"{where}: must be a file that the page saved, at most {_MAX_MB} MB")
    try:
        return kind.model_validate(json.loads(content, object_pairs_hook=_without_duplicates))
    except ValidationError as error:
        raise KwsError(f"{where}: {fault(error)}") from error
    except (ValueError, RecursionError) as error:
        raise KwsError(f"{where}: not JSON ({error})") from error


def fault(error: ValidationError) -> str:
    """The first fault of a JSON object: key, value, and what it must be."""
    first = error.errors()[0]
    rule = re.sub(r"^\w+ should", "must", first["msg"]).removeprefix("Value error, ")
    if first["type"] == "json_invalid":
        return "malformed JSON"
    if not first["loc"]:
        return rule
    key, value = ".".join(map(str, first["loc"])), json.dumps(first["input"])
    shown = "" if first["type"] in ("missing", "extra_forbidden") else f"={value[:80]}"
    return f"{key[:80]}{shown}: {rule}"


def _without_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """A JSON object. Equal keys are refused, since the second would hide the first."""
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        raise ValueError(f"key {max(keys, key=keys.count)[:80]!r} twice")
    return dict(pairs)
