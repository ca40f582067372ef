"""kws train task=classes: recordings in, a net that tells words apart and its accuracy out."""

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from kws import __version__
from kws.commands import builders
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.config.compose import keywords
from kws.config.schema import Task, TrainConfig
from kws.config.sweep import one_at_a_time, place
from kws.data.audio_cache import AudioCache
from kws.data.classification_dataset import Roles, compose, others
from kws.data.dataset import recordings
from kws.data.manifest import Split
from kws.detector import checkpoint
from kws.detector.checkpoint import ModelSpec
from kws.detector.torchscript import export
from kws.evaluation import results
from kws.evaluation.classification import ClassificationResult, ValidationAccuracy, classify, show
from kws.evaluation.report.page import write_report
from kws.models.base import to_train
from kws.runs.folder import Keeper, claim, commit, finished
from kws.training.classification_batches import Clips, Drawer, Variation, clips
from kws.training.classification_log import ClassesLog
from kws.training.classification_trainer import Plan, Trainer
from kws.training.hard_negatives import held_out_sources

# What one task alone knows of the settings: given to the other, it would be passed over in silence.
OF_TASK: Mapping[Task, tuple[str, ...]] = {
    Task.classes: ("classes", "optim.epochs", "optim.warmup_epochs"),
    Task.wake_word: (
        *("augment", "replay", "mining", "threshold", "stream", "confuse", "data.synthetic"),
        *("batch.positive_share", "batch.real_share", "batch.noise_share", "batch.max_keyword_s"),
        *("batch.keyword_end_s", "optim.negative_weight", "optim.early_s", "optim.late_s", "optim.focal_gamma"),
        *("optim.average", "optim.best_n", "precision"),
    ),
}
# Bands of a frequency mask by the tau of a BC-ResNet (Kim et al., 2021).
MASKS: Mapping[float, int] = {1: 0, 1.5: 1, 2: 3, 3: 5, 6: 6, 8: 7}
AT_ONCE = 128  # clips side by side where nothing is trained


def demand_of_use(task: Task) -> None:
    """Refuse what is given on the command line and only the other task knows; raises KwsError."""
    for given in HydraConfig.get().overrides.task:
        key = given.lstrip("+~").split("=")[0]
        for other, keys in OF_TASK.items():
            if other is not task and key.startswith(keys):
                raise KwsError(f"{given}: allowed only with task={other.value}")


def train_classes(cfg: DictConfig, s: TrainConfig, session: Keeper) -> None:
    """Train, or go on where a killed run stopped, in the folder `out`."""
    begun = time.monotonic()
    console, words, beside = Console(), keywords(s.keyword), others(s.classes.unknown, s.classes.silence)
    builders.threads(s.threads)
    device, recipe = builders.device(s.device), builders.recipe(s, words, beside)
    out, config = place(s.out), OmegaConf.to_yaml(cfg, resolve=True)
    if finished(out, config):
        console.say(f"{out}: finished already, see {out / 'report.html'}; give another out to run it again")
        return
    with one_at_a_time(Path(s.data.cache)):
        store = builders.store(s.data, console, recordings(s.data))
    roles = compose(store.entries, words, s.data.noise_label, s.classes.unknown, s.classes.silence, recipe.clip_n)
    claim(out, config)
    session.begin(out, torch.get_num_threads(), str(device))
    describe(console, store, roles)
    console.say(f"run folder: {out} (a killed run goes on with the same command and out={out})")
    heard = {split: clips(store, roles, split, recipe.clip_n, device) for split in Split}
    weights = trained(s, recipe, heard, out, console, device)
    found = finish(s, recipe, store, heard, weights, out, console)
    console.say(f"detector  {out / 'detector.pt'}")
    console.say(f"report    {out / 'report.html'}")
    console.say(f"time      {time.monotonic() - begun:.0f} s")
    # The last file: a run that has it is finished.
    content: dict[str, Any] = {"seed": s.seed, "task": s.task.value, "weights": kept(s), "outcomes": []}
    results.write_json(out / "results.json", content | {split: result.as_json() for split, result in found.items()})


def kept(s: TrainConfig) -> str:
    """Which weights are kept, in words."""
    return f"moving average (optim.ema={s.optim.ema:g}) at the last step" if s.optim.ema else "of the last step"


def describe(console: Console, store: AudioCache, roles: Roles) -> None:
    """Say what there is to learn from."""
    rows, unknown = [], len(roles.words)
    for split in Split:
        count = [0] * (unknown + 1)
        for _, k in roles.clips[split]:
            count[k] += 1
        words, other = count[:unknown], f"{count[unknown]} of {count[unknown] + roles.left_out[split]}"
        noise_s = sum(one.end - one.start for one in roles.noise[split]) / store.sample_rate
        each = f"{min(words)}-{max(words)}"
        rows.append((split, f"{sum(words)}", each, other, f"{roles.silences[split]}", f"{noise_s:.0f} s"))
    title = f"{len(roles.classes)} classes: {', '.join(roles.classes)}"
    console.table(title, ("part", "clips of words", "each word", "other words", "silences", "noise"), rows)


def plan(s: TrainConfig, steps_per_epoch: int) -> Plan:
    """The numbers of the training loop."""
    o = s.optim
    epochs = o.epochs is not None
    return Plan(
        steps=o.epochs * steps_per_epoch if o.epochs is not None else o.steps,
        warmup=round(o.warmup_epochs * steps_per_epoch) if epochs else o.warmup,
        optimizer=o.optimizer.value,
        momentum=o.momentum,
        lr=o.lr,
        weight_decay=o.weight_decay,
        ema=o.ema,
        label_smoothing=o.label_smoothing,
        save_every=o.save_every,
        validate_every=s.validate_every,
        compile=s.compile,
    )


def variation(s: TrainConfig) -> Variation:
    """How clips of training are varied."""
    v = s.classes
    return Variation(
        shift_n=round(v.shift_s * s.data.sample_rate),
        noise_p=v.noise_p,
        noise_amplitude=builders.pair(v.noise_amplitude),
        time_masks=v.time_masks,
        time_mask_n=round(v.time_mask_s / s.features.hop_s),
        mel_masks=v.mel_masks,
        mel_mask_n=masked_bands(getattr(s.model, "tau", 0.0)) if v.mel_mask_n is None else v.mel_mask_n,
    )


def masked_bands(tau: float) -> int:
    """The widest frequency mask for a BC-ResNet of this `tau`, or of the next smaller one published; 0 below all."""
    return max((bands for known, bands in MASKS.items() if known <= tau), default=0)


def trained(
    s: TrainConfig, recipe: ModelSpec, heard: Mapping[Split, Clips], out: Path, console: Console, device: torch.device
) -> Mapping[str, Tensor]:
    """Train from the state file where there is one; returns the averaged weights."""
    torch.manual_seed(seed_of(s.seed, "weights"))
    net, front_end = to_train(recipe.net(), device), recipe.front_end().to(device)
    drawer = Drawer(heard[Split.TRAIN], s.batch.size, variation(s), s.seed)
    numbers = plan(s, drawer.steps_per_epoch)

    def validate(weights: Mapping[str, Tensor], step: int) -> ValidationAccuracy:
        return classify(recipe, weights, heard[Split.VALIDATION].plain(AT_ONCE), device).at_step(step)

    trainer = Trainer(net, front_end, drawer, numbers, validate, out / "state.pt")
    if trainer.state_file.is_file():
        trainer.load()
    with (
        console.progress("Training", numbers.steps) as tick,
        ClassesLog(out, trainer.step, s.tensorboard, console, tick) as log,
    ):
        trainer.run(log)
    return trainer.average


def finish(
    s: TrainConfig,
    recipe: ModelSpec,
    store: AudioCache,
    heard: Mapping[Split, Clips],
    weights: Mapping[str, Tensor],
    out: Path,
    console: Console,
) -> dict[str, ClassificationResult]:
    """Write checkpoint and export, and count on the validation and the test part."""
    state = {k: v.cpu() for k, v in weights.items()}
    found = {}
    for split in (Split.VALIDATION, Split.TEST):
        if len(heard[split]):
            with console.progress(f"Telling the {split} part", len(heard[split])) as tick:
                found[str(split)] = classify(
                    recipe, weights, heard[split].plain(AT_ONCE), heard[split].bank.device, tick
                )
    facts = {
        "version": __version__,
        "commit": commit(),
        "command": ["kws", "train", *HydraConfig.get().overrides.task],
        "config": (out / "config.yaml").read_text(encoding="utf-8"),
        "data": hashlib.sha256("".join(e.hash for e in store.entries).encode()).hexdigest(),
        "classes": [*recipe.labels, *(recipe.others or ())],
        "weights": kept(s),
        "accuracy": {split: result.as_json()["accuracy"] for split, result in found.items()},
    }
    detector = recipe.detector(state)
    checkpoint.write_model(out / "model.pt", recipe, state, detector.thresholds, facts, held_out_sources(store))
    export(detector, out / "detector.pt", facts | {"checkpoint": checkpoint.weights_hash(state)})
    tables = [table for split, result in found.items() for table in show(console, result, f"{split} part")]
    console.say(f"weights   {kept(s)}")
    told = {"run": out.name, "seed": str(s.seed), "weights": kept(s), "commit": commit()}
    write_report(out / "report.html", f"{', '.join(recipe.labels)}: accuracy", told, tables, [])
    return found
