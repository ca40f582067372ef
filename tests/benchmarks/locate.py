"""Share of keywords that are found in recordings that hold more than the keyword.

    python -m tests.benchmarks.locate CASES DATA

CASES: a folder of wave files and truth.json a case, as `location` of KWS_DATA/../cases makes them. DATA: recordings
with a manifest.csv, whose bounds are compared with those of the energy alone.
"""

import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kws.data.audio import BadAudio, keyword_bounds, load
from kws.data.keyword_location import Location, locate, outline, train

RATE, LONGEST_S = 16000, 1.2
Bounds = tuple[float, float]


def located(clips: Sequence[NDArray[np.float32]]) -> list[Location]:
    """The keyword in each recording."""
    outlines = [outline(x, RATE, LONGEST_S) for x in clips]
    model = None if all(one.clear for one in outlines) else train(outlines, LONGEST_S)
    return locate(outlines, model, RATE, LONGEST_S)


def held(bounds: Bounds, keyword: Bounds, of: float) -> bool:
    """Whether the bounds share at least 80 % of a length with the keyword."""
    return min(bounds[1], keyword[1]) - max(bounds[0], keyword[0]) >= 0.8 * of


def cases(folder: Path) -> None:
    """Print, for each case, in how many recordings each method finds the keyword."""
    print(f"{'case':20}{'recordings':>11}{'energy':>8}{'located':>9}{'tight':>7}{'doubtful':>10}{'time, s':>9}")
    for case in sorted(folder.iterdir()):
        truth = json.loads((case / "truth.json").read_text())["keyword"]
        clips = [load(case / name) for name in truth]
        begun = time.perf_counter()
        found = located(clips)
        spent = time.perf_counter() - begun
        energy = [keyword_bounds(x, RATE, LONGEST_S) for x in clips]
        counts = [0, 0, 0]
        for (start, end), (a, b), place in zip(truth.values(), energy, found, strict=True):
            own = place.start / RATE, place.end / RATE
            longer = max(end - start, own[1] - own[0])
            counts[0] += held((a / RATE, b / RATE), (start, end), end - start)
            counts[1] += held(own, (start, end), end - start)
            counts[2] += held(own, (start, end), longer)
        doubtful = sum(bool(place.doubt) for place in found)
        print(
            f"{case.name:20}{len(clips):11}{counts[0]:8}{counts[1]:9}{counts[2]:7}{doubtful:10}{spent:9.1f}", flush=True
        )


def changed(data: Path) -> None:
    """Print, for each keyword, how many bounds are others than those of the energy."""
    with (data / "manifest.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] not in ("speech", "noise")]
    print(f"{'keyword':20}{'recordings':>11}{'changed':>9}{'doubtful':>10}{'time, s':>9}")
    for keyword in sorted({row["label"] for row in rows}):
        clips = []
        for row in rows:
            if row["label"] == keyword:
                try:
                    clips.append(load(data / row["path"]))
                except BadAudio as error:
                    print(error)
        begun = time.perf_counter()
        found = located(clips)
        spent = time.perf_counter() - begun
        energy = [keyword_bounds(x, RATE, LONGEST_S) for x in clips]
        moved = sum((place.start, place.end) != bounds for place, bounds in zip(found, energy, strict=True))
        doubtful = sum(bool(place.doubt) for place in found)
        print(f"{keyword:20}{len(clips):11}{moved:9}{doubtful:10}{spent:9.1f}", flush=True)


if __name__ == "__main__":
    cases(Path(sys.argv[1]))
    changed(Path(sys.argv[2]))
