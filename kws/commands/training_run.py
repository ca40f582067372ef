"""Run folder, training loop and model files of `kws train`, for all tasks."""

import hashlib
import json
import shlex
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from kws import __version__
from kws.commands.builders import held_out_sound
from kws.commands.initial_model import INIT, model_file
from kws.common.console import Console
from kws.common.errors import KwsError, LeakError
from kws.common.files import remove_drafts, replacing
from kws.common.memory import keep_freed_memory
from kws.common.seeding import seed_of
from kws.common.text import plural
from kws.config.compose import recipe_text
from kws.config.schema import TrainConfig
from kws.config.setting import BASE_NET
from kws.data.audio_cache import AudioCache, Entry
from kws.data.manifest import Split
from kws.detector import checkpoint
from kws.detector.checkpoint import Checkpoint, ModelSpec
from kws.detector.detector import Detector
from kws.detector.files import Format, export, packed
from kws.models.base import KeywordNet, to_train
from kws.replay import exchange
from kws.replay.buffer import Buffer
from kws.replay.importing import SYNTHETIC
from kws.replay.quarantine import TRUSTED
from kws.replay.records import Decision, State
from kws.runs.data import claim_data
from kws.runs.folder import DIVERGED, RECIPE, SessionRecorder, claim, commit
from kws.training.distributed import Distributed
from kws.training.hard_negatives import held_out_sources
from kws.training.metrics import MetricsLog
from kws.training.optim import OptimConfig, start_from
from kws.training.trainer import DivergedError, Task, Trainer, read_state


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

    @property
    def start(self) -> str:
        """What the weights start from, in words."""
        if self.s.init is None:
            return "random weights"
        return "the base net of kws" if self.s.init == BASE_NET else str(self.s.init)

    def begin(self, store: AudioCache) -> str:
        """Lock and claim the run folder for these recordings; return the id of the run. On rank 0 alone."""
        self.session.hold(self.out)
        for folder in (self.out, self.out / "checkpoints"):
            remove_drafts(folder)
        require_exportable(self.spec)
        if (mark := self.out / DIVERGED).exists():
            state = read_state(self.out / "state.pt")
            if state is not None and state["step"] > int(mark.read_text()):  # it has trained beyond the divergence
                mark.unlink()
        id_, threads, device = claim(self.out, self.config), torch.get_num_threads(), str(self.dist.device)
        claim_data(self.out, store.entries)
        if not (self.out / RECIPE).exists():  # a resumed run keeps the threads and the device of its first session
            with replacing(self.out / RECIPE) as file:
                file.write(recipe_text(self.config, threads, device).encode())
        if self.s.init is not None and not (self.out / INIT).exists():
            with replacing(self.out / INIT) as file:
                file.write(model_file(self.s.init).read_bytes())
            if self.init is None or checkpoint.read_model(self.out / INIT, base=True).hash != self.init.hash:
                (self.out / INIT).unlink()
                raise KwsError(f"init={self.s.init}: must not change while a run begins")
        self.session.begin(self.out, threads, device)
        self.console.say(f"run folder: {self.out} (a killed run resumes with the same command and out={self.out})")
        if self.init is not None:
            self.console.say(f"starts from {self.start}: {self.spec.family} on {self.spec.input or 'log_mel'}")
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
        keep_freed_memory()
        trainer = Trainer(net, task, optim, s.seed, dist, self.out / "state.pt", s.compile)
        if trainer.step:
            self.console.say(f"resumes after step {trainer.step} of {optim.steps}")
        kinds, tensorboard = (kinds, s.tensorboard) if dist.is_main else ({}, False)  # rank 0 alone writes files
        with (
            self.console.progress("Training", optim.steps, "steps") as tick,
            MetricsLog(self.out, trainer.step, kinds, tensorboard, self.console, tick) as log,
        ):
            try:
                trainer.run(log)
            except DivergedError as error:
                with replacing(self.out / DIVERGED) as file:
                    file.write(str(error.step).encode())
                raise
        return trainer.average

    def shown(self) -> dict[str, str]:
        """Facts for the top of the report: how the detector was made."""
        known = commit()
        weights = sum(p.numel() for p in self.spec.net().parameters())
        return {
            "command": shlex.join(["kws", "train", *HydraConfig.get().overrides.task]),
            "run": self.out.name,
            "recordings": self.s.data.root or "synthetic",
            "net": f"{self.spec.family}, {weights:,} weights, {self.s.optim.steps:,} steps",
            "started from": self.start,
            "seed": str(self.s.seed),
            "made": f"{time.strftime('%Y-%m-%d %H:%M')} by kws {__version__}{f', commit {known}' if known else ''}",
        }

    def write_checkpoint(
        self,
        weights: Mapping[str, Tensor],
        thresholds: list[float],
        facts: Mapping[str, Any],
        store: AudioCache,
        used: Iterable[Entry],
        replayed: Collection[str] = (),
    ) -> dict[str, Any]:
        """Write model.pt; return its facts.

        Args:
            weights, thresholds: what was trained.
            facts: on the run; more are added.
            store: the recordings.
            used: those that trained it. Held-out ones among them are ignored.
            replayed: content hashes of the recordings that replayed clips come from.
        """
        facts = {
            "version": __version__,
            "commit": commit(),
            "command": ["kws", "train", *HydraConfig.get().overrides.task],
            "plugins": list(self.s.plugins),
            "config": (self.out / "config.yaml").read_text(encoding="utf-8"),
            "data": hashlib.sha256("".join(e.hash for e in store.entries).encode()).hexdigest(),
            **({} if self.init is None else {"init": self.init.hash, "started_from": self.start}),
            **facts,
        }
        held_out = {source.hash: source for source in held_out_sources(store)}
        used = [entry for entry in used if entry.recording.split is Split.TRAIN]
        trained_on = {entry.hash for entry in used if entry.hash not in held_out} | set(replayed)
        if self.init is not None:
            held_out |= {one.hash: one for one in self.init.held_out if one.hash not in trained_on}
            trained_on |= self.init.trained_on
        trained_on |= {entry.whole for entry in used if entry.whole}
        checkpoint.write_model(
            self.out / "model.pt", self.spec, weights, thresholds, facts, held_out.values(), trained_on
        )
        return facts

    def write_model(
        self,
        detector: Detector,
        weights: Mapping[str, Tensor],
        facts: Mapping[str, Any],
        store: AudioCache,
        replayed: Collection[str] = (),
    ) -> None:
        """Write model.pt and detector.pt.

        Args:
            detector, weights: what was trained.
            facts: on the run; more are added.
            store: the recordings.
            replayed: content hashes of the recordings that replayed clips come from.
        """
        facts = self.write_checkpoint(weights, detector.thresholds, facts, store, store.entries, replayed)
        facts |= {"checkpoint": checkpoint.weights_hash(weights)}
        export(detector, self.out / "detector.pt", facts, clips=self.out / "buffer" / "clips")


def describe_weights(s: TrainConfig) -> str:
    """Description of the weights that are kept after the last step."""
    return f"moving average (optim.ema={s.optim.ema:g}) at the last step" if s.optim.ema else "of the last step"


def require_exportable(spec: ModelSpec) -> None:
    """Pack the untrained detector, so that an error of the export comes now and not after hours of training."""
    _packed(json.dumps(asdict(spec), sort_keys=True))


@lru_cache(maxsize=64)
def _packed(spec: str) -> None:
    made = ModelSpec(**json.loads(spec))
    packed(made.detector(made.net().state_dict()), {}, Format.torchscript)


def holding_out(buffer: Buffer, store: AudioCache) -> Buffer:
    """The same buffer, with the validation and test recordings registered.

    Raises:
        LeakError: a clip comes from one of them, or one is audible in a recording that a user imported.
    """
    buffer.hold_out(held_out_sources(store))
    clips = [row for row in buffer.rows(None) if row.kind in TRUSTED and row.run != SYNTHETIC]
    clips = [row for row in clips if row.decision is not Decision.rejected and buffer.path(row.hash).exists()]
    if not clips:
        return buffer
    held_out = held_out_sound(store.entries, store.pcm)
    found = {row.hash[:12]: what for row in clips if (what := held_out.audible(buffer.audio(row.hash)))}
    if found:
        first, what = next(iter(found.items()))
        words = shlex.join([f"buffer={buffer.folder}", f"clips=[{','.join(found)}]"])
        raise LeakError(
            f"replay.buffer={buffer.folder}: the {what} is audible in clip {first}; {len(found)} such clips "
            f"stay out of training after kws buffer retire {words}"
        )
    return buffer


def add_old_buffer(buffer: Callable[[int], Buffer], folder: Path, init: Path) -> int:
    """Copy the clips of the buffer beside a finished model into the buffer at `folder`; returns how many are new.

    Decisions of a person come along, so that a rejected clip and its near-duplicates stay out.

    Args:
        buffer: opens the buffer at `folder` for a sample rate in Hz.
        folder: of that buffer.
        init: the finished model; nothing is copied where no other buffer is beside it.
    """
    beside = init.parent / "buffer"
    if not (beside / "index.sqlite").is_file() or beside.resolve() == folder.resolve():
        return 0
    with tempfile.TemporaryDirectory() as name:
        with Buffer(beside) as old:
            exchange.export(old, Path(name) / "clips")
        new, _ = exchange.restore(buffer, Path(name) / "clips")
    return new


def name_quarantined(console: Console, buffer: Buffer, folder: Path) -> None:
    """Say how many clips of a buffer a person has to listen to before they are replayed."""
    if waiting := len(buffer.rows(State.quarantined)):
        console.warn(
            f"{plural(waiting, 'clip')} in quarantine, not replayed until released: kws buffer review buffer={folder}"
        )
