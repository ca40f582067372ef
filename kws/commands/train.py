"""kws train: recordings in, a calibrated and exported detector out, mining and replaying hard negatives on the way."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kws import __version__
from kws.commands import builders, speech
from kws.commands.classification import demand_of_use, train_classes
from kws.common.console import Console, listening
from kws.common.errors import KwsError
from kws.common.seeding import seed_of
from kws.config.app import verb
from kws.config.compose import keywords, settings
from kws.config.schema import Task, TrainConfig
from kws.config.sweep import in_sweep, one_at_a_time, place
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection, recordings, select
from kws.data.manifest import Split
from kws.detector import checkpoint
from kws.detector.checkpoint import ModelSpec
from kws.detector.torchscript import export
from kws.evaluation import confusables, results
from kws.evaluation.events import event_peaks
from kws.evaluation.operating_points import Unsupported, require_hours
from kws.evaluation.results import Outcome, outcomes_of
from kws.evaluation.scoring import total_s
from kws.evaluation.splits import evaluate_split, negative_hours, split_streams
from kws.evaluation.validation import ValidationStreams
from kws.models.base import to_train
from kws.replay import storage
from kws.replay.buffer import Buffer
from kws.replay.importing import into_buffer
from kws.replay.mining_streams import source_of
from kws.replay.snapshot import Snapshot
from kws.runs.folder import Keeper, claim, commit, finished
from kws.training.distributed import Distributed, processes, together
from kws.training.hard_negatives import HardNegativeMiner, held_out_sources
from kws.training.optim import Kept
from kws.training.run_log import RunLog
from kws.training.shared_buffer import Joint, Unheard
from kws.training.trainer import Plan, Trainer, read_state


@dataclass
class Run:
    """What the steps of a run share."""

    s: TrainConfig
    id: str
    out: Path
    recipe: ModelSpec
    plan: Plan
    store: AudioCache
    chosen: Selection
    buffer: Buffer | None  # of the first process
    console: Console
    ranks: Distributed
    folder: Path  # of the buffer
    synthetic: Path | None  # folder of synthetic speech


def run(cfg: DictConfig) -> None:
    """Train, or go on where a killed run stopped, in the folder `out`."""
    hydra = HydraConfig.get()
    made = Path(hydra.runtime.output_dir) if in_sweep() else None  # a sweep makes the folder before anything is checked
    choices = {group: name for group, name in hydra.runtime.choices.items() if name and "/" not in group}
    with Keeper(list(hydra.overrides.task), choices, made) as session:
        go_on(cfg, session)


def go_on(cfg: DictConfig, session: Keeper) -> None:
    """The same, in a session."""
    s = settings(cfg, TrainConfig)
    demand_of_use(s.task)
    if s.task is Task.classes:
        if processes() > 1:
            raise KwsError("task=classes: allowed under torchrun is task=wake_word")
        train_classes(cfg, s, session)
        return
    words = keywords(s.keyword)
    builders.threads(s.threads)
    recipe, device = builders.recipe(s, words), builders.device(s.device)
    if processes() > s.batch.size:
        raise KwsError(f"batch.size={s.batch.size}: allowed is at least {processes()}, a row for each process")
    if processes() > 1 and in_sweep():
        raise KwsError("-m: allowed under torchrun is one run at a time")
    with together(device, s.precision) as ranks:
        train(cfg, s, words, recipe, ranks, session)


def train(
    cfg: DictConfig, s: TrainConfig, words: list[str], recipe: ModelSpec, ranks: Distributed, session: Keeper
) -> None:
    """The same by one of the processes that train together."""
    begun, console = time.monotonic(), Console(quiet=not ranks.leads)
    out = place(s.out)
    config = OmegaConf.to_yaml(cfg, resolve=True)
    if ranks.first(lambda: finished(out, config)):
        console.say(f"{out}: finished already, see {out / 'report.html'}; give another out to run it again")
        return

    def heard() -> tuple[AudioCache, Selection]:
        real = recordings(s.data) if s.data.root else []
        store = builders.store(s.data, console, [*real, *synthetic.recordings()])
        return store, select(store.entries, words, s.data.noise_label, s.mining.pool_share)

    with one_at_a_time(Path(s.data.cache)):
        synthetic = ranks.first(lambda: speech.synthesise(s, words, console))
        store, chosen = ranks.in_turn(heard)
    folder = Path(s.replay.buffer) if s.replay.buffer else out / "buffer"
    plan = builders.plan(s, recipe.smooth_n)
    r = Run(s, "", out, recipe, plan, store, chosen, None, console, ranks, folder, synthetic.speech)
    if not ranks.leads:
        train_weights(r)
        ranks.leave()
        return
    if s.threshold.unsupported is Unsupported.refuse:  # now, not after hours of training
        require_hours(negative_hours(store, chosen, Split.VALIDATION, s.stream), builders.target(s.threshold))
    id_ = claim(out, config)
    session.begin(out, torch.get_num_threads(), str(ranks.device))
    describe(console, store, chosen)
    console.say(f"run folder: {out} (a killed run goes on with the same command and out={out})")

    with builders.buffer(s.replay, folder, store.sample_rate) as buffer:
        buffer.hold_out(held_out_sources(store))
        if not (out / "state.pt").is_file():
            add_confusables(buffer, r, console)
        # What will be mined is refused now, not after the training before the first round.
        sources = [*chosen.pool, *chosen.noise[Split.TRAIN], *(chosen.speech[Split.TRAIN] if s.replay.online else ())]
        buffer.admit(source_of(store.entries[i]) for i in sources)
        r = replace(r, id=id_, buffer=buffer)
        kept = train_weights(r)
        ranks.leave()
        if not s.replay.buffer:  # a buffer that others use too may hold what they are about to replay
            buffer.purge()
        clips, hours = len(buffer), sum(row.n_samples for row in buffer.rows()) / store.sample_rate / 3600
    outcomes = finish(r, kept)
    title = f"{', '.join(words)}: test part" if outcomes else f"{', '.join(words)}: no test recordings"
    results.show(console, title, outcomes)
    results.write_page(out / "report.html", title, {"run": out.name, "seed": str(s.seed)}, outcomes)
    # The last file: a run that has it is finished.
    results.write_json(out / "results.json", {"seed": s.seed, "outcomes": results.as_json(outcomes)})
    if store.bad:
        console.warn(f"{len(store.bad)} recordings did not decode and were left out; they are named above")
    console.say(f"detector  {out / 'detector.pt'}")
    console.say(f"report    {out / 'report.html'}")
    console.say(f"buffer    {folder}  ({clips} clips, {60 * hours:.1f} min)")
    console.say(f"time      {time.monotonic() - begun:.0f} s")


def add_confusables(buffer: Buffer, r: Run, console: Console) -> None:
    """Add the synthetic confusables for training to the buffer, before training begins."""
    if r.synthetic and r.s.data.synthetic.confusables:
        added = into_buffer(buffer, r.synthetic)
        if added.new:
            console.say(f"buffer: {len(added.new)} synthetic confusables, {added.near} repeat others")


def train_weights(r: Run) -> Kept:
    """Train, from the state file where there is one; returns the weights that the run keeps."""
    torch.manual_seed(seed_of(r.s.seed, "weights"))
    device, ranks = r.ranks.device, r.ranks
    net, front_end = to_train(r.recipe.net(), device), r.recipe.front_end().to(device)
    drawer, entries = ranks.in_turn(
        lambda: builders.drawer(r.s, r.store, r.chosen, r.recipe.clip_n, device, r.synthetic)
    )
    state_file = r.out / "state.pt"
    state = ranks.first(lambda: read_state(state_file) if state_file.is_file() else None)
    rounds = None if r.buffer is None else harvest(r, r.buffer, entries, state)
    drawing = builders.policy(r.s).drawing
    sound = partial(storage.read, r.folder / storage.CLIPS, sample_rate=r.store.sample_rate)
    joint = Joint(ranks, rounds, lambda held: Snapshot.of(held, sound, r.recipe.clip_n, device, drawing))
    replay = joint.snapshot(None if state is None else state["replay"])
    trainer = Trainer(net, front_end, drawer, replay, r.plan, joint, ranks, state_file)
    if state is not None:
        trainer.load(state, replay)
    if r.buffer is None:
        trainer.run(Unheard())
        return trainer.kept()
    with (
        r.console.progress("Training", r.plan.steps) as tick,
        RunLog(r.out, trainer.step, r.s.tensorboard, r.console, tick) as log,
    ):
        trainer.run(log)
    trainer.replay.write_back(r.buffer)
    kept = trainer.kept()
    if kept.looks:
        steps = ", ".join(str(one) for one in kept.looks)
        r.console.say(f"kept: the mean of the weights after steps {steps}; chosen on the part that calibrates")
    return kept


def harvest(r: Run, buffer: Buffer, entries: Sequence[int], state: Mapping[str, Any] | None) -> HardNegativeMiner:
    """Who fills the buffer, after what a killed run did there since its state has been taken back."""
    if state is not None and r.plan.fills:
        buffer.rollback(r.id, state["rounds"])
    s = r.s.stream
    return HardNegativeMiner(
        builders.policy(r.s),
        r.recipe,
        r.store,
        r.chosen,
        entries,
        buffer,
        lambda: ValidationStreams(r.store, r.chosen, s, s.chunk_s, s.refractory_s),
        r.console,
        r.out,
        r.id,
        r.ranks.device,
    )


def finish(r: Run, kept: Kept) -> list[Outcome]:
    """Calibrate on validation, write checkpoint and export, and count on the test part."""
    state = {k: v.cpu() for k, v in kept.weights.items()}
    detector = r.recipe.detector(state)
    levels, passes, t = r.s.stream, r.s.threshold.passes, r.s.stream.refractory_s
    chunk_s, longest_s = r.s.stream.chunk_s, r.s.stream.max_keyword_s
    takes = split_streams(r.store, r.chosen, Split.VALIDATION, levels, passes)
    with listening(r.console, "Calibrating", total_s(takes)) as tell:
        heard = evaluate_split(detector, r.store, r.chosen, Split.VALIDATION, takes, chunk_s, longest_s, tell)
    calibrations = {k: results.calibrated(h, builders.target(r.s.threshold), t, passes) for k, h in heard.items()}
    detector.thresholds = [calibrations[k].threshold for k in r.recipe.labels]
    facts = {
        "version": __version__,
        "commit": commit(),
        "command": ["kws", "train", *HydraConfig.get().overrides.task],
        "config": (r.out / "config.yaml").read_text(encoding="utf-8"),
        "data": hashlib.sha256("".join(e.hash for e in r.store.entries).encode()).hexdigest(),
        "averaged": [one.counts() for one in kept.looks],  # none: the moving average at the end
        "calibration": {k: asdict(c) for k, c in calibrations.items()},
        # What held-out keywords score: from near it on, what `kws mine` finds is suspect.
        "positive_score": {k: float(np.median(event_peaks(h.positive, h.spans))) for k, h in heard.items()},
    }
    checkpoint.write_model(r.out / "model.pt", r.recipe, state, detector.thresholds, facts, held_out_sources(r.store))
    export(detector, r.out / "detector.pt", facts | {"checkpoint": checkpoint.weights_hash(state)})
    if not r.chosen.speech[Split.TEST]:
        return []
    takes = split_streams(r.store, r.chosen, Split.TEST, levels, 1)
    with listening(r.console, "Testing", total_s(takes)) as tell:
        heard = evaluate_split(detector, r.store, r.chosen, Split.TEST, takes, chunk_s, longest_s, tell)
    outcomes = outcomes_of(
        heard, dict(zip(detector.labels, detector.thresholds, strict=True)), t, calibrations=calibrations
    )
    files = unheard_confusables(r)
    if not files:
        return outcomes
    with listening(r.console, "Testing, confusables", confusables.seconds(files)) as tell:
        said = confusables.heard(detector, files, chunk_s, tell)
    return results.with_confusables(outcomes, said, r.store.sample_rate, t)


def unheard_confusables(r: Run) -> dict[str, list[Path]]:
    """Synthetic confusables by test voices, by keyword; empty where there are none."""
    return confusables.unheard(r.synthetic) if r.synthetic and r.s.data.synthetic.confusables else {}


def describe(console: Console, store: AudioCache, chosen: Selection) -> None:
    """Say what there is to learn from."""

    def hours(indexes: Iterable[int]) -> float:
        return sum(store.entries[i].n_samples for i in indexes) / store.sample_rate / 3600

    table = []
    for split in Split:
        positives = ", ".join(f"{len(p)}" for p in chosen.positives[split])
        speech, noise, pool = (
            chosen.speech[split],
            chosen.noise[split],
            chosen.pool if split is Split.TRAIN else [],
        )
        cells = [f"{len(x)} ({hours(x):.2f} h)" if x else "-" for x in (speech, pool, noise)]
        table.append((str(split), positives, *cells))
    console.table(", ".join(chosen.keywords), ("part", "keywords", "negatives", "only mined", "noise"), table)
    if chosen.spoken:
        console.warn(f"left out, their transcript holds a keyword: {len(chosen.spoken)} negatives")


main = verb("train", run)

if __name__ == "__main__":
    main()
