"""Bounds of doubtful keywords by the scores of a net, with a detector that scores the level of the sound."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from kws.data.audio_cache import AudioCache, Entry
from kws.data.dataset import Selection
from kws.data.keyword_location import Doubt, Location
from kws.data.manifest import Recording, Split
from kws.evaluation.data_checks import second_estimate as module
from kws.evaluation.data_checks.second_estimate import REASON, second_estimate

RATE, WORD_N, DELAY_S = 16000, 8000, 0.15


def test_doubtful_keywords_get_the_bounds_that_the_net_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [20000, 24000, 30000, 26000, 30000]  # of the keyword in three sure and two doubtful recordings
    recordings = [Recording(Path(f"{i}.wav"), f"{i}.wav", "beep", Split.TRAIN) for i in range(5)]
    entries = [Entry(one, one.name, 40000 * i, 40000) for i, one in enumerate(recordings)]
    store = AudioCache(RATE, entries, {}, [], np.zeros(200000, np.int16))
    places = {i: Location(end - WORD_N, end) for i, end in enumerate(ends[:3])}
    places |= {i: Location(0, WORD_N, "unlike the other recordings") for i in (3, 4)}
    doubts = [Doubt(i, f"{i}.wav", "beep", Split.TRAIN, 0, 0.5, "unlike the other recordings") for i in (3, 4)]
    chosen = Selection(["beep"], {Split.TRAIN: [[0, 1, 2]], Split.VALIDATION: [[]], Split.TEST: [[]]})
    chosen.locations, chosen.doubtful = places, doubts

    def peaks(_: object, sounds: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        assert [len(x) for x in sounds] == [40000 + RATE // 2] * 5
        times = np.array(ends)[:, None] / RATE + DELAY_S
        return np.array([[0, 0.9], [0, 0.8], [0, 0.9], [0, 0.6], [0.9, 0.4]], np.float32), np.repeat(times, 2, 1)

    monkeypatch.setattr(module, "peaks", peaks)
    found = second_estimate(store, chosen, SimpleNamespace(), [1])
    assert (found.locations[3].start, found.locations[3].end) == (26000 - WORD_N, 26000)
    assert found.locations[4] == places[4], "too low a score"
    assert {i: found.locations[i] for i in range(3)} == {i: places[i] for i in range(3)}
    assert [(one.start_s, one.end_s, one.reason) for one in found.doubtful] == [
        (1.125, 1.625, REASON),
        (0, 0.5, "unlike the other recordings"),
    ]
    assert second_estimate(store, Selection(["beep"], chosen.positives), SimpleNamespace(), [1]).doubtful == []
