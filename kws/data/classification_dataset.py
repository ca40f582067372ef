"""What each part is made of: clips of the words, clips of other words as one class, and silence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from kws.common.errors import KwsError
from kws.common.seeding import generator
from kws.data.audio_cache import Entry
from kws.data.dataset import same_word
from kws.data.manifest import Split

UNKNOWN, SILENCE = "_unknown_", "_silence_"
# Noise that is in no part of its own is divided in time, so that no silence of a test is among that of training.
SPANS = {Split.TRAIN: (0.0, 0.8), Split.VALIDATION: (0.8, 0.9), Split.TEST: (0.9, 1.0)}


@dataclass(frozen=True)
class Stretch:
    """Samples `start` to `end` of an entry of the store."""

    entry: int
    start: int
    end: int


@dataclass
class Roles:
    """Which class is what, by part; a class is its place in `classes`."""

    words: list[str]
    others: list[str]
    clips: dict[Split, list[tuple[int, int]]] = field(default_factory=dict)  # entry of the store, class
    silences: dict[Split, int] = field(default_factory=dict)  # how many
    noise: dict[Split, list[Stretch]] = field(default_factory=dict)  # what silence is cut from
    left_out: dict[Split, int] = field(default_factory=dict)  # clips of other words that were not drawn

    @property
    def classes(self) -> list[str]:
        return [*self.words, *self.others]


def compose(
    entries: Sequence[Entry], words: Sequence[str], noise_label: str, unknown: float, silence: float, clip_n: int
) -> Roles:
    """Make up each part as TensorFlow's speech_commands example does (Warden, 2018).

    All clips of the words; of other words, and of silence, as many as a share of them. Which clips of the other words
    is drawn by lot, the same for every seed of a run: figures of two runs are of the same clips. The published parts
    cut all their silence from the same recordings; here those are divided in time.

    Args:
        entries: of the store.
        words: labels that are classes of their own.
        noise_label: label of background noise.
        unknown, silence: number of clips against that of the words, at least 0; 0 leaves the class out.
        clip_n: samples a clip.

    Raises:
        KwsError: a part has no clip of a word, of another word where one is wanted, or no noise to cut silence from.
    """
    roles = Roles(list(words), others(unknown, silence))
    column = {e.recording.label: _column(e.recording.label, words) for e in entries if e.recording.label != noise_label}
    for split in Split:
        mine = [i for i, e in enumerate(entries) if e.recording.split is split and e.recording.label in column]
        wanted = [(i, k) for i in mine if (k := column[entries[i].recording.label]) >= 0]
        if lacking := sorted(set(range(len(words))) - {k for _, k in wanted}):
            if split is Split.TEST and not wanted:  # a person may measure elsewhere
                roles.clips[split], roles.silences[split], roles.left_out[split] = [], 0, 0
                continue
            there = ", ".join(sorted(column))
            raise KwsError(f"keyword={words[lacking[0]]}: no recording of it in the {split} part; labels are {there}")
        rest = [i for i in mine if column[entries[i].recording.label] < 0]
        if unknown and not rest:
            raise KwsError(f"classes.unknown={unknown:g}: allowed is 0: no other word is in the {split} part")
        drawn = torch.randperm(len(rest), generator=generator(0, "unknown", split))[: share_of(len(wanted), unknown)]
        roles.clips[split] = wanted + [(rest[i], len(words)) for i in sorted(drawn.tolist())]
        roles.left_out[split] = len(rest) - len(drawn)
        roles.silences[split] = share_of(len(wanted), silence)
    roles.noise = _noise(entries, noise_label, clip_n)
    for split in Split:
        if roles.silences[split] and not roles.noise[split]:
            raise KwsError(
                f"classes.silence={silence:g}: allowed is 0: no noise (label {noise_label}) as long as a clip is there "
                f"for the {split} part"
            )
    return roles


def others(unknown: float, silence: float) -> list[str]:
    """The classes that are no word."""
    return [name for name, share in ((UNKNOWN, unknown), (SILENCE, silence)) if share]


def share_of(n: int, share: float) -> int:
    """So much of `n`, rounded up; what only rounding of the product put above a whole number is not."""
    return math.ceil(n * share - 1e-9)


def _column(label: str, words: Sequence[str]) -> int:
    return next((k for k, word in enumerate(words) if same_word(label, word)), -1)


def _noise(entries: Sequence[Entry], noise_label: str, clip_n: int) -> dict[Split, list[Stretch]]:
    """What silence is cut from: recordings of the part, or the part's span of those for training."""
    noise = [(i, e) for i, e in enumerate(entries) if e.recording.label == noise_label]
    divided = all(e.recording.split is Split.TRAIN for _, e in noise)
    found: dict[Split, list[Stretch]] = {}
    for split in Split:
        low, high = SPANS[split] if divided else (0.0, 1.0)
        mine = [(i, e.n_samples) for i, e in noise if divided or e.recording.split is split]
        cut = [Stretch(i, round(low * n), round(high * n)) for i, n in mine]
        found[split] = [one for one in cut if one.end - one.start >= clip_n]
    return found
