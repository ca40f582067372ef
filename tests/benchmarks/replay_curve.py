"""Many short runs that differ in their replay or front end alone, scored on the same hard streams.

python -m tests.benchmarks.replay_curve train DATA OUT [WORKERS]    trains what is missing; a cut-off loses one run
python -m tests.benchmarks.replay_curve hear DATA OUT               what each finished run makes of the test part
python -m tests.benchmarks.replay_curve figures OUT                 tables as Markdown; the curve as OUT/curve.png
"""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.detector.streaming import ScoreTrack
from kws.evaluation.events import trigger_times
from kws.evaluation.threshold_sweep import sweep

SEEDS = (0, 1, 2)
SHARES = (0, 0.02, 0.05, 0.1, 0.25, 0.5)
PASSES, SNR_DB = 4, (0.0, 10.0)  # of the streams that all are heard on
KEPT = 0.02  # lower scores are not kept: no threshold lies there


@dataclass(frozen=True)
class Arm:
    """Runs that differ in nothing but the seed."""

    keyword: str
    name: str
    overrides: tuple[str, ...]

    def folder(self, out: Path, seed: int) -> Path:
        return out / f"{self.keyword}-{self.name}-{seed}"


def arms() -> list[Arm]:
    """All of them, the most wanted first."""
    found = [
        Arm(k, f"share-{share:g}", (f"replay.share={share:g}",)) for share in SHARES for k in ("computer", "alexa")
    ]
    rules = ("hardest", "oldest", "reservoir", "balanced")
    one = {
        "no-pool": ("replay.share=0", "mining.rounds=0", "mining.pool_share=0"),
        "draw-uniform": ("replay.sampling=uniform",),
        "draw-rank": ("replay.sampling=rank",),
        "adaptive": ("replay.schedule=adaptive",),
        "quarantine-none": ("replay.quarantine_above=null",),
        **{f"evict-{rule}": ("replay.capacity=100", f"replay.eviction={rule}") for rule in rules},
        "neighbours": ("recipe=replay_neighbours",),
        "batch": ("recipe=replay_batch",),
        "top-only": ("mining.score_bands=1", "mining.random_share=0"),
    }
    found += [Arm("computer", name, overrides) for name, overrides in one.items()]
    return found


def train_one(arm: Arm, seed: int, data: Path, out: Path) -> None:
    """Train a run, or go on with it, unless it is finished."""
    folder = arm.folder(out, seed)
    if (folder / "results.json").is_file():
        return
    given = [] if any(o.startswith("recipe=") for o in arm.overrides) else ["recipe=replay_curve"]
    words = [*given, f"keyword={arm.keyword}", f"seed={seed}", f"data.root={data}", f"out={folder}", *arm.overrides]
    with (out / f"{folder.name}.log").open("w") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}  # two processes of two threads slow each other ten times
        command = [sys.executable, "-m", "kws", "train", *words]
        done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    print(f"{folder.name}: {'done' if done.returncode == 0 else f'FAILED, see {log.name}'}", flush=True)


def train(data: Path, out: Path, workers: int = 2) -> None:
    """Every run that is missing."""
    out.mkdir(parents=True, exist_ok=True)
    todo = [(arm, seed) for arm in arms() for seed in SEEDS]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda one: train_one(*one, data, out), todo))


def hear(data: Path, out: Path) -> None:
    """Keep the scores of each finished run on the test part."""
    hear_runs(data, [(arm.keyword, arm.folder(out, seed)) for arm in arms() for seed in SEEDS])


def hear_runs(data: Path, runs: Sequence[tuple[str, Path]]) -> None:
    """Keep the scores of runs (keyword and folder) on the test part, of those that are finished: `heard.npz` there."""
    import torch

    from kws.commands import builders
    from kws.common.console import Console
    from kws.config.compose import folder as place
    from kws.config.compose import register, settings
    from kws.config.schema import TrainConfig
    from kws.data.dataset import recordings, select
    from kws.data.manifest import Split
    from kws.data.positives import with_locations
    from kws.data.streams import StreamConfig, spans
    from kws.detector import checkpoint, streaming
    from kws.evaluation.splits import negative_stream, positive_stream

    torch.set_num_threads(1)
    register("train")
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(place("conf")), version_base="1.3"):
        cfg = compose("train", ["recipe=replay_curve", "keyword=computer", f"data.root={data}"])
    s = settings(cfg, TrainConfig)
    store = builders.store(s.data, Console(), recordings(s.data), ["computer"])
    levels = StreamConfig(list(SNR_DB), [-45.0, -20.0], s.stream.gap_s, s.stream.negative_gap_s)
    for keyword in dict.fromkeys(keyword for keyword, _ in runs):
        waiting = [
            folder
            for word, folder in runs
            if word == keyword and (folder / "results.json").is_file() and not (folder / "heard.npz").is_file()
        ]
        if not waiting:
            continue
        chosen = select(store.entries, [keyword], s.data.noise_label, s.mining.pool_share)
        chosen = with_locations(store, chosen, dict.fromkeys(Split, 1.2))
        positives = [positive_stream(store, chosen, Split.TEST, 0, levels, n) for n in range(PASSES)]
        negatives = [negative_stream(store, chosen, Split.TEST, levels, n) for n in range(PASSES)]
        for folder in waiting:
            detector = checkpoint.read_model(folder / "model.pt").detector
            found: dict[str, np.ndarray] = {}
            for side, made in (("positive", positives), ("negative", negatives)):
                for n, one in enumerate(made):
                    assert one is not None
                    track = streaming.score_tracks(detector, one.pcm, store.sample_rate, s.stream.chunk_s)[keyword]
                    high = track.scores >= KEPT
                    found[f"{side}-{n}"] = np.stack([track.times[high], track.scores[high].astype(np.float64)])
                    found[f"{side}-{n}-spans"] = np.array(spans(one))
                    found[f"{side}-{n}-index"] = np.array([piece.index for piece in one.pieces])
                    found[f"{side}-{n}-hours"] = np.array(track.hours)
            with (folder / "draft.npz").open("wb") as file:
                np.savez(file, **found)
            os.replace(folder / "draft.npz", folder / "heard.npz")
            print(f"{folder.name}: heard", flush=True)


@dataclass(frozen=True, eq=False)
class Heard:
    """A run on the test part: all passes joined, each trigger and event laid to its recording."""

    times: np.ndarray  # of negative rows that score at least KEPT
    scores: np.ndarray
    piece: np.ndarray  # recording of each
    hours: float
    peaks: np.ndarray  # highest score in each event
    said: np.ndarray  # recording of each event


def read_heard(folder: Path) -> Heard:
    """What `hear` kept."""
    with np.load(folder / "heard.npz") as kept:
        times, scores, pieces, peaks, said, hours = [], [], [], [], [], 0.0
        for n in range(PASSES):
            t, s = kept[f"negative-{n}"]
            starts = kept[f"negative-{n}-spans"][:, 0]
            index = kept[f"negative-{n}-index"]
            times.append(t + hours * 3600 + 100 * n)  # no trigger silences one of another pass
            scores.append(s)
            pieces.append(index[np.maximum(np.searchsorted(starts, t, side="right") - 1, 0)])
            hours += float(kept[f"negative-{n}-hours"])
            t, s = kept[f"positive-{n}"]
            for (a, b), recording in zip(kept[f"positive-{n}-spans"], kept[f"positive-{n}-index"], strict=True):
                inside = s[(t >= a) & (t <= b)]
                peaks.append(inside.max() if len(inside) else 0.0)
                said.append(recording)
    joined = (np.concatenate(x) for x in (times, scores, pieces))
    return Heard(*joined, hours, np.array(peaks), np.array(said))


def alarms_at(one: Heard, threshold: float) -> np.ndarray:
    """The recording of each false alarm."""
    fired = trigger_times(ScoreTrack(one.times, one.scores.astype(np.float32), 1.0), threshold)
    rows = np.flatnonzero(one.scores >= threshold)
    return one.piece[rows[np.searchsorted(one.times[rows], fired)]]


def threshold_for_alarms(one: Heard, most: int) -> float:
    """The lowest threshold with at most so many alarms."""
    track = ScoreTrack(one.times, one.scores.astype(np.float32), one.hours * 3600)
    return sweep(track).threshold_for(most)


def by_recording(values: np.ndarray, recording: np.ndarray, every: np.ndarray) -> np.ndarray:
    """The sum of the values of each recording."""
    return np.bincount(np.searchsorted(every, recording), weights=values, minlength=len(every))


def interval(counts: np.ndarray, rng: np.random.Generator, draws: int = 2000) -> tuple[float, float]:
    """95 % of the mean over seeds and the sum over recordings, both drawn again with replacement (Efron, 1979).

    Shape: counts [seeds, recordings].
    """
    seeds, recordings = counts.shape
    means = [
        counts[rng.integers(0, seeds, seeds)][:, rng.integers(0, recordings, recordings)].sum(1).mean()
        for _ in range(draws)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


AT_ALARMS = (0.3, 1.0, 3.0)  # an hour
AT_MISSES = (0.02, 0.05, 0.1)


def counts_of(runs: Sequence[Heard], pieces: np.ndarray) -> dict[str, np.ndarray]:
    """Misses at fixed alarms and alarms at fixed misses of the seeds of an arm, by recording of `said` and of `pieces`.

    Shape: pieces [negatives]; returns each [seeds, recordings].
    """
    said = np.unique(runs[0].said)
    found = {}
    for rate in AT_ALARMS:
        limits = [threshold_for_alarms(r, int(rate * r.hours)) for r in runs]
        lines = [by_recording((r.peaks < t).astype(float), r.said, said) for r, t in zip(runs, limits, strict=True)]
        found[f"misses at {rate:g} FA/h"] = np.array(lines)
    for share in AT_MISSES:
        lines = []
        for r in runs:
            threshold = np.sort(r.peaks)[int(share * len(r.peaks))]  # so many are below it
            hit = alarms_at(r, threshold)
            lines.append(by_recording(np.ones(len(hit)), hit, pieces))
        found[f"FA at {share:.0%} misses"] = np.array(lines)
    return found


def cell(name: str, counts: np.ndarray, events: int, hours: float) -> str:
    """Mean over the seeds and its interval: misses in per cent, alarms an hour."""
    scale = 100 / events if name.startswith("misses") else 1 / hours
    low, high = interval(counts, np.random.default_rng(0))
    return f"{counts.sum(1).mean() * scale:.1f} [{low * scale:.1f}, {high * scale:.1f}]"


def against(counts: np.ndarray, reference: np.ndarray) -> bool:
    """Does the difference to the reference, seed by seed and recording by recording, leave 0 outside its 95 %?"""
    low, high = interval(counts - reference, np.random.default_rng(0))
    return low > 0 or high < 0


def pooled(every: Sequence[Mapping[str, Mapping[str, np.ndarray]]], name: str, reference: str, start: str) -> str:
    """How many times as many an arm has as the reference, in the geometric mean over words and columns, with 95 %.

    Args:
        every: for each word, arm -> column -> counts [seeds, recordings].
        name, reference: arms.
        start: of the columns.
    """
    rng = np.random.default_rng(0)

    def factor(again: bool) -> float:
        logs = []
        for word in every:
            seeds = rng.integers(0, len(SEEDS), len(SEEDS)) if again else np.arange(len(SEEDS))
            for column in (c for c in word[name] if c.startswith(start)):
                mine, other = word[name][column][seeds], word[reference][column][seeds]
                n = mine.shape[1]
                drawn = rng.integers(0, n, n) if again else np.arange(n)
                pair = [x[:, drawn].sum(1).mean() + 0.5 for x in (mine, other)]
                logs.append(np.log(pair[0] / pair[1]))
        return float(np.exp(np.mean(logs)))

    low, high = np.percentile([factor(True) for _ in range(1000)], [2.5, 97.5])
    return f"{factor(False):.2f} [{low:.2f}, {high:.2f}]"


TABLES = (
    ("Share, computer", "computer", [f"share-{s:g}" for s in SHARES], "share-0"),
    ("Share, alexa", "alexa", [f"share-{s:g}" for s in SHARES], "share-0"),
    ("Draw", "computer", ["share-0.05", "draw-uniform", "draw-rank"], "share-0.05"),
    (
        "Eviction, 100 clips",
        "computer",
        ["evict-hardest", "evict-oldest", "evict-reservoir", "evict-balanced"],
        "evict-hardest",
    ),
    ("Quarantine", "computer", ["share-0.05", "quarantine-none"], "share-0.05"),
    ("Adaptive", "computer", [*(f"share-{s:g}" for s in SHARES), "adaptive"], "share-0.25"),
    ("What comes in", "computer", ["share-0", "share-0.05", "top-only", "neighbours", "batch", "no-pool"], "share-0"),
)


def figures(out: Path) -> None:
    """Print a table for each question, and draw the curve."""
    shares: list[Mapping[str, Mapping[str, np.ndarray]]] = []
    curve: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for title, keyword, names, reference in TABLES:
        known = {arm.name: arm for arm in arms() if arm.keyword == keyword}
        runs = {}
        for name in names:
            folders = [known[name].folder(out, seed) for seed in SEEDS]
            if all((folder / "heard.npz").is_file() for folder in folders):
                runs[name] = [read_heard(folder) for folder in folders]
        if not runs:
            continue
        events, hours = len(next(iter(runs.values()))[0].peaks), next(iter(runs.values()))[0].hours
        pieces = np.unique(np.concatenate([r.piece for line in runs.values() for r in line]))
        counts = {name: counts_of(line, pieces) for name, line in runs.items()}
        columns = list(next(iter(counts.values())))
        if title.startswith("Share"):
            shares.append(counts)
        print(
            f"\n{title}: {events} events and {hours:.2f} h a run; misses in %, FA an hour; * apart from {reference}\n"
        )
        print(f"| | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}")
        for name, line in counts.items():
            marks = {
                c: "*" if reference in counts and name != reference and against(line[c], counts[reference][c]) else ""
                for c in columns
            }
            print(f"| {name} | {' | '.join(cell(c, line[c], events, hours) + marks[c] for c in columns)} |")
            if title.startswith("Share"):
                share = float(name.removeprefix("share-"))
                for c in columns:
                    scale = 100 / events if c.startswith("misses") else 1 / hours
                    low, high = interval(line[c], np.random.default_rng(0))
                    point = (share, line[c].sum(1).mean() * scale, low * scale, high * scale)
                    curve.setdefault((keyword, c), []).append(point)
    for name in shares[0] if len(shares) > 1 else ():
        if name != "share-0" and all(name in word and "share-0" in word for word in shares):
            misses, alarms = (pooled(shares, name, "share-0", start) for start in ("misses", "FA"))
            print(f"{name}, all words: misses x {misses}, alarms x {alarms}")
    if curve:
        (out / "curve.png").write_bytes(plot(curve))
        print(f"\n{out / 'curve.png'}")


def plot(curve: dict[tuple[str, str], list[tuple[float, float, float, float]]]) -> bytes:
    """Misses at fixed alarms, and alarms at fixed misses, over the share."""
    import io

    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6.5), dpi=110, layout="constrained")
    keywords = list(dict.fromkeys(k for k, _ in curve))
    grid = figure.subplots(2, len(keywords), squeeze=False)
    for column, keyword in enumerate(keywords):
        for row, start in enumerate(("misses", "FA")):
            axes = grid[row][column]
            for k, (name, line) in enumerate(
                (c, p) for (w, c), p in curve.items() if w == keyword and c.startswith(start)
            ):
                place = np.arange(len(line)) + 0.08 * (k - 1)
                middle, low, high = (np.array([p[i] for p in line]) for i in (1, 2, 3))
                axes.errorbar(place, middle, (middle - low, high - middle), marker="o", capsize=3, label=name)
            axes.set_xticks(range(len(line)), [f"{p[0]:g}" for p in line])
            axes.set_title(keyword if not row else "")
            axes.set_xlabel("replay.share" if row else "")
            axes.set_ylabel("misses, %" if start == "misses" else "false alarms an hour")
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            axes.legend(fontsize=8)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def main() -> None:
    """Do what the first word says."""
    match sys.argv[1:]:
        case ["train", data, out, *workers]:
            train(Path(data).absolute(), Path(out).absolute(), *map(int, workers))
        case ["hear", data, out]:
            hear(Path(data), Path(out))
        case ["figures", out]:
            figures(Path(out))
        case _:
            print(__doc__)
            sys.exit(2)


if __name__ == "__main__":
    main()
