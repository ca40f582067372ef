"""kws evaluate: misses at fixed false alarms an hour, for a checkpoint or an exported file, or two of them compared."""

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
from kws.config.compose import hint, keywords, paths, settings
from kws.config.schema import Engine, EvaluateConfig, Unsupported
from kws.data.audio import sound_files
from kws.data.dataset import select
from kws.data.manifest import Split
from kws.detector import checkpoint
from kws.detector.torchscript import open_detector
from kws.evaluation import comparison, confusables, results, scoring
from kws.evaluation.annotations import read_annotations
from kws.evaluation.breakdown import Confused, confusion
from kws.evaluation.confusables import Said
from kws.evaluation.operating_points import RATES, Calibration, demand_hours
from kws.evaluation.recordings import Given, evaluate_files
from kws.evaluation.report.examples import Cut, Judged
from kws.evaluation.report.page import Table
from kws.evaluation.report.pictures import cutter, galleries, write_pictures
from kws.evaluation.scoring import Hear, KeywordScores, seconds
from kws.evaluation.splits import evaluate_part, negative_hours, part_takes


@dataclass(frozen=True)
class Evaluated:
    """What a detector did: on which streams, by keyword, and at which threshold it counts."""

    name: str  # in tables; empty where there is one detector alone
    file: Path
    on: str
    heard: Mapping[str, KeywordScores]
    thresholds: Mapping[str, float]
    calibrations: Mapping[str, Calibration]
    cut: Cut  # gives the sound of what was heard
    sample_rate: int
    said: Mapping[str, Said] = field(default_factory=dict)  # what only sounds like its keywords


def run(cfg: DictConfig) -> None:
    """Evaluate `detector`, or compare two, on given streams, or on the test part of `data.root`."""
    s = settings(cfg, EvaluateConfig)
    console = Console()
    builders.threads(s.threads)
    if s.detector is not None and s.compare is not None:
        raise KwsError(f"compare={s.compare}: allowed is this or detector=..., not both")
    if s.detector is None and s.compare is None:
        raise KwsError(f"detector=... or compare=[a,b] must be given; {hint('detector')}")
    files = [Path(s.detector)] if s.detector is not None else paths(s.compare, "compare")
    if s.compare is not None and len(files) != 2:
        raise KwsError(f"compare={s.compare}: allowed are two detectors, compare=[a.pt,b.pt]")
    for key, place, other in (("out", s.out, "file"), ("report", s.report, "file"), ("plots", s.plots, "folder")):
        if place is not None and (Path(place).is_dir() if other == "file" else Path(place).is_file()):
            raise KwsError(f"{key}={place}: allowed is a {other}")
    if s.compare is not None and s.keyword is None:
        known = [opened(s, file).labels for file in files]
        s.keyword = [label for label in known[0] if label in known[1]]
        if not s.keyword:
            raise KwsError(f"compare={s.compare}: they have no keyword in common")
    names = [""] if len(files) == 1 else ["a", "b"]
    unheard = confusables.unheard(Path(s.said)) if s.said is not None else {}
    every = [evaluated(s, file, name, console) for file, name in zip(files, names, strict=True)]
    every = [replace(one, said=on_confusables(s, one, unheard, console)) for one in every]
    if (s.smooth_s is not None or s.smooth_k is not None) and s.threshold.at_fa_per_hour is None:
        console.warn("another smoothing than the thresholds were placed for: what is told as set means little")
    refractory_s = s.stream.refractory_s
    outcomes = [
        outcome
        for one in every
        for outcome in results.with_confusables(
            results.judge(one.heard, one.thresholds, refractory_s, one.name, one.calibrations),
            one.said,
            one.sample_rate,
            refractory_s,
        )
    ]
    title = f"{' and '.join(one.file.name for one in every)} {every[0].on}"
    results.show(console, title, outcomes)
    results.show_groups(console, outcomes)
    pairs, tables = compared(s, every, console) if s.compare is not None else ([], [])
    confused = {one.name: confusion(one.heard, one.thresholds, refractory_s) for one in every}
    tables += results.show_confusion(console, confused)
    if s.out:
        content: dict[str, Any] = {"model": s.detector or [str(file) for file in files]}
        content |= {"of": asked(s), "outcomes": results.as_json(outcomes), "confused": as_plain(confused)}
        results.write_json(Path(s.out), content | ({"compared": pairs} if pairs else {}))
        console.say(f"figures   {s.out}")
    wrong = [judged(one, word, every) for one in every for word in one.heard] if s.report or s.plots else []
    shown = galleries(wrong, refractory_s)
    if s.report:
        facts = {one.name or "detector": str(one.file) for one in every} | asked(s)
        results.write_page(Path(s.report), title, facts, outcomes, tables, shown)
        console.say(f"report    {s.report}")
    if s.plots:
        count = write_pictures(Path(s.plots), results.arms(outcomes), shown)
        console.say(f"plots     {s.plots} ({count} PNG files)")


def asked(s: EvaluateConfig) -> dict[str, str]:
    """What the figures are of, for the record: the streams and what they were counted by."""
    of = {
        key: getattr(s, key) for key in ("positive", "events", "negative", "said", "collar_s", "smooth_s", "smooth_k")
    }
    of |= {"data.root": s.data.root, "stream": asdict(s.stream), "kws": __version__}
    return {key: str(value) for key, value in of.items() if value is not None}


def evaluated(s: EvaluateConfig, file: Path, name: str, console: Console) -> Evaluated:
    """One detector on what there is to evaluate on."""
    detector = opened(s, file)
    words = keywords(s.keyword) if s.keyword is not None else list(detector.labels)
    for word in words:
        if word not in detector.labels:
            raise KwsError(f"keyword={word}: {file} does not know it; allowed are {', '.join(detector.labels)}")
    given = [key for key in ("positive", "events", "negative") if getattr(s, key) is not None]
    if given and len(given) < 3:
        raise KwsError(f"{given[0]}=...: allowed only together with positive, events and negative")
    if given and s.data.root:
        raise KwsError("data.root: allowed are either streams (positive, events, negative) or data.root, not both")
    limits, rate = dict(zip(detector.labels, detector.thresholds, strict=True)), detector.sample_rate
    hear = engine(s, file)
    if given:
        if s.threshold.at_fa_per_hour is not None:
            raise KwsError(
                f"threshold.at_fa_per_hour={s.threshold.at_fa_per_hour:g}: allowed only with data.root: a threshold is "
                "placed on validation recordings, never on the streams that measure it"
            )
        streams = on_files(s, words, console)
        takes = streams.takes
        with listening(console, "Listening", seconds(takes)) as tell:
            heard, bad = evaluate_files(
                detector, words, streams, takes, s.stream.chunk_s, s.data.max_bad_share, tell, hear
            )
        for one in bad:
            console.warn(f"{one.name}: left out: {one.reason}")
        if bad:
            console.warn(f"{len(bad)} of {len(streams.negatives)} negative recordings do not decode and are left out")
        return Evaluated(name, file, "on the given streams", heard, limits, {}, cutter(takes, rate), rate)
    if s.data.root:
        return on_recordings(s, detector, file, name, words, limits, hear, console)
    raise KwsError("positive, events and negative, or data.root, must be given: what to evaluate on")


def on_confusables(
    s: EvaluateConfig, one: Evaluated, files: Mapping[str, list[Path]], console: Console
) -> Mapping[str, Said]:
    """What its detector makes of clips that only sound like a keyword."""
    if s.said is not None and not set(files) & set(one.heard):
        raise KwsError(f"said={s.said}: sounds like {', '.join(files)}; allowed is {', '.join(one.heard)}")
    if s.said is None:
        return {}
    files = {word: files[word] for word in one.heard if word in files}
    with listening(console, "Confusables", confusables.seconds(files)) as tell:
        return confusables.heard(opened(s, one.file), files, s.stream.chunk_s, tell, engine(s, one.file))


def opened(s: EvaluateConfig, file: Path) -> Any:
    """The detector of a file, with another smoothing if that is asked for."""
    if s.smooth_s is None and s.smooth_k is None:
        return open_detector(file)
    try:
        model = checkpoint.read_model(file)
    except KwsError as error:
        raise KwsError(f"smooth_s, smooth_k: allowed only for a checkpoint ({error})") from None
    return builders.resmoothed(model, s.smooth_s, s.smooth_k)


def engine(s: EvaluateConfig, file: Path) -> Hear:
    """Who hears: the cores of this machine, or a cluster."""
    if s.engine is Engine.local:
        return scoring.hear_all
    from kws.evaluation.ray import hear_on_ray

    return hear_on_ray(lambda: opened(s, file.absolute()))


def on_files(s: EvaluateConfig, words: list[str], console: Console) -> Given:
    """The files that were given, and when each keyword is said in them."""
    positives, events = paths(s.positive, "positive"), paths(s.events, "events")
    if len(positives) != len(events):
        raise KwsError(f"events={s.events}: allowed are as many files as in positive, {len(positives)}")
    collar = None if s.collar_s is None else (s.collar_s[0], s.collar_s[1])
    alone, several = len(words) == 1 and len(events) == 1, len(words) > 1
    marks = [{word: read_annotations(file, word, collar, alone, several) for word in words} for file in events]
    if not any(found for each in marks for found in each.values()):
        raise KwsError(f"events={s.events}: none of {', '.join(words)} is said there")
    for word in words:
        if not any(each[word] for each in marks):
            console.warn(f"{word}: left out: it is said nowhere in events={s.events}")
    for file, each in zip(positives, marks, strict=True):
        if not any(each.values()):
            console.warn(f"{file}: no keyword is said in it; it counts for nothing")
    negatives = [file for place in paths(s.negative, "negative") for file in sound_files(place, "negative")]
    seen: set[Path] = set()
    for file in (*positives, *negatives):
        if file.resolve() in seen and file in negatives:
            raise KwsError(f"negative={s.negative}: {file} is there twice; its hours would count twice")
        seen.add(file.resolve())
    return Given(list(zip(positives, marks, strict=True)), negatives)


def on_recordings(
    s: EvaluateConfig,
    detector: Any,
    file: Path,
    name: str,
    words: list[str],
    limits: dict[str, float],
    hear: Hear,
    console: Console,
) -> Evaluated:
    """The test part for the figures, and the validation part for the thresholds if they are to be placed anew."""
    s.data.sample_rate = rate = detector.sample_rate
    store = builders.store(s.data, console, builders.recordings(s.data))
    rate_per_hour, passes = s.threshold.at_fa_per_hour, s.threshold.passes
    needed = [Split.TEST] if rate_per_hour is None else [Split.VALIDATION, Split.TEST]
    chosen = select(store.entries, words, s.data.noise_label, 0.0, needed)
    levels, chunk_s, longest_s = builders.levels(s.stream), s.stream.chunk_s, s.stream.max_keyword_s
    calibrations: dict[str, Calibration] = {}
    on = "on the test part"
    if rate_per_hour is not None:
        if s.threshold.unsupported is Unsupported.refuse:
            demand_hours(negative_hours(store, chosen, Split.VALIDATION, levels), rate_per_hour)
        takes = part_takes(store, chosen, Split.VALIDATION, levels, passes)
        with listening(console, "Calibrating", seconds(takes)) as tell:
            found = evaluate_part(detector, store, chosen, Split.VALIDATION, takes, chunk_s, longest_s, tell, hear)
        calibrations = {
            k: results.calibrated(h, rate_per_hour, s.stream.refractory_s, passes) for k, h in found.items()
        }
        limits |= {k: c.threshold for k, c in calibrations.items()}
        on += ", thresholds from the validation part"
    takes = part_takes(store, chosen, Split.TEST, levels, 1)
    with listening(console, "Testing", seconds(takes)) as tell:
        heard = evaluate_part(detector, store, chosen, Split.TEST, takes, chunk_s, longest_s, tell, hear)
    return Evaluated(name, file, on, heard, limits, calibrations, cutter(takes, rate), rate)


def judged(one: Evaluated, word: str, every: Sequence[Evaluated]) -> Judged:
    """A detector on one keyword, with the others on the same streams beside it, for pictures."""

    def of(each: Evaluated, others: list[Judged]) -> Judged:
        name = each.name or "detector"
        return Judged(name, word, each.heard[word], each.thresholds[word], each.cut, each.sample_rate, others)

    return of(one, [of(each, []) for each in every if each is not one and word in each.heard])


def compared(
    s: EvaluateConfig, every: Sequence[Evaluated], console: Console
) -> tuple[list[dict[str, Any]], list[Table]]:
    """Say how two detectors differ on the same streams, and how likely chance alone would make them differ so."""
    first, second = every
    for one in every:
        console.say(f"{one.name}  {one.file}")
    found, tables = [], []
    for word in [word for word in first.heard if word in second.heard]:
        a, b = first.heard[word], second.heard[word]
        own = (first.thresholds[word], second.thresholds[word])
        pairs = comparison.compare(a, b, own, RATES, s.stream.refractory_s)
        title = f"{word}, a against b: {len(a.spans)} events, {a.negative.hours:.2f} h"
        tables.append(Table(title, comparison.HEADER, comparison.table(pairs)))
        console.table(title, comparison.HEADER, tables[-1].rows)
        found += [{"keyword": word, **asdict(pair)} for pair in pairs]
    console.say("p: how often two equal detectors differ so by chance alone (McNemar for misses, Poisson for alarms)")
    return found, tables


def as_plain(confused: Mapping[str, Sequence[Confused]]) -> list[dict[str, Any]]:
    """Confusions as plain values, with the detector's name."""
    return [{"arm": name, **asdict(row)} for name, rows in confused.items() for row in rows]


main = verb("evaluate", run)

if __name__ == "__main__":
    main()
