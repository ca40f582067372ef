"""kws buffer: inspect a replay buffer, decide about its clips, export and import them."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from shlex import quote

from kws.commands.builders import say_faults
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.settings import SettingError
from kws.common.text import plural
from kws.config.app import with_actions
from kws.config.schema import BufferConfig, Order
from kws.replay import exchange, importing
from kws.replay.buffer import INDEX, Buffer, BufferClip, Decision, Kind, State
from kws.replay.review import Decisions, read_decisions, write_review
from kws.runs.lock import working
from kws.training.metrics import read_columns

HEADER = ("clip", "kind", "keyword", "state", "found", "now", "loss", "drawn", "recording", "reason or text")
ORDERS: Mapping[Order, Callable[[BufferClip], float]] = {
    Order.score: lambda row: row.hardness,
    Order.drawn: lambda row: row.times_drawn,
    Order.loss: lambda row: -1.0 if row.last_loss is None else row.last_loss,
}


def opened(s: BufferConfig) -> Buffer:
    """The buffer. Raises KwsError if there is none."""
    if not (Path(s.buffer) / INDEX).is_file():
        raise SettingError("buffer", s.buffer, f"must be the folder of a replay buffer, with {INDEX}")
    return Buffer(Path(s.buffer))


def chosen(s: BufferConfig, rows: Sequence[BufferClip], states: Sequence[State]) -> list[BufferClip]:
    """The clips of `clips`, or all in these states that pass the filters."""
    if s.clips is not None:
        filters = {"state": s.state, "kind": s.kind, "keyword": s.keyword, "source": s.source}
        for key, value in filters.items():
            if value is not None:
                raise SettingError(key, value, "must be null with clips=[...]")
        beginnings = s.clips if isinstance(s.clips, list) else [s.clips]
        if not all(isinstance(one, str) for one in beginnings):
            raise SettingError("clips", s.clips, "must be beginnings of hashes")
        return find(rows, beginnings)
    among = states if s.state is None else [s.state]
    return [
        row
        for row in rows
        if row.state in among
        and s.kind in (None, row.kind)
        and s.keyword in (None, row.keyword)
        and s.source in (None, row.source.name)
    ]


def counts(
    rows: Iterable[BufferClip], group: Callable[[BufferClip], str], within: Callable[[BufferClip], str]
) -> Mapping[str, Mapping[str, int]]:
    """Number of clips by group and by a second property, both in the order of the rows."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        found[group(row)][within(row)] += 1
    return found


def scores_by_round(rows: Iterable[BufferClip], later: Iterable[tuple[str, str, int, float]]) -> dict[str, list[float]]:
    """Scores of each round, of clips found in it and of clips scored again, in the order of the rounds of each run.

    Args:
        rows: the clips.
        later: hash, run, round and score, from `Buffer.score_history`.
    """
    given = [(row.run, row.round, row.score) for row in rows if row.score is not None]
    given += [(run, round_, score) for _, run, round_, score in later]
    runs = list(dict.fromkeys(run for run, _, _ in given))
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    for run, number, score in given:
        found[runs.index(run), number].append(score)
    return {
        str(number) if len(runs) == 1 else f"{runs[run]} {number}": found[run, number] for run, number in sorted(found)
    }


def cells(row: BufferClip) -> tuple[str, ...]:
    """A clip as a row of the table of `list`, below `HEADER`."""
    return (
        row.hash[:8],
        row.kind,
        row.keyword,
        f"{row.state} ({row.decision})" if row.decision else row.state,
        *("-" if x is None else f"{x:.2f}" for x in (row.score, row.score_now, row.last_loss)),
        str(row.times_drawn),
        f"{row.source.name} {row.offset_s:.2f} s",
        row.reason or row.text,
    )


def find(rows: Sequence[BufferClip], beginnings: Sequence[str]) -> list[BufferClip]:
    """The clip whose hash begins with each of these texts.

    Raises:
        KwsError: no clip or several clips begin so, or no text is given.
    """
    if not beginnings:
        raise KwsError("clips=[]: must name at least one clip")
    found = []
    for given in beginnings:
        matches = [row for row in rows if given and row.hash.startswith(given)]
        if len(matches) != 1:
            count = len(matches) or "no"
            raise KwsError(f"clips={given}: must be the beginning of one hash, and {count} clips begin so")
        found += matches
    return found


def stats(s: BufferConfig, console: Console) -> None:
    """Print counts by state, kind and recording; draw figures if `plots` is given."""
    with opened(s) as buffer:
        rows, rate, later = buffer.rows(None), buffer.sample_rate, buffer.score_history()
    rows.sort(key=lambda row: list(State).index(row.state))
    kinds = list(dict.fromkeys(row.kind for row in rows))
    lines = []
    for state, line in counts(rows, lambda row: row.state, lambda row: row.kind).items():
        minutes = sum(row.n_samples for row in rows if row.state == state) / rate / 60
        lines.append((state, *(str(line.get(kind, 0)) for kind in kinds), str(sum(line.values())), f"{minutes:.1f}"))
    console.table(f"{s.buffer}", ("state", *kinds, "all", "minutes"), lines)
    active = [row for row in rows if row.state is State.active]
    if active:
        most = Counter(row.source.name for row in active).most_common(10)
        console.table("active clips by recording", ("recording", "clips"), [(name, str(n)) for name, n in most])
        drawn = [row.times_drawn for row in active]
        console.say(f"sampled {sum(drawn) / len(drawn):.1f} times per active clip, {drawn.count(0)} of them never")
    for decision in (Decision.released, Decision.rejected):
        if n := sum(row.decision is decision for row in rows):
            console.say(f"{decision} by a user: {n}")
    if s.plots is not None:
        draw(s, Path(s.plots), rows, scores_by_round(rows, later), console)


def draw(
    s: BufferConfig, out: Path, rows: Sequence[BufferClip], scores: Mapping[str, list[float]], console: Console
) -> None:
    """Write the figures of `stats` as PNG files."""
    from kws.replay import plots  # matplotlib is slow to import

    kinds = counts(rows, lambda row: row.kind, lambda row: row.state)
    sources = counts(rows, lambda row: row.source.name, lambda row: row.state)
    figures = {
        "scores.png": plots.scores_by_round(scores),
        "kinds.png": plots.counts("clips by kind", kinds),
        "sources.png": plots.counts("clips by recording", sources),
    }
    curves = Path(s.buffer).absolute().parent / "metrics.csv" if s.curves is None else Path(s.curves)
    if s.curves is not None or curves.is_file():
        read = read_columns(curves, ("step", "share", "replayed", "batch", "buffer"))
        replayed = [n / of for n, of in zip(read["replayed"], read["batch"], strict=True)]
        steps, size = ([int(x) for x in read[name]] for name in ("step", "buffer"))
        figures["share.png"] = plots.share_over_time(steps, read["share"], replayed, size)
    out.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(out / name)
        console.say(f"figure    {out / name}")


def list_(s: BufferConfig, console: Console) -> None:
    """Print the clips, one a line."""
    with opened(s) as buffer:
        rows = chosen(s, buffer.rows(None), [state for state in State if state is not State.evicted])
    if s.sort is Order.age:
        rows.reverse()  # the newest first
    else:
        rows.sort(key=ORDERS[s.sort], reverse=True)
    shown = rows[: s.limit]
    lines = [HEADER, *(cells(row) for row in shown)]
    title = f"{s.buffer}: {plural(len(rows), 'clip')}"
    if len(keywords := {row.keyword for row in rows}) == 1:
        title += f" of {keywords.pop()}"
        lines = [line[:2] + line[3:] for line in lines]
    console.say(title)
    console.lines(lines[0], lines[1:], cut=2, from_left=len(lines[0]) - 2)
    if len(shown) < len(rows):
        console.say(f"{len(rows) - len(shown)} more are not shown; limit=null shows all")


def check(s: BufferConfig, console: Console) -> None:
    """Verify that index and files agree, and that no clip comes from a held-out recording."""
    with opened(s) as buffer:
        n = len(buffer.rows(None))
        with console.progress("Checking", n) as tick:
            problems, leftovers = buffer.check(tick), buffer.leftovers()
            tick(n)
    for problem in problems:
        console.warn(problem)
    if problems:
        raise KwsError(f"{s.buffer}: {plural(len(problems), 'problem')}, named above")
    for path in leftovers:
        console.say(f"{path}: left by a killed process, or being written; kws buffer prune deletes old ones")
    console.say(
        f"{s.buffer}: good; {plural(n, 'clip')}, index and files agree, none comes from a validation or test recording"
    )


def export(s: BufferConfig, console: Console) -> None:
    """Write clips with their provenance to a folder that `import` reads."""
    if s.out is None:
        raise KwsError("out=... must be given: a new folder, such as out=hard-negatives")
    if s.clips or s.kind or s.keyword or s.source:
        raise KwsError("clips, kind, keyword, source: must be null for export, which selects by state only")
    with opened(s) as buffer, console.progress("Exporting", len(buffer.rows(None))) as tick:
        n = exchange.export(buffer, Path(s.out), s.state, tick)
    console.say(f"{plural(n, 'clip')} in {s.out}; kws buffer import {quote(f'folder={s.out}')} buffer=... reads them")


def import_(s: BufferConfig, console: Console) -> None:
    """Add the clips of an export, or a folder of recordings."""
    if s.folder is None:
        raise KwsError("folder=... must be given: an export of kws buffer, or recordings that are not the keyword")
    folder = Path(s.folder)
    if not folder.is_dir():
        raise KwsError(f"folder={folder}: must be a folder that exists")
    if exchange.is_export(folder):
        with console.progress("Importing", sum(1 for _ in (folder / "clips").glob("*.flac"))) as tick:
            new, known = exchange.restore(lambda rate: Buffer(Path(s.buffer), None, rate), folder, tick)
        console.say(f"{plural(new, 'new clip')} in {s.buffer}, {known} known before")
    else:
        import_recordings(s, folder, console)


def import_recordings(s: BufferConfig, folder: Path, console: Console) -> None:
    """Add recordings as clips of a user."""
    kind = s.kind or Kind.user
    if kind not in (Kind.user, Kind.confusable):
        raise SettingError("kind", kind, f"must be {Kind.user} or {Kind.confusable} for imported recordings")
    if not s.keyword:
        raise KwsError(
            "keyword=... must be given: the keyword that the recordings are not, though they may resemble it"
        )
    rate = s.sample_rate
    if (Path(s.buffer) / INDEX).is_file():
        with opened(s) as buffer:
            rate = buffer.sample_rate
    with console.progress("Reading recordings", 0) as tick:
        found, bad, faults = importing.read_recordings(
            folder, kind, s.keyword, s.text or "", rate, lambda n, of: tick(n, total=of)
        )
    say_faults(console, faults)
    for broken in bad:
        console.warn(f"{broken.name}: not read: {broken.reason}")
    if len(bad) > s.max_undecodable * (len(bad) + len(found)):
        raise KwsError(
            f"folder={folder}: {len(bad)} of {len(bad) + len(found)} recordings have no usable sound, more than "
            f"max_undecodable={s.max_undecodable:g}"
        )
    with Buffer(Path(s.buffer), None, rate, match=s.transcript_match) as buffer:
        added = buffer.add(found)
    console.say(f"{plural(len(added.new), 'new clip')} in {s.buffer}, {added.known} known before")
    if bad:
        console.warn(f"left out, no usable sound: {plural(len(bad), 'recording')}")
    if added.quarantined:
        console.say(f"in quarantine, with {s.keyword} in the text: {plural(len(added.quarantined), 'clip')}")


def review(s: BufferConfig, console: Console) -> None:
    """Write the page on which a user listens and decides, or apply the decisions saved on it."""
    with opened(s) as buffer:
        if s.decisions is not None:
            made = read_decisions(Path(s.decisions), Decisions)
            find(buffer.rows(None), [*made.release, *made.reject])  # all are known, or nothing is done
            back = buffer.decide(made.release, Decision.released)
            out = buffer.decide(made.reject, Decision.rejected)
            console.say(
                f"{len(made.release)} released ({back} of them became active), "
                f"{len(made.reject)} rejected ({out} of them retired)"
            )
            return
        rows = chosen(s, buffer.rows(None), [State.quarantined])
        rows = [row for row in rows if buffer.path(row.hash).exists()]
        rows.sort(key=ORDERS[Order.score], reverse=True)
        shown = rows[: s.limit]
        path = Path(s.buffer) / "review.html" if s.out is None else Path(s.out)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_review(path, shown, buffer.audio, buffer.sample_rate, "Is it the keyword?", s.buffer)
    console.say(f"{plural(len(shown), 'clip', len(rows))} to review in {path}")
    console.say(
        f"save your decisions there, then: kws buffer review {quote(f'buffer={s.buffer}')} decisions=decisions.json"
    )


def release(s: BufferConfig, console: Console) -> None:
    """Activate clips that a user knows not to be the keyword, whatever their scores."""
    decide(s, console, Decision.released, [State.quarantined])


def retire(s: BufferConfig, console: Console) -> None:
    """Retire clips that a user rejects. Their near-duplicates are not added either."""
    decide(s, console, Decision.rejected, [State.active, State.quarantined])


def decide(s: BufferConfig, console: Console, decision: Decision, states: Sequence[State]) -> None:
    """Store a decision about the chosen clips."""
    if all(x is None for x in (s.clips, s.state, s.kind, s.keyword, s.source)):
        raise KwsError(f"clips=[...] must be given, or state, kind, keyword or source: which clips are {decision}")
    with opened(s) as buffer:
        rows = chosen(s, buffer.rows(None), states)
        if not rows:
            raise KwsError(f"{s.buffer}: no such clip; kws buffer list shows all, in a pipe with full names")
        changed = buffer.decide([row.hash for row in rows], decision)
    console.say(f"{plural(len(rows), 'clip')} {decision}, {changed} with another state than before")


def prune(s: BufferConfig, console: Console) -> None:
    """Delete the files of evicted clips, and those left by killed processes."""
    if (holder := working(Path(s.buffer).resolve().parent)) is not None:  # a run samples from the buffer in its folder
        raise KwsError(f"buffer={s.buffer}: the run beside it is at work ({holder}); prune once it has ended")
    sizes: list[int] = []
    with opened(s) as buffer:
        n = buffer.purge(s.min_age_s, s.retired, lambda path: sizes.append(path.stat().st_size))
    console.say(
        f"{plural(n, 'file')} deleted, {sum(sizes) / 1e6:.1f} MB; the index keeps the provenance of their clips"
    )


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

main = with_actions("buffer", ACTIONS)
