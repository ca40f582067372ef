"""Where misses and false alarms come from, which keyword was taken for which, and how late a trigger comes."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.evaluation.events import answers, fires, hits
from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.scoring import KeywordScores, Passage

GROUPS = ("source", "speaker", "snr")
SNR_STEP_DB = 5
# A trigger comes a little after what caused it: one that comes so soon after a recording began belongs to the last.
LATE_S = 0.2


@dataclass(frozen=True)
class Missed:
    """Events of one group that were missed, with the 95 % Wilson interval of the rate."""

    by: str
    value: str
    misses: int
    events: int
    miss_rate: float
    miss_low: float
    miss_high: float


@dataclass(frozen=True)
class Alarmed:
    """False alarms in the hours of one group, with the 95 % Poisson interval of the rate, per hour."""

    by: str
    value: str
    false_alarms: int
    hours: float
    fa_per_hour: float
    fa_low: float
    fa_high: float


@dataclass(frozen=True)
class Latency:
    """From the end of a keyword to its trigger, over the events that were hit, in seconds; below 0 it came before."""

    events: int
    median_s: float
    p95_s: float


@dataclass(frozen=True)
class Confused:
    """How often one keyword was said and another fired, with the 95 % Wilson interval."""

    said: str
    fired: str
    times: int
    events: int
    rate: float
    low: float
    high: float


def found_at(
    heard: KeywordScores, threshold: float, refractory_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When a detector answers each event (NaN where it misses it), and when it alarms falsely, in seconds."""
    fired = [fires(t.times, t.scores, threshold, refractory_s) for t in (heard.positive, heard.negative)]
    return answers(fired[0], heard.spans), fired[1]


def latency(heard: KeywordScores, answered: NDArray[np.float64]) -> Latency | None:
    """The median and the 95th percentile; None where no event whose end is known was hit."""
    ends = np.array([math.nan if e.spoken_s is None else e.spoken_s for e in heard.events])
    late = (answered - ends)[~np.isnan(answered - ends)]
    return Latency(len(late), float(np.median(late)), float(np.quantile(late, 0.95))) if len(late) else None


def missed_by(heard: KeywordScores, answered: NDArray[np.float64]) -> list[Missed]:
    """Misses in each group of events, by what is known of them; the worst first. One group alone is none."""
    made = []
    for by in ("recording", *GROUPS):
        counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for event, at in zip(heard.events, answered.tolist(), strict=True):
            count = counts[group_of(event, by)]
            count[0] += math.isnan(at)
            count[1] += 1
        if len(counts) > 1:
            rows = [Missed(by, v, k, n, k / n, *wilson(k, n)) for v, (k, n) in counts.items()]
            rows = [row for row in rows if row.misses or by != "recording"]
            made += sorted(rows, key=lambda row: (-row.miss_low, -row.misses, row.value))
    return made


def alarmed_by(heard: KeywordScores, alarms: NDArray[np.float64]) -> list[Alarmed]:
    """False alarms in each group of the negative recordings; the worst first. One group alone is none."""
    causes = [heard.negatives[i] for i in cause(heard.negatives, alarms)]
    made = []
    for by in ("recording", *GROUPS):
        hours: dict[str, float] = defaultdict(float)
        for passage in heard.negatives:
            hours[group_of(passage, by)] += (passage.end_s - passage.start_s) / 3600
        counts: dict[str, int] = defaultdict(int)
        for passage in causes:
            counts[group_of(passage, by)] += 1
        if len(hours) > 1:
            rows = [Alarmed(by, v, counts[v], h, counts[v] / h, *poisson(counts[v], h)) for v, h in hours.items()]
            rows = [row for row in rows if row.false_alarms or by in ("source", "snr")]  # there are thousands of others
            made += sorted(rows, key=lambda row: (-row.false_alarms, row.hours, row.value))
    return made


def cause(negatives: Sequence[Passage], alarms: NDArray[np.float64]) -> list[int]:
    """Which negative recording each alarm is laid to: the last one that had begun `LATE_S` before."""
    starts, causes = [passage.start_s for passage in negatives], []
    for at in alarms.tolist() if negatives else ():
        there, before = (max(0, bisect_right(starts, at - late_s) - 1) for late_s in (0.0, LATE_S))
        # Each take is heard from silence: what was in the one before is forgotten.
        causes.append(before if negatives[before].take == negatives[there].take else there)
    return causes


def group_of(passage: Passage, by: str) -> str:
    """The group of a recording, such as its speaker; SNRs are taken in steps of 5 dB."""
    if by == "snr":
        return "" if passage.snr_db is None else _snr(passage.snr_db)
    return {"recording": passage.name, "speaker": passage.speaker, "source": passage.source}[by]


def _snr(snr_db: float) -> str:
    low = SNR_STEP_DB * math.floor(snr_db / SNR_STEP_DB)
    return f"{low} to {low + SNR_STEP_DB} dB"


def confusion(
    heard: Mapping[str, KeywordScores], thresholds: Mapping[str, float], refractory_s: float
) -> list[Confused]:
    """Of each keyword that is said, how often each other one fires within its events, at the detector's thresholds."""
    made = []
    for said, one in heard.items():
        for fired, track in one.others.items():
            found = fires(track.times, track.scores, thresholds[fired], refractory_s)
            right = [(found >= start) & (found <= end) for start, end in one.answers.get(fired, ())]
            found = found[~np.any(right, axis=0)] if right else found
            times, events = int(hits(found, one.spans).sum()), len(one.events)
            made.append(Confused(said, fired, times, events, times / events, *wilson(times, events)))
    return made
