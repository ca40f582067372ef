"""The figures of docs/measurements.md: short runs that differ in their objective, or in what they keep.

python -m tests.benchmarks.objectives train DATA OUT SEED   trains the missing runs of a seed; a kill loses one run
python -m tests.benchmarks.objectives figures DATA OUT      scores the test split with each; a table as Markdown

Plain training and the mean of the best weights come from one run: optim.average does not change the training.
"""

import csv
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

KEYWORD, SEEDS = "computer", (0, 1)
COMMON = [
    "recipe=wake_word",
    "features=log_mel",
    f"keyword={KEYWORD}",
    "optim.steps=200",
    "optim.warmup=50",
    "validate_every=25",
]
COMMON += ["threshold.passes=1", "tensorboard=false", "threads=1", "device=cpu"]
ARMS = {
    "best": ["optim.average=best", "optim.best_n=3"],
    "focal": ["optim.focal_gamma=2"],
    "smooth": ["optim.label_smoothing=0.05"],
}
PASSES, SNR_DB, NOISE_DB = 4, (0.0, 10.0), (-45.0, -20.0)  # of the streams that all are scored on
RATES = (0.3, 1.0, 3.0)  # false alarms an hour

Weights = Mapping[str, Tensor]


def train(data: Path, out: Path, seed: int) -> None:
    """Train the runs of a seed that are not finished, one after another."""
    out.mkdir(parents=True, exist_ok=True)
    for name, own in ARMS.items():
        folder = out / f"{name}-{seed}"
        if (folder / "results.json").is_file():
            continue
        words = [*COMMON, f"seed={seed}", f"data.root={data}", *own, f"out={folder}"]
        with (out / f"{folder.name}.log").open("w") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            command = [sys.executable, "-m", "kws", "train", *words]
            done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
        print(f"{folder.name}: {'done' if done.returncode == 0 else f'FAILED, see {log.name}'}", flush=True)


class TestSplit:
    """The test split and the training batches of these runs."""

    __test__ = False

    def __init__(self, data: Path) -> None:
        from hydra import compose, initialize_config_dir

        from kws.commands import builders
        from kws.common.console import Console
        from kws.config.compose import folder, register, settings
        from kws.config.schema import TrainConfig
        from kws.data.dataset import recordings, select
        from kws.data.manifest import Split
        from kws.data.positives import with_locations
        from kws.data.streams import StreamConfig
        from kws.evaluation.splits import negative_stream, positive_stream

        register("train")
        with initialize_config_dir(str(folder("conf")), version_base="1.3"):
            composed = compose("train", [*COMMON, f"data.root={data}"])
        self.s: Any = settings(composed, TrainConfig)
        store = builders.store(self.s.data, Console(), recordings(self.s.data), [KEYWORD])
        chosen = select(store.entries, [KEYWORD], self.s.data.noise_label, self.s.mining.pool_share)
        chosen = with_locations(store, chosen, dict.fromkeys(Split, 1.2))
        levels = StreamConfig(list(SNR_DB), list(NOISE_DB), self.s.stream.gap_s, self.s.stream.negative_gap_s)
        self.positive = [positive_stream(store, chosen, Split.TEST, 0, levels, n) for n in range(PASSES)]
        self.negative = [negative_stream(store, chosen, Split.TEST, levels, n) for n in range(PASSES)]
        self.spec, self.rate = builders.model_spec(self.s, [KEYWORD]), store.sample_rate
        self.sampler, _ = builders.batch_sampler(self.s, store, chosen, self.spec.clip_n, torch.device("cpu"))

    def points(self, weights: Weights, threshold: float | None) -> list[Any]:
        """Operating points at the rates, and at a threshold if one is given."""
        from kws.data.streams import spans
        from kws.detector.streaming import score_tracks
        from kws.evaluation.events import join_offsets, join_tracks
        from kws.evaluation.operating_points import at_threshold, operating_points
        from kws.evaluation.threshold_sweep import sweep

        detector, stream = self.spec.detector(weights), self.s.stream
        positive, negative = (
            [score_tracks(detector, one.pcm, self.rate, stream.chunk_s)[KEYWORD] for one in some]
            for some in (self.positive, self.negative)
        )
        offsets = zip(self.positive, join_offsets(positive), strict=True)
        marks = [(offset.shift(a), offset.shift(b)) for one, offset in offsets for a, b in spans(one)]
        swept = (
            sweep(join_tracks(positive), stream.refractory_s, marks),
            sweep(join_tracks(negative), stream.refractory_s),
        )
        return operating_points(*swept, RATES) + ([] if threshold is None else [at_threshold(*swept, threshold)])

    def anew(self, weights: Weights, seed: int) -> Weights:
        """The same weights with the statistics of their batch norms taken from 20 batches of training."""
        net, front_end, batch = self.spec.net(), self.spec.front_end(), self.s.batch
        net.load_state_dict(weights)
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm1d):
                layer.reset_running_stats()
                layer.momentum = None  # the plain mean over the batches
        n = round(batch.positive_share * batch.size)
        net.train()
        for i in range(20):
            rng = torch.Generator().manual_seed(1000 * seed + i)
            plan = self.sampler.sample(n, batch.size - n, None, torch.zeros(0).long(), rng)
            with torch.no_grad():
                x = front_end.clips(self.sampler.render(plan, None).pcm, front_end.hop_n * net.stride)
                x = self.sampler.augment_features(x, torch.arange(len(plan)), len(plan), rng)
                net(x, net.initial_cache(len(x)))
        return net.state_dict()


def kept(out: Path, seed: int, anew: Callable[[Weights, int], Weights]) -> Iterator[tuple[str, Weights, float | None]]:
    """Compared weights of a seed: name, weights, and the threshold that the run calibrated for them."""
    from kws.detector import checkpoint

    # With one pass over the negatives, the validation of the last step has the threshold of the calibration.
    with (out / f"best-{seed}" / "validation.csv").open(newline="", encoding="utf-8") as file:
        *_, last = csv.DictReader(file)
    average = checkpoint.read(out / f"best-{seed}" / "state.pt")["average"]
    yield "plain: the moving average", average, float(last["threshold"])
    for name in ARMS:
        if (out / f"{name}-{seed}" / "model.pt").is_file():
            model = checkpoint.read(out / f"{name}-{seed}" / "model.pt")
            yield name, model["model"], model["thresholds"][0]
            if name == "best":
                yield "best, statistics anew", anew(model["model"], seed), None


def figures(data: Path, out: Path) -> None:
    """A row a seed and arm: misses at fixed rates, and both counts at the calibrated threshold."""
    torch.set_num_threads(1)
    test = TestSplit(data)
    heads = " | ".join(f"misses at {rate:g} FA/h" for rate in RATES)
    print(f"| arm | seed | {heads} | as calibrated: misses, alarms |\n| --- | --- | --- | --- | --- | --- |")
    for seed in SEEDS:
        for name, weights, threshold in kept(out, seed, test.anew):
            *at, last = [*test.points(weights, threshold), *([] if threshold is not None else [None])]
            cells = " | ".join(str(point.misses) for point in at)
            own = "-" if last is None else f"{last.misses}, {last.false_alarms}"
            print(f"| {name} | {seed} | {cells} | {own} |", flush=True)
    print(f"\nof {at[0].events} keywords; false alarms in {at[0].hours:.2f} h")


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
    else:
        figures(Path(sys.argv[2]), Path(sys.argv[3]))
