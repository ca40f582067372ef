"""kws export quantize=int8: quantise an ONNX file, and measure it on the validation streams of its run."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor
from yaml import YAMLError

from kws.commands import builders, speech
from kws.commands.initial_model import config_of
from kws.common.console import Console
from kws.common.errors import KwsError, first_line
from kws.common.settings import SettingError
from kws.config import schema as c
from kws.config.deploy import ExportConfig
from kws.config.sweep import one_at_a_time
from kws.config.validation import check
from kws.data.audio import to_float
from kws.data.audio_cache import Entry
from kws.data.augment import AugmentConfig
from kws.data.dataset import recordings, select
from kws.data.features import FeaturesConfig
from kws.data.manifest import Split
from kws.data.positives import with_locations
from kws.detector import int8, onnx
from kws.detector.checkpoint import Checkpoint
from kws.detector.detector import Detector
from kws.detector.onnx_runner import OnnxDetector
from kws.detector.parity import difference
from kws.evaluation.quantisation import HEADER, Loss, measure, refusal, rows
from kws.evaluation.results import Table
from kws.evaluation.validation import ValidationStreams
from kws.models.base import ModelConfig

RANGES_S = 120.0  # of each validation stream, from which the ranges of inputs are taken


@dataclass(frozen=True)
class Quantised:
    """An int8 file, and what it costs."""

    content: bytes
    loss: Loss
    bytes_n: tuple[int, int]  # of the file, before and after
    speed: tuple[float, float]  # times real time in chunks of 80 ms on this machine, before and after
    gate: float  # largest difference of a score on the audio that every export is compared on

    def as_json(self) -> dict[str, Any]:
        """Plain values for the metadata of the file."""
        return {
            "kind": "int8",
            "bytes": self.bytes_n,
            "times_real_time": self.speed,
            "largest_difference_at_export": self.gate,
            **self.loss.as_json(),
        }


def quantise(
    content: bytes, detector: Detector, model: Checkpoint, s: ExportConfig, gate: Tensor, console: Console
) -> Quantised:
    """Quantise the content of an ONNX file of this detector, and print the figures before and after.

    Args:
        content: float32.
        detector: with the thresholds at which misses and false alarms are counted.
        model: its checkpoint, which knows the recordings of its run.
        s: `quantize_max_loss`, see `kws.evaluation.quantisation.refusal`, and `data_root`.
        gate: audio of `gate_audio`.
        console: for the figures.

    Raises:
        KwsError: the recordings are not there, or the loss is too high.
    """
    streams = validation_streams(model, s.data_root, console)
    parts = [streams.negative, *streams.positive.values()]
    audio = np.concatenate([to_float(one.pcm[: round(RANGES_S * streams.rate)]) for one in parts])
    smaller = int8.quantised(content, audio)
    with console.progress("Scoring the validation streams", 2, "files") as tick:
        before = streams.score(onnx.OnnxScorer(content))
        tick(1)
        after = streams.score(onnx.OnnxScorer(smaller))
        tick(2)
    loss = measure(streams, before, after, thresholds(detector, model))
    speed, worst = speeds(content, smaller, audio), difference(detector, onnx.OnnxScorer(smaller), gate)
    console.table(*Table("int8 on the validation streams", HEADER, rows(loss)))
    console.say(
        f"scores    differ by at most {loss.largest:.3f}, median {loss.median:.1g}; in noise and clips {worst:.3f}"
    )
    console.say(f"file      {len(content) / 1024:.0f} KiB as float32, {len(smaller) / 1024:.0f} KiB as int8")
    console.say(f"speed     {speed[0]:.0f} times real time as float32, {speed[1]:.0f} as int8, chunks of 80 ms, here")
    if why := refusal(loss, s.quantize_max_loss, worst):
        raise KwsError(f"quantize_max_loss={s.quantize_max_loss:g}: int8 loses more: {why}; no file was written")
    return Quantised(smaller, loss, (len(content), len(smaller)), speed, worst)


def thresholds(detector: Detector, model: Checkpoint) -> Mapping[str, Mapping[float | None, float]]:
    """Thresholds of each keyword: that of the detector, and those for other rates that validation hours support."""
    by_rate = model.facts.get("thresholds_by_rate", {})
    found = {}
    for keyword, own in zip(detector.labels, detector.thresholds, strict=True):
        others = {float(r): one["threshold"] for r, one in by_rate.get(keyword, {}).items() if one["supported"]}
        found[keyword] = {None: own} | others
    return found


def validation_streams(model: Checkpoint, root: str | None, console: Console) -> ValidationStreams:
    """The validation streams of the run that trained a model.

    Raises:
        KwsError: it has none, or its recordings are not where they were.
    """
    s = settings_of_run(model)
    if root is not None:
        s.data.root = root
    if s.data.root and not Path(s.data.root).is_dir():
        raise KwsError(f"data_root=... must be given: {s.data.root}, the recordings of the run, is not there")
    words = model.spec.labels
    real = recordings(s.data, console.warn, words) if s.data.root else []
    with one_at_a_time(Path(s.data.cache)):
        made = speech.synthesise(s, words, console, real)
        store = builders.store(s.data, console, [*real, *made.recordings()], words)
        refuse_other_validation(store.entries, model, s.data.root)
        chosen = select(store.entries, words, s.data.noise_label, s.mining.pool_share, match=s.data.transcript_match)
        lengths = builders.longest_keywords(s.batch, s.stream)
        chosen = with_locations(store, chosen, lengths, (Split.TRAIN, Split.VALIDATION))
    return ValidationStreams(store, chosen, s.stream, s.stream.chunk_s, s.stream.refractory_s)


def refuse_other_validation(entries: Sequence[Entry], model: Checkpoint, root: str | None) -> None:
    """Refuse a validation split with recordings that the run did not validate on: they may have trained the model.

    Raises:
        KwsError: the message names one of them, and a recording that the run validated on and that is missing.
    """
    known = {one.hash: one.name for one in model.held_out if one.split is Split.VALIDATION}
    found = {e.hash: e.recording.name for e in entries if e.recording.split is Split.VALIDATION}
    others = [name for hash_, name in found.items() if hash_ not in known]
    if found and not others:
        return
    held = {one for e in entries for one in (e.hash, e.whole)}
    missing = [name for hash_, name in known.items() if hash_ not in held]
    why = [f"{len(others)} of {len(found)} are others ({others[0]})"] if others else []
    why += [f"{len(missing)} are missing ({missing[0]})"] if missing else []
    raise KwsError(
        f"data_root={root}: must hold the validation recordings of the run: {', '.join(why) or 'there are none'}"
    )


def settings_of_run(model: Checkpoint) -> c.TrainConfig:
    """The settings of the run that trained a model, checked, without its architecture, which the model has.

    The file may come from anybody: it names no folder to write to, nothing to download, and no interpolation.

    Raises:
        KwsError: it has no such settings, or not those of this version.
    """
    if model.facts.get("config") is None or model.spec.others is not None:
        raise KwsError(
            "quantize=int8: needs the model.pt of a run with task=wake_word, whose validation streams show it"
        )
    base = c.TrainConfig(features=FeaturesConfig(), model=ModelConfig(), augment=AugmentConfig(), out=".")
    try:
        trained = config_of(model, "quantize=int8")
        for key in ("features", "model", "augment", "out", "plugins"):
            trained.pop(key, None)
        if isinstance(data := trained.get("data"), dict):
            data.pop("cache", None)
            data.pop("download", None)
        found = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(base), trained))
        assert isinstance(found, c.TrainConfig)
        found.data.sample_rate = model.spec.sample_rate
        check(found)
    except (OmegaConfBaseException, YAMLError, SettingError, ValueError, TypeError, AttributeError) as error:
        raise KwsError(
            f"quantize=int8: the settings of the run are those of another version: {first_line(error)}"
        ) from None
    return found


def speeds(a: bytes, b: bytes, audio: NDArray[np.float32], rounds: int = 5, chunks: int = 100) -> tuple[float, float]:
    """Times real time of two files in chunks of 80 ms, by CPU time: the fastest of some alternating rounds."""
    runners = OnnxDetector(a), OnnxDetector(b)
    size = round(0.08 * runners[0].sample_rate)
    best = [0.0, 0.0]
    for _ in range(rounds):
        for i, runner in enumerate(runners):
            begun = time.process_time()
            for start in range(0, min(len(audio), chunks * size), size):
                runner(audio[start : start + size])
            best[i] = max(best[i], min(len(audio), chunks * size) / runner.sample_rate / (time.process_time() - begun))
    return best[0], best[1]
