"""Export of a replay buffer to a folder, and import of such a folder, which may come from anywhere.

`clips/<hash>.flac` holds the audio. `clips.jsonl` holds a line of settings, then a line for each clip. `held_out.jsonl`
holds the recordings that no clip may come from. Values, contradictions, hashes and paths are checked.
"""

import base64
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from kws.common.errors import KwsError, LeakError
from kws.common.files import replacing
from kws.common.validated_json import fault
from kws.data.audio import content_hash, read_exactly, save_flac
from kws.data.manifest import Source, Split
from kws.replay.buffer import Buffer, BufferClip, Decision, Kind, State
from kws.replay.database import Record
from kws.replay.records import ClipHash

FORMAT = 1
CLIPS, HELD_OUT = "clips.jsonl", "held_out.jsonl"
MAX_CLIP_S = 60  # bounds the memory that one file can take
_MAX_LINE_MB = 16
_OUT = (State.evicted, State.retired)  # states of clips that may lack their file


def _float32(vector: str) -> str:
    values = base64.b64decode(vector, validate=True)
    if not values or len(values) % 4 or not np.isfinite(np.frombuffer(values, "<f4")).all():
        raise ValueError("must be finite float32 in base64")
    return vector


Name = Annotated[str, Field(min_length=1)]
Whole = Annotated[int, Field(ge=0, le=2**62)]
Score = Annotated[float, Field(ge=0, le=1)]
Priority = Annotated[float, Field(ge=0, le=1e9)]  # sums of powers of losses stay finite


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Settings(_Line):
    format: Literal[1]
    sample_rate: Annotated[int, Field(ge=1000, le=384000)]


class _Origin(_Line):
    recording: Name
    name: str


class _HeldOut(_Origin):
    part: Literal[Split.VALIDATION, Split.TEST]


class _MixedWith(_Line):
    hash: Name
    name: str


class _Event(_Line):
    run: str
    round: Whole
    found: Annotated[int, Field(ge=0, le=1)]
    state: State | None
    reason: str
    priority: Priority | None


class _RoundScore(_Line):
    run: str
    round: Whole
    score: Score


class _Embedding(_Line):
    checkpoint: str
    vector: Annotated[str, AfterValidator(_float32)]


class _Clip(_Line):
    """A clip with its rows of all tables of the index. `sound` is true if its file is in the export."""

    hash: ClipHash
    n_samples: Annotated[int, Field(ge=1, le=2**62)]
    kind: Kind
    keyword: str
    recording: Name
    recording_name: str
    offset_s: float
    text: str
    mixed_with: list[_MixedWith]
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
    origins: list[_Origin]
    history: list[_Event]
    scores: list[_RoundScore]
    embedding: _Embedding | None
    sound: bool

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.decision == Decision.rejected and self.state not in _OUT:
            raise ValueError(f"state={self.state}: must be retired, since the clip is rejected")
        if not self.sound and self.state not in _OUT:
            raise ValueError(f"sound=false: must be true for a clip that is {self.state}")
        # The check for leaks reads the origins only.
        audible = {self.recording, *(one.hash for one in self.mixed_with)}
        if missing := audible - {one.recording for one in self.origins}:
            raise ValueError(f"origins: must name recording {min(missing)[:80]!r} of the clip")
        # A rollback reads the history and the scores.
        states = [event.state for event in self.history]
        if not states or states[0] is None or [one for one in states if one][-1] != self.state:
            raise ValueError(f"history: must begin with a state and end with {self.state}")
        last = self.scores[-1].score if self.scores else None
        if last != self.score_now:
            raise ValueError(f"score_now={self.score_now}: must be the last of the scores, {last}")
        return self


def export(
    buffer: Buffer, out: Path, state: State | None = None, progress: Callable[[int], None] = lambda _: None
) -> int:
    """Write a buffer to a folder that `restore` reads, completely or not at all.

    Clips whose file was deleted are left out, except rejected ones, which keep their near-duplicates out elsewhere too.

    Args:
        buffer: may be in use by other processes.
        out: an empty folder, or a new one.
        state: of the clips to write; None for any.
        progress: called after each clip with the clips done.

    Returns:
        Number of clips written.

    Raises:
        KwsError: a folder that is not empty, or a clip whose audio is damaged or too long.
        OSError: the disk is full or fails.
    """
    made = not out.exists()
    if not made and not (out.is_dir() and not any(out.iterdir())):
        raise KwsError(f"out={out}: must be a new or an empty folder")

    def has_sound(row: BufferClip) -> bool:
        return row.state not in _OUT or buffer.path(row.hash).exists()

    def wanted(row: BufferClip) -> bool:
        return state in (None, row.state) and (has_sound(row) or row.decision is Decision.rejected)

    n = 0
    (out / "clips").mkdir(parents=True)
    try:
        # clips.jsonl comes last. A folder without it is an unfinished export.
        with replacing(out / HELD_OUT) as file:
            for one in buffer.held_out():
                file.write(_json({"recording": one.hash, "name": one.name, "part": one.split}))
        with replacing(out / CLIPS) as file, closing(buffer.records(wanted)) as records:
            file.write(_json({"format": FORMAT, "sample_rate": buffer.sample_rate}))
            for n, (row, record) in enumerate(records, 1):
                if row.n_samples > MAX_CLIP_S * buffer.sample_rate:
                    raise KwsError(f"clip {row.hash}: must be at most {MAX_CLIP_S} s long to be exported")
                sound = has_sound(row)
                if sound:
                    save_flac(out / "clips" / f"{row.hash}.flac", buffer.audio(row.hash), buffer.sample_rate)
                file.write(_json({**record, "sound": sound}))
                progress(n)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        if not made:
            out.mkdir(exist_ok=True)
        raise
    return n


def restore(
    buffer: Callable[[int], Buffer], folder: Path, progress: Callable[[int], None] = lambda _: None
) -> tuple[int, int]:
    """Add the clips of an exported folder to a buffer, all or none.

    Everything is read and checked before the buffer is opened, and again while it is added.

    Args:
        buffer: opens the buffer for a sample rate in Hz; raises KwsError if it has another.
        folder: written by `export`.
        progress: called after each clip with the clips checked.

    Returns:
        Number of new clips, and of known ones.

    Raises:
        KwsError: a malformed, missing or damaged line or file; the message names file and line.
        LeakError: a clip comes from a held-out recording of the folder or the buffer.
        OSError: the disk is full or fails.
    """
    where, line = next(_read(folder, CLIPS), (f"{folder / CLIPS}:1", b"{}"))
    rate = _parse(_Settings, where, line).sample_rate
    held_out = [_parse(_HeldOut, where, line) for where, line in _read(folder, HELD_OUT)]
    held = {one.recording: Source(one.recording, one.name, one.part) for one in held_out}
    for n, _ in enumerate(_read_clips(folder, rate, held), 1):
        progress(n)
    with buffer(rate) as into:
        return into.restore(held.values(), _read_clips(folder, rate, held))


def is_export(folder: Path) -> bool:
    """Whether `export` wrote this folder. Raises KwsError for an unfinished export."""
    if (folder / HELD_OUT).exists() and not (folder / CLIPS).exists():
        raise KwsError(f"folder={folder}: {HELD_OUT} without {CLIPS}: an export that was not finished")
    return (folder / CLIPS).exists()


def inside(folder: Path, path: Path) -> Path:
    """The same path. Raises KwsError if it leads out of the folder, links followed."""
    try:
        good = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        good = False
    if not good:
        raise KwsError(f"{path}: must not lead out of {folder}")
    return path


AnyLine = TypeVar("AnyLine", bound=_Line)


def _parse(kind: type[AnyLine], where: str, line: bytes) -> AnyLine:
    try:
        return kind.model_validate_json(line)
    except ValidationError as error:
        raise KwsError(f"{where}: {fault(error)}") from error


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, allow_nan=False).encode() + b"\n"


def _read(folder: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """The lines of a file, with file name and line number."""
    path = inside(folder, folder / name)
    if not path.is_file():
        raise KwsError(f"{path}: no such file, which an export must have")
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline((_MAX_LINE_MB << 20) + 1), b""), 1):
            if len(line) > _MAX_LINE_MB << 20:
                raise KwsError(f"{path}:{number}: must be a line of at most {_MAX_LINE_MB} MB")
            yield f"{path}:{number}", line


def _read_clips(
    folder: Path, sample_rate: int, held_out: Mapping[str, Source]
) -> Iterator[tuple[Record, NDArray[np.int16] | None]]:
    """The clips of an export with their audio, if they have any."""
    lines = _read(folder, CLIPS)
    next(lines)  # settings
    seen = set()
    for where, line in lines:
        clip = _parse(_Clip, where, line)
        if clip.n_samples > MAX_CLIP_S * sample_rate:
            raise KwsError(f"{where}: n_samples={clip.n_samples}: must be at most {MAX_CLIP_S} s")
        if clip.hash in seen:
            raise KwsError(f"{where}: clip {clip.hash}: must not be there twice")
        seen.add(clip.hash)
        for origin in clip.origins:
            if one := held_out.get(origin.recording):
                raise LeakError(f"{where}: the clip comes from the {one.split} recording {one.name!r}")
        pcm = _audio(folder, clip.hash, clip.n_samples, sample_rate) if clip.sound else None
        yield clip.model_dump(mode="json", exclude={"sound"}), pcm


def _audio(folder: Path, clip: str, n_samples: int, sample_rate: int) -> NDArray[np.int16]:
    path = inside(folder, folder / "clips" / f"{clip}.flac")
    if not path.is_file():
        raise KwsError(f"{path}: no such file")
    try:
        header = soundfile.info(path)  # read first, since a small file may decode to hours
    except (soundfile.SoundFileError, OSError) as error:
        raise KwsError(f"{path}: damaged, cannot be decoded") from error
    if (header.format, header.channels, header.samplerate, header.frames) != ("FLAC", 1, sample_rate, n_samples):
        raise KwsError(f"{path}: must be FLAC of 1 channel, {sample_rate} Hz and {n_samples} samples")
    pcm = read_exactly(path)
    if content_hash(pcm) != clip:
        raise KwsError(f"{path}: damaged, its samples do not have the hash that names it")
    return pcm
