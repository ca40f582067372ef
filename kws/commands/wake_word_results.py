"""The end of a wake-word run: calibration on the validation split, results on the test split, export and report."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from kws.commands import builders, hardening, run_page, speech
from kws.commands.wake_word_run import Pairs, Scores, WakeWord
from kws.common.console import audio_progress
from kws.common.errors import KwsError
from kws.data.manifest import Split
from kws.detector.detector import Detector
from kws.evaluation import comparison, confusables, results
from kws.evaluation.calibration import Calibration
from kws.evaluation.events import event_peaks
from kws.evaluation.report.examples import cutter
from kws.evaluation.report.page import write_report
from kws.evaluation.results import Outcome, Table, outcomes_of
from kws.evaluation.scoring import ConfusableScores, DetectorScores
from kws.training.metrics import gradient_shares
from kws.training.optim import ValidatedWeights, interpolated
from kws.training.run_curves import wake_word_curves


@dataclass(frozen=True)
class Calibrated:
    """A detector whose thresholds are placed.

    Args:
        state: its weights.
        detector: with the thresholds.
        scores: on the validation split.
        calibrations: of each keyword.
        pairs: comparisons with the model that the run started from, if any.
        share: how far the weights lie on the way from that model to the trained ones.
    """

    state: Mapping[str, Tensor]
    detector: Detector
    scores: Scores
    calibrations: Mapping[str, Calibration]
    pairs: Pairs
    share: float

    @property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each keyword."""
        return dict(zip(self.detector.labels, self.detector.thresholds, strict=True))


def calibrate(w: WakeWord, weights: Mapping[str, Tensor]) -> Calibrated:
    """Place the thresholds of the trained weights on the validation split.

    Where a run started from an old model of the same keywords and now misses too many validation keywords (see
    `comparison.misses_too_many`), the weights go back half of the way to the old ones, and again.

    Raises:
        KwsError: a quarter of the way from the old weights, too many keywords are still missed.
    """
    r, old, labels = w.r, w.r.continues, w.r.spec.labels
    passes, t, limit = r.s.threshold.passes, r.s.stream.refractory_s, r.s.replay.max_miss_rate
    # Passes of the negatives are not independent: the comparison uses one.
    before = {} if old is None else w.score("Scoring the old model", old.detector, Split.VALIDATION)
    for share in (1.0, 0.5, 0.25):
        state: Mapping[str, Tensor] = {k: v.cpu() for k, v in weights.items()}
        if old is not None and share < 1:
            state = interpolated(old.weights, state, share)
        detector = r.spec.detector(state)
        scores = w.score("Calibrating", detector, Split.VALIDATION, passes)
        calibrations = {k: results.calibrated(h, builders.target(r.s.threshold), t, passes) for k, h in scores.items()}
        detector.thresholds = [calibrations[k].threshold for k in labels]
        if old is None:
            return Calibrated(state, detector, scores, calibrations, {}, share)
        once = scores if passes == 1 else w.score("Comparing", detector, Split.VALIDATION)
        pairs = w.paired(Split.VALIDATION, before, once, detector)
        if not comparison.misses_too_many(list(pairs.values()), limit):
            return Calibrated(state, detector, scores, calibrations, pairs, share)
        missed, events = sum(one.misses_b for one in pairs.values()), sum(one.events for one in pairs.values())
        old_missed = sum(one.misses_a for one in pairs.values())
        r.console.warn(
            f"{missed} of {events} validation keywords missed, {old_missed} by the old model; more than "
            f"replay.max_miss_rate={limit:g}"
        )
        if share > 0.25:
            r.console.warn(f"the weights go back to {share / 2:.0%} of the way from the old ones")
    raise KwsError(
        f"replay.max_miss_rate={limit:g}: must be higher, in another out, to keep weights that miss so much; the false "
        "alarms may be too like the keyword"
    )


def tested(w: WakeWord, placed: Calibrated) -> DetectorScores:
    """Scores on the test split, and of the synthetic confusables of the test voices where the run has them."""
    s, scores, clips = w.r.s, w.score("Testing", placed.detector, Split.TEST), dict[str, ConfusableScores]()
    if w.made.speech and s.data.synthetic.confusables:
        files = confusables.held_out_confusables(w.made.speech)
        with audio_progress(w.r.console, "Testing, confusables", confusables.seconds(files)) as progress:
            clips |= confusables.score_confusables(placed.detector, files, s.stream.chunk_s, progress)
    return DetectorScores(scores, placed.thresholds, placed.calibrations, clips)


def useless(w: WakeWord, placed: Calibrated, outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The keywords that nobody can use the detector for, and why. `kws export` repeats it.

    The test split is the better evidence where it shows that nobody can use the detector, and where real keywords are
    counted apart.
    """
    if any(o.useless or (o.real and o.real.events) for o in outcomes):
        return {o.keyword: o.useless for o in outcomes if o.useless}
    t = w.r.s.stream.refractory_s
    found = {k: results.useless_scores(h, placed.calibrations[k], t) for k, h in placed.scores.items()}
    return {k: why for k, why in found.items() if why}


def model_facts(w: WakeWord, placed: Calibrated, best: Sequence[ValidatedWeights]) -> dict[str, Any]:
    """What the checkpoint says about weights and thresholds."""
    t, passes = w.r.s.stream.refractory_s, w.r.s.threshold.passes
    facts: dict[str, Any] = {
        "averaged": [one.counts() for one in best],  # none: the moving average of the last step
        "calibration": {k: asdict(c) for k, c in placed.calibrations.items()},
        # Median score of the validation positives: `kws mine` quarantines clips that score near it.
        "positive_score": {k: float(np.median(event_peaks(h.positive, h.spans))) for k, h in placed.scores.items()},
        "thresholds_by_rate": {k: results.thresholds_by_rate(h, t, passes) for k, h in placed.scores.items()},
    }
    return facts if w.r.continues is None else facts | {"init_share": placed.share}


def write_page(
    w: WakeWord,
    placed: Calibrated,
    found: DetectorScores | None,
    title: str,
    outcomes: Sequence[Outcome],
    tables: Sequence[Table],
    verdict: str,
) -> None:
    """Write report.html: outcomes, players, whether replay helped, curves.

    Args:
        w: the run.
        placed: its detector.
        found: scores on the test split, if there is one.
        title: of the page.
        outcomes: on the test split.
        tables: further ones.
        verdict: comparison with the model that the run started from, or empty.
    """
    r, t = w.r, w.r.s.stream.refractory_s
    if shares := gradient_shares(r.out / "metrics.csv"):
        r.console.say(f"gradient  {shares}")
    splits = {Split.TEST: 1, Split.VALIDATION: r.s.threshold.passes}
    cuts = [cutter(w.streams(split, passes), w.store.sample_rate) for split, passes in splits.items()]
    placed_on = DetectorScores(placed.scores, placed.thresholds)
    shown = run_page.players(placed.detector, found, placed_on, cuts, w.folder, t)
    note = run_page.replay_note(r.s, HydraConfig.get().overrides.task, r.out, shares, verdict)
    curves = wake_word_curves(r.out, r.s.mining.at_steps(r.s.optim.steps))
    write_report(r.out / "report.html", title, r.shown(), outcomes, tables, shown, [note], curves)


def finish(w: WakeWord, weights: Mapping[str, Tensor], best: Sequence[ValidatedWeights]) -> list[Outcome]:
    """Calibrate on the validation split, write checkpoint and export, evaluate the test split, report.

    A run of `init` is compared with the model that it started from. Returns the outcomes on the test split.

    Args:
        w: the run.
        weights: to keep, from `fit`.
        best: the validated weights whose mean they are.

    Raises:
        KwsError: the weights miss too many keywords, see `calibrate`.
    """
    r, placed = w.r, calibrate(w, weights)
    found, outcomes, pairs = None, list[Outcome](), placed.pairs
    if w.chosen.speech[Split.TEST]:
        found = tested(w, placed)
        outcomes = outcomes_of(found, r.s.stream.refractory_s, {one.source for one in w.made.recordings()})
        if r.continues is not None:
            before = w.score("Testing the old model", r.continues.detector, Split.TEST)
            pairs = pairs | w.paired(Split.TEST, before, found.scores, placed.detector)
    bad = useless(w, placed, outcomes)
    replayed = hardening.replayed_sources(w.folder, r.s.replay.share)
    r.write_model(placed.detector, placed.state, model_facts(w, placed, best) | {"useless": bad}, w.store, replayed)

    content: dict[str, Any] = {"seed": r.s.seed, "outcomes": results.as_json(outcomes)}
    verdict, tables = "", list[Table]()
    if r.continues is not None:
        verdict = hardening.verdict(r.continues.detector, placed.detector, pairs, w.folder)
        verdict += speech.advice(outcomes, str(r.s.init), r.out / "model.pt")
        tables = [hardening.table(pairs)]
        r.console.table(*tables[0])
        r.console.say(verdict)
        content |= {"compared_with_init": {name: asdict(pair) for name, pair in pairs.items()}, "verdict": verdict}
    title = f"{', '.join(r.spec.labels)}: {'test split' if outcomes else 'no test recordings'}"
    results.show(r.console, title, outcomes)
    for keyword, why in bad.items() if not outcomes else ():
        r.console.warn(f"{keyword}: {why}, on the validation split")
    write_page(w, placed, found, title, outcomes, tables, verdict)
    results.write_json(r.out / "results.json", content)  # the last file: a run that has it is finished
    return outcomes
