"""The examples of an evaluation, side by side for each keyword: for the page, and as PNG files."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.files import replacing
from kws.data import audio
from kws.data.streams import Stream
from kws.evaluation.report.det import Arm, plot
from kws.evaluation.report.examples import Cut, Judged, draw, examples
from kws.evaluation.report.page import Column, Gallery
from kws.evaluation.scoring import Take


def cutter(takes: Sequence[Take], sample_rate: int) -> Cut:
    """What gives the sound between two seconds of a take: a stream that is made when it is heard is made once more."""

    @lru_cache(maxsize=2)
    def stream(number: int) -> Stream:
        sound = takes[number].sound
        assert not isinstance(sound, Path)
        return sound if isinstance(sound, Stream) else sound()

    def cut(number: int, start_s: float, end_s: float) -> NDArray[np.int16]:
        sound = takes[number].sound
        if isinstance(sound, Path):
            return audio.cut(sound, sample_rate, start_s, end_s)
        return stream(number).pcm[max(0, round(start_s * sample_rate)) : round(end_s * sample_rate)]

    return cut


def galleries(judged: Sequence[Judged], refractory_s: float) -> list[Gallery]:
    """Misses and false alarms of each keyword, a column a detector."""
    made = []
    for keyword in dict.fromkeys(one.keyword for one in judged):
        misses, alarms = [], []
        for one in (one for one in judged if one.keyword == keyword):
            by = f" by {one.name}" if one.others else ""
            found = examples(one, refractory_s)
            misses.append(Column(f"missed{by}", found.misses, found.misses_n))
            alarms.append(Column(f"false alarms{by}", found.alarms, found.alarms_n))
        made += [Gallery(f"{keyword}: misses", misses), Gallery(f"{keyword}: false alarms", alarms)]
    return made


def write_pictures(folder: Path, arms: Sequence[Arm], shown: Sequence[Gallery]) -> int:
    """The curve (`det.png`) and every example as PNG files in a folder; how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"det": plot(arms)}
    keywords = list(dict.fromkeys(gallery.title.rpartition(":")[0] for gallery in shown))
    for gallery in shown:
        keyword = gallery.title.rpartition(":")[0]
        # Of two names that are no ASCII nothing would tell one from the other but the number.
        start = f"{keywords.index(keyword) + 1}-" if len(keywords) > 1 else ""
        for column in gallery.columns:
            for number, example in enumerate(column.examples, 1):
                name = f"{start}{plain(keyword)}-{plain(column.title)}-{number:02d}"
                pictures[name] = draw(example, gallery.colours)
    for name, png in pictures.items():
        with replacing(folder / f"{name}.png") as file:
            file.write(png)
    return len(pictures)


def plain(text: str) -> str:
    """A text as part of a file name: letters, digits and underscores of ASCII, a dash for anything else."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)[:60]
