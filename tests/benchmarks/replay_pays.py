"""The measurements of docs/measurements.md: when replay pays. Short runs on folds that differ in one setting each.

python -m tests.benchmarks.replay_pays train DATA OUT EXPERIMENT [WORD FOLD]   trains and scores what is missing
python -m tests.benchmarks.replay_pays figures OUT EXPERIMENT                  the table as Markdown, and a picture
python -m tests.benchmarks.replay_pays slope OUT                               the effect over the negatives of a batch

Folds and endpoint: see `folds`.
"""

import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kws.common.seeding import numpy_generator
from tests.benchmarks.folds import STEPS, Arm, effect, read_runs, slug, train_arms

NEGATIVES = (4, 12, 40, 120)  # of a batch with 36 keywords

WEIGHTS = "replay.importance_exponent=0.4"


def coverage() -> dict[str, Arm]:
    """E0 and E1: negatives a batch at 36 keywords; none replayed, or half of them: mined or by lot, with importance
    weights or without."""
    arms = {}
    for n in NEGATIVES:
        size = (f"batch.size={36 + n}", f"batch.positive_share={36 / (36 + n):.6f}")
        half = (*size, f"replay.share={n / 2 / (36 + n) - 1e-4:.6f}")
        arms[f"{n}, none"] = (*size, "replay.share=0")
        arms[f"{n}, mined"] = half
        arms[f"{n}, by lot"] = (*half, "mining.random_share=1", "replay.retire_below=0")
        arms[f"{n}, mined, importance weights"] = (*half, WEIGHTS)
    return arms


def shares() -> dict[str, Arm]:
    """E0 at the default batch: share of the batch, with importance weights and without."""
    arms: dict[str, Arm] = {"none": ("replay.share=0",)}
    for share in (0.1, 0.25):
        arms[f"{share}"] = (f"replay.share={share}",)
        arms[f"{share}, importance weights"] = (f"replay.share={share}", WEIGHTS)
    return arms


def growing() -> dict[str, Arm]:
    """E2: hours of train speech at fixed steps; none replayed, 0.1, 0.25, or all sampled fresh without a pool.

    A batch holds 36 keywords and 40 negatives, half of the default, so that a run costs minutes.
    """
    arms = {}
    for hours in ("0.5", "1.5", "5"):
        common = (f"+hours={hours}", "batch.size=76", f"batch.positive_share={36 / 76:.6f}")
        for share in ("0", "0.1", "0.25"):
            arms[f"{hours} h, {share if share != '0' else 'none'}"] = (*common, f"replay.share={share}")
        arms[f"{hours} h, all fresh"] = (*common, "replay.share=0", "mining.rounds=0", "mining.pool_share=0")
    return arms


EXPERIMENTS = {"shares": shares(), "coverage": coverage(), "growing": growing()}


def gradients(out: Path, name: str, arm: str) -> tuple[float, float]:
    """Means over the second half of the runs of an arm: replayed share of the rows, and of the gradient."""
    rows, gradient = [], []
    for file in (out / name).glob(f"{slug(arm)}-*.csv"):
        with file.open(newline="") as lines:
            last = list(csv.DictReader(lines))[STEPS // 2 :]
        rows += [int(row["replayed"]) / int(row["batch"]) for row in last]
        gradient += [float(row["gradient_replayed"]) for row in last]
    return float(np.mean(rows or [0])), float(np.mean(gradient or [0]))


def lines(out: Path, name: str) -> Iterator[str]:
    """The table of an experiment as Markdown."""
    runs = read_runs(out / name, EXPERIMENTS[name])
    yield "| arm | runs | FA/h at 90, 95, 98 % recall | endpoint, against none | p | rows replayed | of the gradient |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    reference = None
    for arm in EXPERIMENTS[name]:
        mine = runs.get(arm, {})
        if not mine:
            continue
        if reference is None or arm.endswith("none"):
            reference = arm
        counts = np.array([one.counts() for one in mine.values()]).sum(0)
        hours = sum(one.hours for one in mine.values())
        mean, low, high, p = effect(mine, runs[reference])
        compared = "| " if arm == reference else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] | {p:.3f}"
        rates = ", ".join(f"{n / hours:.2f}" for n in counts)
        rows, gradient = gradients(out, name, arm)
        yield f"| {arm} | {len(mine)} | {rates} | {compared} | {rows:.3f} | {gradient:.3f} |"


def picture(out: Path, name: str) -> None:
    """The effects of an experiment with their intervals, as NAME.png in the folder of the results."""
    import matplotlib.pyplot as plt

    runs, reference, labels, effects = read_runs(out / name, EXPERIMENTS[name]), "", [], []
    for arm, mine in runs.items():
        if not reference or arm.endswith("none"):
            reference = arm
            continue
        labels.append(arm)
        effects.append(effect(mine, runs[reference])[:3])
    mean, low, high = np.exp(np.array(effects)).T
    figure, axes = plt.subplots(figsize=(7.2, 0.42 * len(labels) + 1.1), layout="constrained")
    at = np.arange(len(labels))[::-1]
    axes.errorbar(mean, at, xerr=[mean - low, high - mean], fmt="o", color="#1f5fa8", capsize=3)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(at, labels)
    axes.set_xscale("log")
    axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4], ["0.5", "0.6", "0.7", "0.8", "0.9", "1", "1.2", "1.4"])
    axes.minorticks_off()
    axes.set_xlabel("false alarms at equal recall, as a multiple of those without replay")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / name / f"{name}.png", dpi=130)


def slope(out: Path) -> None:
    """The effect of mined clips over the negatives of a batch: its slope per doubling (bootstrap over pairs within
    each number of negatives), and a picture."""
    import matplotlib.pyplot as plt

    runs, effects = read_runs(out / "coverage", EXPERIMENTS["coverage"]), {}
    for n in NEGATIVES:
        a, b = runs.get(f"{n}, mined", {}), runs.get(f"{n}, none", {})
        if pairs := a.keys() & b.keys():
            effects[n] = np.array([a[pair].endpoint() - b[pair].endpoint() for pair in sorted(pairs)])
    rng, fits, means = numpy_generator(0, "slope"), [], []
    for draw in range(4001):  # the first with the pairs as they are
        chosen = {n: y[rng.integers(0, len(y), len(y))] if draw else y for n, y in effects.items()}
        x = np.concatenate([np.full(len(y), np.log2(n)) for n, y in chosen.items()])
        fits.append(np.polyfit(x, np.concatenate(list(chosen.values())), 1)[0])
        means.append([y.mean() for y in chosen.values()])
    low, high = np.percentile(fits[1:], [2.5, 97.5])
    print(f"slope per doubling {fits[0]:+.3f} [{low:+.3f}, {high:+.3f}]")
    figure, axes = plt.subplots(figsize=(7.2, 3.4), layout="constrained")
    bounds = np.percentile(means[1:], [2.5, 97.5], axis=0)
    for i, (n, y) in enumerate(effects.items()):
        print(f"{n} negatives: {len(y)} pairs, {means[0][i]:+.2f} [{bounds[0][i]:+.2f}, {bounds[1][i]:+.2f}]")
        axes.plot(np.full(len(y), n * 0.93), np.exp(y), ".", color="#9bb8d8")
        if len(y) > 1:
            middle, ends = np.exp(means[0][i]), np.exp(bounds[:, i])
            axes.errorbar(n, middle, [[middle - ends[0]], [ends[1] - middle]], fmt="o", color="#1f5fa8", capsize=3)
    axes.axhline(1, color="grey", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(NEGATIVES, [str(n) for n in NEGATIVES])
    axes.set_yscale("log")
    axes.set_yticks([0.4, 0.5, 0.7, 1, 1.4], ["0.4", "0.5", "0.7", "1", "1.4"])
    axes.minorticks_off()
    axes.set_xlabel("negatives in a batch, half of them replayed")
    axes.set_ylabel("false alarms, as a multiple\nof those without replay")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "coverage" / "slope.png", dpi=130)


def main(args: Sequence[str]) -> None:
    """See the top of this module."""
    action, *rest = args
    if action == "train":
        data, out, name, *some = rest
        train_arms(Path(data), Path(out) / name, EXPERIMENTS[name], *some[:1], *map(int, some[1:2]))
    elif action == "slope":
        slope(Path(rest[0]))
    else:
        print("\n".join(lines(Path(rest[0]), rest[1])))
        picture(Path(rest[0]), rest[1])


if __name__ == "__main__":
    main(sys.argv[1:])
