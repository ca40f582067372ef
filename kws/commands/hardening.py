"""A detector and the clips that it was trained on, against the detector that its run started from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.evaluation import comparison
from kws.evaluation.comparison import Comparison
from kws.evaluation.results import Table
from kws.replay.buffer import Buffer
from kws.replay.records import State
from kws.replay.refresh import BLOCK


def verdict(old: Detector, new: Detector, pairs: Mapping[str, Comparison], folder: Path) -> str:
    """Whether the new detector may replace the old one, in a sentence.

    Args:
        old, new: the detectors.
        pairs: their comparisons, by split and keyword.
        folder: of the replay buffer of the run.
    """
    with Buffer(folder) as buffer:
        clips_n, (triggers_old, triggers_new) = triggers([old, new], buffer)
    return comparison.verdict(list(pairs.values()), clips_n, triggers_old, triggers_new)


def table(pairs: Mapping[str, Comparison]) -> Table:
    """The comparisons as a table."""
    return Table("Before (a) and after (b)", ("", *comparison.HEADER[1:]), comparison.named_rows(pairs))


def triggers(detectors: Sequence[Detector], buffer: Buffer) -> tuple[int, list[int]]:
    """Active clips of a buffer, and how many of them trigger each detector at its thresholds."""
    rows, counts = buffer.rows(State.active), [0] * len(detectors)
    for at in range(0, len(rows), BLOCK):  # the audio of a large buffer takes gigabytes
        audio = [buffer.audio(row.hash) for row in rows[at : at + BLOCK]]
        for i, detector in enumerate(detectors):
            scores, _ = score_clips(detector, audio)
            counts[i] += int((scores >= np.array(detector.thresholds, np.float32)).any(1).sum())
    return len(rows), counts


def replayed_sources(folder: Path, share: float) -> set[str]:
    """Content hashes of the recordings whose clips were sampled from a buffer, by this run or by others that share it;
    none where a run replays a share of 0.
    """
    if not share:
        return set()
    with Buffer(folder) as buffer:
        return {row.source.hash for row in buffer.rows(None) if row.times_drawn}
