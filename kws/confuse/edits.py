"""Edits of strings, of letters or of phonemes: one symbol left out, put in or replaced, up to three times."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

MOST_EDITS = 3
PARENTS = 60  # strings that are edited on, of each round

T = TypeVar("T")


def edited(
    whole: tuple[T, ...],
    replacements: Callable[[T], Sequence[T]],
    additions: Sequence[T],
    fits: Callable[[tuple[T, ...]], bool],
    most: int,
    rng: np.random.Generator,
) -> list[tuple[T, ...]]:
    """Strings that fit, at 1 to 3 edits from `whole`: all at one edit, and some that the lot falls on at two and three.

    Args:
        whole: what is edited.
        replacements: what may stand in place of a symbol.
        additions: what may be put in.
        fits: whether a string is such as the language has.
        most: strings of each number of edits, at most.
        rng: draws which are edited on, and which are kept.
    """
    seen, found = {whole}, []
    level = [whole]
    for _ in range(MOST_EDITS):
        parents = [level[i] for i in rng.permutation(len(level))[:PARENTS]]
        new = dict.fromkeys(one for parent in parents for one in _once(parent, replacements, additions) if fits(one))
        level = [one for one in new if one not in seen]
        level = [level[i] for i in np.sort(rng.permutation(len(level))[:most])]
        seen.update(level)
        found += level
    return found


def _once(
    whole: tuple[T, ...], replacements: Callable[[T], Sequence[T]], additions: Sequence[T]
) -> Iterator[tuple[T, ...]]:
    """Everything at one edit from `whole`."""
    for i in range(len(whole) + 1):
        head, tail = whole[:i], whole[i:]
        yield from ((*head, one, *tail) for one in additions)
        if tail:
            yield (*head, *tail[1:])
            yield from ((*head, one, *tail[1:]) for one in replacements(tail[0]))
