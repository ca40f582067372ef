"""Time a stream in one pass beside other ways: python -m tests.benchmarks stream [minutes of audio]."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from kws.commands import builders
from kws.config.compose import folder, register, settings
from kws.config.schema import TrainConfig
from kws.detector import files, streaming
from kws.detector.checkpoint import ModelSpec
from kws.detector.detector import Detector

ROUNDS = 3
STARTS = 5
START = """
import sys, time
begun = time.perf_counter()
import numpy
from kws.runtime import OnnxDetector
detector = OnnxDetector(sys.argv[1])
detector(numpy.zeros(1280, numpy.float32))
spent = time.perf_counter() - begun
# ru_maxrss would be that of the process that started this one.
(peak,) = (line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(spent, int(peak) / 1024)
"""


def seconds(work: Callable[[], object]) -> float:
    """Median CPU time of some runs, after one to warm up: one thread, so that other load counts little."""
    work()
    spent = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        work()
        spent.append(time.process_time() - begun)
    return statistics.median(spent)


def default_recipe() -> ModelSpec:
    """The default model."""
    register("train")
    with initialize_config_dir(str(folder("conf")), version_base="1.3"):
        cfg = compose("train", ["keyword=computer", "data.root=."])
    return builders.model_spec(settings(cfg, TrainConfig), ["computer"])


def default_detector() -> Detector:
    """The same untrained: its speed does not depend on its weights."""
    recipe = default_recipe()
    return recipe.detector(recipe.net().state_dict())


def sliding(detector: Detector, pcm: torch.Tensor, window_n: int, hop_n: int) -> None:
    """What evaluation costs without an exact stream: one clip for each hop, in batches."""
    with torch.no_grad():
        for windows in pcm.unfold(0, window_n, hop_n).split(64):
            x = detector.features.clips(windows, detector.block_n)
            detector.model(x, detector.model.initial_cache(len(x)))


def chunks(score: Callable[[torch.Tensor], object], sound: torch.Tensor) -> None:
    """Chunks as they come from a microphone."""
    for chunk in sound.split(1280):
        score(chunk)


def start(content: bytes) -> None:
    """Start an OnnxDetector in fresh processes, which load numpy and onnxruntime alone."""
    with tempfile.NamedTemporaryFile(suffix=".onnx") as file:
        file.write(content)
        file.flush()
        words = [sys.executable, "-c", START, file.name]
        runs = [subprocess.run(words, capture_output=True, check=True, text=True).stdout.split() for _ in range(STARTS)]
    seconds_, mib = (statistics.median(map(float, column)) for column in zip(*runs, strict=True))
    print(f"an OnnxDetector starts in {seconds_:.2f} s (imports, file, first chunk) and has {mib:.0f} MiB at its peak")


def main(minutes: float = 60.0) -> None:
    """One pass over a stream against sliding windows, and against the exported way of 80 ms chunks; on one core."""
    torch.set_num_threads(1)
    detector = default_detector()
    rate = detector.sample_rate
    pcm = np.random.default_rng(0).normal(0, 3000, int(minutes * 60 * rate)).astype(np.int16)
    short = pcm[: 60 * rate]
    packed = {kind: files.packed(detector, {}, kind) for kind in files.Format}
    live = {kind: files.scorer(content, detector, kind) for kind, content in packed.items()}
    sound = torch.from_numpy(short / np.float32(32768))
    window_n = rate * 3 // 2 // detector.block_n * detector.block_n
    cases = {
        f"one pass over {minutes:g} min": (minutes * 60, lambda: streaming.score_pcm(detector, pcm, rate)),
        "80 ms chunks in Python, 1 min": (60, lambda: chunks(detector, sound)),
        **{f"80 ms chunks, {kind}, 1 min": (60, partial(chunks, score, sound)) for kind, score in live.items()},
        "1.5 s windows every 80 ms, 1 min": (60, lambda: sliding(detector, sound, window_n, int(0.08 * rate))),
        f"1.5 s windows every {1000 * detector.frame_s:.0f} ms (each row), 1 min": (
            60,
            lambda: sliding(detector, sound, window_n, detector.block_n),
        ),
    }
    print(f"one core, {sum(p.numel() for p in detector.model.parameters())} weights; times real time")
    first = None
    for name, (length_s, work) in cases.items():
        factor = length_s / seconds(work)
        first = first or factor
        print(f"{factor:10.0f} x   {first / factor:6.1f} slower than one pass   {name}", flush=True)
    start(packed[files.Format.onnx])
