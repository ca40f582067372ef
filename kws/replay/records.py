"""A clip of the replay buffer: as it is found, and as it is kept."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError, LeakError
from kws.data.manifest import Source, Split

HASH = re.compile(r"[0-9a-f]{64}")  # what a clip is named by; nothing else becomes a path


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


class Decision(StrEnum):
    """Decision of a user about a clip. No rule overrides it."""

    none = ""
    released = "released"  # never quarantined again
    rejected = "rejected"  # never sampled again, and its near-duplicates are not added


def train_only(source: Source) -> None:
    """Raise LeakError where a recording is not for training."""
    if source.split != Split.TRAIN:
        raise LeakError(f"{source.name!r}: a {source.split} recording may not enter the replay buffer")


@dataclass(frozen=True, slots=True, eq=False)
class NewClip:
    """A clip that wants into the buffer.

    Args:
        pcm: its sound, at the buffer's sample rate.
        kind: how it was found.
        keyword: what it triggered.
        source: the recording it was cut from.
        offset_s: where it begins there, in seconds; negative where it begins earlier.
        score: the highest of any keyword when it was found, 0 to 1; None where nothing has scored it.
        checkpoint: hash of the weights that found it; empty for none.
        run: the run that found it.
        round: of mining in that run, at least 0.
        text: what is said, where it is known.
        mixed_with: recordings mixed in, such as the noise.
        mix: how, such as {"snr_db": 10}.
        embedding: what the model of `checkpoint` makes of it; None where nobody asked.

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


@dataclass(frozen=True, slots=True)
class BufferClip:
    """A clip of the buffer as the index knows it; the fields of `NewClip` are those of who found it first.

    Args:
        score: when it was found; None where nothing had scored it.
        score_now: the last score a later checkpoint gave it; None where none has.
        priority: how much it asks to be drawn, at least 0.
        last_loss: its loss when last drawn; None before.
        added_at: UTC, ISO 8601.
        state: whether it may be drawn.
        reason: why it is in that state, for people; empty where that goes without saying.
        decision: what a person said of it.
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
        """Its latest score; infinite where nothing has scored it yet."""
        latest = self.score if self.score_now is None else self.score_now
        return math.inf if latest is None else latest


@dataclass(frozen=True, slots=True)
class Added:
    """Outcome of `Buffer.add`.

    Args:
        new: clips that were added or came back, even if they were evicted at once.
        known: number of other clips: in the buffer before, twice in the batch, or rejected by a person.
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


def as_row(columns: dict[str, Any]) -> BufferClip:
    """A line of the table `clips` as a record."""
    values = dict(columns)
    del values["id"]
    mixed = json.loads(values.pop("mixed_with"))
    return BufferClip(
        kind=Kind(values.pop("kind")),
        source=Source(values.pop("recording"), values.pop("recording_name"), Split.TRAIN),
        mixed_with=tuple(Source(m["hash"], m["name"], Split.TRAIN) for m in mixed),
        mix=json.loads(values.pop("mix")),
        state=State(values.pop("state")),
        decision=Decision(values.pop("decision")),
        **values,
    )


def plain(text: str) -> str:
    """Text that UTF-8 can hold: a file name may have bytes that it cannot."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def as_columns(clip: str, found: NewClip, priority: float, added_at: str) -> dict[str, object]:
    """A new clip as a line of the table `clips`, active; `as_row` gives it back."""
    return {
        "hash": clip,
        "n_samples": len(found.pcm),
        "kind": Kind(found.kind).value,
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
        "state": State.active.value,
    }


def check_found(found: NewClip) -> None:
    """Refuse what is no clip.

    Raises:
        KwsError: sound that is not int16 [T] with T at least 1, a number that is not finite, a round below 0.
    """
    where = f"clip of {found.source.name!r} at {found.offset_s} s"
    pcm = found.pcm
    if pcm.dtype != np.int16 or pcm.ndim != 1 or len(pcm) == 0:
        raise KwsError(f"{where}: int16 [T] with T >= 1 expected, not {pcm.dtype} {list(pcm.shape)}")
    numbers = {"offset_s": found.offset_s, "score": found.score or 0.0, **found.mix}
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise KwsError(f"{where}: {name}={value}, a finite number expected")
    if found.embedding is not None and not (found.embedding.ndim == 1 and np.isfinite(found.embedding).all()):
        raise KwsError(f"{where}: embedding, finite numbers [D] expected")
    if found.round < 0:
        raise KwsError(f"{where}: round={found.round}, at least 0 expected")


def as_blob(vector: NDArray[np.float32]) -> bytes:
    """An embedding as the index keeps it. Shape: vector [D]."""
    return vector.astype("<f4").tobytes()


def matrix(vectors: Sequence[bytes | None]) -> NDArray[np.float32] | None:
    """A matrix of embeddings from bytes of the index; NaN rows for missing ones, None where all are missing.

    Shape: returns [N, D]. A vector of another length than the first is as good as none.
    """
    size = next((len(v) for v in vectors if v is not None), 0)
    if size == 0:
        return None
    empty = as_blob(np.full(size // 4, np.nan, np.float32))
    rows = b"".join([v if v is not None and len(v) == size else empty for v in vectors])
    return np.frombuffer(rows, "<f4").reshape(len(vectors), -1)
