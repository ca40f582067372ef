"""Words spliced from transcribed speech: unit selection (Hunt & Black, 1996), one voice at a time.

A unit is the sound from the middle of a phone to the middle of the next: two halves, which follow each other in a
recording, or are set together where a voice lacks the two phones in this order. A word is the cheapest chain of units:
the sound should be alike on both sides of a cut, and phones about as long as they are elsewhere. Unlike other synthetic
speech the sound is that of human voices.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kws.confusables.phone_alignment import HOP_S, Phone
from kws.data.audio import to_float

FEWEST_PHONES = 300  # of a speaker, about thirty seconds of speech
SHORTEST_S = 0.25  # of a word
SILENCE_S = 0.1  # before and after a word

_OTHER_SPEAKER = 2.0  # costs: a unit of another speaker, where the speaker has few
_CUT = 0.5  # each cut in the middle of a phone
_BREAK = 1.0  # a unit of two halves that do not follow each other
_UNLIKE = 3.0  # the distance of the cepstra at a cut
_INSIDE = 0.5  # a word that begins or ends where the recording goes on
_PACE = 1.2  # phones of a word said alone are longer than those of a sentence
_OWN_ENOUGH = 4  # units of the speaker at one place; with fewer, others are added
_MOST = 12  # random units of a speaker at one place, and up to as many others: clips should differ
_FADE_S, _SEARCH_S, _SEARCH_STEP = 0.01, 0.005, 4
_LEVEL = 0.08  # root mean square of a recording
_FLOOR = 1e-4  # of the noise under a word, since digital silence would be a cue

Floats = NDArray[np.float32]
Half = tuple[int, int]  # the recording, and the phone in it
Unit = tuple[Half, Half]


@dataclass(frozen=True, eq=False)
class Spoken:
    """A recording and the phones in it. Shape: pcm int16 [T]; cepstra float32 [N, D], every 10 ms."""

    speaker: str
    pcm: NDArray[np.int16]
    cepstra: Floats
    phones: Sequence[Phone]


@dataclass(frozen=True)
class _Candidates:
    """Candidates for one place of a word. Shape: costs [U], left and right [U, D], cepstra at their two ends."""

    units: list[Unit]
    costs: NDArray[np.float64]
    left: Floats
    right: Floats


class Splicer:
    """Splices words from recordings.

    Args:
        spoken: recordings of one split; the clips belong to the same split.
        sample_rate: Hz.
    """

    def __init__(self, spoken: Sequence[Spoken], sample_rate: int) -> None:
        self.spoken, self.sample_rate = spoken, sample_rate
        self.units: dict[tuple[str, int, int], list[Unit]] = defaultdict(list)  # of each speaker, and of all
        self.halves: dict[tuple[str, int], list[Half]] = defaultdict(list)
        phones, lengths = Counter[str](), defaultdict[int, list[int]](list)
        for i, one in enumerate(spoken):
            phones[one.speaker] += len(one.phones)
            for k, phone in enumerate(one.phones):
                lengths[phone.number].append(phone.end - phone.start)
                self.halves[one.speaker, phone.number].append((i, k))
                if k + 1 < len(one.phones) and one.phones[k + 1].start == phone.end:
                    for speaker in ("", one.speaker):
                        self.units[speaker, phone.number, one.phones[k + 1].number].append(((i, k), (i, k + 1)))
        self.gains = [np.float32(_LEVEL / (np.sqrt(np.square(to_float(one.pcm)).mean()) + 1e-6)) for one in spoken]
        self.lengths = {number: float(np.median(some)) for number, some in lengths.items()}
        self.speakers = sorted(speaker for speaker, n in phones.items() if n >= FEWEST_PHONES)

    def chain(self, phones: Sequence[int], speaker: str, rng: np.random.Generator) -> tuple[Unit, ...]:
        """The cheapest chain of some random units for a word; empty where a unit is missing.

        Args:
            phones: of the word, at least two.
            speaker: one of `speakers`.
            rng: source of the choice.
        """
        places = [self._choice(phones, k, speaker, rng) for k in range(len(phones) - 1)]
        if not all(place.units for place in places):
            return ()
        total, came_from = places[0].costs, []
        for before, after in itertools.pairwise(places):
            sums = total[:, None] + self._joins(before, after)
            came_from.append(sums.argmin(0))
            total = sums.min(0) + after.costs
        at = [int(total.argmin())]
        for step in reversed(came_from):
            at.append(int(step[at[-1]]))
        return tuple(place.units[i] for place, i in zip(places, reversed(at), strict=True))

    def _choice(self, phones: Sequence[int], k: int, speaker: str, rng: np.random.Generator) -> _Candidates:
        """Candidates for the k-th place: units of the speaker.

        Where these are fewer than four, units set together of two halves, and units of all speakers, are added.
        """
        p, q = phones[k], phones[k + 1]
        own = self.units.get((speaker, p, q), [])
        units = [own[i] for i in rng.permutation(len(own))[:_MOST]]
        if len(own) < _OWN_ENOUGH:
            firsts, seconds, every = self.halves[speaker, p], self.halves[speaker, q], self.units.get(("", p, q), [])
            for _ in range(_MOST // 2):
                if firsts and seconds:
                    units.append((firsts[rng.integers(len(firsts))], seconds[rng.integers(len(seconds))]))
                if every:
                    units.append(every[rng.integers(len(every))])
        costs = [self._cost(unit, speaker, k == 0, k == len(phones) - 2) for unit in units]
        left, right = (np.array([self._at(unit[side]) for unit in units]) for side in (0, 1))
        return _Candidates(units, np.array(costs), left, right)

    def _cost(self, unit: Unit, speaker: str, begins: bool, ends: bool) -> float:
        """Cost of a unit by itself, at the beginning of a word, at its end or between them."""
        (i, first), (j, second) = unit
        one, two = self.spoken[i].phones, self.spoken[j].phones
        cost = 0.0 if self.spoken[i].speaker == speaker else _OTHER_SPEAKER
        for phone in (one[first], two[second]):
            cost += 0.5 * abs(float(np.log((phone.end - phone.start) / (_PACE * self.lengths[phone.number]))))
        if (i, first + 1) != (j, second) or one[first].end != two[second].start:
            cost += _BREAK
        if begins and first > 0 and one[first - 1].end == one[first].start:
            cost += _INSIDE
        if ends and second + 1 < len(two) and two[second].end == two[second + 1].start:
            cost += _INSIDE
        return cost

    def _at(self, half: Half) -> Floats:
        """Cepstra in the middle of a phone."""
        i, k = half
        one = self.spoken[i]
        middle = _middle(one.phones[k])
        mean: Floats = one.cepstra[max(0, middle - 1) : middle + 2].mean(0)
        return mean

    def _joins(self, before: _Candidates, after: _Candidates) -> NDArray[np.float64]:
        """Cost of one unit after another: 0 where both are of the same phone of a recording. Shape: returns [U, V]."""
        apart = np.sqrt(np.square(before.right[:, None] - after.left[None]).mean(2))
        costs: NDArray[np.float64] = _UNLIKE * apart.astype(np.float64) + _CUT
        begin = defaultdict[Half, list[int]](list)
        for i, (half, _) in enumerate(after.units):
            begin[half].append(i)
        for i, (_, half) in enumerate(before.units):
            costs[i, begin.get(half, [])] = 0.0
        return costs

    def sound(self, units: Sequence[Unit], longest_s: float) -> Floats | None:
        """The sound of a word, without silence around it; None where it is shorter than 0.25 s, or longer than asked.

        Shape: returns [T] in [-1, 1].
        """
        hop_n, fade_n = round(HOP_S * self.sample_rate), round(_FADE_S * self.sample_rate)
        word: Floats | None = None
        for i, a, b in self._pieces(units):
            if word is None:
                word = self._cut(i, a * hop_n, b * hop_n + fade_n)
            elif (joined := self._joined(word, i, a * hop_n, b * hop_n, fade_n)) is not None:
                word = joined
            else:
                return None
        assert word is not None
        if not SHORTEST_S * self.sample_rate <= len(word) <= longest_s * self.sample_rate:
            return None
        edges = np.minimum(1, np.arange(1, len(word) + 1) / fade_n)
        return np.clip(word * edges * edges[::-1], -1, 1).astype(np.float32)

    def _pieces(self, units: Sequence[Unit]) -> list[tuple[int, int, int]]:
        """The recording, first and last frame of each piece. What is together in a recording is one."""
        pieces = list[tuple[int, int, int]]()
        for k, (first, second) in enumerate(units):
            begin, end = self._phone(first), self._phone(second)
            a, b = begin.start if k == 0 else _middle(begin), end.end if k == len(units) - 1 else _middle(end)
            for i, start, stop in ((first[0], a, begin.end), (second[0], end.start, b)):
                if pieces and (pieces[-1][0], pieces[-1][2]) == (i, start):
                    pieces[-1] = (i, pieces[-1][1], stop)
                else:
                    pieces.append((i, start, stop))
        return pieces

    def _phone(self, half: Half) -> Phone:
        return self.spoken[half[0]].phones[half[1]]

    def _cut(self, i: int, start: int, end: int) -> Floats:
        """Samples of a recording, scaled to the level that all recordings get."""
        cut: Floats = to_float(self.spoken[i].pcm[max(0, start) : end]) * self.gains[i]
        return cut

    def _joined(self, word: Floats, i: int, start: int, end: int, fade_n: int) -> Floats | None:
        """A word with another piece after it, faded over where the waves fit best, and scaled to its loudness there."""
        tail, reach = word[-fade_n:], round(_SEARCH_S * self.sample_rate)
        first = max(0, start - fade_n // 2 - reach)
        piece = self._cut(i, first, end + fade_n)
        last = min(start - fade_n // 2 + reach, end - fade_n - 1) - first
        places = [at for at in range(0, last + 1, _SEARCH_STEP) if at + fade_n <= len(piece)]
        if not places or len(tail) < fade_n:
            return None

        def fit(at: int) -> float:
            there = piece[at : at + fade_n]
            return float(there @ tail / np.sqrt((there @ there) * (tail @ tail) + 1e-12))

        piece = piece[max(places, key=fit) :]
        loudness = [np.sqrt(np.square(x).mean()) + 1e-5 for x in (tail, piece[: 2 * fade_n])]
        piece = piece * np.linspace(np.clip(loudness[0] / loudness[1], 0.5, 2), 1, len(piece), dtype=np.float32)
        fade = np.linspace(0, 1, fade_n, dtype=np.float32)
        return np.concatenate([word[:-fade_n], tail * (1 - fade) + piece[:fade_n] * fade, piece[fade_n:]])

    def word(
        self, phones: Sequence[int], longest_s: float, rng: np.random.Generator
    ) -> tuple[Floats, list[int]] | None:
        """The sound of a word in a random voice, and which recordings it is from; None where there is no good one.

        Args:
            phones: of the word, at least two.
            longest_s: longest word in seconds.
            rng: source of all choices.
        """
        if not self.speakers:
            return None
        units = self.chain(phones, self.speakers[rng.integers(len(self.speakers))], rng)
        sound = self.sound(units, longest_s) if units else None
        return None if sound is None else (sound, sorted({i for unit in units for i, _ in unit}))


def _middle(phone: Phone) -> int:
    return (phone.start + phone.end) // 2


def framed(word: Floats, sample_rate: int, rng: np.random.Generator) -> Floats:
    """A word with silence around it, and faint noise. Shape: word [T]; returns [T + 2 * silence]."""
    silence_n = round(SILENCE_S * sample_rate)
    whole = np.pad(word, silence_n)
    return whole + rng.normal(0, _FLOOR, len(whole)).astype(np.float32)
