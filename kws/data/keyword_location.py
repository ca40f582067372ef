"""Where a keyword is in its recordings: given by a person, clear from the sound of one recording, or agreed by all.

A recording whose sound is one stretch of at most the length of a keyword is clear, and its bounds are those of the
energy (`audio.keyword_bounds`). Clicks do not count. In a recording with more sound, such as talk before the keyword or
a command after it, the keyword is the part that the recordings have in common (`alignment`). The bounds of the energy
stay where they hold that part. A recording in which neither is convincing is doubtful.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kws.common.seeding import numpy_generator
from kws.data import alignment
from kws.data.alignment import HOP_S, Consensus, Match, Sound
from kws.data.audio import keyword_bounds
from kws.data.manifest import Split

_CLICK_N = 4  # frames of 20 ms; a shorter sound is a click
_GAP_N = 10  # frames of quiet that a keyword may hold
_RANGE_DB = 35.0  # sound further below the loudest is quiet
_LEAST_DB = 10.0  # range of a recording that has quiet in it
_ABOVE_NOISE = 0.25  # so is sound nearer to the noise, as a share of the range
_TEACHERS, _TAUGHT_N = 150, 40_000  # recordings and frames that the model of a keyword is trained on
_CLEAR_ENOUGH = 8  # clear recordings that are a start for the model
FEWEST = 10  # recordings that can agree on a position
_SNAP_N = 10  # frames by which an aligned bound moves to the next quiet
_HELD, _WIDER = 0.75, 1.5  # bounds that hold this share of a keyword, and are not so much longer, are right
# Another position may be the keyword too at this share of the best score, and is at this likeness to the keyword.
_MAYBE_AGAIN, _AGAIN = 0.3, -0.12


@dataclass(frozen=True)
class Location:
    """First sample of a keyword and the sample after its last.

    `doubt` says why they may be wrong, empty if sure. `again` says that the keyword may be there once more.
    """

    start: int
    end: int
    doubt: str = ""
    again: bool = False


@dataclass(frozen=True)
class Doubt:
    """A keyword recording that is left out: its entry in the audio cache, and the likeliest bounds in seconds."""

    index: int
    name: str
    keyword: str
    split: Split
    start_s: float
    end_s: float
    reason: str

    def __str__(self) -> str:
        return f"{self.name} ({self.reason}; {self.start_s:.2f} to {self.end_s:.2f} s?)"


@dataclass(frozen=True, eq=False)
class Outline:
    """What one recording shows by itself.

    Args:
        energy: bounds of the energy, samples.
        stretches: sounds longer than a click, in frames; at least one.
        clear: whether one stretch of at most the length of a keyword is all.
        cepstra: see `alignment.cepstra`.
        loud: whether each frame is sound.
        n_samples: length of the recording.
    """

    energy: tuple[int, int]
    stretches: list[tuple[int, int]]
    clear: bool
    cepstra: NDArray[np.float32]
    loud: NDArray[np.bool_]
    n_samples: int

    @property
    def sound(self) -> Sound:
        """The frames in which the keyword is searched."""
        n = len(self.loud)
        return alignment.sound(self.cepstra, [(max(0, a - 2), min(n, b + 2)) for a, b in self.stretches])


def outline(x: NDArray[np.float32], sample_rate: int, longest_s: float) -> Outline:
    """Look for the sounds of one recording. Shape: x [T]."""
    energy = keyword_bounds(x, sample_rate, longest_s)
    x = x - x.mean()
    cepstra, level = alignment.cepstra(x, sample_rate)
    # The loudest is what lasts longer than a click.
    sustained = sliding_window_view(np.pad(level, (0, _CLICK_N - 1), mode="edge"), _CLICK_N).min(1).max()
    quiet = np.percentile(level, 10)
    loud = level > max(sustained - _RANGE_DB, quiet + _ABOVE_NOISE * (sustained - quiet))
    if sustained - quiet < _LEAST_DB:  # one sound from end to end
        loud[:] = True
    runs = _runs(loud, _GAP_N)
    stretches = [(a, b) for a, b in runs if b - a >= _CLICK_N] or [(0, len(loud))]
    hop_n = round(HOP_S * sample_rate)
    for a, b in runs:
        if b - a < _CLICK_N:
            x[max(0, a - 1) * hop_n : (b + 1) * hop_n] = 0
    quieter = keyword_bounds(x, sample_rate, longest_s)  # without clicks and offset
    longest_n = round(longest_s * sample_rate)
    if not _right(energy, quieter, longest_n):
        energy = quieter
    (a, b), *others = stretches
    clear = not others and (b - a) * HOP_S <= longest_s and _share(energy, (a * hop_n, b * hop_n)) >= _HELD
    return Outline(energy, stretches, clear, cepstra, loud, len(x))


def given(x: NDArray[np.float32], sample_rate: int, longest_s: float, start: int | None, end: int | None) -> Outline:
    """The outline of a recording in which a person gave one or both bounds of the keyword; they are used as they are.

    Args:
        x: the recording, float32 [T].
        sample_rate: Hz.
        longest_s: longest keyword in seconds, where one bound is missing.
        start, end: first sample, and the sample after the last.
    """
    longest_n, hop_n = round(longest_s * sample_rate), round(HOP_S * sample_rate)
    if start is None:
        assert end is not None
        first = max(0, end - longest_n)
        start = first + keyword_bounds(x[first:end], sample_rate, longest_s)[0]
    if end is None:
        end = start + keyword_bounds(x[start : start + longest_n], sample_rate, longest_s)[1]
    cepstra, level = alignment.cepstra(x, sample_rate)
    stretch = min(start // hop_n, len(level) - 1), min(max(end // hop_n, start // hop_n + 1), len(level))
    return Outline((start, end), [stretch], True, cepstra, np.ones(len(level), bool), len(x))


def _runs(on: NDArray[np.bool_], gap_n: int) -> list[tuple[int, int]]:
    """Runs of true values, joined over gaps of at most `gap_n`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], on, [False]]).astype(np.int8)))
    runs: list[tuple[int, int]] = []
    for a, b in edges.reshape(-1, 2).tolist():
        if runs and a - runs[-1][1] <= gap_n:
            runs[-1] = runs[-1][0], b
        else:
            runs.append((a, b))
    return runs


def train(outlines: Sequence[Outline], longest_s: float) -> Consensus | None:
    """The model of a keyword from the outlines of its recordings; None where too few cannot agree."""
    sounds = [one.sound for one in outlines]
    order = sorted(range(len(sounds)), key=lambda i: len(sounds[i].numbers))[:_TEACHERS]
    total = np.cumsum([len(sounds[i].numbers) for i in order])
    order = order[: max(FEWEST, int(np.searchsorted(total, _TAUGHT_N)))]
    if len(order) < FEWEST:
        return None
    known = {n: (2, len(sounds[i].numbers) - 2) for n, i in enumerate(order) if outlines[i].clear}
    if len(known) < _CLEAR_ENOUGH:
        known = {}
    longest_n = round(longest_s / HOP_S)
    return alignment.learn([sounds[i] for i in order], known, longest_n, numpy_generator(0, "location"))


def locate(outlines: Sequence[Outline], model: Consensus | None, sample_rate: int, longest_s: float) -> list[Location]:
    """Where the keyword is in its recordings.

    Args:
        outlines: of the recordings.
        model: from `train`, of the same recordings or of others.
        sample_rate: Hz.
        longest_s: longest keyword, seconds.
    """
    unclear = [i for i, one in enumerate(outlines) if not one.clear]
    matches: dict[int, Match] = {}
    if model is not None and unclear:
        found = alignment.align(model, [outlines[i].sound for i in unclear], round(longest_s / HOP_S))
        matches = dict(zip(unclear, found, strict=True))
    hop_n, longest_n = round(HOP_S * sample_rate), round(longest_s / HOP_S)

    def is_again(i: int, one: Outline) -> bool:
        assert model is not None
        return alignment.likeness_elsewhere(model, one.sound, matches[i], longest_n) > _AGAIN

    def location(i: int, one: Outline) -> Location:
        if one.clear:
            return Location(*one.energy)
        if i not in matches:
            return Location(*one.energy, f"more than one sound, and fewer than {FEWEST} recordings to compare")
        start, end = _to_quiet(matches[i], one.loud)
        aligned = start * hop_n, min(end * hop_n, one.n_samples)
        again = matches[i].rival > _MAYBE_AGAIN * matches[i].score > 0 and is_again(i, one)
        if _right(one.energy, aligned, round(longest_s * sample_rate)):
            return Location(*one.energy, again=again)
        return Location(*aligned, "" if matches[i].score > 0 else "unlike the other recordings", again)

    return [location(i, one) for i, one in enumerate(outlines)]


def _share(bounds: tuple[int, int], keyword: tuple[int, int]) -> float:
    """Share of the keyword that bounds hold."""
    return (min(bounds[1], keyword[1]) - max(bounds[0], keyword[0])) / (keyword[1] - keyword[0])


def _right(bounds: tuple[int, int], keyword: tuple[int, int], longest_n: int) -> bool:
    """Whether bounds of the energy hold a keyword tightly. The window with the most energy has no bounds of its own."""
    n = bounds[1] - bounds[0]
    wider = n > _WIDER * (keyword[1] - keyword[0]) or n >= longest_n
    return _share(bounds, keyword) >= _HELD and not wider


def _to_quiet(match: Match, loud: NDArray[np.bool_]) -> tuple[int, int]:
    """Move the bounds of a match to the next quiet frame, where that is near: first and last phones vary most."""
    start, end = match.start, match.end
    before = np.flatnonzero(~loud[max(0, start - _SNAP_N) : start])
    after = np.flatnonzero(~loud[end : end + _SNAP_N])
    start = max(0, start - _SNAP_N) + int(before[-1]) + 1 if len(before) else start
    end = end + int(after[0]) if len(after) else end
    inside = np.flatnonzero(loud[start:end])
    return (start + int(inside[0]), start + int(inside[-1]) + 1) if len(inside) else (start, end)
