"""Speech in place of recordings and beside them, as the settings ask for it; what needs an extra is imported late."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.config import schema as c
from kws.confusables.settings import CandidatesConfig
from kws.data.manifest import Recording, SplitBy, read

if TYPE_CHECKING:
    from kws.confusables.search import Found


def corpus(s: c.TrainConfig, words: list[str], console: Console) -> Path:
    """A corpus spoken by espeak-ng in place of recordings, under the cache; returns its folder."""
    from kws.confusables.synthesis.corpus import speak_corpus

    k = s.data.speak
    name = f"spoken-{seed_of(s.seed, *words, k.positives, k.confusables, k.sentences, k.noises):016x}"
    root = Path(s.data.cache) / name
    with console.progress("Speaking a corpus", 1) as tick:
        manifest = speak_corpus(
            root,
            words,
            s.seed,
            k.positives,
            k.confusables,
            k.sentences,
            k.noises,
            lambda n, all_: tick(n, total=all_),
        )
    return manifest.parent


def candidates(settings: CandidatesConfig, keyword: str, seed: int) -> "Found":
    """What sounds like a keyword, as the settings ask for it."""
    from kws.confusables import table
    from kws.confusables.candidates import Kind
    from kws.confusables.search import find

    given = settings.pronunciations
    given = [given] if isinstance(given, str) else given or []
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise KwsError(f"confuse.pronunciations={given}: allowed is one pronunciation or a list of them")
    return find(
        keyword,
        settings.n,
        settings.bands,
        settings.quotas,
        {Kind(kind): share for kind, share in asdict(settings.kinds).items()},
        settings.language,
        given,
        None if settings.words is None else Path(settings.words),
        table.texts(settings.include, "confuse.include"),
        table.texts(settings.exclude, "confuse.exclude"),
        seed,
    )


def said(s: c.TrainConfig, words: Sequence[str], console: Console) -> list[Path]:
    """Each keyword, and what sounds like it, in many voices, under the cache; returns a folder for each."""
    k, folders = s.data.said, []
    if not (k.positives or k.confusables):
        return []
    from kws.confusables.synthesis.base import Espeak
    from kws.confusables.synthesis.plan import plan_parts, roles
    from kws.confusables.synthesis.render import say

    for word in words:
        chosen = candidates(s.confuse, word, s.seed).chosen if k.confusables else []
        utterances = plan_parts(Espeak(), roles(Espeak(), word, chosen, k.positives, k.confusables), s.seed)
        name = seed_of(s.seed, word, k.positives, *(f"{one.file} {one.text} {one.phones}" for one in utterances))
        folders.append(Path(s.data.cache) / f"said-{name:016x}")
        with console.progress(f"Speaking {word}", len(utterances)) as tick:
            say(folders[-1], Espeak(), utterances, torch.get_num_threads(), progress=lambda done, _: tick(done))
            tick(len(utterances))
    return folders


def recordings(folders: Sequence[Path]) -> list[Recording]:
    """The keywords of those folders; what sounds like them is for the replay buffer."""
    from kws.data.manifest import CONFUSABLE

    return [one for folder in folders for one in read(folder, split=SplitBy.column) if one.label != CONFUSABLE]
