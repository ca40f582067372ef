"""kws train task=wake_word: train with replayed hard negatives, calibrate, export and evaluate a detector."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from kws.commands import builders, hardening, run_page, speech
from kws.commands.speech import SyntheticClips
from kws.commands.training_run import Run, add_old_buffer, holding_out, name_quarantined, refuse_known
from kws.common.console import Console, audio_progress
from kws.common.errors import KwsError
from kws.common.files import did_you_mean
from kws.config.schema import TrainConfig
from kws.config.sweep import one_at_a_time
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection, extra_recordings, recordings, select, selection_lines
from kws.data.manifest import Split
from kws.data.positives import doubt_lines, with_locations
from kws.detector.detector import Detector
from kws.evaluation import comparison, confusables, results
from kws.evaluation.calibration import Calibration, Unsupported, require_hours
from kws.evaluation.comparison import Comparison
from kws.evaluation.events import event_peaks
from kws.evaluation.report.examples import cutter
from kws.evaluation.report.page import write_report
from kws.evaluation.results import Outcome, Table, outcomes_of
from kws.evaluation.scoring import ConfusableScores, DetectorScores, KeywordScores, StreamSource, total_s
from kws.evaluation.splits import evaluate_split, negative_hours, split_streams
from kws.evaluation.validation import ValidationStreams
from kws.replay import storage
from kws.replay.buffer import INDEX, Buffer
from kws.replay.importing import into_buffer
from kws.replay.snapshot import Snapshot
from kws.replay.sources import sources_of
from kws.training.hard_negatives import HardNegativeMiner, held_out_sources
from kws.training.metrics import ShareMetrics, StepMetrics, ValidationMetrics, gradient_shares
from kws.training.optim import ValidatedWeights, interpolated, mean_weights
from kws.training.run_curves import wake_word_curves
from kws.training.validation import Validator
from kws.training.wake_word import WakeWordConfig, WakeWordTask

Scores = Mapping[str, KeywordScores]  # by keyword
Pairs = dict[str, Comparison]  # by split and keyword


@dataclass(frozen=True)
class WakeWord:
    """A run with its recordings.

    Args:
        r: the run.
        store, chosen: audio and roles of the recordings.
        made: the synthetic clips, if any.
        folder: of the replay buffer.
    """

    r: Run
    store: AudioCache
    chosen: Selection
    made: SyntheticClips
    folder: Path

    def streams(self, split: Split, passes: int = 1) -> list[StreamSource]:
        """The streams of a split."""
        return split_streams(self.store, self.chosen, split, self.r.s.stream, passes)

    def score(self, title: str, detector: Detector, split: Split, passes: int = 1) -> Scores:
        """Score the streams of a split."""
        streams, stream = self.streams(split, passes), self.r.s.stream
        with audio_progress(self.r.console, title, total_s(streams)) as tick:
            return evaluate_split(detector, self.store, self.chosen, split, streams, stream.chunk_s, tick)

    def paired(self, split: Split, a: Scores, b: Scores, new: Detector) -> Pairs:
        """Compare the model that the run started from with a new one, both at the calibrated thresholds on a split."""
        old = self.r.continues
        assert old is not None
        own = dict(zip(new.labels, zip(old.detector.thresholds, new.thresholds, strict=True), strict=True))
        t = self.r.s.stream.refractory_s
        return {f"{split}, {k}": comparison.compare(a[k], b[k], own[k], (), t)[0] for k in b}


def train_wake_word(r: Run) -> tuple[list[Outcome], str]:
    """Train, calibrate on the validation split, export, report on the test split.

    Returns the outcomes there, and a warning where most of the split is synthetic.
    """
    s, console, dist, words = r.s, r.console, r.dist, r.spec.labels
    folder = Path(s.replay.buffer) if s.replay.buffer else r.out / "buffer"
    dist.on_main(lambda: refuse_missing_buffer(s, folder))

    real = recordings(s.data, console.warn, words) if s.data.root else []
    speech.require_labels(real, words, s, console)

    def load() -> tuple[AudioCache, Selection]:
        extra = extra_recordings(s.data.extra, s.data, console.warn, words)
        store = builders.store(s.data, console, [*real, *made.recordings()], words, extra=extra)
        if r.init is not None:
            refuse_known(r.init, store.entries)
        chosen = select(store.entries, words, s.data.noise_label, s.mining.pool_share, match=s.data.transcript_match)
        longest_s = builders.longest_keywords(s.batch, s.stream)
        return store, with_locations(store, chosen, longest_s, (Split.TRAIN, Split.VALIDATION))

    with one_at_a_time(Path(s.data.cache)):
        made = dist.on_main(lambda: speech.synthesise(s, words, console, real))
        store, chosen = dist.main_first(load)
    w = WakeWord(r, store, chosen, made, folder)
    if not dist.is_main:
        fit(w, None, "")
        dist.leave()
        return [], ""
    if s.threshold.unsupported is Unsupported.refuse:  # now, not after hours of training
        hours = negative_hours(store, chosen, Split.VALIDATION, s.stream)
        require_hours(hours, builders.target(s.threshold))
    id_ = r.begin(store)
    describe(console, store, chosen, s.data.noise_label)
    shares, warning = speech.synthetic_shares(made, store, chosen, s.batch)
    for line in shares:
        console.say(line)

    def open_buffer(rate: int) -> Buffer:
        return holding_out(Buffer(folder, s.replay, rate, s.replay, s.data.transcript_match), store)

    begins = not (r.out / "state.pt").is_file()
    if s.init is not None and r.continues and begins and (copied := add_old_buffer(open_buffer, folder, Path(s.init))):
        console.say(f"buffer: {copied} clips of the run that trained {s.init}")
    with open_buffer(store.sample_rate) as buffer:
        name_quarantined(console, buffer, folder)
        if made.speech and s.data.synthetic.confusables and begins:
            added = into_buffer(buffer, made.speech)
            if added.new:
                console.say(f"buffer: {len(added.new)} synthetic confusables, {added.near} near-duplicates")
        # Recordings that may not be mined are refused now, not after the training before the first round.
        sources = [*chosen.pool, *chosen.noise[Split.TRAIN]]
        sources += chosen.speech[Split.TRAIN] if s.replay.batch_mining else []
        buffer.admit(source for i in sources for source in sources_of(store.entries[i]))
        weights, best = fit(w, buffer, id_)
        dist.leave()
        if not s.replay.buffer:  # another run may be about to replay a buffer that runs share
            buffer.purge()
        clips, hours = len(buffer), sum(row.n_samples for row in buffer.rows()) / store.sample_rate / 3600
    outcomes = finish(w, weights, best)
    if store.bad:
        console.warn(f"{len(store.bad)} recordings have no usable sound and were left out; they are named above")
    console.say(f"buffer    {folder}  ({clips} clips, {60 * hours:.1f} min)")
    return outcomes, warning


def refuse_missing_buffer(s: TrainConfig, folder: Path) -> None:
    """Raise KwsError if `replay.buffer` is not there: a run makes no buffer but its own, so that no typo passes."""
    if s.replay.buffer and not (folder / INDEX).is_file():
        guess = did_you_mean(folder)
        raise KwsError(
            f"replay.buffer={folder}: must be the folder of a replay buffer{guess}; kws mine and kws buffer import "
            "make one"
        )


def describe(console: Console, store: AudioCache, chosen: Selection, noise_label: str) -> None:
    """Print number and hours of the recordings of each split, and by what they were divided."""
    console.table(*builders.split_table(store, chosen, noise_label))
    for column, keyword in enumerate(chosen.keywords):
        own = (store.entries[i].recording.label for split in Split for i in chosen.positives[split][column])
        for label in sorted(set(own) - {keyword}):
            console.say(f"label {label!r} is read as keyword={keyword}")
    if not chosen.pool and len(chosen.speech[Split.TRAIN]) == 1:
        console.warn("nothing can be mined: train holds a single negative, which is used fresh")
    for line in selection_lines(chosen):
        console.warn(line)
    builders.warn_clean(console, chosen, Split.VALIDATION)
    if any(chosen.positives[Split.TEST]):
        builders.warn_clean(console, chosen, Split.TEST)
    for line in doubt_lines(chosen):
        console.warn(line)


def fit(w: WakeWord, buffer: Buffer | None, id_: str) -> tuple[Mapping[str, Tensor], list[ValidatedWeights]]:
    """Train; return the weights to keep, and the validated weights whose mean they are: none for the moving average.

    Only rank 0 has a buffer.
    """
    r, store, chosen = w.r, w.store, w.chosen
    s, spec, dist, stream = r.s, r.spec, r.dist, r.s.stream
    net, front_end = r.net(), spec.front_end().to(dist.device)
    sampler, entries = dist.main_first(
        lambda: builders.batch_sampler(s, store, chosen, spec.clip_n, dist.device, w.made.speech)
    )
    miner = None
    if buffer is not None:
        miner = HardNegativeMiner(
            s.mining, s.replay, s.seed, stream.negative_gap_s, spec, store, chosen, entries, sampler.plain_keywords,
            buffer, r.console, id_, dist.device,
        )  # fmt: skip
    sound = partial(storage.read, w.folder / storage.CLIPS)
    task = WakeWordTask(
        WakeWordConfig(s.seed, s.optim, s.batch, s.replay, s.mining, s.validate_every, builders.target(s.threshold)),
        spec,
        front_end,
        sampler,
        Validator(spec, lambda: ValidationStreams(store, chosen, stream, stream.chunk_s, stream.refractory_s)),
        miner,
        lambda contents: Snapshot(contents, sound, spec.clip_n, dist.device, s.replay),
        r.out / "checkpoints",
        held_out_sources(store),
    )
    kinds = {"metrics": StepMetrics, "share": ShareMetrics, "validation": ValidationMetrics}
    weights: Mapping[str, Tensor] = r.fit(net, task, s.optim, kinds)
    if buffer is not None:
        task.replay.write_back(buffer)
    if task.best:
        weights, steps = mean_weights(task.best), ", ".join(str(one) for one in task.best)
        r.console.say(f"kept: the mean of the weights after steps {steps}; chosen on the validation split")
    return weights, task.best


def finish(w: WakeWord, weights: Mapping[str, Tensor], best: Sequence[ValidatedWeights]) -> list[Outcome]:
    """Calibrate on the validation split, write checkpoint and export, evaluate the test split, report.

    Returns the outcomes on the test split.

    A run of `init` is compared with the model that it started from.

    Args:
        w: the run.
        weights: to keep, from `fit`.
        best: the validated weights whose mean they are.

    Raises:
        KwsError: the weights miss too many keywords, see `calibrate`.
    """
    r, old, refractory_s = w.r, w.r.continues, w.r.s.stream.refractory_s
    state, detector, scores, calibrations, pairs, share = calibrate(w, weights)
    facts: dict[str, Any] = {
        "averaged": [one.counts() for one in best],  # none: the moving average of the last step
        "calibration": {k: asdict(c) for k, c in calibrations.items()},
        # Median score of the validation positives: `kws mine` quarantines clips that score near it.
        "positive_score": {k: float(np.median(event_peaks(h.positive, h.spans))) for k, h in scores.items()},
    }
    facts["thresholds_by_rate"] = {
        k: results.thresholds_by_rate(h, refractory_s, r.s.threshold.passes) for k, h in scores.items()
    }
    if old is not None:
        facts["init_share"] = share  # of the way from the old weights to those that are averaged
    bad = {k: why for k, h in scores.items() if (why := results.useless_scores(h, calibrations[k], refractory_s))}
    placed_on = DetectorScores(scores, dict(zip(detector.labels, detector.thresholds, strict=True)))
    found, outcomes = None, list[Outcome]()
    if w.chosen.speech[Split.TEST]:
        scores = w.score("Testing", detector, Split.TEST)
        found = tested(w, detector, scores, calibrations)
        outcomes = outcomes_of(found, refractory_s, {one.source for one in w.made.recordings()})
        if old is not None:
            before = w.score("Testing the old model", old.detector, Split.TEST)
            pairs |= w.paired(Split.TEST, before, scores, detector)
    # kws export repeats it. The test split is the better evidence where it shows that nobody can use the detector, and
    # where real keywords are counted apart.
    if any(o.useless or (o.real and o.real.events) for o in outcomes):
        bad = {o.keyword: o.useless for o in outcomes if o.useless}
    replayed = hardening.replayed_sources(w.folder, r.s.replay.share)
    r.write_model(detector, state, facts | {"useless": bad}, w.store, replayed)
    content: dict[str, Any] = {"seed": r.s.seed, "outcomes": results.as_json(outcomes)}
    verdict, tables = "", list[Table]()
    if old is not None:
        verdict = hardening.verdict(old.detector, detector, pairs, w.folder)
        verdict += speech.advice(outcomes, str(r.s.init), r.out / "model.pt")
        tables = [hardening.table(pairs)]
        r.console.table(*tables[0])
        r.console.say(verdict)
        content |= {"compared_with_init": {name: asdict(pair) for name, pair in pairs.items()}, "verdict": verdict}
    title = f"{', '.join(r.spec.labels)}: {'test split' if outcomes else 'no test recordings'}"
    results.show(r.console, title, outcomes)
    for keyword, why in bad.items() if not outcomes else ():
        r.console.warn(f"{keyword}: {why}, on the validation split")
    if shares := gradient_shares(r.out / "metrics.csv"):
        r.console.say(f"gradient  {shares}")
    splits = {Split.TEST: 1, Split.VALIDATION: r.s.threshold.passes}
    cuts = [cutter(w.streams(split, passes), w.store.sample_rate) for split, passes in splits.items()]
    shown = run_page.players(detector, found, placed_on, cuts, w.folder, refractory_s)
    note = run_page.replay_note(r.s, HydraConfig.get().overrides.task, r.out, shares, verdict)
    curves = wake_word_curves(r.out, r.s.mining.at_steps(r.s.optim.steps))
    write_report(r.out / "report.html", title, r.shown(), outcomes, tables, shown, [note], curves)
    results.write_json(r.out / "results.json", content)  # the last file: a run that has it is finished
    return outcomes


def tested(w: WakeWord, detector: Detector, scores: Scores, calibrations: Mapping[str, Calibration]) -> DetectorScores:
    """Scores on the test split, and of the synthetic confusables of the test voices where the run has them."""
    s, clips = w.r.s, dict[str, ConfusableScores]()
    if w.made.speech and s.data.synthetic.confusables:
        files = confusables.held_out_confusables(w.made.speech)
        with audio_progress(w.r.console, "Testing, confusables", confusables.seconds(files)) as progress:
            clips |= confusables.score_confusables(detector, files, s.stream.chunk_s, progress)
    thresholds = dict(zip(detector.labels, detector.thresholds, strict=True))
    return DetectorScores(scores, thresholds, calibrations, clips)


def calibrate(
    w: WakeWord, weights: Mapping[str, Tensor]
) -> tuple[Mapping[str, Tensor], Detector, Scores, Mapping[str, Calibration], Pairs, float]:
    """Place the thresholds of the trained weights on the validation split.

    Where a run started from an old model of the same keywords and now misses too many validation keywords (see
    `comparison.misses_too_many`), the weights go back half of the way to the old ones, and again.

    Returns:
        weights, detector, scores on the validation split, calibrations, comparisons with the old model, and how far
        the weights lie on the way from the old ones.

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
            return state, detector, scores, calibrations, {}, share
        once = scores if passes == 1 else w.score("Comparing", detector, Split.VALIDATION)
        pairs = w.paired(Split.VALIDATION, before, once, detector)
        if not comparison.misses_too_many(list(pairs.values()), limit):
            return state, detector, scores, calibrations, pairs, share
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
