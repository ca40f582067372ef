"""The page of a check: what was found, with players, and bounds of keywords to drag."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.data.audio import flac
from kws.evaluation.data_checks.finding import Finding, Level
from kws.evaluation.report import html
from kws.evaluation.results import Table

WIDTH, HEIGHT = 1000, 100  # of the picture of a sound, in its own units
NAMED = 200  # recordings of a finding that the page names
_COLUMNS = 400  # of the envelope


@dataclass(frozen=True, eq=False)
class Player:
    """A recording to play, or a part of it.

    Args:
        name: of the recording.
        note: why it is shown.
        pcm: samples, int16 [T].
        begins_s: where they begin in the recording.
        bounds: of the keyword in the recording, seconds; None for a recording without one.
    """

    name: str
    note: str
    pcm: NDArray[np.int16]
    begins_s: float = 0.0
    bounds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Gallery:
    """Players under one heading. Bounds of `editable` ones can be dragged and saved."""

    title: str
    text: str
    players: Sequence[Player]
    more: int = 0  # that are not shown
    editable: bool = False


def envelope(pcm: NDArray[np.int16]) -> str:
    """Highest and lowest samples as the path of an SVG picture of 1000 x 100. Shape: pcm int16 [T], T at least 1."""
    n = min(_COLUMNS, len(pcm))
    starts = np.arange(n) * len(pcm) // n
    x = pcm.astype(np.float32)
    high, low = np.maximum.reduceat(x, starts), np.minimum.reduceat(x, starts)
    scale = HEIGHT / 2 / max(1.0, float(np.abs(x).max()))
    step = WIDTH / n
    lines = (
        f"M{(i + 0.5) * step:.1f} {HEIGHT / 2 - a * scale:.1f}V{HEIGHT / 2 - b * scale + 0.5:.1f}"
        for i, (a, b) in enumerate(zip(high, low, strict=True))
    )
    return "".join(lines)


def write_check(
    path: Path,
    title: str,
    facts: Mapping[str, str],
    table: Table,
    findings: Sequence[Finding],
    galleries: Sequence[Gallery],
    sample_rate: int,
) -> None:
    """Write the page, one file that fetches nothing. Raises OSError if it cannot be written.

    Args:
        path: file to write; its folder is made.
        title: heading.
        facts: folder, keywords and so on.
        table: recordings of each split.
        findings: the worst first.
        galleries: without those that are empty.
        sample_rate: Hz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    editable = any(gallery.editable for gallery in galleries)

    def place(player: Player, seconds: float) -> float:
        """Where a time of the recording is in the picture."""
        return (seconds - player.begins_s) * sample_rate / len(player.pcm) * WIDTH

    html.write_page(
        path,
        "evaluation/data_checks/check.html",
        html.source("evaluation/data_checks/check.css"),
        html.source("evaluation/data_checks/check.js") if galleries else "",
        title=title,
        facts=facts,
        table=table,
        levels={level: [one for one in findings if one.level is level] for level in Level},
        named=NAMED,
        galleries=galleries,
        editable=editable,
        seconds=lambda player: len(player.pcm) / sample_rate,
        place=place,
        envelope=envelope,
        sound=lambda player: flac(player.pcm, sample_rate),
    )
