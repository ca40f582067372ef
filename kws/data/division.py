"""Division of recordings into splits that each hold enough, and the ways in which one split leaks into another.

Nearly always the hash of `manifest.hash_split` decides, by speaker, or by file where speakers are unknown. Where it
leaves a split too small, speakers are divided evenly, or files where one speaker is all there is. A few long
recordings, such as podcasts, are cut in time.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from kws.common.seeding import seed_of
from kws.data.audio import content_hash
from kws.data.audio_cache import Entry
from kws.data.manifest import Split, hash_split
from kws.data.names import same_word

SHARES = {Split.TRAIN: 0.6, Split.VALIDATION: 0.15, Split.TEST: 0.25}
NEGATIVES = "negatives"
_ENOUGH = 1 / 3  # of its share; a split with less is too small
_FEW = 10  # fewer files are cut in time, if most of their sound is in long ones
_LONG_S = 20.0  # shortest recording that is cut: 3 s of it are validation
_GAP_S, _GAP = 10.0, 0.02  # between the splits of such a recording: seconds, and the largest share of its length
_PIECE_S = 120.0  # longest piece of it, since the pool of mining is chosen by pieces

T = TypeVar("T")
Weights = Mapping[T, float]


@dataclass
class Division:
    """Recordings with their splits; by what those of each role were divided; a line for each leak between splits."""

    entries: list[Entry]
    by: dict[str, str] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)


def divide(
    entries: Sequence[Entry],
    pcm: NDArray[np.int16],
    sample_rate: int,
    keywords: Sequence[str],
    noise_label: str,
    cut_noise: bool = True,
) -> Division:
    """Assign the recordings whose split is not given to splits that each hold enough.

    Keywords, negatives and noise are divided one after another. Where the given splits have no validation, part of
    train becomes validation.

    Args:
        entries: recordings, with the split of their hash where none is given.
        pcm: audio of the cache.
        sample_rate: Hz.
        keywords: labels of the positives.
        noise_label: label of background noise.
        cut_noise: false leaves the splits of the noise as they are.

    Shape: pcm int16 [total].
    """
    roles: dict[str, list[int]] = {role: [] for role in (*keywords, NEGATIVES, noise_label)}
    for i, entry in enumerate(entries):
        label = entry.recording.label
        other = noise_label if label == noise_label else NEGATIVES
        roles[next((k for k in keywords if same_word(label, k)), other)].append(i)
    given = {entry.recording.split for entry in entries if entry.recording.given}
    found = Division(list(entries))
    cut: dict[int, Sequence[Split]] = {}
    cut_sounds: dict[str, Sequence[Split]] = {}  # by content hash: copies are cut at the same times
    known: dict[str, Split] = {}  # speakers that were divided evenly
    placed: dict[Path, Split] = {}  # files of which several stretches are used, each in one split
    for role, own in roles.items():
        free, targets = _free(entries, own, given)
        for i in own:
            if entries[i].recording.path in placed:
                found.entries[i] = _moved(entries[i], placed[entries[i].recording.path])
        others = [i for i in free if entries[i].recording.path not in placed]
        free, by_file = others, len(others) < len(free)
        if not free or (role == noise_label and not cut_noise):
            found.by[role] = "file" if by_file else "as given" if own else ""
            placed |= _places(found.entries, own)
            continue
        seconds = [entries[i].n_samples / sample_rate for i in free if not entries[i].whole]
        if role not in keywords and len(seconds) == len(free) and _few_long(seconds):
            found.by[role] = "time"
            long = [i for i in free if entries[i].n_samples >= _LONG_S * sample_rate]
            cut |= {i: cut_sounds.setdefault(entries[i].hash, targets) for i in long}
            continue
        weights = [1 if role in keywords else entries[i].n_samples for i in free]
        found.by[role], splits = _assigned([entries[i] for i in free], weights, targets, known)
        for i, split in zip(free, splits, strict=True):
            found.entries[i] = _moved(entries[i], split)
        placed |= _places(found.entries, own)
        if entries[free[0]].recording.given:
            found.leaks.append(f"{role}: the given splits hold no validation; part of train is, by {found.by[role]}")
    if cut:
        names = [entries[i].recording.name for i in cut]
        found.leaks.append(f"cut in time, so that all splits hold a piece: {_some(names)}")
        pieces = [_pieces(e, cut[i], pcm, sample_rate) if i in cut else [e] for i, e in enumerate(found.entries)]
        found.entries = [piece for some in pieces for piece in some]
    found.leaks += _speakers_in_several(found.entries)
    return found


def balanced(weights: Weights[T], shares: Mapping[Split, float] | Mapping[bool, float]) -> dict[T, int]:
    """Position in `shares` of each unit: the heaviest first, each where its share is filled least."""
    filled, values = [0.0] * len(shares), list(shares.values())
    found: dict[T, int] = {}
    for unit in sorted(weights, key=lambda one: (-weights[one], seed_of(0, "balanced", str(one)))):
        place = min(range(len(values)), key=lambda k: filled[k] / values[k])
        filled[place] += weights[unit]
        found[unit] = place
    return found


def enough(weights: Sequence[float], places: Sequence[int], shares: Sequence[float]) -> bool:
    """Whether each place holds a third of its share or more."""
    total, wanted = sum(weights), sum(shares)
    held = [sum(w for w, place in zip(weights, places, strict=True) if place == k) for k in range(len(shares))]
    return all(have > 0 and have >= _ENOUGH * share / wanted * total for have, share in zip(held, shares, strict=True))


def _free(entries: Sequence[Entry], own: Sequence[int], given: set[Split]) -> tuple[list[int], list[Split]]:
    """The recordings of a role to divide, and among which splits: those without a given split, or those of train."""
    free = [i for i in own if not entries[i].recording.given]
    held = {entries[i].recording.split for i in own}
    if free or Split.VALIDATION in held or Split.TRAIN not in held:
        return free, list(Split)
    test = given == {Split.TRAIN} or (Split.TEST in given and Split.TEST not in held)
    return [i for i in own if entries[i].recording.split is Split.TRAIN], list(Split)[: 3 if test else 2]


def _few_long(seconds: Sequence[float]) -> bool:
    return len(seconds) < _FEW and sum(s for s in seconds if s >= _LONG_S) >= sum(seconds) / 2


def _assigned(
    free: Sequence[Entry], weights: Sequence[float], targets: Sequence[Split], known: dict[str, Split]
) -> tuple[str, list[Split]]:
    """By what recordings are divided, and the split of each. Speakers that are divided evenly are added to `known`."""
    shares = {split: SHARES[split] for split in targets}
    first = {one.whole: one.recording.speaker for one in reversed(free)}  # rows of a file stay together
    speakers = [first[one.whole] if one.whole else one.recording.speaker for one in free]
    units = [speaker or _stem(one) for speaker, one in zip(speakers, free, strict=True)]
    by = "speaker" if any(speakers) else "file"
    hashed = [known.get(unit, one.recording.split) for unit, one in zip(units, free, strict=True)]
    if len(targets) == len(Split) and enough(weights, [targets.index(s) for s in hashed], list(shares.values())):
        return by, hashed
    even = balanced(summed(units, weights), shares)
    if enough(weights, [even[unit] for unit in units], list(shares.values())):
        known |= {unit: targets[even[unit]] for unit, speaker in zip(units, speakers, strict=True) if speaker}
        return by, [targets[even[unit]] for unit in units]
    hashed = [hash_split(_stem(one)) for one in free]  # a new file moves no other
    many = len(free) >= 2 * _FEW and len(targets) == len(Split)
    if many and enough(weights, [targets.index(split) for split in hashed], list(shares.values())):
        return "file", hashed
    files = [one.whole or one.hash for one in free]  # copies of a recording stay together
    even = balanced(summed(files, weights), shares)
    return "file", [targets[even[file]] for file in files]


def _stem(entry: Entry) -> str:
    """Name of the file without its suffix."""
    one = entry.recording
    return PurePosixPath(one.name if one.offset_s is None else one.path.name).stem


def _places(entries: Sequence[Entry], own: Sequence[int]) -> dict[Path, Split]:
    """The splits of files that are cut into stretches."""
    return {entries[i].recording.path: entries[i].recording.split for i in own if entries[i].whole}


def summed(units: Sequence[T], weights: Sequence[float]) -> dict[T, float]:
    """Total weight of each unit."""
    total: dict[T, float] = {}
    for unit, weight in zip(units, weights, strict=True):
        total[unit] = total.get(unit, 0) + weight
    return total


def _moved(entry: Entry, split: Split) -> Entry:
    return entry if entry.recording.split is split else replace(entry, recording=replace(entry.recording, split=split))


def _pieces(entry: Entry, targets: Sequence[Split], pcm: NDArray[np.int16], sample_rate: int) -> list[Entry]:
    """A recording cut in time: first the pieces of train, and a gap before those of the next split."""
    gap_n = min(round(_GAP_S * sample_rate), int(_GAP * entry.n_samples))
    room, shares = entry.n_samples - gap_n * (len(targets) - 1), [SHARES[split] for split in targets]
    pieces, at = [], 0
    for split, share in zip(targets, shares, strict=True):
        n = int(share / sum(shares) * room)
        count = math.ceil(n / (_PIECE_S * sample_rate))
        for k in range(count):
            first, last = at + k * n // count, at + (k + 1) * n // count
            name = f"{entry.recording.name} ({first / sample_rate:.1f}-{last / sample_rate:.1f} s)"
            audio = pcm[entry.start + first : entry.start + last]
            recording = replace(entry.recording, name=name, split=split)
            pieces.append(Entry(recording, content_hash(audio), entry.start + first, last - first, entry.hash))
        at += n + gap_n
    return pieces


def _speakers_in_several(entries: Sequence[Entry]) -> list[str]:
    splits: dict[str, set[Split]] = {}
    for entry in entries:
        if entry.recording.speaker and (not entry.whole or entry.recording.offset_s is not None):
            splits.setdefault(entry.recording.speaker, set()).add(entry.recording.split)
    several = [speaker for speaker, own in splits.items() if len(own) > 1]
    if not several:
        return []
    return [
        f"{len(several)} of {len(splits)} speakers are in several splits, so that figures are of known voices: "
        f"{_some(several)}"
    ]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + ", ..." * (len(names) > 3)
