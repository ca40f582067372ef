"""Review of suspect clips by a user: an HTML page with audio players, and the decisions saved on it."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from kws.common.errors import KwsError
from kws.common.validated_json import read_json
from kws.data.audio import flac
from kws.evaluation.report import html
from kws.replay.records import BufferClip, ClipHash


def write_review(
    path: Path,
    clips: Sequence[BufferClip],
    audio: Callable[[str], NDArray[np.int16]],
    sample_rate: int,
    title: str,
    buffer: str,
) -> None:
    """Write the page on which a user listens to clips and decides. It is one file that fetches nothing.

    Args:
        path: file to write atomically; its folder exists.
        clips: shown in the order of the latest score, highest first, those without a score last.
        audio: samples of a clip by its hash, int16 [T].
        sample_rate: Hz.
        title: heading.
        buffer: name of the replay buffer.

    Raises:
        OSError: the file cannot be written.
    """

    def facts(clip: BufferClip) -> dict[str, str]:
        return {
            "keyword": clip.keyword,
            "kind": clip.kind,
            "recording": clip.source.name,
            "offset": f"{clip.offset_s:.2f} s",
            "length": f"{clip.n_samples / sample_rate:.2f} s",
            "text": clip.text,
            "score found": "" if clip.score is None else f"{clip.score:.4f}",
            "score now": "" if clip.score_now is None else f"{clip.score_now:.4f}",
            "reason": clip.reason,
        }

    ordered = sorted(clips, key=lambda clip: clip.hardness if math.isfinite(clip.hardness) else -1.0, reverse=True)
    html.write_page(
        path,
        "replay/review.html",
        html.source("replay/review.css"),
        html.source("replay/review.js") if clips else "",
        title=title,
        buffer=buffer,
        clips=ordered,
        facts=facts,
        sound=lambda clip: flac(audio(clip), sample_rate),
    )


class Decisions(BaseModel):
    """Hashes of the clips that a user released and rejected on the page."""

    model_config = ConfigDict(extra="forbid", strict=True)
    release: list[ClipHash]
    reject: list[ClipHash]


def read_decisions(path: Path) -> Decisions:
    """Read the decisions that a user saved on the page.

    Raises:
        KwsError: a missing file, a file above 50 MB, other content, or a clip both released and rejected.
    """
    decisions = read_json(path, Decisions, str(path))
    if both := set(decisions.release) & set(decisions.reject):
        raise KwsError(f"{path}: clip {min(both)} is both released and rejected")
    return decisions
