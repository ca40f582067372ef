from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.data.audio import to_int16
from kws.data.audio_cache import AudioCache, Entry
from kws.data.dataset import Selection
from kws.data.manifest import Recording, Split
from kws.data.positives import context, doubt_lines, with_locations

RATE = 16000
LONGEST_S = dict.fromkeys(Split, 1.2)


def sound(*beeps: tuple[float, float], length_s: float = 3.0) -> NDArray[np.int16]:
    """Tones from and to these seconds, in faint noise."""
    x = 0.0005 * np.random.default_rng(0).standard_normal(round(length_s * RATE))
    for start, end in beeps:
        t = np.arange(round(start * RATE), round(end * RATE))
        x[t] += 0.3 * np.sin(2 * np.pi * 440 * t / RATE)
    return to_int16(x.astype(np.float32))


def cache(*recordings: tuple[Recording, NDArray[np.int16]]) -> tuple[AudioCache, Selection]:
    """A cache of positives of one keyword, and their selection."""
    entries, at = [], 0
    chosen = Selection(["word"], {split: [[]] for split in Split})
    for i, (recording, x) in enumerate(recordings):
        entries.append(Entry(recording, str(i), at, len(x)))
        chosen.positives[recording.split][0].append(i)
        at += len(x)
    return AudioCache(RATE, entries, {}, [], np.concatenate([x for _, x in recordings])), chosen


def named(name: str, split: Split = Split.TRAIN, start_s: float | None = None, end_s: float | None = None) -> Recording:
    return Recording(Path(name), name, "word", split, start_s=start_s, end_s=end_s)


def test_bounds_of_the_manifest_are_used_and_others_found() -> None:
    two = sound((0.5, 1.0), (2.0, 2.5))
    store, chosen = cache(
        (named("given", start_s=2.0, end_s=2.4), two),
        (named("from", Split.TEST, start_s=1.5), two),
        (named("until", Split.VALIDATION, end_s=1.2), two),
        (named("alone"), sound((0.7, 1.3))),
    )
    made = with_locations(store, chosen, LONGEST_S, list(Split))
    bounds = [(made.locations[i].start / RATE, made.locations[i].end / RATE) for i in range(4)]
    assert bounds[0] == (2.0, 2.4)
    assert bounds[1] == (1.5, pytest.approx(2.5, abs=0.03))
    assert bounds[2] == (pytest.approx(0.5, abs=0.03), 1.2)
    assert bounds[3] == pytest.approx((0.7, 1.3), abs=0.03)
    assert not made.doubtful


def test_doubtful_recordings_are_left_out_of_every_split_and_named() -> None:
    two, one = sound((0.5, 1.0), (2.0, 2.5)), sound((0.7, 1.3))
    recordings = [(named(f"{split}{i}", split), two) for split in Split for i in range(4)]
    store, chosen = cache(*recordings, *((named(f"good {split}", split), one) for split in Split))
    made = with_locations(store, chosen, LONGEST_S, list(Split))
    assert [made.positives[split] for split in Split] == [[[12]], [[13]], [[14]]]
    assert {(one.name, one.keyword, one.split) for one in made.doubtful} == {
        (f"{split}{i}", "word", split) for split in Split for i in range(4)
    }
    lines = doubt_lines(made)
    assert len(lines) == 3
    assert lines[2].startswith("left out of the test split: 4 keyword recordings in which the place of the keyword is")
    assert "test0 (more than one sound, and fewer than 10 recordings to compare; " in lines[2]
    assert "test3" not in lines[2]


def test_a_split_of_doubtful_recordings_alone_is_refused() -> None:
    store, chosen = cache((named("a.wav"), sound((0.5, 1.0), (2.0, 2.5))))
    with pytest.raises(KwsError, match=r"recordings of the train split is doubtful, first a\.wav .*start and end"):
        with_locations(store, chosen, LONGEST_S, [Split.TRAIN])
    assert with_locations(store, chosen, LONGEST_S).positives[Split.TRAIN] == [[]]


def test_bounds_beyond_the_recording_are_refused() -> None:
    for recording in (named("a.wav", start_s=4.0), named("a.wav", start_s=2.0, end_s=3.5)):
        store, chosen = cache((recording, sound((2.0, 2.5))))
        with pytest.raises(KwsError, match=r"a\.wav: start and end must be within the recording, which lasts 3\.00 s"):
            with_locations(store, chosen, LONGEST_S)


def test_a_long_recording_is_cut_around_its_keyword() -> None:
    store, chosen = cache((named("long", start_s=20.0, end_s=20.5), sound((20.0, 20.5), length_s=60.0)))
    made = with_locations(store, chosen, LONGEST_S)
    x, (start, end) = context(store, made, 0)
    assert len(x) == 20.5 * RATE
    assert np.array_equal(x[start:end], sound((20.0, 20.5), length_s=60.0)[20 * RATE : 20 * RATE + RATE // 2])
    near = replace(made, locations={0: replace(made.locations[0], start=100, end=8000)})
    x, bounds = context(store, near, 0)
    assert (len(x), bounds) == (8000 + 10 * RATE, (100, 8000))
