"""kws train task=classification: train a classifier of words and report its accuracy."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from kws.commands import builders
from kws.commands.initial_model import refuse_known
from kws.commands.training_run import Run, describe_weights
from kws.common.console import Console
from kws.config.schema import TrainConfig
from kws.config.sweep import one_at_a_time
from kws.data.audio_cache import AudioCache
from kws.data.classification_dataset import SILENCE, UNKNOWN, Roles, compose
from kws.data.dataset import recordings
from kws.data.manifest import Split
from kws.evaluation import results
from kws.evaluation.classification import ClassificationResult, ValidationAccuracy, classify, show
from kws.evaluation.report.page import write_report
from kws.training.classification import ClassificationConfig, ClassificationTask, Clips, EpochSampler, load_clips
from kws.training.metrics import ClassificationMetrics
from kws.training.optim import OptimConfig
from kws.training.run_curves import classification_curves

# Bands of a frequency mask by the tau of a BC-ResNet (Kim et al., 2021).
MASKS: Mapping[float, int] = {1: 0, 1.5: 1, 2: 3, 3: 5, 6: 6, 8: 7}
EVALUATION_BATCH = 128  # clips


def train_classification(r: Run) -> None:
    """Train, export, report the accuracy on the validation and the test split."""
    s, console, spec = r.s, r.console, r.spec
    with one_at_a_time(Path(s.data.cache)):
        store = builders.store(s.data, console, recordings(s.data, console.warn, spec.labels), spec.labels, False)
    if r.init is not None:
        refuse_known(r.init, store.entries)
    unknown, silence = s.classification.unknown, s.classification.silence
    roles = compose(store.entries, spec.labels, s.data.noise_label, unknown, silence, spec.clip_n)
    r.begin(store)
    describe(console, store, roles)
    clips = {split: load_clips(store, roles, split, spec.clip_n, r.dist.device) for split in Split}
    found = finish(r, store, clips, fit(r, clips))
    # `kws runs` takes a run for finished once results.json exists, so this file is written last.
    content: dict[str, Any] = {"seed": s.seed, "task": s.task.value, "weights": describe_weights(s), "outcomes": []}
    results.write_json(r.out / "results.json", content | {split: result.as_json() for split, result in found.items()})


def describe(console: Console, store: AudioCache, roles: Roles) -> None:
    """Print the number of clips of each split."""
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
    console.table(title, ("split", "clips of words", "each word", UNKNOWN, SILENCE, "noise"), rows)
    console.say(f"{UNKNOWN}: a sample of the clips of words that are no keyword; {SILENCE}: segments of noise")


def optim_in_steps(o: OptimConfig, steps_per_epoch: int) -> OptimConfig:
    """Convert epochs to steps."""
    if o.epochs is None:
        return o
    return replace(o, steps=o.epochs * steps_per_epoch, warmup=round(o.warmup_epochs * steps_per_epoch))


def augmentation(s: TrainConfig) -> ClassificationConfig:
    """The settings of the task, with the published `mel_mask_n` if none is given."""
    c = s.classification
    return c if c.mel_mask_n is not None else replace(c, mel_mask_n=masked_bands(getattr(s.model, "tau", 0.0)))


def masked_bands(tau: float) -> int:
    """Bands of the widest frequency mask for a BC-ResNet of this `tau`, or of the next smaller published one, or 0."""
    return max((bands for known, bands in MASKS.items() if known <= tau), default=0)


def fit(r: Run, clips: Mapping[Split, Clips]) -> Mapping[str, Tensor]:
    """Train; return the averaged weights."""
    s, spec, device = r.s, r.spec, r.dist.device
    net, front_end = r.net(), spec.front_end().to(device)
    sampler = EpochSampler(
        clips[Split.TRAIN], s.batch.size, augmentation(s), s.data.sample_rate, s.features.hop_s, s.seed
    )
    optim = optim_in_steps(s.optim, sampler.steps_per_epoch)

    def validate(weights: Mapping[str, Tensor], step: int) -> ValidationAccuracy:
        return classify(spec, weights, clips[Split.VALIDATION].plain(EVALUATION_BATCH), device).at_step(step)

    task = ClassificationTask(front_end, sampler, optim.label_smoothing, validate, optim.steps, s.validate_every)
    return r.fit(net, task, optim, {"metrics": ClassificationMetrics, "validation": ValidationAccuracy})


def finish(
    r: Run, store: AudioCache, clips: Mapping[Split, Clips], weights: Mapping[str, Tensor]
) -> dict[str, ClassificationResult]:
    """Evaluate the validation and the test split; write checkpoint, export and report."""
    s, spec, console, found = r.s, r.spec, r.console, {}
    state = {k: v.cpu() for k, v in weights.items()}
    for split in (Split.VALIDATION, Split.TEST):
        if len(clips[split]):
            with console.progress(f"Evaluating the {split} split", len(clips[split])) as tick:
                found[str(split)] = classify(spec, weights, clips[split].plain(EVALUATION_BATCH), r.dist.device, tick)
    facts = {
        "useless": {split: result.useless for split, result in found.items() if result.useless},
        "classes": [*spec.labels, *(spec.others or ())],
        "weights": describe_weights(s),
        "accuracy": {split: result.as_json()["accuracy"] for split, result in found.items()},
    }
    r.write_model(spec.detector(state), state, facts, store)
    tables = [table for split, result in found.items() for table in show(console, result, f"{split} split")]
    console.say(f"weights   {describe_weights(s)}")
    for name, result in found.items():
        if result.useless:
            console.warn(f"{name} split: {result.useless}")
    run_facts = r.shown() | {"weights": describe_weights(s)}
    run_facts |= {f"{split} split": result.useless for split, result in found.items() if result.useless}
    write_report(
        r.out / "report.html",
        f"{', '.join(spec.labels)}: accuracy",
        run_facts,
        tables=tables,
        curves=classification_curves(r.out),
    )
    return found
