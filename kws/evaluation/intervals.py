"""95 % intervals of miss rates and false-alarm rates, and their text in tables."""

import math

from scipy.special import gammaincinv  # scipy.stats takes a second to import

_Z = 1.96  # the 97.5 % point of the normal distribution
FEWEST, SHORTEST_H = 3, 0.05  # trials and hours of a rate that tables give: 1/1 is no 100 %, an alarm in 15 s no 240/h


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion, from `k` of `n` trials.

    Args:
        k: successes, 0 to n.
        n: trials; without a trial the interval is (0, 1).

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 1927.
    """
    if not 0 <= k <= n:
        raise ValueError(f"k must be between 0 and n={n}, not {k}")
    if n == 0:
        return 0.0, 1.0
    p, z2 = k / n, _Z * _Z
    mid, half = p + z2 / (2 * n), _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    low, high = (mid - half) / (1 + z2 / n), (mid + half) / (1 + z2 / n)
    # At k = 0 and k = n one end is exact; rounding must not push the end further.
    return (0.0 if k == 0 else low), (1.0 if k == n else high)


def poisson(k: int, exposure: float) -> tuple[float, float]:
    """Exact two-sided 95 % interval of the rate of a Poisson process.

    Args:
        k: events counted, 0 or more.
        exposure: length of the observation, above 0; in hours, the rate is per hour.

    Source: Garwood, "Fiducial limits for the Poisson distribution", Biometrika 1936.
    """
    if k < 0 or not 0 < exposure < math.inf:
        raise ValueError(f"k must be 0 or more and the exposure above 0, not {k} and {exposure}")
    low = gammaincinv(k, 0.025) if k else 0.0  # without an event the rate may be 0
    return float(low) / exposure, float(gammaincinv(k + 1, 0.975)) / exposure


def rate_text(rate: float) -> str:
    """A rate with the digits that its interval supports: 0.04, 1.4, 133."""
    return f"{rate:.2f}" if rate < 1 else f"{rate:.1f}" if rate < 100 else f"{rate:.0f}"


def duration_text(hours: float) -> str:
    """A duration with its unit: 113 h, 2.85 h, 31 min, 42 s."""
    if hours >= 1:
        return f"{hours:.{0 if hours >= 100 else 2}f} h"
    return f"{60 * hours:.0f} min" if hours >= 1 / 30 else f"{3600 * hours:.0f} s"


def proportion_text(k: int, n: int) -> str:
    """A proportion with its counts and 95 % interval: 6/64 = 9.4 % [4.4, 19.0]; of one or two trials the counts alone,
    a dash without a trial.
    """
    if n < FEWEST:
        return f"{k}/{n}" if n else "-"
    low, high = wilson(k, n)
    return f"{k}/{n} = {100 * k / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


def false_alarms_text(k: int, hours: float) -> str:
    """A false-alarm rate with its count, hours and 95 % interval: 1 in 2.85 h = 0.35/h [0.01, 2.0]; of less than three
    minutes the count alone, a dash without hours.
    """
    if hours < SHORTEST_H:
        return f"{k} in {duration_text(hours)}" if hours else "-"
    low, high = poisson(k, hours)
    return f"{k} in {duration_text(hours)} = {rate_text(k / hours)}/h [{rate_text(low)}, {rate_text(high)}]"
