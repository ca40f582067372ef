"""kws confuse: find what sounds like a keyword and is not it."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

from omegaconf import DictConfig

from kws.cli import take_action, verb
from kws.config import settings
from kws.confuse import listed
from kws.confuse.candidates import Kind
from kws.confuse.find import Candidate, Found, find
from kws.console import Console
from kws.errors import KwsError
from kws.schema import ConfuseConfig

FEW = 20  # names of what is left out that are shown


def run(cfg: DictConfig) -> None:
    """Do `action` for `keyword`."""
    s = settings(cfg, ConfuseConfig)
    if s.action not in ACTIONS:
        raise KwsError(f"action={s.action}: allowed is one of {', '.join(ACTIONS)}")
    ACTIONS[s.action](s, Console())


def found(s: ConfuseConfig) -> Found:
    """The candidates that the settings ask for."""
    c = s.confuse
    given = [c.pronunciations] if isinstance(c.pronunciations, str) else c.pronunciations or []
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        raise KwsError(f"confuse.pronunciations={given}: allowed is one pronunciation or a list of them")
    return find(
        s.keyword,
        c.n,
        c.bands,
        c.quotas,
        {Kind(kind): share for kind, share in asdict(c.kinds).items()},
        c.language,
        given,
        None if c.words is None else Path(c.words),
        listed.texts(c.include, "confuse.include"),
        listed.texts(c.exclude, "confuse.exclude"),
        s.seed,
    )


def list_(s: ConfuseConfig, console: Console) -> None:
    """The candidates as a table, and as a file."""
    if s.out is not None and Path(s.out).exists():
        raise KwsError(f"out={s.out}: there is such a file already; allowed is a new one")
    result = found(s)
    chosen, edges = result.chosen, s.confuse.bands
    most = len(chosen) if s.most is None else s.most
    shown = [chosen[i * len(chosen) // most] for i in range(most)] if most < len(chosen) else chosen
    console.say(f"{result.keyword.text} is said {', '.join(''.join(way) for way in result.keyword.ways)}")
    console.say(f"{len(chosen)} candidates; distance is a share of what it takes to edit the keyword away")
    console.lines(("text", "distance", "band", "kind", "phones"), [row(one) for one in shown], cut=2, from_left=0)
    if len(shown) < len(chosen):
        console.say(f"{len(shown)} of them, over all distances; most=null shows all, out=FILE.csv writes all to a file")
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
        listed.write(Path(s.out), chosen)
        console.say(f"{len(chosen)} candidates in {s.out}; cut it, and give it back as confuse.include={s.out}")


def row(one: Candidate) -> tuple[str, str, str, str, str]:
    """A line of the table."""
    text, phones, kind, distance, band = listed.line(one)
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


ACTIONS: Mapping[str, Callable[[ConfuseConfig, Console], None]] = {"list": list_}

entry = verb("confuse", run)


def main() -> None:
    """`kws confuse ACTION key=value ...`, the action anywhere among the settings."""
    take_action("confuse", ACTIONS)
    entry()


if __name__ == "__main__":
    main()
