"""Synthetic clips for a training run. Modules that need the extra kws[speech] are imported where they are used."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.common.text import plural
from kws.config import schema as c
from kws.data.audio import length_s
from kws.data.audio_cache import AudioCache
from kws.data.batch import BatchConfig, real_share
from kws.data.dataset import Selection, counted, refuse_nearly_noise
from kws.data.division import SHARES
from kws.data.manifest import CONFUSABLE, Recording, Split, SplitBy, read
from kws.data.names import same_word
from kws.evaluation.results import Outcome

if TYPE_CHECKING:
    from kws.confusables.synthesis.base import Synthesiser, Utterance


SENTENCE_S, NOISE_S = 3.0, 5.0  # about the length of a synthetic clip


@dataclass(frozen=True)
class SyntheticClips:
    """Folders of synthetic clips under the cache; None where there are none."""

    speech: Path | None = None
    noise: Path | None = None
    spliced: Path | None = None

    def folders(self) -> list[Path]:
        """All folders, resolved as the paths of recordings are."""
        return [one.resolve() for one in (self.speech, self.noise, self.spliced) if one is not None]

    def recordings(self) -> list[Recording]:
        """Keywords, sentences and noise. Confusables are left out, because they only enter the replay buffer."""
        speech = [] if self.speech is None else read(self.speech, split=SplitBy.column)
        noise = [] if self.noise is None else read(self.noise, split=SplitBy.column)
        # The manifest has the kind of a noise where speech has the speaker.
        return [one for one in speech if one.label != CONFUSABLE] + [replace(one, speaker="") for one in noise]


def require_labels(real: Sequence[Recording], words: Sequence[str], s: c.TrainConfig, console: Console) -> None:
    """Raise KwsError if the recordings and the synthetic clips together lack a keyword, or negatives.

    Warns of recordings that are negatives by a label nearly the keyword. That takes a second, and synthesis minutes.
    """
    synthetic = s.data.synthetic
    refuse_nearly_noise({one.label for one in real}, words, s.data.noise_label)
    for word in words:
        if any(same_word(one.label, word) for one in real):
            continue
        if not synthetic.positives:
            raise KwsError(f"keyword={word}: no recording of it; {counted(real)}; recipe=from_text synthesises it")
        taken = {one.label for one in real if any(same_word(one.label, other) for other in words)}
        negatives = sorted({one.label for one in real} - taken - {s.data.noise_label})
        if near := get_close_matches(word, negatives, 1, 0.85):
            n = sum(one.label == near[0] for one in real)
            counts = f"those of {near[0]}, {n}, count as negatives"
            console.warn(f"keyword={word}: no recording of it; {counts} (did you mean {near[0]}?)")
    if not synthetic.sentences and all(
        one.label == s.data.noise_label or any(same_word(one.label, word) for word in words) for one in real
    ):
        raise KwsError(
            f"data.root={s.data.root}: no negatives, such as speech without the keyword; {counted(real)}; "
            "recipe=few_shot synthesises them"
        )


def synthesise(s: c.TrainConfig, words: list[str], console: Console, real: Sequence[Recording]) -> SyntheticClips:
    """Synthesise the clips of `data.synthetic`, sentences and noise only where the recordings hold less of them."""
    k = s.data.synthetic
    if not (k.positives or k.confusables or k.sentences or k.noises):
        return SyntheticClips()
    noise = [one for one in real if one.label == s.data.noise_label]
    negatives = [
        one for one in real if one.label != s.data.noise_label and not any(same_word(one.label, word) for word in words)
    ]
    sentences_n = k.sentences if shorter(negatives, k.sentences * SENTENCE_S) else 0
    noises_n = k.noises if shorter(noise, k.noises * NOISE_S) else 0
    if not (k.positives or k.confusables or sentences_n or noises_n):
        return SyntheticClips()
    for kind, n, given in (("sentences", sentences_n, negatives), ("noises", noises_n, noise)):
        if real and n:
            console.say(f"{n} {kind} are synthesised for training beside {plural(len(given), 'recording')}")
    from kws.confusables.search import STEPS, find
    from kws.confusables.synthesis import plan
    from kws.confusables.synthesis.base import Espeak
    from kws.confusables.synthesis.corpus import SENTENCE_SHARES, Noise, plan_noise, sentences

    espeak, roles = Espeak(), []
    if k.positives:
        roles += [plan.keyword_role(espeak, word, k.positives) for word in words]
    if k.confusables:
        prompts = []
        for word in words:
            with console.progress(f"Searching {word}", STEPS) as tick:
                prompts += plan.prompts_of(espeak, word, find(word, s.confuse, s.seed, tick).chosen)
        roles.append(plan.confusable_role(espeak, prompts, k.confusables * len(words)))
    if sentences_n:
        n = plan.total_clips(espeak, sentences_n, SENTENCE_SHARES)
        prompts = [plan.Prompt(text) for text in sentences(words, n, s.seed)]
        roles.append(plan.Role("speech", prompts, n, SENTENCE_SHARES, once=True))
    speech = _render(s, console, "speech", espeak, plan.plan_splits(espeak, roles, s.seed)) if roles else None
    generated = Noise(s.seed)
    clips = plan_noise(plan.total_clips(generated, noises_n), s.data.noise_label) if noises_n else []
    return SyntheticClips(speech, _render(s, console, "noise", generated, clips) if clips else None)


def shorter(recordings: Sequence[Recording], train_s: float) -> bool:
    """Whether recordings are too few to give the train split this many seconds. Reads as many headers as it needs."""
    needed_s = train_s / SHARES[Split.TRAIN]
    for one in recordings:
        if needed_s <= 0:
            break
        whole_s = length_s(one.path)
        needed_s -= max(0.0, (whole_s if one.end_s is None else min(one.end_s, whole_s)) - (one.start_s or 0.0))
    return needed_s > 0


def _render(
    s: c.TrainConfig, console: Console, title: str, synthesiser: "Synthesiser", utterances: Sequence["Utterance"]
) -> Path:
    from kws.confusables.synthesis.render import render

    identity = synthesiser.identity({one.voice for one in utterances})
    folder = Path(s.data.cache) / f"synthetic-{seed_of(0, *map(str, (identity, *utterances))):016x}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Another run may synthesise the same clips; it is waited for, and its clips are used.
    with FileLock(f"{folder}.lock"), console.progress(f"Synthesising {title}", len(utterances)) as tick:
        render(folder, synthesiser, utterances, torch.get_num_threads(), progress=lambda done, _: tick(done))
        tick(len(utterances))
    return folder


def synthetic_shares(
    made: SyntheticClips, store: AudioCache, chosen: Selection, batch: BatchConfig
) -> tuple[list[str], str]:
    """What is synthetic of the keywords and of the negatives, in words; empty where nothing is.

    Returns:
        lines with the numbers in each split and batch, and a warning where most of the test split is synthetic.
    """
    folders = made.folders()

    def is_synthetic(i: int) -> bool:
        return any(store.entries[i].recording.path.is_relative_to(folder) for folder in folders)

    def hours(some: Sequence[int]) -> float:
        return sum(store.entries[i].n_samples for i in some) / store.sample_rate / 3600

    texts, mostly = [], False
    for split in Split:
        spoken = [i for own in chosen.positives[split] for i in own]
        others = chosen.speech[split] + (chosen.pool if split is Split.TRAIN else [])
        k, h = sum(map(is_synthetic, spoken)), hours([i for i in others if is_synthetic(i)])
        if k or h:
            texts.append(f"{split} {k} of {len(spoken)} keywords and {h:.2f} of {hours(others):.2f} h of negatives")
        mostly = split is Split.TEST and (2 * k > len(spoken) or 2 * h > hours(others))
    warning = (
        "Most of what was measured is synthetic speech. Real voices and radio may be missed, and trigger it, more "
        "or less often. Count that on recordings of your own: kws evaluate positive=MINE/ negative=RADIO/"
    )
    shares = []
    for keyword, own in zip(chosen.keywords, chosen.positives[Split.TRAIN], strict=True):
        n_real = len(own) - sum(map(is_synthetic, own))
        if n_real < len(own):
            shares.append(f"{keyword} {real_share(batch, n_real, len(own)):.0%}")
    lines = [f"synthetic: {'; '.join(texts)}"] if texts else []
    lines += [f"real recordings among the keywords of a batch: {', '.join(shares)}"] if shares else []
    return lines, (warning if mostly else "")


def advice(outcomes: Sequence[Outcome], old: str, new: Path) -> str:
    """What to do with two detectors that were compared on synthetic keywords alone; empty for others.

    Args:
        outcomes: of the new one on the test split.
        old, new: files of the two.
    """
    if not outcomes or any(one.real is None or one.real.events for one in outcomes):
        return ""
    both = shlex.quote(f"compare=[{old},{new}]")
    return (
        " All keywords of the test split are synthetic: compare the two on recordings of your own, and on hours that "
        f"were not mined: kws evaluate {both} positive=MINE/ negative=RADIO/"
    )
