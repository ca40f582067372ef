"""Two detectors on the same streams: do they differ by more than chance?"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from itertools import groupby

from scipy.stats import binomtest

from kws.common.errors import KwsError
from kws.evaluation.events import fires, hits
from kws.evaluation.operating_points import threshold_for
from kws.evaluation.scoring import KeywordScores
from kws.evaluation.threshold_sweep import sweep

HEADER = ("at", "misses a / b", "alone a / b", "p", "alarms a / b", "p")


@dataclass(frozen=True)
class Pair:
    """Two detectors at one operating point each, on the same events and hours.

    `only_a` and `only_b` are the events that only the one misses; `p_misses` and `p_alarms` are two-sided.
    `wanted_fa_per_hour` is the rate that both thresholds were set for, None at the detectors' own thresholds.
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


def table(pairs: Sequence[Pair]) -> list[tuple[str, ...]]:
    """Rows below `HEADER`; rates at which nothing differs, as where the hours are few, share one."""
    rows: list[tuple[str, ...]] = []
    for _, same in groupby(pairs, key=lambda pair: (pair.wanted_fa_per_hour is None, *astuple(pair)[1:])):
        first, *others = same
        at = "as set"
        if first.wanted_fa_per_hour is not None:
            rates = dict.fromkeys((first.wanted_fa_per_hour, (others or [first])[-1].wanted_fa_per_hour))
            at = "-".join(f"{rate:g}" for rate in rates) + "/h"
        misses = f"{first.misses_a} / {first.misses_b}"
        alarms = f"{first.alarms_a} / {first.alarms_b}"
        alone = f"{first.only_a} / {first.only_b}"
        rows.append((at, misses, alone, _p(first.p_misses), alarms, _p(first.p_alarms)))
    return rows


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.0005 else "<0.001"


def compare(
    a: KeywordScores, b: KeywordScores, thresholds: tuple[float, float], rates: Sequence[float], refractory_s: float
) -> list[Pair]:
    """Compare two detectors at their own thresholds, and at those that allow each the same false alarms.

    Args:
        a, b: what each made of the same streams.
        thresholds: of a and of b.
        rates: false alarms an hour.
        refractory_s: seconds of silence after each firing.

    Raises:
        KwsError: the streams are not the same.
    """
    if a.spans != b.spans or a.negative.hours != b.negative.hours:
        raise KwsError("compare: the two heard different streams; detectors of one sample rate are expected")
    found = [_pair(a, b, thresholds, None, refractory_s)]
    swept = [sweep(heard.negative, refractory_s) for heard in (a, b)]
    for rate in rates:
        equal = [threshold_for(negative, rate) for negative in swept]
        found.append(_pair(a, b, (equal[0], equal[1]), rate, refractory_s))
    return found


def _pair(
    a: KeywordScores, b: KeywordScores, thresholds: tuple[float, float], wanted: float | None, refractory_s: float
) -> Pair:
    hit, alarms = [], []
    for heard, threshold in zip((a, b), thresholds, strict=True):
        hit.append(hits(fires(heard.positive.times, heard.positive.scores, threshold, refractory_s), heard.spans))
        alarms.append(len(fires(heard.negative.times, heard.negative.scores, threshold, refractory_s)))
    only_a, only_b = int((~hit[0] & hit[1]).sum()), int((hit[0] & ~hit[1]).sum())
    return Pair(
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


def sign_test(a: int, b: int) -> float:
    """How often a fair coin, thrown a + b times, falls as unevenly as a to b; 1 where it was not thrown.

    Of two detectors on the same events this is McNemar's exact test (Psychometrika, 1947), of two Poisson counts over
    the same hours the exact conditional test (Przyborowski and Wilenski, Biometrika, 1940).
    """
    return float(binomtest(a, a + b, 0.5).pvalue) if a + b else 1.0
