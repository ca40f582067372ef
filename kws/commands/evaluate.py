"""kws evaluate: misses at fixed false alarms per hour of a detector, or of two detectors compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kws import __version__
from kws.commands import builders
from kws.common.console import Console, listening
from kws.common.errors import KwsError
from kws.config.app import verb
from kws.config.compose import keywords, must_be_given, paths, settings
from kws.config.schema import Engine, EvaluateConfig
from kws.data.audio import sound_files
from kws.data.dataset import recordings, select
from kws.data.manifest import Split
from kws.detector import checkpoint
from kws.detector.streaming import StreamScorer
from kws.detector.torchscript import open_detector
from kws.evaluation import comparison, confusables, results
from kws.evaluation.annotations import read_annotations
from kws.evaluation.breakdown import confusion
from kws.evaluation.operating_points import RATES, Calibration, Unsupported, require_hours
from kws.evaluation.recordings import AnnotatedFiles, evaluate_files
from kws.evaluation.report.examples import Cut, ExampleSource, galleries
from kws.evaluation.report.page import Table
from kws.evaluation.report.pictures import cutter, write_pictures
from kws.evaluation.scoring import KeywordScores, ScoreAll, score_all, total_s
from kws.evaluation.splits import evaluate_split, negative_hours, split_streams


@dataclass(frozen=True)
class DetectorScores:
    """Scores of one detector, and the thresholds at which it counts."""

    name: str  # in tables; empty for a single detector
    file: Path
    streams: str  # what was scored, for titles
    scores: Mapping[str, KeywordScores]
    thresholds: Mapping[str, float]
    calibrations: Mapping[str, Calibration]
    cut: Cut  # audio of the streams
    sample_rate: int
    confusable_scores: Mapping[str, confusables.ConfusableScores] = field(default_factory=dict)


def run(cfg: DictConfig) -> None:
    """Evaluate `detector`, or compare two, on given streams, or on the test split of `data.root`."""
    s = settings(cfg, EvaluateConfig)
    console = Console()
    builders.threads(s.threads)
    files = detector_files(s)
    names = [""] if len(files) == 1 else ["a", "b"]
    confusable_files = confusables.held_out_confusables(Path(s.confusables)) if s.confusables is not None else {}
    detectors = [evaluated(s, file, name, console) for file, name in zip(files, names, strict=True)]
    if s.confusables is not None:
        detectors = [
            replace(d, confusable_scores=score_confusables(s, d, confusable_files, console)) for d in detectors
        ]
    if (s.smooth_s is not None or s.smooth_k is not None) and s.threshold.at_fa_per_hour is None:
        console.warn("the thresholds were placed for another smoothing: figures as set mean little")
    refractory_s = s.stream.refractory_s
    outcomes = []
    for d in detectors:
        own = results.outcomes_of(d.scores, d.thresholds, refractory_s, d.name, d.calibrations)
        outcomes += results.with_confusables(own, d.confusable_scores, d.sample_rate, refractory_s)
    title = f"{' and '.join(d.file.name for d in detectors)} {detectors[0].streams}"
    results.show(console, title, outcomes)
    results.show_groups(console, outcomes)
    comparisons, tables = compared(s, detectors, console) if s.compare is not None else ([], [])
    pairs = {d.name: confusion(d.scores, d.thresholds, refractory_s) for d in detectors}
    tables += results.show_confusion(console, pairs)
    if s.out:
        content: dict[str, Any] = {"model": s.detector or [str(file) for file in files]}
        content |= {"of": provenance(s), "outcomes": results.as_json(outcomes)}
        content["confused"] = [{"detector": name, **asdict(row)} for name, rows in pairs.items() for row in rows]
        results.write_json(Path(s.out), content | ({"compared": comparisons} if comparisons else {}))
        console.say(f"figures   {s.out}")
    shown = galleries(example_sources(detectors), refractory_s) if s.report or s.plots else []
    if s.report:
        facts = {d.name or "detector": str(d.file) for d in detectors} | provenance(s)
        results.write_page(Path(s.report), title, facts, outcomes, tables, shown)
        console.say(f"report    {s.report}")
    if s.plots:
        count = write_pictures(Path(s.plots), results.det_lines(outcomes), shown)
        console.say(f"plots     {s.plots} ({count} PNG files)")


def detector_files(s: EvaluateConfig) -> list[Path]:
    """Check the settings, set the keywords of a comparison, and return the one or two detector files."""
    if s.detector is not None and s.compare is not None:
        raise KwsError(f"compare={s.compare}: must not be given together with detector=...")
    if s.detector is None and s.compare is None:
        raise KwsError(f"compare=[a,b] or {must_be_given('detector', EvaluateConfig)}")
    files = [Path(s.detector)] if s.detector is not None else paths(s.compare, "compare")
    if s.compare is not None and len(files) != 2:
        raise KwsError(f"compare={s.compare}: must be two detectors, compare=[a.pt,b.pt]")
    for key, place, kind in (("out", s.out, "file"), ("report", s.report, "file"), ("plots", s.plots, "folder")):
        if place is not None and (Path(place).is_dir() if kind == "file" else Path(place).is_file()):
            raise KwsError(f"{key}={place}: must be a {kind}")
    if s.compare is not None and s.keyword is None:
        labels = [opened(s, file).labels for file in files]
        s.keyword = [label for label in labels[0] if label in labels[1]]
        if not s.keyword:
            raise KwsError(f"compare={s.compare}: the detectors have no keyword in common")
    return files


def provenance(s: EvaluateConfig) -> dict[str, str]:
    """Streams and settings that the figures depend on."""
    keys = ("positive", "events", "negative", "confusables", "collar_s", "smooth_s", "smooth_k")
    of = {key: getattr(s, key) for key in keys}
    of |= {"data.root": s.data.root, "stream": asdict(s.stream), "kws": __version__}
    return {key: str(value) for key, value in of.items() if value is not None}


def evaluated(s: EvaluateConfig, file: Path, name: str, console: Console) -> DetectorScores:
    """Score one detector on the given streams or on the recordings of `data.root`."""
    detector = opened(s, file)
    words = keywords(s.keyword) if s.keyword is not None else list(detector.labels)
    for word in words:
        if word not in detector.labels:
            raise KwsError(f"keyword={word}: must be one of the keywords of {file}: {', '.join(detector.labels)}")
    given = [key for key in ("positive", "events", "negative") if getattr(s, key) is not None]
    if given and len(given) < 3:
        raise KwsError(f"{given[0]}=...: must be given together with positive, events and negative")
    if given and s.data.root:
        raise KwsError("data.root: must not be given together with positive, events and negative")
    if not given and not s.data.root:
        raise KwsError("positive, events and negative, or data.root, must be given: the recordings to evaluate on")
    on = on_files if given else on_recordings
    return on(s, detector, file, name, words, console)


def opened(s: EvaluateConfig, file: Path) -> Any:
    """The detector of a file, with `smooth_s` and `smooth_k` if they are given."""
    if s.smooth_s is None and s.smooth_k is None:
        return open_detector(file)
    try:
        model = checkpoint.read_model(file)
    except KwsError as error:
        raise KwsError(f"smooth_s, smooth_k: need a checkpoint ({error})") from None
    return builders.resmoothed(model, s.smooth_s, s.smooth_k)


def scorer(s: EvaluateConfig, file: Path) -> ScoreAll:
    """The function that scores streams, on this machine or on a Ray cluster."""
    if s.engine is Engine.local:
        return score_all
    from kws.evaluation.ray import score_all_on_ray

    return score_all_on_ray(lambda: opened(s, file.absolute()))


def annotated_files(s: EvaluateConfig, words: list[str], console: Console) -> AnnotatedFiles:
    """The given files with their annotations."""
    positives, events = paths(s.positive, "positive"), paths(s.events, "events")
    if len(positives) != len(events):
        raise KwsError(f"events={s.events}: must be as many files as in positive, {len(positives)}")
    collar = None if s.collar_s is None else (s.collar_s[0], s.collar_s[1])
    required, labelled = len(words) == 1 and len(events) == 1, len(words) > 1
    annotations = [{w: read_annotations(file, w, collar, required, labelled) for w in words} for file in events]
    if not any(found for each in annotations for found in each.values()):
        raise KwsError(f"events={s.events}: must annotate at least one of {', '.join(words)}")
    for word in words:
        if not any(each[word] for each in annotations):
            console.warn(f"{word}: left out: events={s.events} has no annotation of it")
    for file, each in zip(positives, annotations, strict=True):
        if not any(each.values()):
            console.warn(f"{file}: not counted: it has no annotation of a keyword")
    negatives = [file for place in paths(s.negative, "negative") for file in sound_files(place, "negative")]
    seen: set[Path] = set()
    for file in (*positives, *negatives):
        if file.resolve() in seen and file in negatives:
            raise KwsError(f"negative={s.negative}: {file} is there twice; its hours would count twice")
        seen.add(file.resolve())
    return AnnotatedFiles(list(zip(positives, annotations, strict=True)), negatives)


def on_files(
    s: EvaluateConfig, detector: StreamScorer, file: Path, name: str, words: list[str], console: Console
) -> DetectorScores:
    """Score the given streams."""
    if s.threshold.at_fa_per_hour is not None:
        raise KwsError(
            f"threshold.at_fa_per_hour={s.threshold.at_fa_per_hour:g}: needs data.root: a threshold is placed on "
            "validation recordings, never on the streams that measure it"
        )
    files = annotated_files(s, words, console)
    sources = files.sources
    with listening(console, "Scoring", total_s(sources)) as progress:
        scores, bad = evaluate_files(
            detector, words, files, sources, s.stream.chunk_s, s.data.max_undecodable, progress, scorer(s, file)
        )
    for one in bad:
        console.warn(f"{one.name}: left out: {one.reason}")
    if bad:
        console.warn(f"{len(bad)} of {len(files.negatives)} negative recordings do not decode and are left out")
    rate, thresholds = detector.sample_rate, dict(zip(detector.labels, detector.thresholds, strict=True))
    return DetectorScores(name, file, "on the given streams", scores, thresholds, {}, cutter(sources, rate), rate)


def on_recordings(
    s: EvaluateConfig, detector: StreamScorer, file: Path, name: str, words: list[str], console: Console
) -> DetectorScores:
    """Score the test split, and the validation split if the thresholds are to be placed again."""
    s.data.sample_rate = rate = detector.sample_rate
    store = builders.store(s.data, console, recordings(s.data))
    rate_per_hour, passes = s.threshold.at_fa_per_hour, s.threshold.passes
    needed = [Split.TEST] if rate_per_hour is None else [Split.VALIDATION, Split.TEST]
    chosen = select(store.entries, words, s.data.noise_label, 0.0, needed)
    levels, chunk_s, max_keyword_s = s.stream, s.stream.chunk_s, s.stream.max_keyword_s
    score = scorer(s, file)
    thresholds = dict(zip(detector.labels, detector.thresholds, strict=True))
    calibrations: dict[str, Calibration] = {}
    streams = "on the test split"
    if rate_per_hour is not None:
        if s.threshold.unsupported is Unsupported.refuse:
            require_hours(negative_hours(store, chosen, Split.VALIDATION, levels), rate_per_hour)
        sources = split_streams(store, chosen, Split.VALIDATION, levels, passes)
        with listening(console, "Calibrating", total_s(sources)) as progress:
            scores = evaluate_split(
                detector, store, chosen, Split.VALIDATION, sources, chunk_s, max_keyword_s, progress, score
            )
        calibrations = {
            k: results.calibrated(one, rate_per_hour, s.stream.refractory_s, passes) for k, one in scores.items()
        }
        thresholds |= {k: c.threshold for k, c in calibrations.items()}
        streams += ", thresholds from the validation split"
    sources = split_streams(store, chosen, Split.TEST, levels)
    with listening(console, "Testing", total_s(sources)) as progress:
        scores = evaluate_split(detector, store, chosen, Split.TEST, sources, chunk_s, max_keyword_s, progress, score)
    return DetectorScores(name, file, streams, scores, thresholds, calibrations, cutter(sources, rate), rate)


def score_confusables(
    s: EvaluateConfig, one: DetectorScores, files: Mapping[str, list[Path]], console: Console
) -> Mapping[str, confusables.ConfusableScores]:
    """Score the confusables of the detector's keywords."""
    if not set(files) & set(one.scores):
        raise KwsError(f"confusables={s.confusables}: must be for {', '.join(one.scores)}, not {', '.join(files)}")
    files = {word: files[word] for word in one.scores if word in files}
    with listening(console, "Confusables", confusables.seconds(files)) as progress:
        return confusables.score_confusables(
            opened(s, one.file), files, s.stream.chunk_s, progress, scorer(s, one.file)
        )


def example_sources(detectors: Sequence[DetectorScores]) -> list[ExampleSource]:
    """Each detector and keyword, with the other detectors on the same streams."""

    def source(one: DetectorScores, word: str, others: Sequence[ExampleSource] = ()) -> ExampleSource:
        name = one.name or "detector"
        return ExampleSource(name, word, one.scores[word], one.thresholds[word], one.cut, one.sample_rate, others)

    return [
        source(one, word, [source(d, word) for d in detectors if d is not one and word in d.scores])
        for one in detectors
        for word in one.scores
    ]


def compared(
    s: EvaluateConfig, detectors: Sequence[DetectorScores], console: Console
) -> tuple[list[dict[str, Any]], list[Table]]:
    """Print how two detectors differ on the same streams, and how likely chance makes them differ as much."""
    first, second = detectors
    for one in detectors:
        console.say(f"{one.name}  {one.file}")
    found, tables = [], []
    for word in [word for word in first.scores if word in second.scores]:
        a, b = first.scores[word], second.scores[word]
        own = (first.thresholds[word], second.thresholds[word])
        pairs = comparison.compare(a, b, own, RATES, s.stream.refractory_s)
        title = f"{word}, a against b: {len(a.spans)} events, {a.negative.hours:.2f} h"
        tables.append(Table(title, comparison.HEADER, comparison.rows(pairs)))
        console.table(title, comparison.HEADER, tables[-1].rows)
        found += [{"keyword": word, **asdict(pair)} for pair in pairs]
    console.say("p: probability of such a difference by chance alone (McNemar for misses, Poisson for false alarms)")
    return found, tables


main = verb("evaluate", run)

if __name__ == "__main__":
    main()
