"""A line of an exported buffer: a clip as JSON, and back; what comes from elsewhere is checked value by value."""

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

import numpy as np

from kws.common.errors import KwsError
from kws.data.manifest import Source, Split
from kws.replay.database import Dossier, Line
from kws.replay.records import HASH, Decision, Kind, State, plain

FORMAT = 1
_MOST = 1e9  # a priority, which is a loss: sums of their powers stay finite
LONGEST_S = 60  # of a clip; bounds what one file can make of the memory

_Check = tuple[Callable[[object], bool], str]  # whether a value is allowed, and what is
_OUT = (State.EVICTED, State.RETIRED)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and plain(value) == value


def _is_number(value: object) -> bool:
    return (type(value) is float and math.isfinite(value)) or (type(value) is int and abs(value) <= 2**53)


def _is_mix(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(k) and _is_number(v) for k, v in value.items())


def _is_embedding(value: object) -> bool:
    if not (
        isinstance(value, dict) and value.keys() == {"checkpoint", "vector"} and all(map(_is_text, value.values()))
    ):
        return False
    try:
        vector = base64.b64decode(value["vector"], validate=True)
    except (binascii.Error, ValueError):
        return False
    return len(vector) > 0 and len(vector) % 4 == 0 and bool(np.isfinite(np.frombuffer(vector, "<f4")).all())


def _one_of(names: Iterable[str]) -> _Check:
    allowed = [str(name) for name in names]
    return lambda v: isinstance(v, str) and v in allowed, f"one of {', '.join(map(repr, allowed))}"


def _whole(low: int, high: int = 2**62) -> _Check:
    return lambda v: type(v) is int and low <= v <= high, f"a whole number from {low}"


def _or_null(check: _Check) -> _Check:
    return lambda v: v is None or check[0](v), f"{check[1]} or null"


def _lines_of(fields: Mapping[str, _Check]) -> _Check:
    def good(value: object) -> bool:
        return isinstance(value, list) and all(
            isinstance(v, dict) and v.keys() == fields.keys() and all(fields[k][0](v[k]) for k in fields) for v in value
        )

    return good, f"a list of objects with good values of {', '.join(fields)}"


_TEXT: _Check = _is_text, "text"
_NAME: _Check = lambda v: _is_text(v) and v != "", "text that is not empty"
_NUMBER: _Check = _is_number, "a finite number"
_SCORE: _Check = lambda v: isinstance(v, int | float) and _is_number(v) and 0 <= v <= 1, "a number from 0 to 1"
_POSITIVE: _Check = lambda v: isinstance(v, int | float) and _is_number(v) and 0 <= v <= _MOST, f"0 to {_MOST:g}"

_SETTINGS = {"format": _whole(FORMAT, FORMAT), "sample_rate": _whole(1000, 384000)}
_ORIGIN = {"recording": _NAME, "name": _TEXT}
_HELD_OUT = {**_ORIGIN, "part": _one_of([Split.VALIDATION, Split.TEST])}
_EVENT = {
    "run": _TEXT,
    "round": _whole(0),
    "found": _whole(0, 1),
    "state": _or_null(_one_of(State)),
    "reason": _TEXT,
    "priority": _or_null(_POSITIVE),
}
_COLUMNS: Mapping[str, _Check] = {
    "hash": (lambda v: isinstance(v, str) and bool(HASH.fullmatch(v)), "64 hexadecimal digits"),
    "n_samples": _whole(1),
    "kind": _one_of(Kind),
    "keyword": _TEXT,
    "recording": _NAME,
    "recording_name": _TEXT,
    "offset_s": _NUMBER,
    "text": _TEXT,
    "mixed_with": _lines_of({"hash": _NAME, "name": _TEXT}),
    "mix": (_is_mix, "an object of numbers"),
    "run": _TEXT,
    "round": _whole(0),
    "checkpoint": _TEXT,
    "score": _or_null(_SCORE),
    "score_now": _or_null(_SCORE),
    "priority": _POSITIVE,
    "last_loss": _or_null(_NUMBER),
    "times_drawn": _whole(0),
    "added_at": _TEXT,
    "state": _one_of(State),
    "reason": _TEXT,
    "decision": _one_of(Decision),
}
_CLIP: Mapping[str, _Check] = {
    **_COLUMNS,
    "origins": _lines_of(_ORIGIN),
    "history": _lines_of(_EVENT),
    "scores": _lines_of({"run": _TEXT, "round": _whole(0), "score": _SCORE}),
    "embedding": _or_null((_is_embedding, "an object with checkpoint and vector (float32 in base64)")),
    "sound": (lambda v: type(v) is bool, "true or false"),  # whether its file is there
}


def settings_line(sample_rate: int) -> Line:
    """The first line: the format, and Hz of the clips."""
    return {"format": FORMAT, "sample_rate": sample_rate}


def sample_rate_of(where: str, values: Line) -> int:
    """What `settings_line` was given, in Hz; raises KwsError for another line, or one of another format."""
    _check(where, values, _SETTINGS)
    return int(values["sample_rate"])


def held_out_line(source: Source) -> Line:
    """A held-out recording."""
    return {"recording": source.hash, "name": source.name, "part": source.split}


def held_out_of(where: str, values: Line) -> Source:
    """What `held_out_line` was given; raises KwsError for another line."""
    _check(where, values, _HELD_OUT)
    return Source(values["recording"], values["name"], Split(values["part"]))


def clip_line(dossier: Dossier, sound: bool) -> Line:
    """A clip, and whether its file is there."""
    line: Line = asdict(dossier)
    line = {**line.pop("clip"), **line, "sound": sound}
    line |= {name: json.loads(line[name]) for name in ("mixed_with", "mix")}
    if dossier.embedding:
        line["embedding"]["vector"] = base64.b64encode(dossier.embedding["vector"]).decode()
    return line


def clip_of(where: str, values: Line, sample_rate: int) -> tuple[Dossier, bool]:
    """What `clip_line` was given.

    Args:
        where: file and line, for errors.
        values: the line, from anywhere.
        sample_rate: Hz of the clips.

    Raises:
        KwsError: a value that is missing, of another type or out of its range, or values that contradict each other.
    """
    _check(where, values, _CLIP)
    state, heard = values["state"], {values["recording"], *(one["hash"] for one in values["mixed_with"])}
    if values["n_samples"] > LONGEST_S * sample_rate:
        raise KwsError(f"{where}: n_samples={values['n_samples']}: at most {LONGEST_S} s expected")
    if values["decision"] == Decision.REJECTED and state not in _OUT:
        raise KwsError(f"{where}: state={state}: a rejected clip is retired")
    if not values["sound"] and state not in _OUT:
        raise KwsError(f"{where}: sound=false: a clip that is {state} has its sound")
    if missing := heard - {
        one["recording"] for one in values["origins"]
    }:  # the guard against leaks looks at them alone
        raise KwsError(f"{where}: origins: recording {min(missing)[:80]!r} of the clip is not among them")
    _check_history(where, values)
    clip = {name: values[name] for name in _COLUMNS}
    clip |= {name: json.dumps(values[name]) for name in ("mixed_with", "mix")}
    embedding = values["embedding"]
    if embedding:
        embedding = embedding | {"vector": base64.b64decode(embedding["vector"])}
    return Dossier(clip, values["origins"], values["history"], values["scores"], embedding), values["sound"]


def _check_history(where: str, values: Line) -> None:
    """A clip is where its last event left it, and scores what it was last given: a rollback relies on that."""
    states = [event["state"] for event in values["history"]]
    placed = [state for state in states if state is not None]
    if states[:1] != placed[:1] or placed[-1:] != [values["state"]]:
        raise KwsError(f"{where}: history: its first event must have a state, and its last one be {values['state']}")
    last = values["scores"][-1]["score"] if values["scores"] else None
    if last != values["score_now"]:
        raise KwsError(f"{where}: score_now={values['score_now']}: the last of its scores is {last}")


def _check(where: str, values: Line, fields: Mapping[str, _Check]) -> None:
    if missing := [name for name in fields if name not in values]:
        raise KwsError(f"{where}: {missing[0]} is missing")
    if extra := [name for name in values if name not in fields]:
        raise KwsError(f"{where}: {extra[0][:80]!r}: no such field; allowed are {', '.join(fields)}")
    for name, (good, allowed) in fields.items():
        if not good(values[name]):
            shown = json.dumps(values[name])
            raise KwsError(f"{where}: {name}={shown if len(shown) <= 80 else shown[:80] + '...'}: {allowed} expected")
