"""Tables of a replay buffer: counts, scores by round, and a line for each clip."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from kws.common.errors import KwsError
from kws.replay.records import BufferClip

HEADER = ("clip", "kind", "keyword", "state", "found", "now", "loss", "drawn", "recording", "reason or text")


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


def line(row: BufferClip) -> tuple[str, ...]:
    """A clip as a line of a table, below `HEADER`."""
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
            raise KwsError(
                f"clips={given}: must be the beginning of one hash, and {len(matches) or 'no'} clips begin so; "
                'quote what reads as a number: clips=["12e4"]'
            )
        found += matches
    return found
