import numpy as np
import pytest
from numpy.typing import NDArray

from kws.data.audio import keyword_bounds
from kws.data.keyword_location import FEWEST, Location, given, locate, outline, train

RATE, LONGEST_S = 16000, 1.2
Floats = NDArray[np.float32]
rng = np.random.default_rng(0)
PHONES = rng.uniform(200, 5000, (12, 3))  # frequencies of each
WORD = (3, 7, 1, 9, 4, 11)


def phone(which: int) -> Floats:
    """One of twelve chords, of 70 to 110 ms, that rises and falls."""
    n = int(rng.uniform(0.07, 0.11) * RATE)
    t = np.arange(n) / RATE
    tones = np.sin(2 * np.pi * PHONES[which][:, None] * rng.uniform(0.95, 1.05) * t).sum(0)
    return (0.1 * tones * (0.4 + np.hanning(n))).astype(np.float32)


def utter(phones: tuple[int, ...]) -> Floats:
    return np.concatenate([phone(one) for one in phones])


def talk() -> Floats:
    return utter(tuple(rng.integers(0, 12, 16).tolist()))


def gap(seconds: float) -> Floats:
    return (0.0005 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)


def recording(*parts: Floats) -> tuple[Floats, tuple[int, int]]:
    """Parts in a row, of which the second is the word, and its bounds."""
    start = len(parts[0])
    return np.concatenate(parts), (start, start + len(parts[1]))


def found(clips: list[Floats]) -> list[Location]:
    outlines = [outline(x, RATE, LONGEST_S) for x in clips]
    return locate(outlines, train(outlines, LONGEST_S), RATE, LONGEST_S)


def share(place: Location, truth: tuple[int, int]) -> float:
    return (min(place.end, truth[1]) - max(place.start, truth[0])) / (truth[1] - truth[0])


def click() -> Floats:
    return rng.choice([-1, 1], 80).astype(np.float32)


def test_a_click_is_not_the_keyword() -> None:
    clips, truths = zip(
        *[recording(np.concatenate([click(), gap(0.3)]), utter(WORD), gap(0.5)) for _ in range(4)], strict=True
    )
    assert all(share(place, truth) >= 0.8 for place, truth in zip(found(list(clips)), truths, strict=True))


def test_the_part_that_recordings_agree_on_is_the_keyword() -> None:
    clips, truths = zip(*[recording(gap(0.4), utter(WORD), gap(0.1), talk(), gap(0.2)) for _ in range(20)], strict=True)
    shares = [share(place, truth) for place, truth in zip(found(list(clips)), truths, strict=True)]
    assert sum(one >= 0.8 for one in shares) >= 19


def test_bounds_of_the_energy_stay_where_the_word_stands_alone() -> None:
    clips = [recording(gap(0.5), utter(WORD), gap(0.5))[0] for _ in range(12)]
    assert [(one.start, one.end) for one in found(clips)] == [keyword_bounds(x, RATE, LONGEST_S) for x in clips]


def test_a_recording_unlike_the_others_is_doubtful() -> None:
    clips = [recording(gap(0.4), utter(WORD), gap(0.4))[0] for _ in range(12)]
    other = np.concatenate([gap(0.3), (0.2 * rng.uniform(-1, 1, 2 * RATE)).astype(np.float32), gap(0.3)])
    places = found([*clips, other])
    assert places[-1].doubt == "unlike the other recordings"
    assert sum(bool(one.doubt) for one in places) <= 2


def test_few_recordings_with_more_than_one_sound_are_doubtful() -> None:
    clips = [recording(gap(0.4), utter(WORD), gap(0.1), talk(), gap(0.2))[0] for _ in range(5)]
    clips.append(recording(gap(0.5), utter(WORD), gap(0.5))[0])
    assert [one.doubt for one in found(clips)] == [
        *[f"more than one sound, and fewer than {FEWEST} recordings to compare"] * 5,
        "",
    ]


def test_given_bounds_are_used_as_they_are() -> None:
    x, truth = recording(gap(0.4), utter(WORD), gap(0.1), talk(), gap(0.2))
    for start, end in ((8000, 12000), truth):
        (place,) = locate([given(x, RATE, LONGEST_S, start, end)], None, RATE, LONGEST_S)
        assert (place.start, place.end, place.doubt) == (start, end, "")
    (place,) = locate([given(x, RATE, LONGEST_S, None, truth[1])], None, RATE, LONGEST_S)
    assert place.end == truth[1]
    assert abs(place.start - truth[0]) < 0.05 * RATE


@pytest.mark.parametrize(
    "x", [np.zeros(100, np.float32), np.zeros(16000, np.float32), np.full(20000, 0.5, np.float32)], ids=str
)
def test_silence_and_short_sounds_have_bounds(x: Floats) -> None:
    for place in found([x] * 3 + [x[:50]]):
        assert 0 <= place.start < place.end <= len(x)
