"""Misses and false alarms by recording, source, speaker and SNR; confusion between keywords; latency of triggers."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.data.transcripts import contains_phrase
from kws.evaluation.events import hit_times, hits, trigger_times
from kws.evaluation.intervals import poisson, wilson
from kws.evaluation.scoring import KeywordScores, Segment

GROUPS = ("recording", "source", "speaker", "snr")
SNR_STEP_DB = 5
TRIGGER_DELAY_S = 0.2  # a trigger this soon after the start of a recording belongs to the recording before


@dataclass(frozen=True)
class MissGroup:
    """Misses of one group of events, with the 95 % Wilson interval of the rate."""

    by: str
    value: str
    misses: int
    events: int
    miss_rate: float
    miss_low: float
    miss_high: float


@dataclass(frozen=True)
class FalseAlarmGroup:
    """False alarms in one group of negative recordings, with the 95 % Poisson interval of the rate per hour."""

    by: str
    value: str
    false_alarms: int
    hours: float
    fa_per_hour: float
    fa_low: float
    fa_high: float


@dataclass(frozen=True)
class Latency:
    """Seconds from the end of a keyword to its trigger, over the hits; negative where the trigger comes first."""

    events: int
    median_s: float
    p95_s: float


@dataclass(frozen=True)
class KeywordConfusion:
    """Events of the keyword `said` at which the keyword `fired` triggers, with the 95 % Wilson interval."""

    said: str
    fired: str
    times: int
    events: int
    rate: float
    low: float
    high: float


def match_events(
    scores: KeywordScores, threshold: float, refractory_s: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Time of the hit of each event (NaN for a miss), and times of the false alarms, in seconds."""
    hit_at = hit_times(trigger_times(scores.positive, threshold, refractory_s), scores.spans)
    return hit_at, trigger_times(scores.negative, threshold, refractory_s)


def latency(scores: KeywordScores, hit_at: NDArray[np.float64]) -> Latency | None:
    """Median and 95th percentile of the latency; None without a hit whose end is known."""
    ends = np.array([math.nan if e.spoken_s is None else e.spoken_s for e in scores.events])
    late = (hit_at - ends)[~np.isnan(hit_at - ends)]
    return Latency(len(late), float(np.median(late)), float(np.quantile(late, 0.95))) if len(late) else None


def misses_by_group(scores: KeywordScores, hit_at: NDArray[np.float64]) -> list[MissGroup]:
    """Misses in each group of events, the worst first. A property with a single group is left out."""
    missed = [event for event, at in zip(scores.events, hit_at.tolist(), strict=True) if math.isnan(at)]
    groups = []
    for by in GROUPS:
        events, misses = (Counter(group_of(event, by) for event in some) for some in (scores.events, missed))
        if len(events) > 1:
            counts = [(v, misses[v], n) for v, n in events.items()]
            rows = [MissGroup(by, v, k, n, k / n, *wilson(k, n)) for v, k, n in counts]
            rows = [row for row in rows if row.misses or by != "recording"]
            groups += sorted(rows, key=lambda row: (-row.miss_low, -row.misses, row.value))
    return groups


def false_alarms_by_group(scores: KeywordScores, alarms: NDArray[np.float64]) -> list[FalseAlarmGroup]:
    """False alarms in each group of negatives, the worst first. A property with a single group is left out."""
    causes = [scores.negatives[i] for i in attribute(scores.negatives, alarms)]
    groups = []
    for by in GROUPS:
        hours: dict[str, float] = defaultdict(float)
        for segment in scores.negatives:
            hours[group_of(segment, by)] += (segment.end_s - segment.start_s - segment.silent_s) / 3600
        alarms_of = Counter(group_of(segment, by) for segment in causes)
        if len(hours) > 1:
            counts = [(v, alarms_of[v], h) for v, h in hours.items()]
            rows = [FalseAlarmGroup(by, v, k, h, k / h, *poisson(k, h)) for v, k, h in counts]
            # Thousands of recordings and speakers have no false alarm.
            rows = [row for row in rows if row.false_alarms or by in ("source", "snr")]
            groups += sorted(rows, key=lambda row: (-row.false_alarms, row.hours, row.value))
    return groups


def attribute(negatives: Sequence[Segment], alarms: NDArray[np.float64]) -> list[int]:
    """Number of the recording that caused each false alarm: the last that began `TRIGGER_DELAY_S` before."""
    starts, causes = [segment.start_s for segment in negatives], []
    for at in alarms.tolist() if negatives else ():
        current = max(0, bisect_left(starts, at) - 1)  # the last row of a stream ends where the next stream begins
        before = max(0, bisect_right(starts, at - TRIGGER_DELAY_S) - 1)
        # Each stream is scored from silence: recordings of the stream before have no influence.
        causes.append(before if negatives[before].stream == negatives[current].stream else current)
    return causes


def group_of(segment: Segment, by: str) -> str:
    """The group of a recording, such as its speaker. SNRs are grouped in steps of 5 dB."""
    if by == "snr":
        if segment.snr_db is None:
            return ""
        low = SNR_STEP_DB * math.floor(segment.snr_db / SNR_STEP_DB)
        return f"{low} to {low + SNR_STEP_DB} dB"
    return {"recording": segment.name, "speaker": segment.speaker, "source": segment.source}[by]


def confusion(
    scores: Mapping[str, KeywordScores], thresholds: Mapping[str, float], refractory_s: float
) -> list[KeywordConfusion]:
    """For each pair of keywords, the events of the first at which the second triggers, at the detector's thresholds.

    A keyword that contains another, as `hey computer` contains `computer`, is not confused with it.
    """
    pairs = []
    for said, one in scores.items():
        for fired, track in one.others.items():
            if contains_phrase(said, fired):
                continue
            triggers = trigger_times(track, thresholds[fired], refractory_s)
            right = [(triggers >= start) & (triggers <= end) for start, end in one.other_spans.get(fired, ())]
            wrong = triggers[~np.any(right, axis=0)] if right else triggers
            times, events = int(hits(wrong, one.spans).sum()), len(one.events)
            pairs.append(KeywordConfusion(said, fired, times, events, times / events, *wilson(times, events)))
    return pairs
