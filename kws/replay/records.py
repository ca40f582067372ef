"""Clips of the replay buffer: as they are found, as they are stored, and as a table."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from kws.common.errors import KwsError, first_line
from kws.data.manifest import Source, Split

SPAN_S = 10.0  # a limit per recording counts each started span of this many seconds as a recording
_HASH = re.compile(r"[0-9a-f]{64}")


def checked_hash(clip: str) -> str:
    """The same content hash. Raises ValueError for any other text, so that nothing else becomes a path."""
    if not _HASH.fullmatch(clip):
        raise ValueError("must be 64 hexadecimal digits")
    return clip


ClipHash = Annotated[str, AfterValidator(checked_hash)]


class Kind(StrEnum):
    """How a clip was found."""

    false_trigger = "false_trigger"  # in a stream without the keyword
    batch_hard = "batch_hard"  # hardest negative of a training batch
    neighbour = "neighbour"  # near the keyword in embedding space
    confusable = "confusable"  # synthesised or chosen because it sounds like the keyword
    user = "user"  # imported by a user


class State(StrEnum):
    """State of a clip. Training samples active clips only."""

    active = "active"
    quarantined = "quarantined"  # may contain the keyword; a user can listen and decide
    retired = "retired"  # learned, or rejected by a user
    evicted = "evicted"  # over the limits of the buffer


LIVE = [State.active, State.quarantined]  # clips that new ones are compared with


class Decision(StrEnum):
    """Decision of a user about a clip. No rule overrides it."""

    none = ""
    released = "released"  # never quarantined again
    rejected = "rejected"  # never sampled again, and its near-duplicates are not added


@dataclass(frozen=True, slots=True, eq=False)
class NewClip:
    """A clip to be added to the buffer.

    Args:
        pcm: audio at the sample rate of the buffer.
        kind: how it was found.
        keyword: that it triggers, or resembles.
        source: recording that it was cut from.
        offset_s: start of the clip in the recording, seconds; negative if the clip starts earlier.
        score: highest score of any keyword when it was found, 0 to 1; None without a score.
        checkpoint: hash of the weights that found it; empty for none.
        run: run that found it.
        round: mining round of that run, at least 0.
        text: transcript, if known.
        mixed_with: other recordings that are audible, such as noise.
        mix: how they were mixed, such as {"snr_db": 10}.
        embedding: by the model of `checkpoint`; None without one.

    Shape: pcm int16 [T], T at least 1; embedding float32 [D].
    """

    pcm: NDArray[np.int16]
    kind: Kind
    keyword: str
    source: Source
    offset_s: float
    score: float | None
    checkpoint: str
    run: str
    round: int
    text: str = ""
    mixed_with: tuple[Source, ...] = ()
    mix: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    embedding: NDArray[np.float32] | None = None

    def check(self) -> None:
        """Raise KwsError for audio of another type or shape, a number that is not finite, or a negative round."""
        where = f"clip of {self.source.name!r} at {self.offset_s} s"
        if self.pcm.dtype != np.int16 or self.pcm.ndim != 1 or len(self.pcm) == 0:
            raise KwsError(f"{where}: must be int16 [T] with T >= 1, not {self.pcm.dtype} {list(self.pcm.shape)}")
        for name, value in {"offset_s": self.offset_s, "score": self.score or 0.0, **self.mix}.items():
            if not math.isfinite(value):
                raise KwsError(f"{where}: {name}={value}: must be finite")
        if self.embedding is not None and not (self.embedding.ndim == 1 and np.isfinite(self.embedding).all()):
            raise KwsError(f"{where}: embedding: must be finite numbers [D]")
        if self.round < 0:
            raise KwsError(f"{where}: round={self.round}: must be at least 0")


@dataclass(frozen=True, slots=True)
class BufferClip:
    """A stored clip. The fields of `NewClip` describe how it was found first.

    Args:
        score: when it was found; None without a score.
        score_now: by the latest checkpoint that scored it again; None before.
        priority: sampling priority, at least 0.
        last_loss: its loss when it was last sampled; None before.
        added_at: UTC, ISO 8601.
        state: only active clips are sampled.
        reason: why the clip is in that state; empty where the state needs no reason.
        decision: of a user.
    """

    hash: str
    n_samples: int
    kind: Kind
    keyword: str
    source: Source
    offset_s: float
    text: str
    mixed_with: tuple[Source, ...]
    mix: dict[str, float]
    run: str
    round: int
    checkpoint: str
    score: float | None
    score_now: float | None
    priority: float
    last_loss: float | None
    times_drawn: int
    added_at: str
    state: State
    reason: str
    decision: Decision

    @property
    def hardness(self) -> float:
        """Latest score; infinite without any."""
        latest = self.score if self.score_now is None else self.score_now
        return math.inf if latest is None else latest


@dataclass(frozen=True, slots=True)
class Added:
    """Outcome of `Buffer.add`.

    Args:
        new: clips that were added or came back, even if they were evicted at once.
        known: number of other clips: in the buffer before, twice in the batch, or rejected by a user.
        evicted: clips that were evicted.
        near: number of near-duplicates, which were not added.
        quarantined: clips of `new` that are suspected to contain the keyword.
    """

    new: list[str]
    known: int
    evicted: list[str]
    near: int = 0
    quarantined: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class ClipTable:
    """Clips column by column, oldest first: for eviction, near-duplicates and sampling.

    Args:
        hash: of the samples.
        kind: how each clip was found.
        recording: hash of the recording that it was cut from.
        start_s: where it begins there, in seconds.
        n_samples: length.
        score: the latest; NaN for a clip without a score.
        priority: sampling priority, at least 0.
        times_drawn: how often training sampled it.
        embedding: by one model; a row with NaN for a clip without one, None where no clip has one.

    Shape: lists and arrays [N], embedding float32 [N, D].
    """

    hash: list[str]
    kind: list[str]
    recording: list[str]
    start_s: NDArray[np.float64]
    n_samples: NDArray[np.int64]
    score: NDArray[np.float64]
    priority: NDArray[np.float64]
    times_drawn: NDArray[np.int64]
    embedding: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.hash)

    def select(self, places: NDArray[np.int64]) -> "ClipTable":
        """The clips at these places, in this order."""
        columns: dict[str, Any] = {column.name: getattr(self, column.name) for column in fields(self)}
        for name, values in columns.items():
            if values is not None:
                columns[name] = [values[i] for i in places] if isinstance(values, list) else values[places]
        return ClipTable(**columns)


def as_row(columns: Mapping[str, Any], file: Path) -> BufferClip:
    """A row of the SQL table `clips` of a file as a record; raises KwsError where another program changed it."""
    values = {name: value for name, value in columns.items() if name != "id"}
    try:
        mixed = json.loads(values.pop("mixed_with"))
        return BufferClip(
            kind=Kind(values.pop("kind")),
            source=Source(values.pop("recording"), values.pop("recording_name"), Split.TRAIN),
            mixed_with=tuple(Source(one["hash"], one["name"], Split.TRAIN) for one in mixed),
            mix=json.loads(values.pop("mix")),
            state=State(values.pop("state")),
            decision=Decision(values.pop("decision")),
            **values,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise KwsError(f"{file}: clip {columns.get('hash')} cannot be read ({first_line(error)})") from error


def as_standing(clip: str, state: str, decision: str, file: Path) -> tuple[State, Decision]:
    """State and decision of a clip; raises KwsError where another program changed them."""
    try:
        return State(state), Decision(decision)
    except ValueError as error:
        raise KwsError(f"{file}: clip {clip} cannot be read ({error})") from error


def as_columns(found: NewClip, priority: float, added_at: str) -> dict[str, Any]:
    """A new clip as a row of the SQL table `clips`, without its hash; the inverse of `as_row`."""
    return {
        "n_samples": len(found.pcm),
        "kind": found.kind,
        "keyword": plain(found.keyword),
        "recording": found.source.hash,
        "recording_name": plain(found.source.name),
        "offset_s": float(found.offset_s),
        "text": plain(found.text),
        "mixed_with": json.dumps([{"hash": s.hash, "name": plain(s.name)} for s in found.mixed_with]),
        "mix": json.dumps({plain(k): float(v) for k, v in found.mix.items()}),
        "run": found.run,
        "round": int(found.round),
        "checkpoint": found.checkpoint,
        "score": None if found.score is None else float(found.score),
        "priority": float(priority),
        "added_at": added_at,
        "state": State.active,
    }


def plain(text: str) -> str:
    """Text that UTF-8 can encode. File names may contain bytes that it cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_blob(vector: NDArray[np.float32]) -> bytes:
    """An embedding as the index stores it. Shape: vector [D]."""
    return vector.astype("<f4").tobytes()


def matrix(vectors: Sequence[bytes | None]) -> NDArray[np.float32] | None:
    """A matrix of stored embeddings. Rows of missing ones and of another length than the first hold NaN.

    Shape: returns [N, D], or None where all are missing.
    """
    size = next((len(v) for v in vectors if v is not None), 0)
    if size == 0:
        return None
    missing = as_blob(np.full(size // 4, np.nan, np.float32))
    rows = b"".join([v if v is not None and len(v) == size else missing for v in vectors])
    return np.frombuffer(rows, "<f4").reshape(len(vectors), -1)
