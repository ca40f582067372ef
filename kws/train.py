"""kws train: recordings in, a calibrated and exported detector out, mining and replaying hard negatives on the way."""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from kws import __version__, build, checkpoint, results, spoken
from kws.checkpoint import Recipe
from kws.cli import verb
from kws.config import keywords, settings
from kws.confuse import fired
from kws.console import Console, listening
from kws.detect import event_peaks
from kws.evaluation import evaluate_part, negative_hours, part_takes
from kws.exporting import export
from kws.harvest import Harvest, held_out_sources
from kws.heldout import HeldOut
from kws.listen import seconds
from kws.manifest import Part
from kws.operating import demand_hours
from kws.replay.bring import into_buffer
from kws.replay.buffer import Buffer
from kws.replay.rounds import source
from kws.results import Outcome, judge
from kws.runfolder import claim, commit, finished
from kws.runlog import RunLog
from kws.schema import TrainConfig, Unsupported
from kws.seeding import seed_of
from kws.selection import Selection, select
from kws.store import Store
from kws.trainer import Plan, Trainer, read_state


@dataclass
class Run:
    """What all arms of a run share."""

    s: TrainConfig
    id: str
    out: Path
    recipe: Recipe
    plan: Plan
    store: Store
    chosen: Selection
    buffer: Buffer
    console: Console
    device: torch.device
    said: list[Path]


def run(cfg: DictConfig) -> None:
    """Train, or go on where a killed run stopped, in the folder `out`."""
    begun = time.monotonic()
    s = settings(cfg, TrainConfig)
    words, console = keywords(s.keyword), Console()
    build.threads(s.threads)
    device, recipe = build.device(s.device), build.recipe(s, words)
    # Hydra would make `out` before anything is checked; only in a sweep it must, to number the runs.
    hydra = HydraConfig.get()
    out = Path(hydra.runtime.output_dir) if hydra.mode is RunMode.MULTIRUN else Path(s.out).absolute()
    config = OmegaConf.to_yaml(cfg, resolve=True)
    if finished(out, config):
        console.say(f"{out}: finished already, see {out / 'report.html'}; give another out to run it again")
        return
    if not s.data.root:
        s.data = replace(s.data, root=str(spoken.corpus(s, words, console)))
    said = spoken.said(s, words, console)
    store = build.store(s.data, console, [*build.recordings(s.data), *spoken.recordings(said)])
    chosen = select(store.entries, words, s.data.noise_label, s.mining.pool_share)
    if s.threshold.unsupported is Unsupported.refuse:  # now, not after hours of training
        demand_hours(negative_hours(store, chosen, Part.VALIDATION, build.levels(s.stream)), build.target(s.threshold))
    id_ = claim(out, config)
    describe(console, store, chosen)
    console.say(f"run folder: {out} (a killed run goes on with the same command and out={out})")

    folder = Path(s.replay.buffer) if s.replay.buffer else out / "buffer"
    with build.buffer(s.replay, folder, store.sample_rate) as buffer:
        buffer.hold_out(held_out_sources(store))
        if not (out / "state.pt").is_file():
            bring(buffer, said, console)
        # What will be mined is refused now, not after the training before the first round.
        sources = [*chosen.pool, *chosen.noise[Part.TRAIN], *(chosen.speech[Part.TRAIN] if s.replay.online else ())]
        buffer.admit(source(store.entries[i]) for i in sources)
        r = Run(s, id_, out, recipe, build.plan(s, recipe.smooth_n), store, chosen, buffer, console, device, said)
        trained = train_arms(r)
        if not s.replay.buffer:  # a buffer that others use too may hold what they are about to replay
            buffer.purge()
        clips, hours = len(buffer), sum(row.n_samples for row in buffer.rows()) / store.sample_rate / 3600
    outcomes = [o for arm, place, weights in trained for o in finish(r, arm, weights, place)]
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


def bring(buffer: Buffer, said: Sequence[Path], console: Console) -> None:
    """Put what sounds like the keywords into the buffer, before anything is trained."""
    for folder in said:
        added = into_buffer(buffer, folder)
        if added.new:
            console.say(f"buffer: {len(added.new)} said clips that sound like a keyword, {added.near} repeat others")


def train_arms(r: Run) -> list[tuple[str, Path, Mapping[str, torch.Tensor]]]:
    """The arm with replay, and the one without if that is asked for: name, folder and averaged weights of each."""
    if not (r.s.compare_without_replay and r.plan.fills):
        return [("", r.out, train_arm(r, "Training", r.out))]
    weights = train_arm(r, "Training", r.out)
    alone = replace(r, plan=replace(r.plan, share=0.0, schedule="constant", mining_steps=(), online_every=0))
    place = r.out / "without_replay"
    fork(r, place)
    return [
        ("without replay", place, train_arm(alone, "Without replay", place)),
        ("with replay", r.out, weights),
    ]


def train_arm(r: Run, title: str, folder: Path) -> Mapping[str, torch.Tensor]:
    """Train one arm in its folder, from its state file where there is one; returns the averaged weights."""
    torch.manual_seed(seed_of(r.s.seed, "weights"))
    net, front_end = r.recipe.net().to(r.device), r.recipe.front_end().to(r.device)
    drawer, entries = build.drawer(r.s, r.store, r.chosen, r.recipe.clip_n, r.device, r.said)
    state_file = folder / "state.pt"
    state = read_state(state_file) if state_file.is_file() else None
    if state is not None and r.plan.fills:
        r.buffer.rollback(r.id, state["rounds"])
    s, policy = r.s.stream, build.policy(r.s, r.recipe.clip_n)
    rounds = Harvest(
        policy,
        r.recipe,
        r.store,
        r.chosen,
        entries,
        r.buffer,
        lambda: HeldOut(r.store, r.chosen, build.levels(s), s.chunk_s, s.refractory_s),
        r.console,
        r.out,
        r.id,
        r.device,
    )
    replay = rounds.snapshot(None if state is None else state["replay"])
    trainer = Trainer(net, front_end, drawer, replay, r.plan, rounds, state_file)
    if state is not None:
        trainer.load(state, replay)
    with (
        r.console.progress(title, r.plan.steps) as tick,
        RunLog(folder, trainer.step, r.s.tensorboard, r.console, tick) as log,
    ):
        trainer.run(log)
    trainer.replay.write_back(r.buffer)
    return trainer.average


def fork(r: Run, folder: Path) -> None:
    """Begin the arm without replay where the other one stood before its first mining round."""
    if not (folder / "state.pt").is_file():
        state = checkpoint.read(r.out / "fork.pt")
        nothing = {
            "hashes": [],
            "priority": torch.zeros(0, dtype=torch.float64),
            "drawn": torch.zeros(0).long(),
            "given": torch.zeros(0).long(),
        }
        checkpoint.write(folder / "state.pt", state | {"replay": nothing})


def finish(r: Run, arm: str, weights: Mapping[str, torch.Tensor], folder: Path) -> list[Outcome]:
    """Calibrate on validation, write checkpoint and export, and count on the test part."""
    state = {k: v.cpu() for k, v in weights.items()}
    detector = r.recipe.detector(state)
    levels, passes, t = build.levels(r.s.stream), r.s.threshold.passes, r.s.stream.refractory_s
    chunk_s, longest_s, of = r.s.stream.chunk_s, r.s.stream.max_keyword_s, f"{arm and ', '}{arm}"
    takes = part_takes(r.store, r.chosen, Part.VALIDATION, levels, passes)
    with listening(r.console, f"Calibrating{of}", seconds(takes)) as tell:
        heard = evaluate_part(detector, r.store, r.chosen, Part.VALIDATION, takes, chunk_s, longest_s, tell)
    calibrations = {k: results.calibrated(h, build.target(r.s.threshold), t, passes) for k, h in heard.items()}
    detector.thresholds = [calibrations[k].threshold for k in r.recipe.labels]
    facts = {
        "version": __version__,
        "commit": commit(),
        "command": ["kws", "train", *HydraConfig.get().overrides.task],
        "arm": arm,
        "config": (r.out / "config.yaml").read_text(encoding="utf-8"),
        "data": hashlib.sha256("".join(e.hash for e in r.store.entries).encode()).hexdigest(),
        "calibration": {k: asdict(c) for k, c in calibrations.items()},
        # What held-out keywords score: from near it on, what `kws mine` finds is suspect.
        "positive_score": {k: float(np.median(event_peaks(h.positive, h.spans))) for k, h in heard.items()},
    }
    checkpoint.write_model(folder / "model.pt", r.recipe, state, detector.thresholds, facts, held_out_sources(r.store))
    export(detector, folder / "detector.pt", facts | {"checkpoint": checkpoint.weights_hash(state)})
    if not r.chosen.speech[Part.TEST]:
        return []
    takes = part_takes(r.store, r.chosen, Part.TEST, levels, 1)
    with listening(r.console, f"Testing{of}", seconds(takes)) as tell:
        heard = evaluate_part(detector, r.store, r.chosen, Part.TEST, takes, chunk_s, longest_s, tell)
    outcomes = judge(heard, dict(zip(detector.labels, detector.thresholds, strict=True)), t, arm, calibrations)
    files = confusables(r)
    with listening(r.console, f"Testing{of}, confusables", fired.seconds(files)) as tell:
        said = fired.heard(detector, files, chunk_s, tell)
    return results.with_confusables(outcomes, said, r.store.sample_rate, t)


def confusables(r: Run) -> dict[str, list[Path]]:
    """What only sounds like a keyword, said by voices that training does not hear; nothing where none was said."""
    if not r.s.data.said.confusables:
        return {}
    return {word: files for folder in r.said for word, files in fired.unheard(folder).items()}


def describe(console: Console, store: Store, chosen: Selection) -> None:
    """Say what there is to learn from."""

    def hours(indexes: Iterable[int]) -> float:
        return sum(store.entries[i].n_samples for i in indexes) / store.sample_rate / 3600

    table = []
    for part in Part:
        positives = ", ".join(f"{len(p)}" for p in chosen.positives[part])
        speech, noise, pool = (
            chosen.speech[part],
            chosen.noise[part],
            chosen.pool if part is Part.TRAIN else [],
        )
        cells = [f"{len(x)} ({hours(x):.2f} h)" if x else "-" for x in (speech, pool, noise)]
        table.append((str(part), positives, *cells))
    console.table(", ".join(chosen.keywords), ("part", "keywords", "negatives", "only mined", "noise"), table)
    if chosen.spoken:
        console.warn(f"left out, their transcript holds a keyword: {len(chosen.spoken)} negatives")


main = verb("train", run)

if __name__ == "__main__":
    main()
