"""Cues other than the keyword: whether levels and noise alone tell keyword recordings from negatives.

A net learns the easiest difference. If keywords come from one microphone, room or codec and negatives from another, it
learns that, and the figures of the test split, recorded in the same way, do not show it. Here a small classifier tries
the same from the parts of the recordings without speech.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from kws.evaluation.data_checks.finding import Finding, Level

FEWEST = 20  # recordings of either class
MOST = 300  # recordings of either class that are looked at
MOST_S = 30.0  # seconds of a recording that are looked at
_WINDOW_S = 0.032
_QUIET = 0.1  # share of the frames that are taken for the part without speech
_SILENT_DB = -90.0  # frames below hold no sound at all
_BANDS_HZ = (0, 300, 1000, 2000, 4000, 6000, 8000)
_BANDWIDTH_DB = 65.0  # below the peak of the mean spectrum
_FOLDS = 5
_TELLS = 0.7  # lower bound of the AUC from which a cue is worth a warning


@dataclass(frozen=True)
class Cue:
    """What tells two classes apart, where an AUC of 0.5 is chance and 1 is certainty.

    Args:
        auc, low, high: area under the ROC curve of the classifier on recordings it was not fitted to, with its 95 %
            interval (Hanley & McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982).
        feature: the feature that tells most by itself, with its unit.
        feature_auc: its own AUC.
        medians: of that feature in the two classes.
        counts: recordings of the two classes.
    """

    auc: float
    low: float
    high: float
    feature: str
    feature_auc: float
    medians: tuple[float, float]
    counts: tuple[int, int]


def features(x: NDArray[np.float32], sample_rate: int) -> dict[str, float]:
    """Level, bandwidth and the noise between the words of one recording, by name with unit. Shape: x [T]."""
    x = x[: round(MOST_S * sample_rate)]
    n = round(_WINDOW_S * sample_rate)
    frames = sliding_window_view(np.pad(x, (0, max(0, n - len(x)))), n)[:: n // 2] * np.hanning(n).astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames))).astype(np.float64) / n**2 + 1e-14
    hz = np.fft.rfftfreq(n, 1 / sample_rate)
    level = 10 * np.log10(power.sum(1))
    sounding = np.flatnonzero(level > _SILENT_DB)
    chosen = sounding if len(sounding) else np.arange(len(level))
    quiet = chosen[np.argsort(level[chosen])[: max(3, round(_QUIET * len(chosen)))]]
    noise, mean = power[quiet].mean(0), power[chosen].mean(0)
    inside = np.flatnonzero(mean > mean.max() * 10 ** (-_BANDWIDTH_DB / 10))
    found = {
        "level of the loudest parts, dBFS": float(np.percentile(level, 95)),
        "level of the noise, dBFS": float(level[quiet].mean()),
        "bandwidth, kHz": float(hz[inside[-1]]) / 1000,
        "digital silence, share": 1 - len(sounding) / len(level),
    }
    for low, high in pairwise(_BANDS_HZ):
        band = (hz >= low) & (hz < high)
        if band.any():
            share = noise[band].sum() / noise.sum()
            found[f"noise in {low / 1000:g} to {high / 1000:g} kHz, dB of all noise"] = float(10 * np.log10(share))
    return found


def cue(first: Sequence[Mapping[str, float]], second: Sequence[Mapping[str, float]]) -> Cue | None:
    """How well the features tell two classes of recordings apart; None with fewer than 20 recordings of either.

    A logistic regression is fitted to four fifths of the recordings and scores the fifth, in turn.
    """
    counts = len(first), len(second)
    if min(counts) < FEWEST:
        return None
    from sklearn.linear_model import LogisticRegression  # slow to import
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = list(first[0])
    x = np.array([[one[name] for name in names] for one in (*first, *second)])
    y = np.repeat([1, 0], counts)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=0)
    auc = float(roc_auc_score(y, cross_val_predict(model, x, y, cv=folds, method="decision_function")))
    alone = [float(roc_auc_score(y, column)) for column in x.T]
    alone = [max(one, 1 - one) for one in alone]  # lower tells as much as higher
    best = int(np.argmax(alone))
    half = 1.96 * _standard_error(auc, *counts)
    medians = float(np.median(x[y == 1, best])), float(np.median(x[y == 0, best]))
    return Cue(auc, max(0.0, auc - half), min(1.0, auc + half), names[best], alone[best], medians, counts)


def told_apart(positives: Sequence[Mapping[str, float]], negatives: Sequence[Mapping[str, float]]) -> list[Finding]:
    """Whether levels and noise tell keyword recordings from negatives.

    Args:
        positives, negatives: features of recordings of either.
    """
    if (found := cue(positives, negatives)) is None:
        return []
    (n, m), (first, second) = found.counts, found.medians
    name, _, unit = found.feature.partition(", ")
    text = (
        f"level, bandwidth and the noise between words tell keywords from negatives with an AUC of {found.auc:.2f} "
        f"[{found.low:.2f}, {found.high:.2f}] on {n} and {m} recordings, where 0.5 is chance. The strongest cue is the "
        f"{name}: {first:.3g} against {second:.3g} {unit} in the median, an AUC of {found.feature_auc:.2f} by itself"
    )
    if found.low < _TELLS:
        return [Finding("cue", Level.note, text)]
    mend = (
        "A net may learn the device or the codec in place of the word. Record both in the same way, or add negatives "
        "by the device of the keywords."
    )
    return [Finding("cue", Level.warning, text, mend)]


def _standard_error(auc: float, n: int, m: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    return float(np.sqrt((auc * (1 - auc) + (n - 1) * (q1 - auc**2) + (m - 1) * (q2 - auc**2)) / (n * m)))
