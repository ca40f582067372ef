"""What the figures of a detector mean, in words: how often it misses, how often it fires, what to do next."""

from itertools import count

from kws.common.text import plural
from kws.evaluation.intervals import duration_text, poisson, wilson
from kws.evaluation.operating_points import OperatingPoint, misses_many, useless

INTERVAL = "95 %: the true rate lies within these bounds in 19 of 20 such measurements"
WANTED_RATE = 0.1  # false alarms an hour: the rate that users ask for
OFTEN = 1.0  # false alarms an hour: worse than a few more misses
MANY_MISSES = 0.1  # share of the keywords
HARDEN = (
    "Next: train it on its false alarms (kws mine, then recipe=harden), with speech and radio of your own among the "
    "negatives, which also place a better threshold."
)


def verdict_point(p: OperatingPoint, real: OperatingPoint | None) -> OperatingPoint:
    """The point that says whether a detector is of use: that of the real keywords, where there are any."""
    return real if real is not None and real.events else p


def verdict(p: OperatingPoint, real: OperatingPoint | None = None) -> list[str]:
    """Sentences on a detector at an operating point: keywords missed, false alarms, and what to do next.

    Args:
        p: usually that of the calibrated threshold.
        real: the same with the real keywords alone; None where none is synthetic.
    """
    found = []
    if p.events:
        low, high = _hundredths(p.miss_low), _hundredths(p.miss_high)
        found.append(
            f"Misses {plural(p.misses, 'keyword', p.events)}: "
            f"{_hundredths(p.miss_rate)} in 100 (95 %: {low} to {high})."
        )
    if real is not None:
        of = f"Of these, {real.events} are real, and it misses {real.misses} of them."
        found.append(of if real.events else "All of these are synthetic.")
    if p.hours:
        counted = f"{plural(p.false_alarms, 'false alarm')} in {duration_text(p.hours)}"
        often = duration_text(1 / p.fa_high)
        if p.false_alarms:
            seldom = duration_text(1 / p.fa_low)
            counted += f": one in {duration_text(1 / p.fa_per_hour)} (95 %: one in {often} to one in {seldom})."
        else:
            counted += f" (95 %: at most one in {often})."
        found.append(counted)
    return [*found, _next(verdict_point(p, real), real is not None and not real.events)]


def _next(p: OperatingPoint, all_synthetic: bool) -> str:
    """The most urgent thing to do."""
    if reason := useless(p):
        return f"It is {reason}. Next: {_mend(p, all_synthetic)}."
    if p.hours and p.fa_low > OFTEN:
        return HARDEN
    if not p.events:
        return "How many keywords it misses is not measured: give positive=, recordings of the keyword."
    if not p.hours:
        return "How often it fires is not measured: give negative=, hours without the keyword."
    if p.miss_low >= MANY_MISSES:
        return "Next: more recordings of the keyword, by more voices, lower the misses."
    if p.fa_low > WANTED_RATE:
        return HARDEN
    if p.fa_high > WANTED_RATE:
        needed = poisson(0, WANTED_RATE)[1]
        return (
            f"Next: evaluate it on your own hours, such as radio (negative=): {needed:.0f} h without a false alarm "
            f"show {WANTED_RATE:g} an hour."
        )
    if p.miss_high >= MANY_MISSES:
        needed_n = next(n for n in count(1) if wilson(0, n)[1] < MANY_MISSES)
        return (
            f"Next: evaluate it on more recordings of the keyword (positive=): {needed_n} without a miss show fewer "
            f"than {100 * MANY_MISSES:.0f} misses in 100."
        )
    return "Next: try it where it will be used."


def _mend(p: OperatingPoint, all_synthetic: bool) -> str:
    """What to do about a useless detector."""
    if not misses_many(p):
        return "its threshold needs more hours of negatives, and recipe=harden trains it on its false alarms"
    if all_synthetic:
        return "train longer (optim.steps=), or record the keyword with several voices and use recipe=few_shot"
    return (
        "train it with recordings like those that it misses (recipe=few_shot takes ten), and let kws data check say "
        "what is wrong with them"
    )


def _hundredths(share: float) -> str:
    """A share of 100 with the digits that matter: 0.3, 1.6, 12."""
    return f"{100 * share:.1f}" if share < 0.095 else f"{100 * share:.0f}"
