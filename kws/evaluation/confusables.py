"""False alarms on confusables: clips of a folder made by `kws confuse`, in the voices of the test split."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.common.errors import KwsError
from kws.confusables.synthesis.render import MANIFEST
from kws.data.audio import load, to_int16
from kws.data.manifest import CONFUSABLE, Split, SplitBy, read
from kws.data.streams import Stream, compose, hit_spans
from kws.data.tables import text_of
from kws.detector.streaming import StreamScorer
from kws.evaluation.intervals import wilson
from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.scoring import ConfusableScores, Progress, ScoreAll, StreamSource, decoded, score_all
from kws.evaluation.threshold_sweep import sweep

GAP_S = 1.0  # of silence after each clip


@dataclass(frozen=True)
class ConfusableAlarms:
    """The number of confusables that trigger at a threshold, with the 95 % Wilson interval of their share.

    Attributes:
        wanted_fa_per_hour: of the operating point; None for the calibrated threshold.
        threshold: of the operating point.
        fired: clips that trigger.
        clips: all clips.
        low, high: interval of the share.
    """

    wanted_fa_per_hour: float | None
    threshold: float
    fired: int
    clips: int
    low: float
    high: float


def held_out_confusables(folder: Path) -> dict[str, list[Path]]:
    """The files of the confusables of the test split, by keyword. Their voices occur in no training.

    Raises:
        KwsError: the folder does not exist, was not made by `kws confuse`, or has no such clip.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise KwsError(f"confusables={folder}: must be a folder made by kws confuse; it has no {MANIFEST}")
    lines = csv.DictReader(io.StringIO(text_of(manifest), newline=""))
    keyword_of = {line["path"]: line.get("keyword") or "" for line in lines if "path" in line}
    found: dict[str, list[Path]] = {}
    for one in read(folder, split=SplitBy.column):
        if one.split is Split.TEST and one.label == CONFUSABLE and keyword_of.get(one.name):
            found.setdefault(keyword_of[one.name], []).append(one.path)
    if not found:
        raise KwsError(f"confusables={folder}: must be a folder made by kws confuse; it has no test clips")
    return found


def seconds(files: Mapping[str, Sequence[Path]]) -> float:
    """Approximate length of the streams of these files, for the progress bar."""
    return sum(len(some) for some in files.values()) * (1.0 + GAP_S)


def score_confusables(
    detector: StreamScorer,
    files: Mapping[str, Sequence[Path]],
    chunk_s: float,
    progress: Progress = lambda _: None,
    score: ScoreAll = score_all,
) -> dict[str, ConfusableScores]:
    """Score the confusables of each keyword of a detector, one clip after another in silence.

    Args:
        detector: a `Detector` or an exported file.
        files: of `held_out_confusables`; those of other keywords are left out.
        chunk_s, progress, score: see `splits.evaluate_split`.
    """

    def source(word: str) -> StreamSource:
        def stream() -> Stream:
            clips = [to_int16(load(file, detector.sample_rate)) for file in files[word]]
            return compose(clips, [], np.random.default_rng(0), GAP_S, sample_rate=detector.sample_rate)

        return StreamSource(stream, seconds({word: files[word]}))

    words = [word for word in detector.labels if word in files]
    scored = [decoded(one) for one in score(detector, [source(word) for word in words], chunk_s, progress)]
    spans = [hit_spans(one.pieces, detector.sample_rate) for one in scored]
    return {word: (one.tracks[word], its) for word, one, its in zip(words, scored, spans, strict=True)}


def confusable_alarms(
    scores: ConfusableScores, points: Sequence[OperatingPoint], refractory_s: float
) -> list[ConfusableAlarms]:
    """The number of clips that trigger at the threshold of each operating point."""
    track, spans = scores
    counted = sweep(track, refractory_s, spans)
    found = []
    for point in points:
        n, clips = counted.spans_n - counted.at(point.threshold)[1], counted.spans_n
        found.append(ConfusableAlarms(point.wanted_fa_per_hour, point.threshold, n, clips, *wilson(n, clips)))
    return found
