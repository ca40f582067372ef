"""Keywords of a selection: their bounds, and which recordings are left out because the bounds are doubtful."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.common.text import plural
from kws.data import keyword_location
from kws.data.audio import to_float
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.keyword_location import Doubt, Location, Outline
from kws.data.manifest import Split
from kws.data.stretches import bounds_n

CONTEXT_S = 10.0  # sound that is kept on either side of a keyword in a long recording
_NAMED = 3  # doubtful recordings that a line names


def with_locations(
    cache: AudioCache, chosen: Selection, longest_s: Mapping[Split, float], needed: Sequence[Split] = ()
) -> Selection:
    """Locate the keyword in each positive, and leave out those in which it is doubtful.

    Bounds of the manifest are used as they are. The model of a keyword is trained on train recordings, or on those of
    the split where there is none: recordings of validation and test decide nothing about others.

    Args:
        cache, chosen: audio and roles of the recordings.
        longest_s: longest keyword in seconds, by split.
        needed: splits that must keep a recording of each keyword.

    Raises:
        KwsError: a bound of the manifest is outside of its recording, or a needed split has only doubtful recordings.
    """
    positives: dict[Split, list[list[int]]] = {split: [] for split in chosen.positives}
    locations: dict[int, Location] = {}
    doubtful: list[Doubt] = []
    for column, keyword in enumerate(chosen.keywords):
        taught: list[Outline] = []  # those of the train split, which comes first
        for split, columns in chosen.positives.items():
            indexes, longest = columns[column], longest_s[split]
            outlines = [_outline(cache, i, longest) for i in indexes]
            taught = taught or outlines
            model = None if all(one.clear for one in outlines) else keyword_location.train(taught, longest)
            found = keyword_location.locate(outlines, model, cache.sample_rate, longest)
            locations |= dict(zip(indexes, found, strict=True))
            doubts = [_doubt(cache, i, keyword, locations[i]) for i in indexes if locations[i].doubt]
            if len(doubts) == len(indexes) > 0 and split in needed:
                raise KwsError(
                    f"keyword={keyword}: where it is in the recordings of the {split} split is doubtful, first "
                    f"{doubts[0]}: columns start and end of a manifest must give it"
                )
            positives[split].append([i for i in indexes if not locations[i].doubt])
            doubtful += doubts
    return replace(chosen, positives=positives, locations=locations, doubtful=doubtful)


def _doubt(cache: AudioCache, i: int, keyword: str, place: Location) -> Doubt:
    recording, rate = cache.entries[i].recording, cache.sample_rate
    return Doubt(i, recording.name, keyword, recording.split, place.start / rate, place.end / rate, place.doubt)


def _outline(cache: AudioCache, i: int, longest_s: float) -> Outline:
    x, rate, recording = to_float(cache.audio(i)), cache.sample_rate, cache.entries[i].recording
    start, end = bounds_n(recording, len(x), rate)
    if start is None and end is None:
        return keyword_location.outline(x, rate, longest_s)
    return keyword_location.given(x, rate, longest_s, start, end)


def context(cache: AudioCache, chosen: Selection, i: int) -> tuple[NDArray[np.int16], tuple[int, int]]:
    """A positive with at most 10 s around its keyword, and the bounds of the keyword in that sound.

    Shape: returns int16 [T].
    """
    place, around = chosen.locations[i], round(CONTEXT_S * cache.sample_rate)
    first = max(0, place.start - around)
    return cache.audio(i)[first : place.end + around], (place.start - first, place.end - first)


def doubt_lines(chosen: Selection) -> list[str]:
    """A line for each split with doubtful recordings: how many there are, and the first three."""
    lines = []
    for split in Split:
        mine = [one for one in chosen.doubtful if one.split is split]
        if mine:
            named = ", ".join(str(one) for one in mine[:_NAMED]) + (", ..." if len(mine) > _NAMED else "")
            recordings = plural(len(mine), "keyword recording")
            lines.append(
                f"left out of the {split} split: {recordings} in which the place of the keyword is doubtful: {named}; "
                "kws data check DIR plays them and lets you mark the keyword (docs/recordings.md)"
            )
    return lines
