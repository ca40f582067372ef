"""Audio of the examples, and the DET curve and the examples as PNG files."""

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.common.files import replacing
from kws.data import audio
from kws.data.streams import Stream
from kws.evaluation.report.det import Line, plot
from kws.evaluation.report.examples import Cut, Gallery, plot_example
from kws.evaluation.scoring import StreamSource


def cutter(sources: Sequence[StreamSource], sample_rate: int) -> Cut:
    """A function that returns the audio of a source between two seconds. A stream is composed again for it."""

    @lru_cache(maxsize=2)
    def stream(number: int) -> Stream:
        source = sources[number].audio
        assert not isinstance(source, Path)
        return source if isinstance(source, Stream) else source()

    def cut(number: int, start_s: float, end_s: float) -> NDArray[np.int16]:
        source = sources[number].audio
        if isinstance(source, Path):
            return audio.cut(source, sample_rate, start_s, end_s)
        return stream(number).pcm[max(0, round(start_s * sample_rate)) : round(end_s * sample_rate)]

    return cut


def write_pictures(folder: Path, lines: Sequence[Line], galleries: Sequence[Gallery]) -> int:
    """Write the DET curve (`det.png`) and every example as PNG files, and return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {"det": plot(lines)}
    keywords = list(dict.fromkeys(gallery.title.rpartition(":")[0] for gallery in galleries))
    for gallery in galleries:
        keyword = gallery.title.rpartition(":")[0]
        # Only the number distinguishes two keywords without an ASCII letter.
        start = f"{keywords.index(keyword) + 1}-" if len(keywords) > 1 else ""
        for column in gallery.columns:
            for number, example in enumerate(column.examples, 1):
                name = f"{start}{_ascii(keyword)}-{_ascii(column.title)}-{number:02d}"
                pictures[name] = plot_example(example, gallery.colours)
    for name, png in pictures.items():
        with replacing(folder / f"{name}.png") as file:
            file.write(png)
    return len(pictures)


def _ascii(text: str) -> str:
    """Text for a file name: ASCII letters, digits and underscores, a dash for anything else."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)[:60]
