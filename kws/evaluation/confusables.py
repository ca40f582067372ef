"""How often what only sounds like a keyword fires: clips that `kws confuse` said, by voices of the test part."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.common.errors import KwsError
from kws.confusables.synthesis.render import MANIFEST
from kws.data.audio import load, to_int16
from kws.data.manifest import CONFUSABLE, Split, SplitBy, read
from kws.data.streams import Piece, Stream, answer_spans, compose
from kws.detector.streaming import ScoreTrack, StreamScorer
from kws.evaluation.intervals import wilson
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.scoring import Progress, ScoreAll, StreamSource, decoded, score_all
from kws.evaluation.threshold_sweep import sweep

GAP_S = 1.0  # of silence after each clip
Said = tuple[ScoreTrack, Sequence[Piece]]  # a detector's track of such clips, and where each lies on it


@dataclass(frozen=True)
class Fired:
    """So many of the clips fire at a threshold: that of a wanted rate of false alarms, or, None, the detector's own."""

    wanted_fa_per_hour: float | None
    threshold: float
    fired: int
    clips: int
    low: float
    high: float


def unheard(folder: Path) -> dict[str, list[Path]]:
    """The clips of a folder that `kws confuse` made which only sound like a keyword, said by voices of the test part.

    Returns the files by keyword; no training heard those voices.

    Raises:
        KwsError: no such folder, one that holds something else, or none of them in it.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise KwsError(f"confusables={folder}: must be a folder made by kws confuse; it has no {MANIFEST}")
    with manifest.open(newline="", encoding="utf-8-sig") as file:
        keyword_of = {line["path"]: line.get("keyword") or "" for line in csv.DictReader(file) if "path" in line}
    found: dict[str, list[Path]] = {}
    for one in read(folder, split=SplitBy.column):
        if one.split is Split.TEST and one.label == CONFUSABLE and keyword_of.get(one.name):
            found.setdefault(keyword_of[one.name], []).append(one.path)
    if not found:
        raise KwsError(f"confusables={folder}: must be a folder made by kws confuse; it has no test clips")
    return found


def in_quiet(files: Sequence[Path], sample_rate: int) -> StreamSource:
    """The clips one after another in silence, `GAP_S` apart, made when their turn comes."""

    def made() -> Stream:
        clips = [to_int16(load(file, sample_rate)) for file in files]
        return compose(clips, [], np.random.default_rng(0), GAP_S, sample_rate=sample_rate)

    return StreamSource(made, seconds({"": files}))


def seconds(files: Mapping[str, Sequence[Path]]) -> float:
    """About how long they are in quiet, for the time left."""
    return sum(len(some) for some in files.values()) * (1.0 + GAP_S)


def heard(
    detector: StreamScorer,
    files: Mapping[str, Sequence[Path]],
    chunk_s: float,
    tell: Progress = lambda _: None,
    hear: ScoreAll = score_all,
) -> dict[str, Said]:
    """What a detector makes of the clips of each of its keywords: the track, and where each clip lies on it.

    Args:
        detector: a `Detector` or an exported file.
        files: of `unheard`; those of other keywords are left out.
        chunk_s, tell, hear: as of `evaluation.evaluate_split`.
    """
    words = [word for word in detector.labels if word in files]
    takes = [in_quiet(files[word], detector.sample_rate) for word in words]
    results = [decoded(one) for one in hear(detector, takes, chunk_s, tell)]
    return {word: (one.tracks[word], one.pieces) for word, one in zip(words, results, strict=True)}


def fired(said: Said, sample_rate: int, points: Sequence[OperatingPoint], refractory_s: float) -> list[Fired]:
    """How many of the clips fire at the thresholds of some operating points."""
    track, pieces = said
    counted = sweep(track, refractory_s, answer_spans(pieces, sample_rate))
    made = []
    for point in points:
        n = counted.spans_n - counted.at(point.threshold)[1]
        made.append(Fired(point.wanted_fa_per_hour, point.threshold, n, counted.spans_n, *wilson(n, counted.spans_n)))
    return made
