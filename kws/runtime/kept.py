"""Clips that live detection keeps: the audio around triggers and near misses, with a JSON file beside each."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from kws.common.errors import KwsError
from kws.common.files import plain_name, replacing
from kws.common.validated_json import read_json
from kws.data.audio import content_hash, flac, read_exactly
from kws.replay.exchange import inside
from kws.runtime.listener import Recorded, Trigger

LONGEST_S = 60.0  # of a clip, far above those that are kept


class Sidecar(BaseModel):
    """The JSON file of a kept clip: the trigger, and where the clip begins in the stream. Times are in seconds."""

    model_config = ConfigDict(frozen=True)
    keyword: Annotated[str, Field(min_length=1, max_length=200)]
    score: Annotated[float, Field(ge=0, le=1)]
    threshold: Annotated[float, Field(ge=0, le=1)]
    detector: Annotated[str, Field(max_length=1000)]
    near: bool
    time_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    begin_s: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    at: Annotated[str, Field(max_length=100)]


@dataclass(frozen=True, eq=False)
class KeptClip:
    """A kept clip.

    Args:
        id: of its audio and keyword, 64 hexadecimal digits.
        file: the audio.
        known: its JSON file.
        pcm: samples at `sample_rate`.
        sample_rate: Hz.

    Shape: pcm int16 [T].
    """

    id: str
    file: Path
    known: Sidecar
    pcm: NDArray[np.int16]
    sample_rate: int

    @property
    def trigger_s(self) -> float:
        """Time of the trigger in the clip."""
        return self.known.time_s - self.known.begin_s


def facts(one: Trigger, begun: datetime) -> Mapping[str, Any]:
    """A trigger with the time of day, as JSON. `begun` is the time at which the stream began."""
    return asdict(one) | {"at": (begun + timedelta(seconds=one.time_s)).isoformat()}


def write_kept(folder: Path, recorded: Sequence[Recorded], begun: datetime, sample_rate: int) -> int:
    """Write the audio around triggers as FLAC, and what is known of it as JSON beside it; return how many."""
    for one in recorded:
        at = begun + timedelta(seconds=one.trigger.time_s)
        kind = "near" if one.trigger.near else "trigger"
        name = f"{at:%Y%m%d-%H%M%S}-{at.microsecond // 1000:03d}-{plain_name(one.trigger.keyword)}-"
        name += f"{plain_name(one.trigger.detector)}-{kind}"
        with replacing(folder / f"{name}.flac") as file:
            file.write(flac(one.pcm, sample_rate))
        known = {**facts(one.trigger, begun), "begin_s": one.begin_s}
        with replacing(folder / f"{name}.json") as file:
            file.write((json.dumps(known, indent=1, ensure_ascii=False) + "\n").encode())
    return len(recorded)


def read_kept(folder: Path) -> list[KeptClip]:
    """The clips in a folder, those with the highest score first; each audio once for each keyword.

    Raises:
        KwsError: a file is damaged or not as `write_kept` makes it, clips have several sample rates, or there is none.
    """
    found: dict[str, KeptClip] = {}
    for file in sorted(folder.glob("*.json")):
        if file.with_suffix(".flac").exists():  # not decisions.json
            clip = _read(folder, file)
            found.setdefault(clip.id, clip)
    if not found:
        raise KwsError(f"dir={folder}: must hold clips of kws listen save=DIR, FLAC with JSON beside them")
    if len(rates := {clip.sample_rate for clip in found.values()}) > 1:
        raise KwsError(f"dir={folder}: must hold clips of one sample rate, not of {sorted(rates)} Hz")
    return sorted(found.values(), key=lambda clip: -clip.known.score)


def _read(folder: Path, file: Path) -> KeptClip:
    known, audio = read_json(inside(folder, file), Sidecar, str(file)), inside(folder, file.with_suffix(".flac"))
    try:
        header = soundfile.info(audio)  # read first, since a small file may decode to hours
    except (soundfile.SoundFileError, OSError) as error:
        raise KwsError(f"{audio}: damaged, cannot be decoded") from error
    long = max(header.frames / header.samplerate, known.time_s - known.begin_s) > LONGEST_S
    if (header.format, header.channels) != ("FLAC", 1) or long or known.time_s < known.begin_s:
        raise KwsError(f"{audio}: must be a clip of kws listen save=DIR: FLAC of 1 channel and at most {LONGEST_S:g} s")
    pcm = read_exactly(audio)
    identity = f"{content_hash(pcm)} {known.keyword}".encode(errors="replace")
    return KeptClip(hashlib.sha256(identity).hexdigest(), audio, known, pcm, header.samplerate)
