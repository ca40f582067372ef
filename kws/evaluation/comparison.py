"""Significance of the difference between two detectors on the same streams."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from itertools import groupby

from scipy.special import bdtr

from kws.common.errors import KwsError
from kws.common.text import plural
from kws.evaluation.events import hits, trigger_times
from kws.evaluation.operating_points import threshold_for, wanted_text
from kws.evaluation.scoring import KeywordScores
from kws.evaluation.threshold_sweep import sweep

HEADER = ("threshold", "misses a / b", "missed only by a / b", "p", "false alarms a / b", "p")


@dataclass(frozen=True)
class Comparison:
    """Two detectors at one operating point each, on the same events and hours.

    `only_a` and `only_b` count the events that one detector alone misses; `p_misses` and `p_alarms` are two-sided.
    `wanted_fa_per_hour` is the rate of both thresholds, None at the calibrated thresholds.
    """

    wanted_fa_per_hour: float | None
    events: int
    misses_a: int
    misses_b: int
    only_a: int
    only_b: int
    p_misses: float
    hours: float
    alarms_a: int
    alarms_b: int
    p_alarms: float


def rows(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """Table rows below `HEADER`. Wanted rates with equal figures share a row, as they do where the hours are few."""
    cells: list[tuple[str, ...]] = []
    for _, same in groupby(comparisons, key=lambda one: (one.wanted_fa_per_hour is None, *astuple(one)[1:])):
        group = list(same)
        one = group[0]
        cells.append(
            (
                wanted_text([each.wanted_fa_per_hour for each in group]),
                f"{one.misses_a} / {one.misses_b}",
                f"{one.only_a} / {one.only_b}",
                _p_text(one.p_misses),
                f"{one.alarms_a} / {one.alarms_b}",
                _p_text(one.p_alarms),
            )
        )
    return cells


def named_rows(pairs: Mapping[str, Comparison]) -> list[tuple[str, ...]]:
    """Table rows of comparisons at the calibrated thresholds, each below its name."""
    return [(name, *rows([one])[0][1:]) for name, one in pairs.items()]


def _p_text(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def compare(
    a: KeywordScores, b: KeywordScores, thresholds: tuple[float, float], rates: Sequence[float], refractory_s: float
) -> list[Comparison]:
    """Compare two detectors at the calibrated thresholds, and at thresholds for equal false-alarm rates.

    Args:
        a, b: scores of the same streams.
        thresholds: of a and of b.
        rates: false alarms per hour.
        refractory_s: seconds of silence after each trigger.

    Raises:
        KwsError: the streams differ.
    """
    if a.spans != b.spans or a.negative.hours != b.negative.hours:
        raise KwsError("compare: the streams of the two detectors differ; both must have the same sample rate")
    swept = [sweep(scores.negative, refractory_s) for scores in (a, b)]
    comparisons = [_compare(a, b, thresholds, None, refractory_s)]
    for rate in rates:
        own = (threshold_for(swept[0], rate), threshold_for(swept[1], rate))
        comparisons.append(_compare(a, b, own, rate, refractory_s))
    return comparisons


def _compare(
    a: KeywordScores, b: KeywordScores, thresholds: tuple[float, float], wanted: float | None, refractory_s: float
) -> Comparison:
    hit, alarms = [], []
    for scores, threshold in zip((a, b), thresholds, strict=True):
        hit.append(hits(trigger_times(scores.positive, threshold, refractory_s), scores.spans))
        alarms.append(len(trigger_times(scores.negative, threshold, refractory_s)))
    only_a, only_b = int((~hit[0] & hit[1]).sum()), int((hit[0] & ~hit[1]).sum())
    return Comparison(
        wanted_fa_per_hour=wanted,
        events=len(a.spans),
        misses_a=int((~hit[0]).sum()),
        misses_b=int((~hit[1]).sum()),
        only_a=only_a,
        only_b=only_b,
        p_misses=sign_test(only_a, only_b),
        hours=a.negative.hours,
        alarms_a=alarms[0],
        alarms_b=alarms[1],
        p_alarms=sign_test(*alarms),
    )


def verdict(pairs: Sequence[Comparison], clips: int, triggers_a: int, triggers_b: int) -> str:
    """Whether detector b may replace detector a, in one sentence. Counts are summed over keywords and splits.

    Do not ship it: it has significantly more misses, false alarms, or triggers on the clips that it was trained on.
    Ship it: it has significantly fewer of one of these.

    Args:
        pairs: comparisons at the calibrated thresholds, of different events and hours.
        clips: in the replay buffer of b.
        triggers_a, triggers_b: how many of them trigger a and b.
    """
    only = sum(one.only_a for one in pairs), sum(one.only_b for one in pairs)
    missed = sum(one.misses_a for one in pairs), sum(one.misses_b for one in pairs)
    alarms = sum(one.alarms_a for one in pairs), sum(one.alarms_b for one in pairs)
    events, hours = sum(one.events for one in pairs), sum(one.hours for one in pairs)
    figures = (
        f"it misses {plural(missed[1], 'keyword', events)} (before {missed[0]}), "
        f"has {plural(alarms[1], 'false alarm')} in {hours:.2f} h (before {alarms[0]}), and "
        f"{triggers_b} of the {plural(clips, 'clip')} that it was trained on trigger it (before {triggers_a})"
    )
    worse = (("misses", only), ("false alarms", alarms), ("triggers on those clips", (triggers_a, triggers_b)))
    for name, (before, after) in worse:
        if after > before and sign_test(before, after) < 0.05:
            p = sign_test(before, after)
            return f"Do not ship it: {figures}. More {name} than chance explains (p {_p_text(p)} in all splits)."
    for before, after in (only, alarms, (triggers_a, triggers_b)):
        if after < before and sign_test(before, after) < 0.05:
            return f"Ship it: {figures}. Nothing is worse than chance explains."
    return f"Keep the old one: {figures}. Any gain may be chance."


def misses_too_many(pairs: Sequence[Comparison], max_miss_rate: float) -> bool:
    """Whether detector b misses more than a share of the keywords, and more than detector a.

    Where a misses more than that share already, b must miss more than chance explains. Counts are summed over pairs.
    """
    missed_a, missed_b = sum(one.misses_a for one in pairs), sum(one.misses_b for one in pairs)
    allowed = max_miss_rate * sum(one.events for one in pairs)
    if missed_b <= max(allowed, missed_a):
        return False
    only = sum(one.only_a for one in pairs), sum(one.only_b for one in pairs)
    return missed_a <= allowed or sign_test(*only) < 0.05


def sign_test(a: int, b: int) -> float:
    """Two-sided p-value of the split a to b of a + b fair coin tosses; 1 without a toss.

    For misses on the same events this is McNemar's exact test (Psychometrika, 1947), for Poisson counts over the same
    hours the exact conditional test (Przyborowski and Wilenski, Biometrika, 1940).
    """
    return min(1.0, 2 * float(bdtr(min(a, b), a + b, 0.5)))
