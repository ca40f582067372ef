"""Checks of the splits: enough recordings and noise in each, hours for the wanted rate, leaks between them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from kws.common.text import plural
from kws.confusables.settings import SyntheticConfig
from kws.data.manifest import Split
from kws.evaluation.calibration import lowest_hours, lowest_rate, supports
from kws.evaluation.data_checks.finding import Finding, Level
from kws.evaluation.intervals import poisson

_FEW = {Split.TRAIN: 20, Split.VALIDATION: 10, Split.TEST: 10}  # keyword recordings with which little is learnt


def leaks(lines: Sequence[str]) -> list[Finding]:
    """Ways in which a split leaks into another, a warning for each line of the division."""
    return [Finding("leak", Level.warning, line) for line in lines]


def keywords_in_splits(counts: Mapping[str, Mapping[Split, int]]) -> list[Finding]:
    """Splits without, or with few, recordings of a keyword.

    Args:
        counts: usable recordings by keyword and split.
    """
    found = []
    for keyword, own in counts.items():
        for split, n in own.items():
            if not n:
                level = Level.warning if split is Split.TEST else Level.fault
                text = f"keyword {keyword!r} has no recording in the {split} split"
            elif n < _FEW[split]:
                level, shown = Level.warning, plural(n, "recording")
                text = f"keyword {keyword!r} has only {shown} in the {split} split"
                text += "" if split is Split.TRAIN else f"; one miss is {100 / n:.0f} % of them"
            else:
                continue
            mend = "Add recordings by more people, or synthetic ones by recipe=few_shot."
            found.append(Finding("few keywords", level, text, mend))
    return found


def negatives_in_splits(counts: Mapping[Split, int]) -> list[Finding]:
    """Splits without negatives."""
    return [
        Finding(
            "no negatives",
            Level.warning if split is Split.TEST else Level.fault,
            f"the {split} split has no negative",
            "Add recordings of speech without the keyword: radio, podcasts, read sentences. "
            "recipe=few_shot synthesises some.",
        )
        for split, n in counts.items()
        if not n
    ]


def noise_in_splits(counts: Mapping[Split, int], noise_label: str) -> list[Finding]:
    """Splits without noise, which changes what they train or measure."""
    empty = [split for split, n in counts.items() if not n]
    if not empty:
        return []
    effects = {
        Split.TRAIN: "training mixes none under the keywords",
        Split.VALIDATION: "the threshold is set on clean sound",
        Split.TEST: "figures of the test are of clean sound",
    }
    text = (
        f"no noise in the {', '.join(empty)} split{'s' * (len(empty) > 1)}: {', '.join(effects[one] for one in empty)}"
    )
    mend = f"Add recordings of noise, such as a kitchen, a fan or traffic, with the label {noise_label!r}."
    return [Finding("no noise", Level.warning, text, mend)]


def hours_for_rate(hours: float, rate_per_hour: float, refused: bool = True) -> list[Finding]:
    """What the hours of the validation negatives show of the wanted rate of false alarms.

    Args:
        hours: of the validation negatives.
        rate_per_hour: wanted false alarms an hour, 0 or more.
        refused: whether training refuses too few hours.
    """
    if not hours:
        return []  # no negative at all is another finding
    shown = poisson(0, hours)[1]
    text = f"{hours:.2g} h of validation negatives for threshold.at_fa_per_hour={rate_per_hour:g}"
    if not supports(hours, rate_per_hour):
        needed = f"{lowest_hours(rate_per_hour):.3g} h" if rate_per_hour else "no number of hours"
        text += f": too few to place a threshold; {needed} would do"
        rate = lowest_rate(hours)
        other = f"set threshold.at_fa_per_hour={rate:g}, or " if math.isfinite(rate) else ""
        mend = f"Add negatives, or {other}set threshold.unsupported=guess."
        return [Finding("few hours", Level.fault if refused else Level.warning, text, mend)]
    if shown > rate_per_hour:
        needed_h = poisson(0, rate_per_hour)[1]
        text += f": enough to set the threshold; without any false alarm they show less than {shown:.2g} an hour"
        mend = f"To show the rate, {needed_h:.2g} h without a false alarm are needed."
        return [Finding("few hours", Level.warning, text, mend)]
    return [Finding("hours", Level.note, f"{text}: enough")]


def synthesised(found: Sequence[Finding], recipe: str, synthetic: SyntheticConfig) -> list[Finding]:
    """Findings where a recipe synthesises clips: what it adds is not missing, and helps to find the keyword."""
    clips = {
        "few keywords": (synthetic.positives, "keywords"),
        "no negatives": (synthetic.sentences, "sentences"),
        "no noise": (synthetic.noises, "noises"),
    }
    eased = []
    for one in found:
        n, what = clips.get(one.check, (0, ""))
        if n:
            mend = f"recipe={recipe} synthesises {what}: {n} for training, others for validation and test."
            eased.append(replace(one, level=Level.note, mend=mend))
        elif one.check == "doubtful bounds" and synthetic.positives:
            mend = f"recipe={recipe} compares them with synthetic keywords; what stays doubtful is left out. {one.mend}"
            eased.append(replace(one, level=Level.warning, mend=mend))
        else:
            eased.append(one)
    return eased
