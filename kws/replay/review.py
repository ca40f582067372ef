"""Review of clips by a user: an HTML page with audio players, and the decisions saved on it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from kws.common.errors import KwsError
from kws.common.validated_json import read_json
from kws.data.audio import flac
from kws.evaluation.report import html
from kws.replay.records import BufferClip, ClipHash


@dataclass(frozen=True)
class Choice:
    """What a user may decide about a clip: its name in the file of decisions, its key, and what it means."""

    name: str
    key: str
    meaning: str


@dataclass(frozen=True)
class Card:
    """A clip on the page: 64 hexadecimal digits that identify it, facts to show, and its samples with their rate."""

    id: str
    facts: Mapping[str, str]
    sound: Callable[[], tuple[NDArray[np.int16], int]]


OF_BUFFER = (
    Choice("release", "r", "it is not the keyword, train on it"),
    Choice("reject", "x", "it is the keyword or junk, never train on it"),
)


def write_cards(path: Path, title: str, about: str, cards: Sequence[Card], choices: Sequence[Choice]) -> None:
    """Write the page on which a user listens to clips and decides. It is one file that fetches nothing.

    Args:
        path: file to write atomically; its folder exists.
        title: heading.
        about: line below it.
        cards: the clips in the order of the page.
        choices: of each clip. The file that the page saves lists the clips of each choice; see `read_decisions`.

    Raises:
        OSError: the file cannot be written.
    """
    html.write_page(
        path,
        "replay/review.html",
        html.source("replay/review.css"),
        html.source("replay/review.js") if cards else "",
        title=title,
        about=about,
        cards=cards,
        choices=choices,
        sound=lambda card: flac(*card.sound()),
    )


def write_review(
    path: Path,
    clips: Sequence[BufferClip],
    audio: Callable[[str], NDArray[np.int16]],
    sample_rate: int,
    title: str,
    buffer: str,
) -> None:
    """Write the page for clips of a replay buffer, see `write_cards`.

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

    def card(clip: BufferClip) -> Card:
        return Card(clip.hash, facts(clip), lambda: (audio(clip.hash), sample_rate))

    ordered = sorted(clips, key=lambda clip: clip.hardness if math.isfinite(clip.hardness) else -1.0, reverse=True)
    write_cards(path, title, f"Buffer: {buffer}", list(map(card, ordered)), OF_BUFFER)


class Decisions(BaseModel):
    """Hashes of the clips that a user released and rejected on the page."""

    model_config = ConfigDict(extra="forbid", strict=True)
    release: list[ClipHash]
    reject: list[ClipHash]


AnyDecisions = TypeVar("AnyDecisions", bound=BaseModel)


def read_decisions(path: Path, kind: type[AnyDecisions]) -> AnyDecisions:
    """Read the decisions that a user saved on a page.

    Args:
        path: the file.
        kind: model with a list of clips for each choice of the page.

    Raises:
        KwsError: a missing file, a file above 50 MB, other content, no decision, or a clip in two lists.
    """
    decisions = read_json(path, kind, str(path))
    lists: dict[str, list[str]] = decisions.model_dump()
    if not any(lists.values()):
        raise KwsError(f"decisions={path}: holds no decision")
    for (one, own), (other, others) in combinations(lists.items(), 2):
        if both := set(own) & set(others):
            raise KwsError(f"{path}: clip {min(both)} must not be in both {one} and {other}")
    return decisions
