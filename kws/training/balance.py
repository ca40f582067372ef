"""How much the negatives of a batch weigh, tied to the false alarms that are measured while a model trains."""

from dataclasses import dataclass

from kws.evaluation.validation import ValidationCounts


@dataclass(frozen=True)
class Tie:
    """What a tied weight is steered by; see conf/optim.

    Args:
        every: steps between two looks, at least 1.
        target_fa_per_hour: false alarms on the validation streams above which the weight rises, at least 0.
        miss_rate: misses of held-out positives above which it falls, 0 to 1.
        factor: by which it rises and falls, above 1.
        least, most: its limits, above 0; it begins at `least`.
    """

    every: int
    target_fa_per_hour: float
    miss_rate: float
    factor: float
    least: float
    most: float


def next_weight(weight: float, seen: ValidationCounts, tie: Tie) -> tuple[float, str]:
    """The next weight, and the reason for it.

    It rises while there are too many false alarms and the misses are within their guard, and falls back otherwise: what
    is within bounds needs no more than the least. By a factor either way, since what counts is the ratio to the
    positives' weight, 1; openWakeWord doubles its weight of negatives between two trainings in the same case.

    Args:
        weight: as it stands, within the limits.
        seen: counts at the score from which one counts.
        tie: the rule.
    """
    missed = f"{seen.misses} of {seen.events} held-out positives missed"
    alarms = f"{seen.false_alarms} false alarms in {seen.hours:.2f} h"
    lower, back = max(tie.least, weight / tie.factor), "stays at its least" if weight <= tie.least else "falls"
    if seen.misses > tie.miss_rate * seen.events:
        return lower, f"{missed}, above the guard of {tie.miss_rate:.1%}: {back}"
    if seen.false_alarms > tie.target_fa_per_hour * seen.hours:
        above = f"{alarms}, above {tie.target_fa_per_hour:g}/h"
        if weight >= tie.most:
            return tie.most, f"{above}, but the weight is at its most"
        return min(tie.most, weight * tie.factor), f"{above}: rises"
    return lower, f"{alarms}, {missed}: both within bounds, {back}"
