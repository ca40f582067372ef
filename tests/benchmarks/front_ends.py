"""The figures of docs/measurements.md: short runs that differ in their front end alone, heard on the same hard streams.

python -m tests.benchmarks.front_ends train DATA OUT [WORKERS]     trains what is missing, so many at a time
python -m tests.benchmarks.front_ends figures DATA OUT             misses at fixed alarms on the test part, as Markdown
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.benchmarks.replay_curve import Heard, hear_runs, read_heard, threshold_for_alarms

SEEDS = (0, 1)
KEYWORD, STEPS, BATCH = "computer", 400, 80
ARMS = {
    "log_mel": (),
    "pcen": ("features=pcen", "features.trainable=true"),
    "pcen, fixed": ("features=pcen",),
    "mfcc": ("features=mfcc",),
}
AT_ALARMS = (0.3, 1.0, 3.0)  # an hour


def folder(out: Path, name: str, seed: int) -> Path:
    return out / f"{name.replace(', ', '-')}-{seed}"


def train_one(name: str, seed: int, data: Path, out: Path) -> None:
    """Train a run, or go on with it, unless it is finished."""
    place = folder(out, name, seed)
    if (place / "results.json").is_file():
        return
    words = ["recipe=replay_curve", f"keyword={KEYWORD}", f"data.root={data}", f"seed={seed}", f"out={place}"]
    words += [f"optim.steps={STEPS}", f"batch.size={BATCH}", "validate_every=null", *ARMS[name]]
    with (out / f"{place.name}.log").open("w") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "kws", "train", *words]
        done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    print(f"{place.name}: {'done' if done.returncode == 0 else f'FAILED, see {log.name}'}", flush=True)


def train(data: Path, out: Path, workers: int = 2) -> None:
    """Every run that is missing, seed by seed."""
    out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda one: train_one(one[1], one[0], data, out), [(s, name) for s in SEEDS for name in ARMS]))


def misses(one: Heard, rate: float) -> int:
    """How many events are missed with at most so many alarms an hour."""
    return int((one.peaks < threshold_for_alarms(one, int(rate * one.hours))).sum())


def figures(data: Path, out: Path) -> None:
    """Hear what is finished, and print misses of each run at fixed alarms."""
    hear_runs(data, [(KEYWORD, folder(out, name, seed)) for name in ARMS for seed in SEEDS])
    print("| front end | seed |", " | ".join(f"misses at {rate:g} FA/h" for rate in AT_ALARMS), "|")
    print("| --- | --- |", " | ".join("---" for _ in AT_ALARMS), "|")
    for name in ARMS:
        for seed in SEEDS:
            if (folder(out, name, seed) / "heard.npz").is_file():
                one = read_heard(folder(out, name, seed))
                cells = [f"{misses(one, rate)}/{len(one.peaks)}" for rate in AT_ALARMS]
                print(f"| {name} | {seed} |", " | ".join(cells), f"| {one.hours:.2f} h")


def main() -> None:
    """Do what the first word says."""
    match sys.argv[1:]:
        case ["train", data, out, *workers]:
            train(Path(data).absolute(), Path(out).absolute(), *map(int, workers))
        case ["figures", data, out]:
            figures(Path(data).absolute(), Path(out).absolute())
        case _:
            print(__doc__)
            sys.exit(2)


if __name__ == "__main__":
    main()
