"""kws evaluate: misses at fixed false alarms an hour, for a checkpoint or an exported file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kws import build, results, stream
from kws.annotations import read_annotations
from kws.audio import load, to_int16
from kws.cli import verb
from kws.compare import HEADER, compare, table
from kws.config import hint, keywords, paths, settings
from kws.console import Console
from kws.detect import Calibration, calibrate, join
from kws.errors import KwsError
from kws.evaluation import Heard, evaluate_part
from kws.exporting import open_detector
from kws.manifest import Part
from kws.schema import EvaluateConfig
from kws.selection import select


@dataclass(frozen=True)
class Evaluated:
    """What a detector did: on which streams, by keyword, and at which threshold it counts."""

    name: str
    on: str
    heard: Mapping[str, Heard]
    thresholds: Mapping[str, float]
    calibrations: Mapping[str, Calibration]


def run(cfg: DictConfig) -> None:
    """Evaluate `detector`, or compare two, on given streams, or on the test part of `data.root`."""
    s = settings(cfg, EvaluateConfig)
    console = Console()
    build.threads(s.threads)
    if (s.detector is None) == (s.compare is None):
        raise KwsError(f"detector=... or compare=[a,b] must be given; {hint('detector')}")
    files = [Path(s.detector)] if s.detector is not None else paths(s.compare, "compare")
    if s.compare is not None and len(files) != 2:
        raise KwsError(f"compare={s.compare}: allowed are two detectors, compare=[a.pt,b.pt]")
    every = [evaluated(s, file, console) for file in files]
    outcomes = [
        outcome
        for name, one in zip(names(files), every, strict=True)
        for outcome in results.judge(one.heard, one.thresholds, s.stream.refractory_s, name, one.calibrations)
    ]
    title = f"{' and '.join(one.name for one in every)} {every[0].on}"
    results.show(console, title, outcomes)
    pairs = paired(s, every, files, console) if s.compare is not None else []
    if s.out:
        content = {"model": s.detector or [str(file) for file in files], "outcomes": results.as_json(outcomes)}
        results.write_json(Path(s.out), content | ({"compared": pairs} if pairs else {}))
        console.say(f"figures   {s.out}")
    if s.report:
        results.write_page(Path(s.report), title, {"model": ", ".join(map(str, files))}, outcomes)
        console.say(f"report    {s.report}")


def names(files: Sequence[Path]) -> list[str]:
    """What tables call two detectors: nothing where there is one alone."""
    return [""] if len(files) == 1 else [f"{letter}" for letter, _ in zip("ab", files, strict=True)]


def evaluated(s: EvaluateConfig, file: Path, console: Console) -> Evaluated:
    """One detector on what there is to evaluate on."""
    detector = open_detector(file)
    words = keywords(s.keyword) if s.keyword is not None else list(detector.labels)
    for word in words:
        if word not in detector.labels:
            raise KwsError(f"keyword={word}: {file} does not know it; allowed are {', '.join(detector.labels)}")
    limits = dict(zip(detector.labels, detector.thresholds, strict=True))
    given = [key for key in ("positive", "events", "negative") if getattr(s, key) is not None]
    if given and len(given) < 3:
        raise KwsError(f"{given[0]}=...: allowed only together with positive, events and negative")
    if given and s.data.root:
        raise KwsError("data.root: allowed are either streams (positive, events, negative) or data.root, not both")
    if given:
        heard = on_streams(s, detector, words, console)
        return Evaluated(file.name, "on the given streams", heard, limits, {})
    if s.data.root:
        heard, calibrations = on_recordings(s, detector, words, console)
        limits |= {k: c.threshold for k, c in calibrations.items()}
        title = "on the test part, thresholds from the validation part"
        return Evaluated(file.name, title, heard, limits, calibrations)
    raise KwsError("positive, events and negative, or data.root, must be given: what to evaluate on")


def paired(
    s: EvaluateConfig, every: Sequence[Evaluated], files: Sequence[Path], console: Console
) -> list[dict[str, Any]]:
    """Say how two detectors differ on the same streams, and how likely chance alone would make them differ so."""
    first, second = every
    for letter, file in zip("ab", files, strict=True):
        console.say(f"{letter}  {file}")
    found = []
    for word in [word for word in first.heard if word in second.heard]:
        a, b = first.heard[word], second.heard[word]
        own = (first.thresholds[word], second.thresholds[word])
        pairs = compare(a, b, own, results.RATES, s.stream.refractory_s)
        console.table(f"{word}: {len(a.spans)} events, {a.negative.hours:.2f} h", HEADER, table(pairs))
        found += [{"keyword": word, **asdict(pair)} for pair in pairs]
    if not found:
        raise KwsError(f"compare={s.compare}: they have no keyword in common")
    console.say("p: how often two equal detectors differ so by chance alone (McNemar for misses, Poisson for alarms)")
    return found


def on_streams(s: EvaluateConfig, detector: Any, words: list[str], console: Console) -> dict[str, Heard]:
    """The one keyword of the positive stream, and the negative streams one after another."""
    if len(words) != 1:
        raise KwsError(f"keyword={words}: a positive stream holds one keyword; allowed is one of them")
    assert s.positive is not None
    assert s.events is not None
    collar = None if s.collar_s is None else (s.collar_s[0], s.collar_s[1])
    spans = read_annotations(Path(s.events), words[0], collar)
    files = [Path(s.positive), *paths(s.negative, "negative")]
    tracks = []
    with console.progress("Listening", len(files)) as tick:
        for number, file in enumerate(files):
            pcm = to_int16(load(file, detector.sample_rate))
            tracks.append(stream.track(detector, pcm, detector.sample_rate, s.stream.chunk_s)[words[0]])
            tick(number + 1)
    return {words[0]: Heard(tracks[0], spans, join(tracks[1:]))}


def on_recordings(
    s: EvaluateConfig, detector: Any, words: list[str], console: Console
) -> tuple[dict[str, Heard], dict[str, Calibration]]:
    """Streams of the validation part for the thresholds, of the test part for the figures."""
    s.data.sample_rate = detector.sample_rate
    store = build.store(s.data, console, build.recordings(s.data))
    chosen = select(store.entries, words, s.data.noise_label, 0.0)
    levels, chunk_s, passes = build.levels(s.stream), s.stream.chunk_s, s.threshold.passes
    with console.progress("Calibrating", len(words) + passes) as tick:
        found = evaluate_part(detector, store, chosen, Part.VALIDATION, levels, passes, chunk_s, tick)
    calibrations = {
        k: calibrate(h.negative, h.positive, h.spans, s.threshold.at_fa_per_hour, s.stream.refractory_s, passes)
        for k, h in found.items()
    }
    if not chosen.speech[Part.TEST]:
        raise KwsError(f"data.root={s.data.root}: no negative recording in the test part")
    with console.progress("Testing", len(words) + 1) as tick:
        heard = evaluate_part(detector, store, chosen, Part.TEST, levels, 1, chunk_s, tick)
    return dict(heard), calibrations


main = verb("evaluate", run)

if __name__ == "__main__":
    main()
