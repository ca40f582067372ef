"""What tables and pictures of a replay buffer show: counts, scores by round, a line a clip."""

from collections.abc import Callable, Iterable, Sequence

from kws.common.errors import KwsError
from kws.replay.records import BufferClip

HEADER = ("clip", "kind", "keyword", "state", "found", "now", "loss", "drawn", "recording", "reason or text")


def counts(
    rows: Iterable[BufferClip], group: Callable[[BufferClip], str], within: Callable[[BufferClip], str]
) -> dict[str, dict[str, int]]:
    """How many clips there are in each group, by what they are within it, both in the order they came in."""
    found: dict[str, dict[str, int]] = {}
    for row in rows:
        line = found.setdefault(str(group(row)), {})
        name = str(within(row))
        line[name] = line.get(name, 0) + 1
    return found


def scores_by_round(rows: Iterable[BufferClip], heard: Iterable[tuple[str, str, int, float]]) -> dict[str, list[float]]:
    """Every score that a round gave, to what it found and to what it heard again, the rounds of a run in their order.

    Args:
        rows: the clips.
        heard: hash, run, round and score, as `Buffer.score_history` has them.
    """
    given = [(row.run, row.round, row.score) for row in rows if row.score is not None]
    given += [(run, round_, score) for _, run, round_, score in heard]
    runs = list(dict.fromkeys(run for run, _, _ in given))
    found: dict[tuple[int, int], list[float]] = {}
    for run, number, score in given:
        found.setdefault((runs.index(run), number), []).append(score)
    names = {key: str(key[1]) if len(runs) == 1 else f"{runs[key[0]]} {key[1]}" for key in sorted(found)}
    return {name: found[key] for key, name in names.items()}


def line(row: BufferClip) -> tuple[str, ...]:
    """A clip as a line of a table, below `HEADER`."""
    numbers = (row.score, row.score_now, row.last_loss)
    return (
        row.hash[:8],
        row.kind,
        row.keyword,
        row.state if not row.decision else f"{row.state} ({row.decision})",
        *("-" if x is None else f"{x:.2f}" for x in numbers),
        str(row.times_drawn),
        f"{row.source.name} {row.offset_s:.2f} s",
        row.reason or row.text,
    )


def find(rows: Sequence[BufferClip], beginnings: Sequence[str]) -> list[BufferClip]:
    """The clips whose hashes begin so, in that order.

    Raises:
        KwsError: no clip does, or several do, or nothing is given.
    """
    if not beginnings:
        raise KwsError("clips=[]: allowed is at least one clip")
    found = []
    for given in beginnings:
        begun = [row for row in rows if given and row.hash.startswith(given)]
        if len(begun) != 1:
            raise KwsError(
                f"clips: {given!r} begins {len(begun) or 'no'} clips, it must be one; what reads like a number needs "
                'quotes, such as clips=["12e4"]'
            )
        found += begun
    return found
