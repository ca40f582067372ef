"""The end of a wake-word run: calibrate, write the model, test, and compare with the model of `init`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kws.commands import builders
from kws.commands.initial_model import triggers
from kws.commands.training_run import Run
from kws.common.console import audio_progress
from kws.common.errors import KwsError
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.manifest import Split
from kws.detector.checkpoint import Checkpoint
from kws.detector.detector import Detector
from kws.evaluation import comparison, confusables, results
from kws.evaluation.comparison import Comparison
from kws.evaluation.events import event_peaks
from kws.evaluation.operating_points import Calibration
from kws.evaluation.results import Outcome, Table, outcomes_of
from kws.evaluation.scoring import ConfusableScores, DetectorScores, KeywordScores, total_s
from kws.evaluation.splits import evaluate_split, split_streams
from kws.replay.buffer import Buffer
from kws.training.optim import ValidatedWeights, interpolated

Score = Callable[[str, Detector, Split, int], Mapping[str, KeywordScores]]  # title, detector, split, passes
Pairs = dict[str, Comparison]  # by split and keyword


@dataclass(frozen=True)
class Finished:
    """Outcomes on the test split; with `init`, the comparison with the model that the run started from."""

    outcomes: list[Outcome]
    facts: dict[str, str] = field(default_factory=dict)  # for the report
    tables: Sequence[Table] = ()
    content: dict[str, Any] = field(default_factory=dict)  # for results.json


def finish(
    r: Run,
    store: AudioCache,
    chosen: Selection,
    synthetic: Path | None,
    folder: Path,
    weights: Mapping[str, Tensor],
    best: Sequence[ValidatedWeights],
) -> Finished:
    """Calibrate on the validation split, write checkpoint and export, evaluate the test split.

    Args:
        r: the run.
        store, chosen: audio and roles of the recordings.
        synthetic: folder of the synthetic clips, if any.
        folder: of the replay buffer.
        weights: to keep, from `fit`.
        best: the validated weights whose mean they are.

    Raises:
        KwsError: the weights miss too many keywords, see `calibrate`.
    """
    stream, t = r.s.stream, r.s.stream.refractory_s

    def score(title: str, detector: Detector, split: Split, passes: int) -> Mapping[str, KeywordScores]:
        streams = split_streams(store, chosen, split, stream, passes)
        with audio_progress(r.console, title, total_s(streams)) as tick:
            return evaluate_split(detector, store, chosen, split, streams, stream.chunk_s, stream.max_keyword_s, tick)

    old = r.continues
    state, detector, scores, calibrations, pairs, share = calibrate(r, old, weights, score)
    facts: dict[str, Any] = {
        "averaged": [one.counts() for one in best],  # none: the moving average of the last step
        "calibration": {k: asdict(c) for k, c in calibrations.items()},
        # Median score of the validation positives: `kws mine` quarantines clips that score near it.
        "positive_score": {k: float(np.median(event_peaks(h.positive, h.spans))) for k, h in scores.items()},
    }
    if old is not None:
        facts["init_share"] = share  # of the way from the old weights to those that are averaged
    r.write_model(detector, state, facts, store)
    outcomes: list[Outcome] = []
    if chosen.speech[Split.TEST]:
        scores = score("Testing", detector, Split.TEST, 1)
        outcomes = tested(r, detector, scores, calibrations, synthetic)
        if old is not None:
            before = score("Testing the old model", old.detector, Split.TEST, 1)
            pairs |= paired("test", before, scores, old.detector, detector, t)
    if old is None:
        return Finished(outcomes)
    with Buffer(folder) as buffer:
        clips_n, (triggers_a, triggers_b) = triggers([old.detector, detector], buffer)
    sentence = comparison.verdict(list(pairs.values()), clips_n, triggers_a, triggers_b)
    table = Table("Before (a) and after (b)", ("", *comparison.HEADER[1:]), comparison.named_rows(pairs))
    r.console.table(*table)
    r.console.say(sentence)
    content = {"compared_with_init": {name: asdict(pair) for name, pair in pairs.items()}, "verdict": sentence}
    return Finished(outcomes, {"verdict": sentence}, [table], content)


def tested(
    r: Run,
    detector: Detector,
    scores: Mapping[str, KeywordScores],
    calibrations: Mapping[str, Calibration],
    synthetic: Path | None,
) -> list[Outcome]:
    """Outcomes on the test split, and on the synthetic confusables of the test voices where the run has them."""
    clips: Mapping[str, ConfusableScores] = {}
    if synthetic and r.s.data.synthetic.confusables:
        files = confusables.held_out_confusables(synthetic)
        with audio_progress(r.console, "Testing, confusables", confusables.seconds(files)) as progress:
            clips = confusables.score_confusables(detector, files, r.s.stream.chunk_s, progress)
    thresholds = dict(zip(detector.labels, detector.thresholds, strict=True))
    return outcomes_of(DetectorScores(scores, thresholds, calibrations, clips), r.s.stream.refractory_s)


def calibrate(
    r: Run, old: Checkpoint | None, weights: Mapping[str, Tensor], score: Score
) -> tuple[Mapping[str, Tensor], Detector, Mapping[str, KeywordScores], Mapping[str, Calibration], Pairs, float]:
    """Place the thresholds of the trained weights on the validation split.

    Where a run started from an old model of the same keywords and now misses more validation keywords than
    `replay.max_miss_rate`, and more than the old model, the weights go back half of the way to the old ones, and again.

    Returns:
        weights, detector, scores on the validation split, calibrations, comparisons with the old model, and how far
        the weights lie on the way from the old ones.

    Raises:
        KwsError: a quarter of the way from the old weights, too many keywords are still missed.
    """
    passes, t, limit = r.s.threshold.passes, r.s.stream.refractory_s, r.s.replay.max_miss_rate
    # Passes of the negatives are not independent: the comparison uses one.
    before = {} if old is None else score("Scoring the old model", old.detector, Split.VALIDATION, 1)
    for share in (1.0, 0.5, 0.25):
        state: Mapping[str, Tensor] = {k: v.cpu() for k, v in weights.items()}
        if old is not None and share < 1:
            state = interpolated(old.weights, state, share)
        detector = r.spec.detector(state)
        scores = score("Calibrating", detector, Split.VALIDATION, passes)
        calibrations = {k: results.calibrated(h, builders.target(r.s.threshold), t, passes) for k, h in scores.items()}
        detector.thresholds = [calibrations[k].threshold for k in r.spec.labels]
        if old is None:
            return state, detector, scores, calibrations, {}, share
        once = scores if passes == 1 else score("Comparing", detector, Split.VALIDATION, 1)
        pairs = paired("validation", before, once, old.detector, detector, t)
        missed, events = sum(one.misses_b for one in pairs.values()), sum(one.events for one in pairs.values())
        if missed <= max(limit * events, sum(one.misses_a for one in pairs.values())):
            return state, detector, scores, calibrations, pairs, share
        r.console.warn(f"{missed} of {events} validation keywords missed, more than replay.max_miss_rate={limit:g}")
        if share > 0.25:
            r.console.warn(f"the weights go back to {share / 2:.0%} of the way from the old ones")
    raise KwsError(
        f"replay.max_miss_rate={limit:g}: must be higher, in another out, to keep weights that miss so much; the false "
        "alarms may be too like the keyword"
    )


def paired(
    split: str,
    a: Mapping[str, KeywordScores],
    b: Mapping[str, KeywordScores],
    old: Detector,
    new: Detector,
    refractory_s: float,
) -> Pairs:
    """Compare two detectors at their own thresholds on the same streams of a split."""
    own = dict(zip(new.labels, zip(old.thresholds, new.thresholds, strict=True), strict=True))
    return {f"{split}, {k}": comparison.compare(a[k], b[k], own[k], (), refractory_s)[0] for k in b}
