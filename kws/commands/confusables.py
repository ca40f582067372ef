"""kws confuse: find confusables of a keyword, synthesise them, and add them to a replay buffer."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from shlex import quote

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import plain_name
from kws.config.app import with_actions
from kws.config.schema import ConfuseConfig
from kws.confusables import table
from kws.confusables.candidates import Kind
from kws.confusables.pronunciation import is_english
from kws.confusables.search import STEPS, Found, find
from kws.confusables.settings import Synth
from kws.confusables.synthesis.base import Espeak, Synthesiser
from kws.confusables.synthesis.command import Command
from kws.confusables.synthesis.piper import Piper
from kws.confusables.synthesis.plan import confusable_role, keyword_role, plan_splits, prompts_of
from kws.confusables.synthesis.render import render
from kws.data.manifest import Split
from kws.replay.buffer import Buffer
from kws.replay.importing import into_buffer
from kws.runs.lock import locked, refuse_busy

FEW = 20  # texts left out that are shown


def list_(s: ConfuseConfig, console: Console) -> None:
    """Print the candidates as a table, and write them to a file."""
    if s.out is not None and Path(s.out).exists():
        raise KwsError(f"out={s.out}: must be a new file; it exists already")
    result = searched(s, console)
    chosen, edges = result.chosen, s.confuse.bands
    most = len(chosen) if s.limit is None else s.limit
    shown = [chosen[i * len(chosen) // most] for i in range(most)] if most < len(chosen) else chosen
    console.say(f"{result.keyword.text} is pronounced {', '.join(map(''.join, result.keyword.pronunciations))}")
    console.say(f"{len(chosen)} candidates; distances are shares of the distance of the keyword from silence")
    rows = [[text, distance, band, kind, phones] for text, phones, kind, distance, band in map(table.line, shown)]
    console.lines(("text", "distance", "band", "kind", "phones"), rows, cut=2, from_left=0)
    if len(shown) < len(chosen):
        console.say(f"{len(shown)} of them, over all distances; limit=null shows all, out=FILE.csv writes all")
    console.lines(("band", *Kind, "of all found"), counts(result, edges), cut=1, from_left=0)
    for what, texts, limit in (
        ("sound like the keyword", result.homophones, None),  # few, and all matter to the user
        ("are too near to it", result.too_near, FEW),
        ("contain its sound", result.containing, FEW),
    ):
        more = f" and {len(texts) - limit} more" if limit and len(texts) > limit else ""
        console.say(f"left out, since they {what}: {', '.join(texts[:limit]) or 'none'}{more}")
    if len(chosen) < s.confuse.n:
        console.warn(f"fewer than confuse.n={s.confuse.n}; wider confuse.bands or more confuse.words would give more")
    if s.out is not None:
        table.write(Path(s.out), chosen)
        console.say(f"{len(chosen)} candidates in {s.out}; edit it, and use it as confuse.include={s.out}")


def counts(result: Found, edges: list[float]) -> list[list[str]]:
    """A row for each band: the number of candidates selected of each kind, and of all found."""
    taken = Counter((one.band, one.kind) for one in result.chosen)
    rows = []
    for band, (low, high) in enumerate(pairwise([0, *edges])):
        cells = [taken[band, kind] for kind in Kind]
        if band or any(cells):
            there = sum(result.available[band, kind] for kind in Kind)
            rows.append([f"{band}: {low:g} to {high:g}", *map(str, cells), str(there)])
    return rows


def synthesise(s: ConfuseConfig, console: Console) -> None:
    """Synthesise the candidates in many voices; the clips for training enter a replay buffer."""
    voices = synthesiser(s)
    out = Path(s.out) if s.out is not None else Path("runs") / f"confuse-{plain_name(s.keyword)}"
    refuse_busy(out)  # now, not after the search
    chosen = searched(s, console).chosen
    prompts = prompts_of(voices, s.keyword, chosen)
    if len(prompts) < len(chosen):
        left_out = len(chosen) - len(prompts)
        console.warn(f"{left_out} candidates are phoneme strings, which synth={s.synth.value} cannot synthesise")
    if not prompts:
        raise KwsError(f"keyword={s.keyword}: no candidates; wider confuse.bands or confuse.include would give some")
    roles = [keyword_role(voices, s.keyword, s.positives), confusable_role(voices, prompts, s.confusables)]
    rates, pitches = (s.rates[0], s.rates[1]), (s.pitches[0], s.pitches[1])
    utterances = plan_splits(voices, roles, s.seed, rates, pitches)
    workers = s.workers or os.cpu_count() or 1
    place = Path(s.buffer) if s.buffer is not None else out / "buffer"
    with locked(out):
        with console.progress("Synthesising", len(utterances)) as tick:
            manifest = render(out, voices, utterances, workers, progress=lambda done, _: tick(done))
            tick(len(utterances))
        splits = Counter(one.split for one in utterances)
        by_split = ", ".join(f"{splits[split]} {split}" for split in Split)
        console.say(f"clips     {manifest.parent}  ({len(utterances)}: {by_split}; {len(prompts)} texts)")
        with Buffer(place) as buffer:
            added = into_buffer(buffer, out)
            console.say(f"buffer    {place}  ({len(added.new)} new of {len(buffer)}, {added.near} near-duplicates)")
    console.say(f"train with them: kws train keyword=... data.root=... {quote(f'replay.buffer={place}')}")


def searched(s: ConfuseConfig, console: Console) -> Found:
    """The confusables of the keyword, with progress."""
    with console.progress("Searching", STEPS) as tick:
        return find(s.keyword, s.confuse, s.seed, tick)


def synthesiser(s: ConfuseConfig) -> Synthesiser:
    """The synthesiser of the settings."""
    given = [key for key in ("voices", "command") if getattr(s, key) is not None]
    if s.synth is Synth.espeak:
        if given:
            raise KwsError(f"{given[0]}={getattr(s, given[0])}: needs synth=piper or synth=command")
        if not is_english(s.confuse.language):
            raise KwsError(f"confuse.language={s.confuse.language}: must be English with synth=espeak")
        return Espeak()
    if s.synth is Synth.piper:
        if not isinstance(s.voices, str) or s.command is not None:
            raise KwsError(f"voices={s.voices}: must be a folder of voices with synth=piper, without command")
        return Piper(Path(s.voices), s.confuse.language)
    return Command(_words(s.command, "command"), ("default",) if s.voices is None else _words(s.voices, "voices"))


def _words(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise KwsError(f"{key}={value}: must be a list of texts with synth=command")
    return tuple(value)


ACTIONS: Mapping[str, Callable[[ConfuseConfig, Console], None]] = {"say": synthesise, "list": list_}

main = with_actions("confuse", ACTIONS)
