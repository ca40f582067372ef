"""Plan of the clips to synthesise: texts, voices, rates and pitches, chosen by a seed.

Positives, confusables and sentences of a plan use the same voices equally often, at the same rates and pitches. A voice
therefore never gives the class away.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kws.common.errors import KwsError
from kws.common.files import plain_name
from kws.common.seeding import numpy_generator
from kws.confusables.scoring import Candidate
from kws.confusables.synthesis.base import Synthesiser, Utterance
from kws.confusables.synthesis.espeak import PITCHES, RATES_WPM, plain
from kws.confusables.synthesis.voices import SHARES, assign_splits, choose_voices
from kws.data.folders import NOISE
from kws.data.manifest import CONFUSABLE, Split


@dataclass(frozen=True)
class Prompt:
    """A text, or a phoneme string, to synthesise.

    Args:
        text: at least one letter or digit, unless there is a phoneme string.
        phonemes: such as `[[k'at]]`; synthesised in place of the text where not empty.
        keyword: the keyword that this is, or resembles.

    Raises:
        KwsError: there is nothing to synthesise.
    """

    text: str = ""
    phonemes: str = ""
    keyword: str = ""

    def __post_init__(self) -> None:
        if self.text or not self.phonemes:
            object.__setattr__(self, "text", " ".join(plain(self.text).split()))


@dataclass(frozen=True)
class Role:
    """The clips of one label: `n` clips of these prompts, each prompt equally often.

    Args:
        label: label of the clips.
        prompts: the texts or phoneme strings.
        n: number of clips.
        shares: of train and validation; test gets the rest. At least 0 each, at most 1 together.
        once: whether each prompt belongs to one split only; there are as many prompts as clips then.

    Raises:
        KwsError: the number of clips is negative, there are no prompts for them, or the shares are out of range.
    """

    label: str
    prompts: Sequence[Prompt]
    n: int
    shares: tuple[float, float] = SHARES
    once: bool = False

    def __post_init__(self) -> None:
        if self.n < 0 or (self.n and not self.prompts) or (self.once and self.n != len(self.prompts)):
            raise KwsError(f"label {self.label!r}: {self.n} clips of {len(self.prompts)} prompts")
        if min(self.shares) < 0 or sum(self.shares) > 1:
            raise KwsError(f"shares={list(self.shares)}: must be at least 0 each and at most 1 together")


def plan(
    synthesiser: Synthesiser,
    roles: Sequence[Role],
    seed: int,
    split: Split,
    rates: tuple[int, int] = (130, 210),
    pitches: tuple[int, int] = (20, 80),
) -> list[Utterance]:
    """Plan the clips of one split; they depend on the arguments alone.

    There are as many voices as the smallest role has clips, and every role uses each of them equally often. The i-th
    clips of all roles have the same voice, rate and pitch. Each prompt is spoken by many voices.

    Args:
        synthesiser: its voices of the split are used.
        roles: each keyword under its label, confusables under `CONFUSABLE`; `n` counts the clips of this split.
        seed: of all random choices. It does not move a voice to another split.
        split: of the clips.
        rates: lowest and highest words per minute, in [80, 450].
        pitches: lowest and highest pitch, in [0, 99].

    Raises:
        KwsError: a value is out of range, a label repeats or is `NOISE`, the synthesiser speaks no phoneme strings but
            there are some, or no voice belongs to the split.
    """
    for name, (low, high), (least, most) in (("rates", rates, RATES_WPM), ("pitches", pitches, PITCHES)):
        if not least <= low <= high <= most:
            raise KwsError(f"{name}=[{low}, {high}]: must be [low, high] between {least} and {most}")
    folders: set[str] = set()
    for role in roles:
        folder = plain_name(role.label)
        if not role.label or role.label != role.label.strip() or role.label == NOISE or folder in folders:
            raise KwsError(f"label {role.label!r}: must be unique, without spaces around it, and not {NOISE}")
        folders.add(folder)
        if not synthesiser.speaks_phonemes and any(one.phonemes for one in role.prompts):
            raise KwsError(f"label {role.label!r}: the synthesiser {synthesiser.name} speaks no phoneme strings")
    roles = [role for role in roles if role.n]
    if not roles:
        return []
    timbres = synthesiser.voices()[split]
    if not timbres:
        raise KwsError(f"{synthesiser.name}: no voice belongs to the {split} split; more voices are needed")
    rng = numpy_generator(seed, "said", split)
    counts = [role.n for role in roles]
    voices = choose_voices([timbres[i] for i in rng.permutation(len(timbres))], min(counts), rng)
    rate, pitch = (rng.integers(low, high + 1, max(counts)) for low, high in (rates, pitches))
    found = []
    for role in roles:
        for i in range(role.n):
            if (k := i % len(role.prompts)) == 0:  # every prompt in a random order, then every prompt in another
                order = numpy_generator(seed, "said", split, role.label, i).permutation(len(role.prompts))
            one = role.prompts[order[k]]
            name = plain_name(one.text or one.phonemes.strip("[]"))
            file = f"{split}/{plain_name(role.label)}/{name}-{i:05d}.flac"
            manner = voices[i % len(voices)], int(rate[i]), int(pitch[i])
            found.append(Utterance(file, role.label, one.text, one.phonemes, one.keyword, *manner, split))
    return found


def plan_splits(
    synthesiser: Synthesiser,
    roles: Sequence[Role],
    seed: int,
    rates: tuple[int, int] = (130, 210),
    pitches: tuple[int, int] = (20, 80),
) -> list[Utterance]:
    """Plan the clips of all splits. The clips of a role are divided by its shares among the splits that have voices.

    Args and errors are those of `plan`.
    """
    splits = [assign_splits(role.n, _shares(synthesiser, role.shares)) for role in roles]
    found = []
    for split in Split:
        counted = []
        for role, its in zip(roles, splits, strict=True):
            prompts = role.prompts
            if role.once:
                prompts = [one for one, of in zip(prompts, its, strict=True) if of is split]
            counted.append(replace(role, prompts=prompts, n=its.count(split)))
        found += plan(synthesiser, counted, seed, split, rates, pitches)
    return found


def _shares(synthesiser: Synthesiser, shares: tuple[float, float]) -> tuple[float, float]:
    """The shares of train and validation once splits without a voice get nothing."""
    voices = synthesiser.voices()
    train, validation, test = (
        share * bool(voices[split]) for split, share in zip(Split, (*shares, 1 - sum(shares)), strict=True)
    )
    if not (whole := train + validation + test):
        raise KwsError(f"{synthesiser.name}: no voice belongs to the splits of the clips; more voices are needed")
    return train / whole, validation / whole


def keyword_role(synthesiser: Synthesiser, keyword: str, train_n: int) -> Role:
    """The role of a keyword with `train_n` clips for training."""
    label = " ".join(keyword.split()).replace(" ", "_")
    return Role(label, [Prompt(keyword, keyword=keyword)], total_clips(synthesiser, train_n))


def prompts_of(synthesiser: Synthesiser, keyword: str, candidates: Sequence[Candidate]) -> list[Prompt]:
    """Prompts of the confusables of a keyword, without phoneme strings where the synthesiser cannot speak them."""
    return [
        Prompt(phonemes=one.text, keyword=keyword) if one.is_phonemes else Prompt(one.text, keyword=keyword)
        for one in candidates
        if synthesiser.speaks_phonemes or not one.is_phonemes
    ]


def confusable_role(synthesiser: Synthesiser, prompts: Sequence[Prompt], train_n: int | None) -> Role:
    """The role of confusables with `train_n` clips for training; None: one of each prompt."""
    return Role(CONFUSABLE, prompts, total_clips(synthesiser, len(prompts) if train_n is None else train_n))


def total_clips(synthesiser: Synthesiser, train_n: int, shares: tuple[float, float] = SHARES) -> int:
    """Number of clips in all splits together so that train gets `train_n` of them."""
    return math.ceil(train_n / _shares(synthesiser, shares)[0] - 1e-9)
