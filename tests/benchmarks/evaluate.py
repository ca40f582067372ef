"""What an evaluation costs, from the file to the curve: python -m tests.benchmarks evaluate [hours of audio].

Decoding and hearing on one core and on all, for long files and for short ones; the memory of a process that hears a
file of all those hours; the sweep of every threshold beside one threshold, and beside a search for each.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
import torch

from kws.detector.checkpoint import write_model
from kws.detector.streaming import ScoreTrack
from kws.evaluation import scoring
from kws.evaluation.events import trigger_times
from kws.evaluation.scoring import file_source, score_all, total_s
from kws.evaluation.threshold_sweep import sweep
from tests.benchmarks.stream import default_detector, default_recipe

RATE = 16000
SHORT_S = 3


def noise(seconds_n: int, seed: int) -> np.ndarray:
    """Noise with pauses, so that FLAC has as much to do as with speech."""
    rng = np.random.default_rng(seed)
    level = np.repeat(10 ** rng.uniform(1, 3.6, 4 * seconds_n), RATE // 4)
    return (rng.standard_normal(seconds_n * RATE) * level).clip(-32768, 32767).astype(np.int16)


def written(path: Path, hours: float) -> Path:
    """A file of so many hours, a minute at a time."""
    minutes = [noise(60, seed) for seed in range(10)]
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16", format="FLAC") as file:
        for i in range(round(60 * hours)):
            file.write(minutes[i % 10])
    return path


def pace(files: list[Path], threads: int) -> float:
    """Times real time, decoding included."""
    torch.set_num_threads(threads)
    detector, takes = default_detector(), [file_source(file) for file in files]
    score_all(detector, takes[: len(takes) // 4 + 1], 0.08)
    begun = time.perf_counter()
    found = score_all(detector, takes, 0.08)
    spent = time.perf_counter() - begun
    assert all(isinstance(one, scoring.ScoredStream) for one in found)
    return total_s(takes) / spent


def peak_mb(folder: Path, file: Path) -> float:
    """The most memory that `kws evaluate` needs for a file."""
    recipe = default_recipe()
    write_model(folder / "model.pt", recipe, recipe.net().state_dict(), [0.5], {})
    (folder / "events.json").write_text("[[1, 2]]")
    words = [f"detector={folder}/model.pt", f"positive={written(folder / 'p.flac', 1 / 60)}"]
    words += [f"events={folder}/events.json", f"negative={file}"]
    code = "import resource, sys; from kws.cli import main\ntry: main()\nfinally: "
    code += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    said = subprocess.run(
        [sys.executable, "-c", code, "evaluate", *words], capture_output=True, text=True, check=True, env=os.environ
    )
    return int(said.stderr.splitlines()[-1]) / 1024


def main(hours: float = 2.0) -> None:
    """Print each figure as it comes."""
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [written(folder / f"{i}.flac", hours / 4) for i in range(4)]
        print(f"{hours:g} h of FLAC, default model, decoding included; times real time")
        for what, these in (("4 long files", files), (f"files of {SHORT_S} s", short_ones(folder, 600))):
            one = pace(these, 1)
            print(f"{one:8.0f} x on one core, {pace(these, cores):8.0f} x on {cores}: {what}", flush=True)
        for long in (hours / 4, hours):
            peak = peak_mb(folder, written(folder / "long.flac", long))
            print(f"{peak:8.0f} MB at most, kws evaluate of one file of {long:g} h", flush=True)
    track = scores(hours)
    sweep(track)
    swept = timed(lambda: sweep(track))
    one = timed(lambda: trigger_times(track, 0.5))
    distinct = len(np.unique(track.scores))
    print(
        f"{1000 * swept:8.0f} ms for all {distinct} thresholds of {hours:g} h, {1000 * one:.1f} ms for one by itself:"
    )
    print(f"{swept / one:8.0f} x one; one by one they would take {one * distinct / 60:.0f} minutes")


def short_ones(folder: Path, n: int) -> list[Path]:
    """Recordings of a few seconds."""
    made = []
    for i in range(n):
        made.append(folder / f"short-{i}.flac")
        soundfile.write(made[-1], noise(SHORT_S, i), RATE, subtype="PCM_16")
    return made


def scores(hours: float) -> ScoreTrack:
    """A track as detectors make them: mostly low, with peaks of a few rows."""
    rows = round(hours * 3600 * 50)
    rng = np.random.default_rng(0)
    smooth = np.convolve(rng.standard_normal(rows + 19), np.ones(20) / 20**0.5, "valid")
    values = (1 / (1 + np.exp(7 - 3 * smooth))).astype(np.float32)
    return ScoreTrack(np.ceil(np.arange(1, rows + 1) / 4) * 0.08, values, hours * 3600)


def timed(work: object) -> float:
    """The best of three runs, in seconds."""
    assert callable(work)
    spent = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        spent.append(time.perf_counter() - begun)
    return min(spent)
