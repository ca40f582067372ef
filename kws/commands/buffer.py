"""kws buffer: look into a replay buffer, decide about its clips, carry it elsewhere."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.app import take_action, verb
from kws.config.compose import settings
from kws.config.schema import BufferConfig, Order
from kws.replay import exchange, importing, plots, summary
from kws.replay.buffer import Buffer, BufferClip, Decision, Kind, State
from kws.replay.database_schema import sample_rate_of
from kws.replay.review import read_decisions, write_review
from kws.training.metrics import read_columns

INDEX = "index.sqlite"
ORDERS: Mapping[Order, Callable[[BufferClip], float]] = {
    Order.score: lambda row: row.hardness,
    Order.drawn: lambda row: row.times_drawn,
    Order.loss: lambda row: -1.0 if row.last_loss is None else row.last_loss,
}


def run(cfg: DictConfig) -> None:
    """Do `action` with `buffer`."""
    s = settings(cfg, BufferConfig)
    if s.action not in ACTIONS:
        raise KwsError(f"action={s.action}: allowed is one of {', '.join(ACTIONS)}")
    if s.state is not None and s.state not in list(State):
        raise KwsError(f"state={s.state}: allowed is one of {', '.join(State)}")
    if s.kind is not None and s.kind not in list(Kind):
        raise KwsError(f"kind={s.kind}: allowed is one of {', '.join(Kind)}")
    ACTIONS[s.action](s, Console())


def opened(s: BufferConfig) -> Buffer:
    """The buffer, which must be there."""
    return Buffer(Path(s.buffer), None, sample_rate_of(Path(s.buffer) / INDEX))


def chosen(s: BufferConfig, rows: Sequence[BufferClip], states: Sequence[State]) -> list[BufferClip]:
    """The clips that are asked for: those named, else all in these states that pass the filters."""
    if s.clips is not None:
        filters = {"state": s.state, "kind": s.kind, "keyword": s.keyword, "source": s.source}
        if also := [key for key, value in filters.items() if value is not None]:
            raise KwsError(f"{also[0]}: allowed is either clips=[...] or a choice by {', '.join(filters)}, not both")
        return summary.find(rows, named(s.clips))
    among = states if s.state is None else [State(s.state)]
    return [
        row
        for row in rows
        if row.state in among
        and s.kind in (None, row.kind)
        and s.keyword in (None, row.keyword)
        and s.source in (None, row.source.name)
    ]


def named(value: object) -> list[str]:
    """The beginnings of hashes of a setting that is one or a list of them."""
    given = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str | int) for one in given):
        raise KwsError(
            f"clips={value}: allowed are beginnings of hashes; quote those that read as numbers: clips=['12e4']"
        )
    return [str(one) for one in given]


def stats(s: BufferConfig, console: Console) -> None:
    """What is in it, by state, kind and recording; pictures where they are wanted."""
    with opened(s) as buffer:
        rows, rate, heard = buffer.rows(None), buffer.sample_rate, buffer.score_history()
        rows.sort(key=lambda row: list(State).index(row.state))
    kinds = list(dict.fromkeys(row.kind for row in rows))
    lines = [
        (state, *(str(line.get(kind, 0)) for kind in kinds), str(sum(line.values())), minutes(rows, state, rate))
        for state, line in summary.counts(rows, lambda row: row.state, lambda row: row.kind).items()
    ]
    console.table(f"{s.buffer}", ("state", *kinds, "all", "minutes"), lines)
    active = [row for row in rows if row.state is State.active]
    if active:
        most = Counter(row.source.name for row in active).most_common(10)
        console.table("active clips by recording", ("recording", "clips"), [(name, str(n)) for name, n in most])
        drawn = [row.times_drawn for row in active]
        console.say(f"drawn   {sum(drawn) / len(drawn):.1f} times an active clip, {drawn.count(0)} of them never")
    for decision in (Decision.released, Decision.rejected):
        if n := sum(row.decision is decision for row in rows):
            console.say(f"{decision} by a person: {n}")
    if s.plots is not None:
        draw(s, Path(s.plots), rows, summary.scores_by_round(rows, heard), console)


def minutes(rows: Sequence[BufferClip], state: str, sample_rate: int) -> str:
    """Sound of the clips in a state."""
    return f"{sum(row.n_samples for row in rows if row.state == state) / sample_rate / 60:.1f}"


def draw(
    s: BufferConfig, out: Path, rows: Sequence[BufferClip], scores: Mapping[str, list[float]], console: Console
) -> None:
    """The pictures of `stats`, as PNG files."""
    kinds = summary.counts(rows, lambda row: row.kind, lambda row: row.state)
    sources = summary.counts(rows, lambda row: row.source.name, lambda row: row.state)
    pictures = {
        "scores.png": plots.scores_by_round(scores),
        "kinds.png": plots.counts("clips by kind", kinds),
        "sources.png": plots.counts("clips by recording", sources),
    }
    curves = Path(s.buffer).absolute().parent / "metrics.csv" if s.curves is None else Path(s.curves)
    if s.curves is not None or curves.is_file():
        told = read_columns(curves, ("step", "share", "replayed", "batch", "buffer"))
        replayed = [n / of for n, of in zip(told["replayed"], told["batch"], strict=True)]
        steps, size = ([int(x) for x in told[name]] for name in ("step", "buffer"))
        pictures["share.png"] = plots.share_over_time(steps, told["share"], replayed, size)
    out.mkdir(parents=True, exist_ok=True)
    for name, png in pictures.items():
        (out / name).write_bytes(png)
        console.say(f"picture   {out / name}")


def list_(s: BufferConfig, console: Console) -> None:
    """The clips, one a line."""
    with opened(s) as buffer:
        rows = chosen(s, buffer.rows(None), [state for state in State if state is not State.evicted])
    if s.sort is Order.age:
        rows.reverse()  # the newest first
    else:
        rows.sort(key=ORDERS[s.sort], reverse=True)
    shown = rows[: s.limit]
    lines = [summary.HEADER, *(summary.line(row) for row in shown)]
    title = f"{s.buffer}: {len(rows)} clips"
    if len(keywords := {row.keyword for row in rows}) == 1:
        title += f" of {keywords.pop()}"
        lines = [line[:2] + line[3:] for line in lines]
    console.say(title)
    console.lines(lines[0], lines[1:], cut=2, from_left=len(lines[0]) - 2)
    if len(shown) < len(rows):
        console.say(f"{len(rows) - len(shown)} more are not shown; limit=null shows all")


def check(s: BufferConfig, console: Console) -> None:
    """Prove that index and files agree, and that nothing comes from a held-out recording."""
    with opened(s) as buffer:
        n = len(buffer.rows(None))
        with console.progress("Checking", n) as tick:
            problems, leftovers = buffer.check(tick), buffer.leftovers()
            tick(n)
    for problem in problems:
        console.warn(problem)
    if problems:
        raise KwsError(f"{s.buffer}: {len(problems)} problem{'s' * (len(problems) > 1)}, named above")
    for path in leftovers:
        console.say(f"{path}: left over by a killed process, or being written; kws buffer prune deletes old ones")
    console.say(f"{s.buffer}: good; {n} clips, index and files agree, none is of a validation or test recording")


def export(s: BufferConfig, console: Console) -> None:
    """Write clips, with all that is known of them, to a folder that `import` reads."""
    if s.out is None:
        raise KwsError("out=... must be given: a new folder, such as out=hard-negatives")
    if s.clips or s.kind or s.keyword or s.source:
        raise KwsError("export: allowed is to choose by state; clips, kind, keyword and source must be null")
    with opened(s) as buffer, console.progress("Exporting", len(buffer.rows(None))) as tick:
        n = exchange.export(buffer, Path(s.out), None if s.state is None else State(s.state), tick)
    console.say(f"{n} clips in {s.out}; kws buffer import folder={s.out} buffer=... reads them")


def import_(s: BufferConfig, console: Console) -> None:
    """Take in what `export` wrote, or a folder of recordings."""
    if s.folder is None:
        raise KwsError("folder=... must be given: what kws buffer export wrote, or recordings that are not the keyword")
    folder = Path(s.folder)
    if not folder.is_dir():
        raise KwsError(f"folder={folder}: no such folder")
    if exchange.is_export(folder):
        with console.progress("Importing", sum(1 for _ in (folder / "clips").glob("*.flac"))) as tick:
            new, known = exchange.restore(lambda rate: Buffer(Path(s.buffer), None, rate), folder, tick)
        console.say(f"{new} clips are new in {s.buffer}, {known} were known")
        return
    import_recordings(s, folder, console)


def import_recordings(s: BufferConfig, folder: Path, console: Console) -> None:
    """Take in recordings as clips that a person brought."""
    kind = Kind.user if s.kind is None else Kind(s.kind)
    if kind not in (Kind.user, Kind.confusable):
        raise KwsError(f"kind={kind}: recordings come in as {Kind.user} or {Kind.confusable}")
    if not s.keyword:
        raise KwsError("keyword=... must be given: what the recordings are not, though they may sound like it")
    there = (Path(s.buffer) / INDEX).is_file()
    rate = sample_rate_of(Path(s.buffer) / INDEX) if there else s.sample_rate
    with console.progress("Reading recordings", 0) as tick:
        found, bad = importing.brought(folder, kind, s.keyword, s.text or "", rate, lambda n, of: tick(n, total=of))
    for broken in bad:
        console.warn(f"{broken.name}: not read: {broken.reason}")
    if len(bad) > s.max_undecodable * (len(bad) + len(found)):
        raise KwsError(
            f"folder={folder}: {len(bad)} of {len(bad) + len(found)} recordings do not decode, more than "
            f"max_undecodable={s.max_undecodable:g}"
        )
    with Buffer(Path(s.buffer), None, rate) as buffer:
        added = buffer.add(found)
    console.say(f"{len(added.new)} clips are new in {s.buffer}, {added.known} were known")
    if bad:
        console.warn(f"{len(bad)} recordings do not decode and are left out")
    if added.quarantined:
        console.say(f"{len(added.quarantined)} say {s.keyword} by their text and are in quarantine")


def review(s: BufferConfig, console: Console) -> None:
    """Write the page on which a person hears and decides, or carry out what was decided there."""
    with opened(s) as buffer:
        if s.decisions is not None:
            made = read_decisions(Path(s.decisions))
            if not made.release + made.reject:
                raise KwsError(f"decisions={s.decisions}: holds no decision")
            summary.find(buffer.rows(None), [*made.release, *made.reject])  # all are there, or nothing is done
            back = buffer.decide(made.release, Decision.released)
            out = buffer.decide(made.reject, Decision.rejected)
            console.say(
                f"{len(made.release)} released ({back} of them are active now), "
                f"{len(made.reject)} rejected ({out} went out)"
            )
            return
        rows = chosen(s, buffer.rows(None), [State.quarantined])
        rows = [row for row in rows if buffer.path(row.hash).exists()]
        rows.sort(key=ORDERS[Order.score], reverse=True)
        shown = rows[: s.limit]
        path = Path(s.buffer) / "review.html" if s.out is None else Path(s.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_review(path, shown, buffer.audio, buffer.sample_rate, "Is it the keyword?", s.buffer)
    console.say(f"{len(shown)} of {len(rows)} clips to hear in {path}")
    console.say(f"save your decisions there, then: kws buffer review buffer={s.buffer} decisions=decisions.json")


def release(s: BufferConfig, console: Console) -> None:
    """A person says of clips that they are not the keyword: they are active from now on, whatever they score."""
    decide(s, console, Decision.released, [State.quarantined])


def retire(s: BufferConfig, console: Console) -> None:
    """A person says of clips that they shall never be drawn: they are out, and so is what repeats them."""
    decide(s, console, Decision.rejected, [State.active, State.quarantined])


def decide(s: BufferConfig, console: Console, decision: Decision, states: Sequence[State]) -> None:
    """Keep what a person says of the clips that are asked for."""
    if all(x is None for x in (s.clips, s.state, s.kind, s.keyword, s.source)):
        raise KwsError(f"clips=[...] must be given, or state, kind, keyword or source: which clips are {decision}")
    with opened(s) as buffer:
        rows = chosen(s, buffer.rows(None), states)
        if not rows:
            raise KwsError(
                f"{s.buffer}: no clip is so; kws buffer list shows what is there, and in a pipe with full names"
            )
        changed = buffer.decide([row.hash for row in rows], decision)
    console.say(f"{len(rows)} clips {decision}, {changed} of them changed their state")


def prune(s: BufferConfig, console: Console) -> None:
    """Delete the sound that nobody needs: of evicted clips, and what killed processes left."""
    freed = 0

    def tell(path: Path) -> None:
        nonlocal freed
        freed += path.stat().st_size

    with opened(s) as buffer:
        n = buffer.purge(s.min_age_s, s.retired, tell)
    console.say(f"{n} files deleted, {freed / 1e6:.1f} MB; the index still knows where their clips came from")


ACTIONS: Mapping[str, Callable[[BufferConfig, Console], None]] = {
    "stats": stats,
    "list": list_,
    "check": check,
    "export": export,
    "import": import_,
    "review": review,
    "release": release,
    "retire": retire,
    "prune": prune,
}

entry = verb("buffer", run)


def main() -> None:
    """`kws buffer ACTION key=value ...`: the action is a setting like any other, written as a word."""
    take_action("buffer", ACTIONS)
    entry()


if __name__ == "__main__":
    main()
