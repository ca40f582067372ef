"""The threshold slider of the page: the counts at every threshold of the exact sweep, as plain values."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.evaluation.report.det import lived
from kws.evaluation.results import Outcome


def sweep_values(o: Outcome, places: NDArray[np.float64] | None = None) -> dict[str, Any]:
    """What the slider of an outcome shows. Each stop of the slider changes a count.

    Args:
        o: the outcome.
        places: of the entries of its curve in the DET plot, see `DetPlot`; None where it has none.

    Returns:
        `stops`: threshold (text), misses, false alarms, and the place if there is one, from the lowest threshold;
        `start`: number of the stop of the calibrated threshold; `misses` and `alarms`: text by count, with 95 %
        interval. No names are in it.
    """
    curve, shown = o.curve, lived(o)
    ends = np.append(curve.thresholds[1:], math.inf)[shown].tolist()
    stops: list[list[Any]] = [
        [low, high, misses, alarms]
        for low, high, misses, alarms in zip(
            curve.thresholds[shown].tolist(),
            ends,
            curve.misses[shown].tolist(),
            curve.false_alarms[shown].tolist(),
            strict=True,
        )
    ]
    at: list[Sequence[float]] = [] if places is None else np.round(places[shown], 4).tolist()
    start = max(0, int(np.searchsorted(curve.thresholds[shown], o.own.threshold, side="right")) - 1)
    named = {start: o.own.threshold}  # any threshold of a stop has its counts; there it is the one that is set
    return {
        "start": start,
        "stops": [
            [shortest(named.get(i, low), low, high), *counts, *(at[i] if at else ())]
            for i, (low, high, *counts) in enumerate(stops)
        ],
        "misses": {n: proportion_text(n, curve.events) for n in {stop[2] for stop in stops}},
        "alarms": {n: false_alarms_text(n, curve.hours) for n in {stop[3] for stop in stops}},
    }


def shortest(threshold: float, low: float, high: float) -> str:
    """A threshold with the fewest decimals, at least four, from `low` to below `high`, in float32 too: a detector
    compares in float32.
    """
    single = np.float32(threshold)
    above = float(single if float(single) >= threshold else np.nextafter(single, np.float32(np.inf)))
    for digits in range(4, 17):
        for number in (round(threshold, digits), math.ceil(above * 10**digits) / 10**digits):
            if low <= number < high and low <= float(np.float32(number)) < high:
                return f"{number:.{digits}f}"
    return repr(threshold)
