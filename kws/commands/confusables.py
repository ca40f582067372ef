"""kws confuse: find what sounds like a keyword and is not it, say it, and put it into a replay buffer."""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

from omegaconf import DictConfig

from kws.commands import speech
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.app import take_action, verb
from kws.config.compose import settings
from kws.config.schema import ConfuseConfig, Synth
from kws.confusables import table
from kws.confusables.candidates import Kind
from kws.confusables.pronunciation import is_english
from kws.confusables.search import Candidate, Found
from kws.confusables.synthesis.base import Espeak, Synthesiser
from kws.confusables.synthesis.command import Command
from kws.confusables.synthesis.piper import Piper
from kws.confusables.synthesis.plan import plan_parts, roles
from kws.confusables.synthesis.render import plain_name, say
from kws.data.manifest import Split
from kws.replay.buffer import Buffer, Limits
from kws.replay.importing import into_buffer

FEW = 20  # names of what is left out that are shown


def run(cfg: DictConfig) -> None:
    """Do `action` for `keyword`."""
    s = settings(cfg, ConfuseConfig)
    if s.action not in ACTIONS:
        raise KwsError(f"action={s.action}: allowed is one of {', '.join(ACTIONS)}")
    ACTIONS[s.action](s, Console())


def list_(s: ConfuseConfig, console: Console) -> None:
    """The candidates as a table, and as a file."""
    if s.out is not None and Path(s.out).exists():
        raise KwsError(f"out={s.out}: there is such a file already; allowed is a new one")
    result = speech.candidates(s.confuse, s.keyword, s.seed)
    chosen, edges = result.chosen, s.confuse.bands
    most = len(chosen) if s.limit is None else s.limit
    shown = [chosen[i * len(chosen) // most] for i in range(most)] if most < len(chosen) else chosen
    console.say(f"{result.keyword.text} is said {', '.join(''.join(way) for way in result.keyword.ways)}")
    console.say(f"{len(chosen)} candidates; distance is a share of what it takes to edit the keyword away")
    console.lines(("text", "distance", "band", "kind", "phones"), [row(one) for one in shown], cut=2, from_left=0)
    if len(shown) < len(chosen):
        console.say(f"{len(shown)} of them, over all distances; limit=null shows all, out=FILE.csv writes all")
    console.lines(("band", *Kind, "of so many found"), counts(result, edges), cut=1, from_left=0)
    for what, texts, limit in (
        ("sound like the keyword", result.homophones, None),  # these are few, and a person should know them all
        ("cannot be told from it", result.too_near, FEW),
        ("hold its sound", result.holding, FEW),
    ):
        more = f" and {len(texts) - limit} more" if limit and len(texts) > limit else ""
        console.say(f"left out, since they {what}: {', '.join(texts[:limit]) or 'none'}{more}")
    if len(chosen) < s.confuse.n:
        console.warn(f"{s.confuse.n} were asked for; a wider confuse.bands or more confuse.words would give more")
    if s.out is not None:
        table.write(Path(s.out), chosen)
        console.say(f"{len(chosen)} candidates in {s.out}; cut it, and give it back as confuse.include={s.out}")


def row(one: Candidate) -> tuple[str, str, str, str, str]:
    """A line of the table."""
    text, phones, kind, distance, band = table.line(one)
    return text, distance, band, kind, phones


def counts(result: Found, edges: list[float]) -> list[list[str]]:
    """A row for each band: how many of each kind were taken, and how many there were in all."""
    taken = Counter((one.band, one.kind) for one in result.chosen)
    rows = []
    for band, (low, high) in enumerate(pairwise([0, *edges])):
        cells = [taken[band, kind] for kind in Kind]
        if band or any(cells):
            there = sum(result.available[band, kind] for kind in Kind)
            rows.append([f"{band}: {low:g} to {high:g}", *map(str, cells), str(there)])
    return rows


def say_(s: ConfuseConfig, console: Console) -> None:
    """The candidates as clips in many voices, those for training in a replay buffer."""
    voices = synthesiser(s)
    out = Path(s.out) if s.out is not None else Path("runs") / f"confuse-{plain_name(s.keyword)}"
    chosen = speech.candidates(s.confuse, s.keyword, s.seed).chosen
    wanted = roles(voices, s.keyword, chosen, s.positives, s.confusables)
    texts = len(wanted[-1].sayings)
    if texts < len(chosen):
        console.warn(f"{len(chosen) - texts} candidates are phonemes, which synth={s.synth.value} cannot say")
    if not texts:
        raise KwsError(f"keyword={s.keyword}: no candidate to say; a wider confuse.bands or confuse.include gives some")
    low, high = s.rates
    deep, bright = s.pitches
    utterances = plan_parts(voices, wanted, s.seed, rates=(low, high), pitches=(deep, bright))
    with console.progress("Speaking", len(utterances)) as tick:
        manifest = say(out, voices, utterances, s.workers or os.cpu_count() or 1, progress=lambda done, _: tick(done))
        tick(len(utterances))
    splits = Counter(one.split for one in utterances)
    listed_ = ", ".join(f"{splits[split]} {split}" for split in Split)
    console.say(f"clips     {manifest.parent}  ({len(utterances)}: {listed_}; {texts} texts)")
    place = Path(s.buffer) if s.buffer is not None else out / "buffer"
    with Buffer(place, Limits(clips=10**7)) as buffer:
        added = into_buffer(buffer, out)
        console.say(f"buffer    {place}  ({len(added.new)} new of {len(buffer)}, {added.near} repeat others)")
    console.say(f"train with them: kws train keyword=... data.root=... replay.buffer={place}")


def synthesiser(s: ConfuseConfig) -> Synthesiser:
    """Who speaks."""
    given = [key for key in ("voices", "command") if getattr(s, key) is not None]
    if s.synth is Synth.espeak:
        if given:
            raise KwsError(f"{given[0]}={getattr(s, given[0])}: allowed only with synth=piper or synth=command")
        if not is_english(s.confuse.language):
            raise KwsError(f"confuse.language={s.confuse.language}: synth=espeak has voices for English alone")
        return Espeak()
    if s.synth is Synth.piper:
        if not isinstance(s.voices, str) or s.command is not None:
            raise KwsError(f"voices={s.voices}: allowed with synth=piper is a folder of voices, and no command")
        return Piper(Path(s.voices))
    return Command(_words(s.command, "command"), ("default",) if s.voices is None else _words(s.voices, "voices"))


def _words(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise KwsError(f"{key}={value}: allowed with synth=command is a list of texts")
    return tuple(value)


ACTIONS: Mapping[str, Callable[[ConfuseConfig, Console], None]] = {"say": say_, "list": list_}

entry = verb("confuse", run)


def main() -> None:
    """`kws confuse ACTION key=value ...`, the action anywhere among the settings."""
    take_action("confuse", ACTIONS)
    entry()


if __name__ == "__main__":
    main()
