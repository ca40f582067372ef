"""What quantisation costs: the same validation streams, scored before and after."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kws.data.streams import spans
from kws.evaluation.events import join_tracks
from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.evaluation.operating_points import OperatingPoint, at_threshold, wanted_text
from kws.evaluation.threshold_sweep import sweep
from kws.evaluation.validation import ValidationScores, ValidationStreams

HEADER = ("keyword", "threshold", "", "misses", "false alarms")


@dataclass(frozen=True)
class Change:
    """One keyword at one threshold, before and after. The thresholds of both are equal."""

    keyword: str
    before: OperatingPoint
    after: OperatingPoint


@dataclass(frozen=True)
class Loss:
    """What quantisation costs on the validation streams.

    Args:
        changes: at the calibrated threshold of each keyword first, then at those for other rates.
        largest, median: difference of a score.
    """

    changes: list[Change]
    largest: float
    median: float

    def as_json(self) -> dict[str, Any]:
        """Plain values for the metadata of a file."""
        plain: dict[str, Any] = asdict(self)
        return plain


def measure(
    streams: ValidationStreams,
    before: ValidationScores,
    after: ValidationScores,
    thresholds: Mapping[str, Mapping[float | None, float]],
) -> Loss:
    """Count misses and false alarms before and after.

    Args:
        streams: on which both were scored.
        before, after: scores by keyword.
        thresholds: of each keyword, by the rate (per hour) that they are for; None is the calibrated one.
    """
    changes, differences = [], []
    for keyword, tracks in before.items():
        marks = spans(streams.positive[keyword])
        swept = [
            (sweep(positive, streams.refractory_s, marks), sweep(join_tracks([negative]), streams.refractory_s))
            for positive, negative in (tracks, after[keyword])
        ]
        for rate, threshold in thresholds[keyword].items():
            points = [at_threshold(*one, threshold, rate) for one in swept]
            changes.append(Change(keyword, *points))
        differences += [np.abs(a.scores - b.scores) for a, b in zip(tracks, after[keyword], strict=True)]
    every = np.concatenate(differences)
    return Loss(changes, float(every.max()), float(np.median(every)))


def refusal(loss: Loss, max_loss: float, gate: float) -> str:
    """Why the loss is too high, empty where it is not.

    Args:
        loss: measured.
        max_loss: largest share of the keywords that may be missed more at the calibrated threshold, 0 to 1. False
            alarms may rise within the 95 % interval of those before, where they show no difference.
        gate: largest difference of a score on the audio that every export is compared on.
    """
    why = []
    for change in loss.changes:
        before, after = change.before, change.after
        if before.wanted_fa_per_hour is not None:
            continue
        more = after.misses - before.misses
        if more > max_loss * before.events:
            why.append(f"{change.keyword} misses {more} more of {before.events} keywords ({more / before.events:.1%})")
        if after.fa_per_hour > before.fa_high:
            why.append(f"{change.keyword} has {after.false_alarms} false alarms in place of {before.false_alarms}")
    if not (math.isfinite(loss.largest) and math.isfinite(gate)):
        why.append("scores are not finite")
    return "; ".join(why)


def rows(loss: Loss) -> Sequence[tuple[str, ...]]:
    """Table rows below `HEADER`."""
    return [
        (
            change.keyword if name == "float32" else "",
            f"{wanted_text([point.wanted_fa_per_hour])} ({point.threshold:.4f})" if name == "float32" else "",
            name,
            proportion_text(point.misses, point.events),
            false_alarms_text(point.false_alarms, point.hours),
        )
        for change in loss.changes
        for name, point in (("float32", change.before), ("int8", change.after))
    ]
