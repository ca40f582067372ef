"""A base net for each fold, from which detectors start: python -m tests.benchmarks.base_net DATA OUT FEATURES FOLD.

It learns as with recipe=base, from the train split of the fold, and is written to OUT/FEATURES-FOLD.pt. A killed run
goes on. KWS_BASE_STEPS sets its steps.
"""

import os
import sys
import time
from pathlib import Path

import torch

from kws.commands import builders
from kws.common.console import Console
from kws.common.seeding import seed_of
from kws.data.manifest import Split
from kws.detector import checkpoint
from kws.models.base import to_train
from kws.training.distributed import together
from kws.training.metrics import MetricsLog, PhoneErrors, PhoneMetrics
from kws.training.phones import PhoneTask, UtteranceSampler, inventory, load_utterances
from kws.training.trainer import Trainer
from tests.benchmarks.folds import Group

STEPS = int(os.environ.get("KWS_BASE_STEPS", "2500"))


def base_file(out: Path, features: str, fold: int) -> Path:
    """Where the weights of a fold are."""
    return out / f"{features}-{fold}.pt"


def train(data: Path, out: Path, features: str, fold: int) -> None:
    """Train the base net of a fold, unless it is there."""
    file = base_file(out, features, fold)
    if file.is_file():
        return
    torch.set_num_threads(1)
    group, begun = Group(data, out, "computer", fold, "cpu", "base"), time.monotonic()
    s = group.configured((f"features={features}", f"optim.steps={STEPS}"), 0)
    spec = builders.model_spec(s, inventory())
    folder = out / f"{features}-{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    row_n = round(s.features.hop_s * s.data.sample_rate) * s.model.stride
    with together(torch.device("cpu"), s.precision) as dist:
        train_, held_out = (
            load_utterances(group.store, split, s.data.noise_label, s.phones.longest_s, row_n, dist.device)
            for split in (Split.TRAIN, Split.VALIDATION)
        )
        print(f"{len(train_)} recordings, {train_.hours(s.data.sample_rate):.2f} h", flush=True)
        torch.manual_seed(seed_of(0, "weights"))
        net = to_train(spec.net(), dist.device)
        sampler = UtteranceSampler(train_, s.phones.batch_s, s.augment, s.data.sample_rate, s.features.hop_s, 0)
        task = PhoneTask(spec, spec.front_end(), sampler, held_out, STEPS, 500)
        trainer = Trainer(net, task, s.optim, 0, dist, folder / "state.pt", False)
        kinds = {"metrics": PhoneMetrics, "validation": PhoneErrors}
        with MetricsLog(folder, trainer.step, kinds, False, Console(quiet=False), lambda *_: None) as log:
            trainer.run(log)
    state, facts = {k: v.cpu() for k, v in trainer.average.items()}, {"task": checkpoint.BASE}
    checkpoint.write_model(file, spec, state, [0.5] * len(spec.labels), facts)
    print(f"{file}: {time.monotonic() - begun:.0f} s", flush=True)


if __name__ == "__main__":
    data, out, features, fold = sys.argv[1:]
    train(Path(data), Path(out), features, int(fold))
