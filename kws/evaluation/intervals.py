"""Intervals for what was counted: misses among events, false alarms in hours.

A rate without its interval says nothing here: test streams are short and alarms are few.
"""

import math

from scipy.stats import chi2

_Z = 1.96  # the 97.5 % point of the normal distribution, rounded as everybody rounds it


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion of which `k` of `n` trials are known.

    Args:
        k: times it happened, 0..n.
        n: trials; with none at all, anything is possible: (0, 1).

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be in 0..n={n}, not {k}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = k / n, _Z * _Z
    mid, half = p + z2 / (2 * n), _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (mid - half) / (1 + z2 / n), (mid + half) / (1 + z2 / n)
    # At k = 0 and k = n one end is exact; rounding must not push it past.
    return (0.0 if k == 0 else low), (1.0 if k == n else high)


def poisson(k: int, exposure: float) -> tuple[float, float]:
    """Exact two-sided 95 % interval of the rate of a Poisson process that gave `k` events in `exposure`.

    Args:
        k: events seen, 0 or more.
        exposure: how long was watched, above 0; in hours, the rate is per hour.

    Source: Garwood, "Fiducial limits for the Poisson distribution", Biometrika 1936.
    """
    _check(k, exposure)
    low = float(chi2.ppf(0.025, 2 * k)) / 2 if k else 0.0  # no event seen: nothing speaks against a rate of 0
    return low / exposure, float(chi2.ppf(0.975, 2 * k + 2)) / 2 / exposure


def poisson_upper(k: int, exposure: float) -> float:
    """One-sided 95 % upper bound of the same rate: with no event in h hours it is 3/h (2.996).

    Args:
        k: events seen, 0 or more.
        exposure: how long was watched, above 0; in hours, the bound is per hour.

    Source: Garwood 1936, as `poisson`.
    """
    _check(k, exposure)
    return float(chi2.ppf(0.95, 2 * k + 2)) / 2 / exposure


def evidence(k: int, hours: float, wanted: float) -> str:
    """What `k` alarms in so many hours show, and the hours that a wanted rate would take, in words.

    Args:
        k: alarms, 0 or more.
        hours: above 0.
        wanted: alarms an hour, 0 or more.
    """
    text = f"{k} alarm{'s' * (k != 1)} in {hours:.2f} h shows only < {rate_text(poisson_upper(k, hours))}/h"
    if wanted == 0:
        return f"{text}; no stream is long enough to show 0/h"
    if poisson_upper(k, hours) <= wanted:
        return text
    needed = poisson_upper(0, wanted)
    return f"{text}; {needed:.{0 if needed >= 10 else 1}f} h with no alarm are needed to show {wanted:g}/h"


def rate_text(rate: float) -> str:
    """A rate for people, no finer than its interval deserves: 0.04, 1.4, 133."""
    return f"{rate:.2f}" if rate < 1 else f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def _check(k: int, exposure: float) -> None:
    if k < 0 or not 0 < exposure < math.inf:
        raise ValueError(f"k must be 0 or more and the exposure above 0, not {k} and {exposure}")
