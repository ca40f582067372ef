"""Live detection: triggers of one or several detectors on a stream, and the recordings that it keeps of them."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import to_float
from kws.data.overlap import contained
from kws.detector.streaming import StreamScorer


@dataclass(frozen=True)
class Trigger:
    """A detector fired, or nearly did.

    Args:
        time_s: end of the chunk, in seconds from the start of the stream.
        keyword: that was detected.
        score: the first that reached the threshold.
        threshold: of the keyword, or the lower one of near misses.
        detector: its name.
        near: whether this is a near miss.
    """

    time_s: float
    keyword: str
    score: float
    threshold: float
    detector: str
    near: bool = False


class Listener:
    """Triggers on a stream, as an evaluation counts them: a keyword is silent for some time after each trigger.

    Args:
        detectors: by name; all of one sample rate.
        refractory_s: seconds of silence after each trigger, 0 or more.
        near: score from which a row is a near miss; None for none. A near miss is known when no trigger followed it
            within `refractory_s`.

    Raises:
        KwsError: the sample rates differ.
    """

    def __init__(
        self, detectors: Mapping[str, StreamScorer], refractory_s: float = 1.0, near: float | None = None
    ) -> None:
        rates = {name: one.sample_rate for name, one in detectors.items()}
        if len(set(rates.values())) != 1:
            raise KwsError(f"detector: must have one sample rate, not {rates}")
        self.detectors, self.refractory_s, self.near = detectors, refractory_s, near
        self.sample_rate = next(iter(rates.values()))
        # Keywords that contain a keyword, such as `hey computer` for `computer`.
        self.longer = {
            (name, part): [k for k, own in zip(one.labels, contained(one.labels), strict=True) if i in own]
            for name, one in detectors.items()
            for i, part in enumerate(one.labels)
        }
        self.heard_n = 0
        self.latest: dict[tuple[str, str], float] = {}  # highest score of the last chunk with a row
        self._last: dict[tuple[str, str], float] = {}  # time of the last trigger
        self._near: dict[tuple[str, str], Trigger] = {}  # near misses that a trigger may still follow

    def feed(self, pcm: NDArray[np.int16]) -> list[Trigger]:
        """The triggers in the next samples, and the near misses before them that are known now. Shape: int16 [n]."""
        self.heard_n += len(pcm)
        now, found, samples = self.heard_n / self.sample_rate, list[Trigger](), torch.from_numpy(to_float(pcm))
        for name, detector in self.detectors.items():
            rows = detector(samples)
            if not len(rows):
                continue
            for keyword, threshold, column in zip(detector.labels, detector.thresholds, rows.T.tolist(), strict=True):
                self.latest[name, keyword] = max(column)
                found += self._trigger_of(name, keyword, threshold, column, now)
        return [one for one in found if not self._within_longer(one)]

    def _within_longer(self, one: Trigger) -> bool:
        """Whether a longer keyword that contains this one triggers too, now or just before: then that is meant."""
        last = [self._last.get((one.detector, keyword), -np.inf) for keyword in self.longer[one.detector, one.keyword]]
        return any(one.time_s - at < self.refractory_s for at in last)

    def rest(self) -> list[Trigger]:
        """The near misses that were not known when the stream ended."""
        found, self._near = list(self._near.values()), {}
        return found

    def _trigger_of(
        self, name: str, keyword: str, threshold: float, column: Sequence[float], now: float
    ) -> list[Trigger]:
        """The trigger of a chunk, whose rows have one time, or the near miss that is known now."""
        key, near = (name, keyword), self._near.get((name, keyword))
        if now - self._last.get(key, -np.inf) < self.refractory_s:
            return []
        score = next((score for score in column if score >= threshold), None)
        if score is not None:
            self._last[key] = now
            self._near.pop(key, None)
            return [Trigger(now, keyword, score, threshold, name)]
        if near is not None and now - near.time_s >= self.refractory_s:
            return [self._near.pop(key)]
        if near is None and self.near is not None and (highest := max(column)) >= self.near:
            self._near[key] = Trigger(now, keyword, highest, self.near, name, near=True)
        return []


@dataclass(frozen=True, eq=False)
class Recorded:
    """The audio around a trigger. Shape: pcm int16 [n]."""

    trigger: Trigger
    pcm: NDArray[np.int16]
    begin_s: float


class Recorder:
    """Keeps the audio around triggers, in flat memory.

    Args:
        sample_rate: Hz.
        before_s, after_s: seconds before and after the time of a trigger.
        late_s: longest time from a trigger until it is known, as of near misses.
    """

    def __init__(self, sample_rate: int, before_s: float = 3.0, after_s: float = 1.0, late_s: float = 0.0) -> None:
        self.sample_rate, self.late_n = sample_rate, round(late_s * sample_rate)
        self.before_n, self.after_n = round(before_s * sample_rate), round(after_s * sample_rate)
        self._kept = np.zeros(0, np.int16)
        self._end_n = 0
        self._due: deque[Trigger] = deque()

    def feed(self, pcm: NDArray[np.int16], triggers: Sequence[Trigger]) -> list[Recorded]:
        """Add the next samples and the triggers in them; returns what is complete now."""
        self._end_n += len(pcm)
        self._kept = np.concatenate([self._kept, pcm])[-(self.before_n + self.after_n + self.late_n + len(pcm)) :]
        self._due += triggers
        return self._complete(self.after_n)

    def rest(self, triggers: Sequence[Trigger] = ()) -> list[Recorded]:
        """What was not complete when the stream ended, and what was known only then."""
        self._due += triggers
        return self._complete(0)

    def _complete(self, after_n: int) -> list[Recorded]:
        found = []
        while self._due and round(self._due[0].time_s * self.sample_rate) + after_n <= self._end_n:
            trigger = self._due.popleft()
            at, begin_n = round(trigger.time_s * self.sample_rate), self._end_n - len(self._kept)
            first = max(at - self.before_n, begin_n)
            pcm = self._kept[first - begin_n : at + self.after_n - begin_n].copy()
            found.append(Recorded(trigger, pcm, first / self.sample_rate))
        return found
