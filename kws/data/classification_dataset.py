"""Splits of a classification task: clips of the words, clips of other words as one class, and silence."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from kws.common.errors import KwsError
from kws.common.seeding import generator
from kws.data.audio_cache import Entry
from kws.data.dataset import counted, refuse_nearly_noise
from kws.data.manifest import Split
from kws.data.names import same_word

UNKNOWN, SILENCE = "_unknown_", "_silence_"
# Noise recordings without a split are divided in time, so that train, validation and test silence do not overlap.
SPANS = {Split.TRAIN: (0.0, 0.8), Split.VALIDATION: (0.8, 0.9), Split.TEST: (0.9, 1.0)}


@dataclass(frozen=True)
class Segment:
    """Samples `start` to `end` of an entry of the audio cache."""

    entry: int
    start: int
    end: int


@dataclass
class Roles:
    """Clips of each class, by split. A class is its index in `classes`."""

    words: list[str]
    others: list[str]
    clips: dict[Split, list[tuple[int, int]]] = field(default_factory=dict)  # cache entry, class
    silences: dict[Split, int] = field(default_factory=dict)  # number of clips
    noise: dict[Split, list[Segment]] = field(default_factory=dict)  # segments that silence is cut from
    left_out: dict[Split, int] = field(default_factory=dict)  # clips of other words that were not sampled

    @property
    def classes(self) -> list[str]:
        return [*self.words, *self.others]


def compose(
    entries: Sequence[Entry], words: Sequence[str], noise_label: str, unknown: float, silence: float, clip_n: int
) -> Roles:
    """Compose each split as the speech_commands example of TensorFlow does (Warden, 2018).

    A split holds all clips of the words, and shares of that number of clips of other words and of silence. All seeds of
    a run have the same sample of other words, so that results are comparable. The published splits cut silence from the
    same recordings; here these recordings are divided in time.

    Args:
        entries: entries of the audio cache.
        words: labels with a class of their own.
        noise_label: label of background noise.
        unknown, silence: number of clips relative to that of the words, at least 0; 0 leaves the class out.
        clip_n: samples of a clip.

    Raises:
        KwsError: a split lacks clips of a word, clips of other words (`unknown` > 0) or noise (`silence` > 0).
    """
    refuse_nearly_noise({e.recording.label for e in entries}, words, noise_label)
    roles = Roles(list(words), others(unknown, silence))
    column = {e.recording.label: _column(e.recording.label, words) for e in entries if e.recording.label != noise_label}
    for split in Split:
        mine = [i for i, e in enumerate(entries) if e.recording.split is split and e.recording.label in column]
        wanted = [(i, k) for i in mine if (k := column[entries[i].recording.label]) >= 0]
        if lacking := sorted(set(range(len(words))) - {k for _, k in wanted}):
            if split is Split.TEST and not wanted:  # test recordings are optional
                roles.clips[split], roles.silences[split], roles.left_out[split] = [], 0, 0
                continue
            have = counted([e.recording for e in entries])
            raise KwsError(f"keyword={words[lacking[0]]}: no recording of it in the {split} split; {have}")
        rest = [i for i in mine if column[entries[i].recording.label] < 0]
        if unknown and not rest:
            raise KwsError(
                f"classification.unknown={unknown:g}: must be 0, because no other word is in the {split} split"
            )
        order = torch.randperm(len(rest), generator=generator(0, "unknown", split))
        sampled = sorted(order[: share_of(len(wanted), unknown)].tolist())
        roles.clips[split] = wanted + [(rest[i], len(words)) for i in sampled]
        roles.left_out[split] = len(rest) - len(sampled)
        roles.silences[split] = share_of(len(wanted), silence)
    roles.noise = _noise(entries, noise_label, clip_n // 20)
    for split in Split:
        if roles.silences[split] and not roles.noise[split]:
            raise KwsError(
                f"classification.silence={silence:g}: must be 0, because no noise (label {noise_label}) in the "
                f"{split} split"
            )
    return roles


def others(unknown: float, silence: float) -> list[str]:
    """Classes besides the words."""
    return [name for name, share in ((UNKNOWN, unknown), (SILENCE, silence)) if share]


def share_of(n: int, share: float) -> int:
    """`ceil(share * n)`, ignoring floating-point error."""
    return math.ceil(n * share - 1e-9)


def _column(label: str, words: Sequence[str]) -> int:
    return next((k for k, word in enumerate(words) if same_word(label, word)), -1)


def _noise(entries: Sequence[Entry], noise_label: str, shortest_n: int) -> dict[Split, list[Segment]]:
    """Segments that silence is cut from: noise of the split, or the span of the split in the noise of train."""
    noise = [(i, e) for i, e in enumerate(entries) if e.recording.label == noise_label]
    divided = all(e.recording.split is Split.TRAIN for _, e in noise)
    found: dict[Split, list[Segment]] = {}
    for split in Split:
        low, high = SPANS[split] if divided else (0.0, 1.0)
        mine = [(i, e.n_samples) for i, e in noise if divided or e.recording.split is split]
        cut = [Segment(i, round(low * n), round(high * n)) for i, n in mine]
        found[split] = [one for one in cut if one.end - one.start >= max(1, shortest_n)]
    return found
