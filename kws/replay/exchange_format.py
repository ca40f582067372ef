"""Lines of an exported replay buffer. They may come from anywhere, so values and contradictions are checked."""

import base64
import json
import re
from typing import Annotated, Literal, Self, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kws.common.errors import KwsError
from kws.data.manifest import Split
from kws.replay.records import HASH, Decision, Kind, State

FORMAT = 1
MAX_CLIP_S = 60  # bounds the memory that one file can take

_OUT = (State.evicted, State.retired)


def _embedding(vector: str) -> str:
    values = base64.b64decode(vector, validate=True)
    if not values or len(values) % 4 or not np.isfinite(np.frombuffer(values, "<f4")).all():
        raise ValueError("must be finite float32 in base64")
    return vector


Name = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=0, le=2**62)]
Score = Annotated[float, Field(ge=0, le=1)]
Priority = Annotated[float, Field(ge=0, le=1e9)]  # sums of powers of losses stay finite


class Line(BaseModel):
    """A line of an export, or an object inside one."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Settings(Line):
    """The first line of clips.jsonl."""

    format: Literal[1]
    sample_rate: Annotated[int, Field(ge=1000, le=384000)]


class Origin(Line):
    """A recording in which a clip was found."""

    recording: Name
    name: str


class HeldOut(Origin):
    """A line of held_out.jsonl: a recording that must not train."""

    part: Literal[Split.VALIDATION, Split.TEST]


class MixedWith(Line):
    """A recording that is audible in a clip beside its source."""

    hash: Name
    name: str


class Event(Line):
    """An event in the history of a clip."""

    run: str
    round: Whole
    found: Annotated[int, Field(ge=0, le=1)]
    state: State | None
    reason: str
    priority: Priority | None


class RoundScore(Line):
    """The score that a mining round gave a clip."""

    run: str
    round: Whole
    score: Score


class Embedding(Line):
    """The embedding of a clip by the model of a checkpoint, float32 in base64."""

    checkpoint: str
    vector: Annotated[str, AfterValidator(_embedding)]


class ClipLine(Line):
    """A clip with everything that the index knows about it; `sound` says whether its FLAC file is in the export."""

    hash: Annotated[str, Field(pattern=f"^{HASH.pattern}$")]
    n_samples: Annotated[int, Field(ge=1, le=2**62)]
    kind: Kind
    keyword: str
    recording: Name
    recording_name: str
    offset_s: float
    text: str
    mixed_with: list[MixedWith]
    mix: dict[str, float]
    run: str
    round: Whole
    checkpoint: str
    score: Score | None
    score_now: Score | None
    priority: Priority
    last_loss: float | None
    times_drawn: Whole
    added_at: str
    state: State
    reason: str
    decision: Decision
    origins: list[Origin]
    history: list[Event]
    scores: list[RoundScore]
    embedding: Embedding | None
    sound: bool

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.decision == Decision.rejected and self.state not in _OUT:
            raise ValueError(f"state={self.state}: must be retired, since the clip is rejected")
        if not self.sound and self.state not in _OUT:
            raise ValueError(f"sound=false: must be true for a clip that is {self.state}")
        # The guard against leaks reads the origins alone.
        audible = {self.recording, *(one.hash for one in self.mixed_with)}
        if missing := audible - {one.recording for one in self.origins}:
            raise ValueError(f"origins: must name recording {min(missing)[:80]!r} of the clip")
        # A rollback relies on the history and the scores.
        states = [event.state for event in self.history]
        if not states or states[0] is None or [one for one in states if one][-1] != self.state:
            raise ValueError(f"history: must begin with a state and end with {self.state}")
        last = self.scores[-1].score if self.scores else None
        if last != self.score_now:
            raise ValueError(f"score_now={self.score_now}: must be the last of the scores, {last}")
        return self


AnyLine = TypeVar("AnyLine", bound=Line)


def parse(kind: type[AnyLine], where: str, line: bytes) -> AnyLine:
    """Read a line.

    Args:
        kind: of the line.
        where: file and line number, for errors.
        line: JSON from anywhere.

    Raises:
        KwsError: malformed JSON, a missing or unknown key, a wrong value, or values that contradict each other.
    """
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        rule = re.sub(r"^\w+ should", "must", first["msg"]).removeprefix("Value error, ")
        if first["type"] == "json_invalid":
            raise KwsError(f"{where}: malformed JSON") from error
        if not first["loc"]:
            raise KwsError(f"{where}: {rule}") from error
        key, value = ".".join(map(str, first["loc"])), json.dumps(first["input"])
        shown = "" if first["type"] in ("missing", "extra_forbidden") else f"={value[:80]}"
        raise KwsError(f"{where}: {key[:80]}{shown}: {rule}") from error
