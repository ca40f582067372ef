"""A base net for each fold, from which detectors start, and the base net that comes with kws.

python -m tests.benchmarks.base_net DATA OUT FEATURES FOLD      trains that of a fold and writes OUT/FEATURES-FOLD.pt
python -m tests.benchmarks.base_net pack RUN/model.pt           writes a base net of kws train to kws/models/base_net.pt

That of a fold learns as with recipe=base, from the train split of the fold. A killed run goes on. KWS_BASE_STEPS sets
its steps.
"""

import os
import sys
import time
from pathlib import Path

import torch
from omegaconf import OmegaConf

from kws.commands import builders
from kws.commands.initial_model import model_file
from kws.common.console import Console
from kws.common.seeding import seed_of
from kws.config.setting import BASE_NET
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


def pack(model: Path, file: Path) -> None:
    """Write what `init` reads of a base net; names of recordings and folders stay behind."""
    read = checkpoint.read_model(model, base=True)
    ran = OmegaConf.create(read.facts["config"])
    config = {"features": ran.features, "model": ran.model, "data": {"sample_rate": ran.data.sample_rate}}
    facts = {key: read.facts[key] for key in ("task", "version", "commit", "data", "weights", "phone_errors", "hours")}
    facts["config"] = OmegaConf.to_yaml(config)
    checkpoint.write_model(file, read.spec, read.weights, read.detector.thresholds, facts, (), read.trained_on)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["pack", model]:
            pack(Path(model), model_file(BASE_NET))
        case [data, out, features, fold]:
            train(Path(data), Path(out), features, int(fold))
        case _:
            sys.exit(__doc__)
