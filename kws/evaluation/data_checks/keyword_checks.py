"""Checks of the keyword in its recordings: where it is, how often, how long."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from kws.common.text import plural
from kws.data.keyword_location import Doubt
from kws.evaluation.data_checks.finding import Case, Finding, Level

_FEWEST = 10  # keywords with which a length is unusual
_SHORT, _LONG = 0.5, 1.8  # against the median length
_BOUNDS = "Set the bounds on the page, or give the columns start and end of a manifest."


def doubtful(doubts: Sequence[Doubt]) -> list[Finding]:
    """Recordings that are left out, because nothing shows where the keyword is."""
    if not doubts:
        return []
    n = len(doubts)
    text = f"where the keyword is, is doubtful in {plural(n, 'recording')}, left out"
    cases = [Case(one.name, f"{one.reason}; {one.start_s:.2f} to {one.end_s:.2f} s?") for one in doubts]
    return [Finding("doubtful bounds", Level.fault, text, _BOUNDS, cases)]


def repeated(names: Sequence[str], n: int) -> list[Finding]:
    """Recordings, of `n` in all, that may hold the keyword more than once; one of them is used."""
    if not names:
        return []
    text = f"{plural(len(names), 'keyword recording', n)} may hold the keyword more than once; one of them is used"
    mend = f"Listen, and cut them. {_BOUNDS}"
    return [Finding("several keywords", Level.warning, text, mend, [Case(name) for name in names])]


def lengths(keyword: str, seconds: Mapping[str, float]) -> list[Finding]:
    """Keywords much shorter or longer than most.

    Args:
        keyword: label.
        seconds: length of the keyword by recording.
    """
    if len(seconds) < _FEWEST:
        return []
    median = float(np.median(list(seconds.values())))
    found = []
    for check, word, low, high in [
        ("short keywords", "shorter", 0.0, _SHORT * median),
        ("long keywords", "longer", _LONG * median, math.inf),
    ]:
        cases = [Case(name, f"{s:.2f} s") for name, s in seconds.items() if low < s < high]
        if cases:
            text = f"{plural(len(cases), 'recording', len(seconds))} of {keyword!r} {_hold(len(cases))} a much {word} "
            text += f"keyword than most, which take {median:.2f} s"
            found.append(Finding(check, Level.warning, text, f"Listen whether the word is whole. {_BOUNDS}", cases))
    return found


def _hold(n: int) -> str:
    return "holds" if n == 1 else "hold"
