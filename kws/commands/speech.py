"""Synthetic clips for a training run. Modules that need the extra kws[speech] are imported where they are used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from filelock import FileLock

from kws.common.console import Console
from kws.common.seeding import seed_of
from kws.config import schema as c
from kws.data.audio import length_s
from kws.data.division import SHARES
from kws.data.manifest import CONFUSABLE, Recording, Split, SplitBy, read
from kws.data.names import same_word

if TYPE_CHECKING:
    from kws.confusables.synthesis.base import Synthesiser, Utterance


SENTENCE_S, NOISE_S = 3.0, 5.0  # about the length of a synthetic clip


@dataclass(frozen=True)
class SyntheticClips:
    """Folders of synthetic clips under the cache; None where there are none."""

    speech: Path | None = None
    noise: Path | None = None

    def recordings(self) -> list[Recording]:
        """Keywords, sentences and noise. Confusables are left out, because they only enter the replay buffer."""
        speech = [] if self.speech is None else read(self.speech, split=SplitBy.column)
        noise = [] if self.noise is None else read(self.noise, split=SplitBy.column)
        # The manifest has the kind of a noise where speech has the speaker.
        return [one for one in speech if one.label != CONFUSABLE] + [replace(one, speaker="") for one in noise]


def synthesise(s: c.TrainConfig, words: list[str], console: Console, real: Sequence[Recording]) -> SyntheticClips:
    """Synthesise the clips of `data.synthetic`, sentences and noise only where the recordings hold less of them."""
    k = s.data.synthetic
    noise = [one for one in real if one.label == s.data.noise_label]
    negatives = [one for one in real if one not in noise and not any(same_word(one.label, word) for word in words)]
    sentences_n = k.sentences if shorter(negatives, k.sentences * SENTENCE_S) else 0
    noises_n = k.noises if shorter(noise, k.noises * NOISE_S) else 0
    if not (k.positives or k.confusables or sentences_n or noises_n):
        return SyntheticClips()
    for kind, n, given in (("sentences", sentences_n, negatives), ("noises", noises_n, noise)):
        if real and n:
            console.say(f"{n} {kind} are synthesised for training beside {len(given)} recordings")
    from kws.confusables.search import find
    from kws.confusables.synthesis import plan
    from kws.confusables.synthesis.base import Espeak
    from kws.confusables.synthesis.corpus import SENTENCE_SHARES, Noise, plan_noise, sentences

    espeak, roles = Espeak(), []
    if k.positives:
        roles += [plan.keyword_role(espeak, word, k.positives) for word in words]
    if k.confusables:
        prompts = [p for w in words for p in plan.prompts_of(espeak, w, find(w, s.confuse, s.seed).chosen)]
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
