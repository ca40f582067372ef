"""Live detection: triggers of one or several detectors on a stream, and the recordings that it keeps of them."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import to_float
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
        near: score from which a row is a near miss; None for none.

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
        self.heard_n = 0
        self.latest: dict[tuple[str, str], float] = {}  # highest score of the last chunk with a row
        self._quiet: dict[tuple[str, str, bool], float] = {}  # time of the last trigger or near miss

    def feed(self, pcm: NDArray[np.int16]) -> list[Trigger]:
        """The triggers in the next samples. Shape: int16 [n]."""
        self.heard_n += len(pcm)
        now, found, samples = self.heard_n / self.sample_rate, list[Trigger](), torch.from_numpy(to_float(pcm))
        for name, detector in self.detectors.items():
            rows = detector(samples)
            if not len(rows):
                continue
            for keyword, threshold, column in zip(detector.labels, detector.thresholds, rows.T.tolist(), strict=True):
                self.latest[name, keyword] = max(column)
                fired = self._first(name, keyword, threshold, column, now, False)
                if fired is None and self.near is not None:
                    fired = self._first(name, keyword, min(self.near, threshold), column, now, True)
                found += [] if fired is None else [fired]
        return found

    def _first(
        self, name: str, keyword: str, threshold: float, column: Sequence[float], now: float, near: bool
    ) -> Trigger | None:
        """The trigger of a chunk, if one is due: rows of a chunk have one time, so there is at most one."""
        score = next((score for score in column if score >= threshold), None)
        before = self._quiet.get((name, keyword, near), -np.inf)
        if score is None or now - before < self.refractory_s:
            return None
        self._quiet[name, keyword, near] = now
        return Trigger(now, keyword, score, threshold, name, near)


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
    """

    def __init__(self, sample_rate: int, before_s: float = 3.0, after_s: float = 1.0) -> None:
        self.sample_rate, self.before_n, self.after_n = (
            sample_rate,
            *(round(s * sample_rate) for s in (before_s, after_s)),
        )
        self._kept = np.zeros(0, np.int16)
        self._end_n = 0
        self._due: deque[Trigger] = deque()

    def feed(self, pcm: NDArray[np.int16], triggers: Sequence[Trigger]) -> list[Recorded]:
        """Add the next samples and the triggers in them; returns what is complete now."""
        self._end_n += len(pcm)
        self._kept = np.concatenate([self._kept, pcm])[-(self.before_n + self.after_n + len(pcm)) :]
        self._due += triggers
        return self._complete(self.after_n)

    def rest(self) -> list[Recorded]:
        """What was not complete when the stream ended."""
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
