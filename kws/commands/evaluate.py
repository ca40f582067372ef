"""kws evaluate: misses at fixed false alarms per hour of a detector, or of two detectors compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

from kws import __version__
from kws.commands import builders
from kws.commands.known_recordings import file_hashes, warn_known
from kws.common.console import Console, audio_progress
from kws.common.errors import KwsError
from kws.common.files import refuse_overwriting
from kws.config.app import verb
from kws.config.compose import keywords, must_be_given, paths
from kws.config.schema import Engine, EvaluateConfig
from kws.data.dataset import manifest_file, recordings, select, selection_lines
from kws.data.manifest import Split
from kws.data.positives import doubt_lines, with_locations
from kws.data.sound_files import sound_files
from kws.detector import checkpoint
from kws.detector.files import open_detector
from kws.detector.streaming import StreamScorer
from kws.evaluation import comparison, confusables, results
from kws.evaluation.annotations import read_annotations
from kws.evaluation.breakdown import confusion
from kws.evaluation.calibration import Unsupported, require_hours
from kws.evaluation.operating_points import RATES
from kws.evaluation.recordings import WHOLE_FILE, AnnotatedFile, display_names, evaluate_files, with_silence
from kws.evaluation.report.examples import cutter, galleries, placing_negatives
from kws.evaluation.report.page import write_pictures, write_report
from kws.evaluation.scoring import (
    ConfusableScores,
    DetectorScores,
    KeywordScores,
    ScoreAll,
    StreamSource,
    file_source,
    score_all,
    total_s,
)
from kws.evaluation.splits import evaluate_split, negative_hours, split_streams


class Evaluated(NamedTuple):
    """Scores of a detector, and the streams with their sample rate and description.

    `placed_on` holds scores and streams of the validation split, where thresholds were placed on it.
    """

    scores: DetectorScores
    sources: Sequence[StreamSource]
    sample_rate: int
    streams: str
    placed_on: tuple[Mapping[str, KeywordScores], Sequence[StreamSource]] | None = None


def run(s: EvaluateConfig) -> None:
    """Evaluate `detector`, or compare two, on given streams, or on the test split of `data.root`."""
    console = Console()
    builders.threads(s.threads)
    files = detector_files(s)
    clips = confusables.held_out_confusables(Path(s.confusables)) if s.confusables is not None else {}
    names = ["a", "b"] if s.compare is not None else [""]
    evaluated = [evaluate(s, file, name, clips, console) for file, name in zip(files, names, strict=True)]
    detectors = [one.scores for one in evaluated]
    if (s.smooth_s is not None or s.smooth_k is not None) and s.threshold.at_fa_per_hour is None:
        console.warn("the thresholds were placed for another smoothing: figures at these thresholds mean little")
    refractory_s = s.stream.refractory_s
    outcomes = [outcome for one in detectors for outcome in results.outcomes_of(one, refractory_s)]
    title = f"{' and '.join(display_names(files) if len(files) > 1 else [files[0].name])} {evaluated[0].streams}"
    results.show(console, title, outcomes)
    tracks = [scores.negative for one in detectors[:1] for scores in one.scores.values()]
    if tracks and tracks[0].silent_s:
        silent_h, whole_h = tracks[0].silent_s / 3600, tracks[0].duration_s / 3600
        console.warn(f"{silent_h:.2f} of {whole_h:.2f} h without the keyword are digital silence and do not count")
    for table in results.group_tables(outcomes):
        console.table(*table)
    comparisons, tables = compared(s, detectors, files, console) if s.compare is not None else ([], [])
    pairs = {one.name: confusion(one.scores, one.thresholds, refractory_s) for one in detectors}
    tables += results.show_confusion(console, pairs)
    if s.out:
        content: dict[str, Any] = {"model": s.detector or [str(file) for file in files]}
        content |= {"of": provenance(s), "outcomes": results.as_json(outcomes)}
        content["confused"] = [{"detector": name, **asdict(row)} for name, rows in pairs.items() for row in rows]
        results.write_json(Path(s.out), content | ({"compared": comparisons} if comparisons else {}))
        console.say(f"figures   {s.out}")
    sources, rate = evaluated[0].sources, evaluated[0].sample_rate
    shown = galleries(detectors, cutter(sources, rate), rate, refractory_s) if s.report or s.plots else []
    for one in evaluated if s.report or s.plots else ():
        if one.placed_on is not None:
            scores, streams = one.placed_on
            shown += placing_negatives(replace(one.scores, scores=scores), cutter(streams, rate), rate)
    if s.report:
        facts = {one.name or "detector": str(file) for one, file in zip(detectors, files, strict=True)} | provenance(s)
        write_report(Path(s.report), title, facts, outcomes, tables, shown)
        console.say(f"report    {s.report}")
    if s.plots:
        count = write_pictures(Path(s.plots), outcomes, shown)
        console.say(f"plots     {s.plots} ({count} PNG files)")
    results.show_verdicts(console, outcomes)


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
    given = [(key, getattr(s, key)) for key in ("positive", "events", "negative") if getattr(s, key) is not None]
    read = [*files, *(path for key, value in given for path in paths(value, key))]
    read += [Path(one) for one in (s.data.root, s.confusables) if one is not None]
    if s.data.root is not None and (manifest := manifest_file(s.data)) is not None:
        read.append(Path(s.data.root) / manifest)
    refuse_overwriting({"out": s.out, "report": s.report}, read)
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
    of |= {"data.root": s.data.root, "kws": __version__}
    of |= {f"stream.{key}": value for key, value in asdict(s.stream).items()}
    return {key: _text(value) for key, value in of.items() if value is not None}


def _text(value: object) -> str:
    """A setting for people: the elements of a list, separated by commas."""
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def evaluate(s: EvaluateConfig, file: Path, name: str, clips: Mapping[str, list[Path]], console: Console) -> Evaluated:
    """Score one detector on the given streams or on the recordings of `data.root`, and on its confusables."""
    detector = opened(s, file)
    words = keywords(s.keyword) if s.keyword is not None else list(detector.labels)
    for word in words:
        if word not in detector.labels:
            raise KwsError(f"keyword={word}: must be one of the keywords of {file}: {', '.join(detector.labels)}")
    given = [key for key in ("positive", "events", "negative") if getattr(s, key) is not None]
    if given == ["events"] or (s.events is not None and s.positive is None):
        raise KwsError(f"events={s.events}: must be given together with positive, the recordings that it annotates")
    if given and s.data.root:
        raise KwsError(f"data.root={s.data.root}: must not be given together with {' and '.join(given)}")
    if not given and not s.data.root:
        raise KwsError("positive, negative or data.root must be given: the recordings to evaluate on")
    score = scorer(s, file)
    one = (on_files if given else on_recordings)(s, file, detector, words, score, console)
    found: Mapping[str, ConfusableScores] = {}
    if s.confusables is not None:
        own = {word: clips[word] for word in one.scores.scores if word in clips}
        if not own:
            scored = ", ".join(one.scores.scores)
            raise KwsError(f"confusables={s.confusables}: must be for {scored}, not {', '.join(clips)}")
        with audio_progress(console, "Confusables", confusables.seconds(own)) as progress:
            found = confusables.score_confusables(detector, own, s.stream.chunk_s, progress, score)
    return one._replace(scores=replace(one.scores, confusables=found, name=name))


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


def given_files(s: EvaluateConfig, words: list[str], console: Console) -> tuple[list[AnnotatedFile], list[Path]]:
    """The given files with keywords, with their annotations, and those without."""
    positives = [] if s.positive is None else annotated(s, words, console)
    places = [] if s.negative is None else paths(s.negative, "negative")
    negatives = [file for place in places for file in sound_files(place, "negative")]
    seen = set[Path]()
    both = [(f"positive={s.positive}", file, "keywords") for file, _ in positives]
    for given, file, counted in [*both, *((f"negative={s.negative}", file, "hours") for file in negatives)]:
        if file.resolve() in seen:
            once = "" if s.events is None else "; one file of events may annotate several keywords"
            raise KwsError(f"{given}: {file} is there twice, and its {counted} would count twice{once}")
        seen.add(file.resolve())
    return positives, negatives


def annotated(s: EvaluateConfig, words: list[str], console: Console) -> list[AnnotatedFile]:
    """The files of `positive` with their annotations. Without `events`, each file is one keyword."""
    if s.events is None:
        if len(words) > 1:
            raise KwsError(f"keyword={words}: must be one, since without events every file of positive is one keyword")
        files = [file for place in paths(s.positive, "positive") for file in sound_files(place, "positive")]
        console.say(f"each of the {len(files)} recordings of positive counts as one keyword; events= says where it is")
        return [(file, {words[0]: [WHOLE_FILE]}) for file in files]
    files, events = paths(s.positive, "positive"), paths(s.events, "events")
    if len(files) != len(events):
        raise KwsError(f"events={s.events}: must be as many files as in positive, {len(files)}")
    collar = None if s.collar_s is None else (s.collar_s[0], s.collar_s[1])
    required, labelled = len(words) == 1 and len(events) == 1, len(words) > 1
    annotations = [{w: read_annotations(file, w, collar, required, labelled) for w in words} for file in events]
    if not any(found for each in annotations for found in each.values()):
        raise KwsError(f"events={s.events}: must annotate at least one of {', '.join(words)}")
    for word in words:
        if not any(each[word] for each in annotations):
            console.warn(f"{word}: left out: events={s.events} has no annotation of it")
    for file, each in zip(files, annotations, strict=True):
        if not any(each.values()):
            console.warn(f"{file}: not counted: it has no annotation of a keyword")
    return list(zip(files, annotations, strict=True))


def on_files(
    s: EvaluateConfig, file: Path, detector: StreamScorer, words: list[str], score: ScoreAll, console: Console
) -> Evaluated:
    """Score the given streams."""
    if s.threshold.at_fa_per_hour is not None:
        raise KwsError(
            f"threshold.at_fa_per_hour={s.threshold.at_fa_per_hour:g}: needs data.root: a threshold is placed on "
            "validation recordings, never on the streams that measure it"
        )
    positives, negatives = given_files(s, words, console)
    files = [*(one for one, _ in positives), *negatives]
    warn_known(console, file, lambda: file_hashes(files, detector.sample_rate, console))
    whole = s.events is None
    sources = [with_silence(file, detector.sample_rate) if whole else file_source(file) for file, _ in positives]
    sources += [file_source(file) for file in negatives]
    with audio_progress(console, "Scoring", total_s(sources)) as progress:
        scores, bad, faults = evaluate_files(
            detector, words, positives, negatives, sources, s.stream.chunk_s, s.data.max_undecodable, progress, score
        )
    builders.say_faults(console, faults)
    builders.warn_undecodable(console, {one.name: one.reason for one in bad}, len(sources))
    thresholds = dict(zip(detector.labels, detector.thresholds, strict=True))
    return Evaluated(DetectorScores(scores, thresholds), sources, detector.sample_rate, "on the given streams")


def on_recordings(
    s: EvaluateConfig, file: Path, detector: StreamScorer, words: list[str], score: ScoreAll, console: Console
) -> Evaluated:
    """Score the test split, and the validation split if the thresholds are to be placed again."""
    s.data.sample_rate = detector.sample_rate
    store = builders.store(s.data, console, recordings(s.data, console.warn, words), detector.labels)
    rate_per_hour, passes = s.threshold.at_fa_per_hour, s.threshold.passes
    needed = [Split.TEST] if rate_per_hour is None else [Split.VALIDATION, Split.TEST]
    chosen = select(store.entries, words, s.data.noise_label, 0.0, needed, s.data.transcript_match)
    chosen = with_locations(store, chosen, dict.fromkeys(Split, s.stream.max_keyword_s), needed)
    for line in [*selection_lines(chosen), *doubt_lines(chosen)]:
        console.warn(line)

    test = [entry for entry in store.entries if entry.recording.split is Split.TEST]
    warn_known(console, file, lambda: {one.recording.name: [one.hash, one.whole] for one in test})

    def score_split(
        title: str, split: Split, passes: int = 1
    ) -> tuple[list[StreamSource], Mapping[str, KeywordScores]]:
        sources, stream = split_streams(store, chosen, split, s.stream, passes), s.stream
        with audio_progress(console, title, total_s(sources)) as progress:
            return sources, evaluate_split(detector, store, chosen, split, sources, stream.chunk_s, progress, score)

    thresholds = dict(zip(detector.labels, detector.thresholds, strict=True))
    calibrations, streams, placed_on = {}, "on the test split", None
    if rate_per_hour is not None:
        if s.threshold.unsupported is Unsupported.refuse:
            require_hours(negative_hours(store, chosen, Split.VALIDATION, s.stream), rate_per_hour)
        builders.warn_clean(console, chosen, Split.VALIDATION)
        sources, scores = score_split("Calibrating", Split.VALIDATION, passes)
        placed_on = scores, sources
        calibrations = {
            k: results.calibrated(one, rate_per_hour, s.stream.refractory_s, passes) for k, one in scores.items()
        }
        thresholds |= {k: c.threshold for k, c in calibrations.items()}
        streams += ", thresholds from the validation split"
    builders.warn_clean(console, chosen, Split.TEST)
    sources, scores = score_split("Testing", Split.TEST, 1)
    found = DetectorScores(scores, thresholds, calibrations)
    return Evaluated(found, sources, detector.sample_rate, streams, placed_on)


def compared(
    s: EvaluateConfig, detectors: Sequence[DetectorScores], files: Sequence[Path], console: Console
) -> tuple[list[dict[str, Any]], list[results.Table]]:
    """Print the difference between two detectors on the same streams, and its significance."""
    first, second = detectors
    for one, file in zip(detectors, files, strict=True):
        console.say(f"{one.name}  {file}")
    found, tables = [], []
    for word in [word for word in first.scores if word in second.scores]:
        a, b = first.scores[word], second.scores[word]
        own = (first.thresholds[word], second.thresholds[word])
        pairs = comparison.compare(a, b, own, RATES if a.negative.hours else (), s.stream.refractory_s)
        title = f"{word}, a against b: {len(a.spans)} events, {a.negative.hours:.2f} h"
        tables.append(results.Table(title, comparison.HEADER, comparison.rows(pairs)))
        console.table(*tables[-1])
        found += [{"keyword": word, **asdict(pair)} for pair in pairs]
    console.say("p: probability of such a difference by chance alone (McNemar for misses, Poisson for false alarms)")
    return found, tables


main = verb("evaluate", run)
