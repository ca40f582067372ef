"""Where the keyword is in doubtful recordings, by the scores of a net that was trained on the others."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.keyword_location import Location
from kws.data.manifest import Split
from kws.detector.detector import Detector
from kws.evaluation.data_checks.score_checks import peaks

_SCORE = 0.5  # lowest score of a peak that is the keyword
_SURE_N = 50  # recordings that the delay of the net is measured on
_NEAR_S = 0.5  # largest delay
_AFTER_S = 0.5  # silence after each recording, in which the score still rises
REASON = "the bounds are by the scores of the checkpoint"


def second_estimate(store: AudioCache, chosen: Selection, detector: Detector, columns: Sequence[int]) -> Selection:
    """The selection with other bounds of its doubtful keywords, where the detector scores one of them clearly.

    The keyword ends as long before the highest score as it does in the recordings that are sure, and has their median
    length. The recordings stay doubtful: a person confirms the bounds.

    Args:
        store, chosen: audio and roles of the recordings.
        detector: trained on such recordings.
        columns: score column of each keyword of the selection.
    """
    rate, locations = store.sample_rate, dict(chosen.locations)
    for keyword, column in zip(chosen.keywords, columns, strict=True):
        own = chosen.keywords.index(keyword)
        sure = [i for split in Split for i in chosen.positives[split][own]][:_SURE_N]
        doubtful = [one.index for one in chosen.doubtful if one.keyword == keyword]
        if not sure or not doubtful:
            continue
        scores, times = peaks(detector, [_with_silence(store.audio(i), rate) for i in [*sure, *doubtful]])
        score, time_s = scores[:, column], times[:, column]
        delay_s = time_s[: len(sure)] - np.array([locations[i].end / rate for i in sure])
        if not (near := np.abs(delay_s) < _NEAR_S).any():
            continue
        length_n = int(np.median([locations[i].end - locations[i].start for i in sure]))
        ends = ((time_s[len(sure) :] - np.median(delay_s[near])) * rate).round().astype(int).tolist()
        for i, end, peak in zip(doubtful, ends, score[len(sure) :].tolist(), strict=True):
            last = min(max(end, length_n), store.entries[i].n_samples)
            if peak >= _SCORE:
                locations[i] = Location(max(0, last - length_n), last, REASON)
    doubts = [
        replace(one, start_s=locations[one.index].start / rate, end_s=locations[one.index].end / rate,
                reason=locations[one.index].doubt or one.reason)
        for one in chosen.doubtful
    ]  # fmt: skip
    return replace(chosen, locations=locations, doubtful=doubts)


def _with_silence(pcm: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    return np.pad(pcm, (0, round(_AFTER_S * rate)))
