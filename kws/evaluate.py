"""kws evaluate: misses at fixed false alarms an hour, for a checkpoint or an exported file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from kws import build, results, stream
from kws.annotations import read_annotations
from kws.audio import load, to_int16
from kws.cli import verb
from kws.config import keywords, paths, settings
from kws.console import Console
from kws.detect import Calibration, calibrate, join
from kws.errors import KwsError
from kws.evaluation import Heard, evaluate_part
from kws.exporting import open_detector
from kws.manifest import Part
from kws.schema import EvaluateConfig
from kws.selection import select


def run(cfg: DictConfig) -> None:
    """Evaluate `detector` on given streams, or on the test part of `data.root`, calibrated on its validation part."""
    s = settings(cfg, EvaluateConfig)
    console = Console()
    build.threads(s.threads)
    detector = open_detector(Path(s.detector))
    words = keywords(s.keyword) if s.keyword is not None else list(detector.labels)
    for word in words:
        if word not in detector.labels:
            raise KwsError(f"keyword={word}: {s.detector} does not know it; allowed are {', '.join(detector.labels)}")
    limits = dict(zip(detector.labels, detector.thresholds, strict=True))
    given = [key for key in ("positive", "events", "negative") if getattr(s, key) is not None]
    if given and len(given) < 3:
        raise KwsError(f"{given[0]}=...: allowed only together with positive, events and negative")
    if given and s.data.root:
        raise KwsError("data.root: allowed are either streams (positive, events, negative) or data.root, not both")
    calibrations: Mapping[str, Calibration] = {}
    if given:
        heard, title = on_streams(s, detector, words, console), "on the given streams"
    elif s.data.root:
        heard, calibrations = on_recordings(s, detector, words, console)
        limits |= {k: c.threshold for k, c in calibrations.items()}
        title = "on the test part, thresholds from the validation part"
    else:
        raise KwsError("positive, events and negative, or data.root, must be given: what to evaluate on")
    outcomes = results.judge(heard, limits, s.stream.refractory_s, "", calibrations)
    results.show(console, f"{Path(s.detector).name} {title}", outcomes)
    if s.out:
        results.write_json(Path(s.out), {"model": s.detector, "outcomes": results.as_json(outcomes)})
        console.say(f"figures   {s.out}")
    if s.report:
        results.write_page(Path(s.report), f"{Path(s.detector).name} {title}", {"model": s.detector}, outcomes)
        console.say(f"report    {s.report}")


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
