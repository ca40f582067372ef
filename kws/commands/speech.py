"""Synthetic clips for a training run. Modules that need the extra kws[speech] are imported where they are used."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kws.common.console import Console
from kws.common.seeding import seed_of
from kws.config import schema as c
from kws.data.manifest import CONFUSABLE, Recording, SplitBy, read

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kws.confusables.synthesis.base import Synthesiser, Utterance


@dataclass(frozen=True)
class SyntheticClips:
    """Folders of synthetic clips under the cache; None where there are none."""

    speech: Path | None = None
    noise: Path | None = None

    def recordings(self) -> list[Recording]:
        """Keywords, sentences and noise. Confusables are left out, because they only enter the replay buffer."""
        folders = [folder for folder in (self.speech, self.noise) if folder is not None]
        return [one for folder in folders for one in read(folder, split=SplitBy.column) if one.label != CONFUSABLE]


def synthesise(s: c.TrainConfig, words: list[str], console: Console) -> SyntheticClips:
    """Synthesise the clips of `data.synthetic`. Without `data.root` they include sentences as negatives, and noise."""
    k, negatives = s.data.synthetic, not s.data.root
    if not (k.positives or k.confusables or negatives):
        return SyntheticClips()
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
    if negatives:
        n = plan.total_clips(espeak, k.sentences, SENTENCE_SHARES)
        prompts = [plan.Prompt(text) for text in sentences(words, n, s.seed)]
        roles.append(plan.Role("speech", prompts, n, SENTENCE_SHARES, once=True))
    speech = _render(s, console, "speech", espeak, plan.plan_splits(espeak, roles, s.seed))
    noise = Noise(s.seed)
    clips = plan_noise(plan.total_clips(noise, k.noises), s.data.noise_label) if negatives else []
    return SyntheticClips(speech, _render(s, console, "noise", noise, clips) if clips else None)


def _render(
    s: c.TrainConfig, console: Console, title: str, synthesiser: "Synthesiser", utterances: "Sequence[Utterance]"
) -> Path:
    from kws.confusables.synthesis.render import render

    identity = synthesiser.identity({one.voice for one in utterances})
    folder = Path(s.data.cache) / f"synthetic-{seed_of(0, *map(str, (identity, *utterances))):016x}"
    with console.progress(f"Synthesising {title}", len(utterances)) as tick:
        render(folder, synthesiser, utterances, torch.get_num_threads(), progress=lambda done, _: tick(done))
        tick(len(utterances))
    return folder
