"""Run folder, training loop and model files of `kws train`, for both tasks."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from kws import __version__
from kws.commands.initial_model import INIT
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.common.seeding import seed_of
from kws.config.recipe import recipe_text
from kws.config.schema import TrainConfig
from kws.data.audio_cache import AudioCache
from kws.data.manifest import Split
from kws.detector import checkpoint
from kws.detector.checkpoint import Checkpoint, ModelSpec
from kws.detector.detector import Detector
from kws.detector.torchscript import export
from kws.models.base import KeywordNet, to_train
from kws.runs.data import claim_data
from kws.runs.folder import RECIPE, SessionRecorder, claim, commit
from kws.training.distributed import Distributed
from kws.training.hard_negatives import held_out_sources
from kws.training.metrics import MetricsLog
from kws.training.optim import OptimConfig, start_from
from kws.training.trainer import Task, Trainer


@dataclass
class Run:
    """A training run.

    Args:
        s, config: the settings, and the same as YAML.
        out: the run folder.
        spec: of the net.
        console: prints on rank 0.
        dist: the processes that train together.
        session: recorded in the run folder.
        init: the model that the run starts from; None: random weights.
    """

    s: TrainConfig
    config: str
    out: Path
    spec: ModelSpec
    console: Console
    dist: Distributed
    session: SessionRecorder
    init: Checkpoint | None = None

    @property
    def continues(self) -> Checkpoint | None:
        """The model that the run starts from, if it has the same score columns; else only its trunk is used."""
        if self.init is None:
            return None
        mine, its = ((spec.labels, spec.others) for spec in (self.spec, self.init.spec))
        return self.init if mine == its else None

    def begin(self, store: AudioCache) -> str:
        """Claim the run folder for these recordings; return the id of the run. On rank 0 alone."""
        id_, threads, device = claim(self.out, self.config), torch.get_num_threads(), str(self.dist.device)
        claim_data(self.out, store.entries)
        if not (self.out / RECIPE).exists():  # a resumed run keeps the threads and the device of its first session
            with replacing(self.out / RECIPE) as file:
                file.write(recipe_text(self.config, threads, device).encode())
        if self.s.init is not None and not (self.out / INIT).exists():
            with replacing(self.out / INIT) as file:
                file.write(Path(self.s.init).read_bytes())
            if self.init is None or checkpoint.read_model(self.out / INIT).hash != self.init.hash:
                (self.out / INIT).unlink()
                raise KwsError(f"init={self.s.init}: must not change while a run begins")
        self.session.begin(self.out, threads, device)
        self.console.say(f"run folder: {self.out} (a killed run resumes with the same command and out={self.out})")
        return id_

    def net(self) -> KeywordNet:
        """The net before its first step, on the device."""
        torch.manual_seed(seed_of(self.s.seed, "weights"))
        net = self.spec.net()
        if self.init is not None:
            start_from(net, self.init.weights, self.continues is not None)
        return to_train(net, self.dist.device)

    def fit(self, net: KeywordNet, task: Task, optim: OptimConfig, kinds: dict[str, type[Any]]) -> dict[str, Tensor]:
        """Train, or resume; return the moving average of the weights. `kinds`: see `MetricsLog`."""
        s, dist = self.s, self.dist
        trainer = Trainer(net, task, optim, s.seed, dist, self.out / "state.pt", s.compile)
        kinds, tensorboard = (kinds, s.tensorboard) if dist.is_main else ({}, False)  # rank 0 alone writes files
        with (
            self.console.progress("Training", optim.steps) as tick,
            MetricsLog(self.out, trainer.step, kinds, tensorboard, self.console, tick) as log,
        ):
            trainer.run(log)
        return trainer.average

    def write_model(
        self, detector: Detector, weights: Mapping[str, Tensor], facts: Mapping[str, Any], store: AudioCache
    ) -> None:
        """Write model.pt and detector.pt. Facts on the run are added to `facts`; `store` holds the recordings."""
        facts = {
            "version": __version__,
            "commit": commit(),
            "command": ["kws", "train", *HydraConfig.get().overrides.task],
            "plugins": list(self.s.plugins),
            "config": (self.out / "config.yaml").read_text(encoding="utf-8"),
            "data": hashlib.sha256("".join(e.hash for e in store.entries).encode()).hexdigest(),
            **({} if self.init is None else {"init": self.init.hash}),
            **facts,
        }
        held_out = {source.hash: source for source in held_out_sources(store)}
        trained_on = {entry.hash for entry in store.entries if entry.hash not in held_out}
        if self.init is not None:
            held_out |= {one.hash: one for one in self.init.held_out if one.hash not in trained_on}
            trained_on |= self.init.trained_on
        trained_on |= {e.whole for e in store.entries if e.whole and e.recording.split is Split.TRAIN}
        checkpoint.write_model(
            self.out / "model.pt", self.spec, weights, detector.thresholds, facts, held_out.values(), trained_on
        )
        export(detector, self.out / "detector.pt", facts | {"checkpoint": checkpoint.weights_hash(weights)})
