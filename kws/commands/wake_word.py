"""kws train task=wake_word: train with replayed hard negatives, calibrate, export and evaluate a detector."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

from kws.commands import builders, speech
from kws.commands.finish import Finished, finish
from kws.commands.initial_model import add_old_buffer, refuse_known
from kws.commands.training_run import Run
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.schema import TrainConfig
from kws.config.sweep import one_at_a_time
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection, recordings, select
from kws.data.division import NEGATIVES
from kws.data.manifest import Split
from kws.evaluation import results
from kws.evaluation.operating_points import Unsupported, require_hours
from kws.evaluation.report.page import write_report
from kws.evaluation.splits import negative_hours
from kws.evaluation.validation import ValidationStreams
from kws.replay import storage
from kws.replay.buffer import Buffer
from kws.replay.importing import into_buffer
from kws.replay.mining_streams import source_of
from kws.replay.snapshot import Snapshot
from kws.training.hard_negatives import HardNegativeMiner, held_out_sources
from kws.training.metrics import ShareMetrics, StepMetrics, ValidationMetrics, gradient_shares
from kws.training.optim import ValidatedWeights, mean_weights
from kws.training.validation import Validator
from kws.training.wake_word import WakeWordConfig, WakeWordTask


def train_wake_word(r: Run) -> None:
    """Train, calibrate on the validation split, export, report on the test split."""
    s, console, dist, words = r.s, r.console, r.dist, r.spec.labels

    def load() -> tuple[AudioCache, Selection]:
        real = recordings(s.data, console.warn) if s.data.root else []
        store = builders.store(s.data, console, [*real, *made.recordings()], words)
        if r.init is not None:
            refuse_known(r.init, store.entries)
        return store, select(store.entries, words, s.data.noise_label, s.mining.pool_share)

    with one_at_a_time(Path(s.data.cache)):
        made = dist.on_main(lambda: speech.synthesise(s, words, console))
        store, chosen = dist.main_first(load)
    folder = Path(s.replay.buffer) if s.replay.buffer else r.out / "buffer"
    if not dist.is_main:
        fit(r, store, chosen, made.speech, folder, None, "")
        dist.leave()
        return
    if s.threshold.unsupported is Unsupported.refuse:  # now, not after hours of training
        hours = negative_hours(store, chosen, Split.VALIDATION, s.stream)
        require_hours(hours, builders.target(s.threshold))
    refuse_missing_buffer(s, folder, made.speech)
    id_ = r.begin(store)
    describe(console, store, chosen, s.data.noise_label)

    def open_buffer(rate: int) -> Buffer:
        buffer = Buffer(folder, s.replay, rate, s.replay)
        buffer.hold_out(held_out_sources(store))
        return buffer

    begins = not (r.out / "state.pt").is_file()
    if s.init is not None and r.continues and begins and (copied := add_old_buffer(open_buffer, folder, Path(s.init))):
        console.say(f"buffer: {copied} clips of the run that trained {s.init}")
    with open_buffer(store.sample_rate) as buffer:
        if made.speech and s.data.synthetic.confusables and begins:
            added = into_buffer(buffer, made.speech)
            if added.new:
                console.say(f"buffer: {len(added.new)} synthetic confusables, {added.near} near-duplicates")
        # Recordings that may not be mined are refused now, not after the training before the first round.
        sources = [*chosen.pool, *chosen.noise[Split.TRAIN]]
        sources += chosen.speech[Split.TRAIN] if s.replay.batch_mining else []
        buffer.admit(source_of(store.entries[i]) for i in sources)
        weights, best = fit(r, store, chosen, made.speech, folder, buffer, id_)
        dist.leave()
        if not s.replay.buffer:  # another run may be about to replay a buffer that runs share
            buffer.purge()
        clips, hours = len(buffer), sum(row.n_samples for row in buffer.rows()) / store.sample_rate / 3600
    finished = finish(r, store, chosen, made.speech, folder, weights, best)
    report(r, finished)
    if store.bad:
        console.warn(f"{len(store.bad)} recordings did not decode and were left out; they are named above")
    console.say(f"buffer    {folder}  ({clips} clips, {60 * hours:.1f} min)")


def report(r: Run, finished: Finished) -> None:
    """Print the outcomes; write report.html and results.json."""
    s, console, words, outcomes = r.s, r.console, r.spec.labels, finished.outcomes
    title = f"{', '.join(words)}: test split" if outcomes else f"{', '.join(words)}: no test recordings"
    results.show(console, title, outcomes)
    facts = {"run": r.out.name, "seed": str(s.seed)}
    if shares := gradient_shares(r.out / "metrics.csv"):
        console.say(f"gradient  {shares}")
        facts["share of the gradient"] = shares
    write_report(r.out / "report.html", title, facts | finished.facts, outcomes, finished.tables)
    # The last file: a run that has it is finished.
    content = {"seed": s.seed, "outcomes": results.as_json(outcomes)}
    results.write_json(r.out / "results.json", content | finished.content)


def refuse_missing_buffer(s: TrainConfig, folder: Path, synthetic: Path | None) -> None:
    """Raise KwsError if `replay.buffer` does not exist and the run would not fill it."""
    fills = s.mining.rounds or s.replay.batch_mining or synthetic
    if s.replay.buffer and s.replay.share and not fills and not (folder / "index.sqlite").is_file():
        raise KwsError(f"replay.buffer={folder}: must be the folder of a replay buffer, since this run mines nothing")


def fit(
    r: Run, store: AudioCache, chosen: Selection, synthetic: Path | None, folder: Path, buffer: Buffer | None, id_: str
) -> tuple[Mapping[str, Tensor], list[ValidatedWeights]]:
    """Train; return the weights to keep, and the validated weights whose mean they are: none for the moving average.

    Only rank 0 has a buffer.
    """
    s, spec, dist, stream = r.s, r.spec, r.dist, r.s.stream
    net, front_end = r.net(), spec.front_end().to(dist.device)
    sampler, entries = dist.main_first(
        lambda: builders.batch_sampler(s, store, chosen, spec.clip_n, dist.device, synthetic)
    )
    miner = None
    if buffer is not None:
        miner = HardNegativeMiner(
            s.mining, s.replay, s.seed, stream.negative_gap_s, spec, store, chosen, entries, sampler.plain_keywords,
            buffer, r.console, id_, dist.device,
        )  # fmt: skip
    sound = partial(storage.read, folder / storage.CLIPS, sample_rate=store.sample_rate)
    task = WakeWordTask(
        WakeWordConfig(s.seed, s.optim, s.batch, s.replay, s.mining, s.validate_every, builders.target(s.threshold)),
        spec,
        front_end,
        sampler,
        Validator(spec, lambda: ValidationStreams(store, chosen, stream, stream.chunk_s, stream.refractory_s)),
        miner,
        lambda contents: Snapshot(contents, sound, spec.clip_n, dist.device, s.replay),
        r.out / "checkpoints",
        held_out_sources(store),
    )
    kinds = {"metrics": StepMetrics, "share": ShareMetrics, "validation": ValidationMetrics}
    weights: Mapping[str, Tensor] = r.fit(net, task, s.optim, kinds)
    if buffer is not None:
        task.replay.write_back(buffer)
    if task.best:
        weights, steps = mean_weights(task.best), ", ".join(str(one) for one in task.best)
        r.console.say(f"kept: the mean of the weights after steps {steps}; chosen on the validation split")
    return weights, task.best


def describe(console: Console, store: AudioCache, chosen: Selection, noise_label: str) -> None:
    """Print number and hours of the recordings of each split, and by what they were divided."""

    def hours(indexes: Iterable[int]) -> float:
        return sum(store.entries[i].n_samples for i in indexes) / store.sample_rate / 3600

    table = []
    for split in Split:
        positives = ", ".join(f"{len(p)}" for p in chosen.positives[split])
        kinds = chosen.speech[split], chosen.pool if split is Split.TRAIN else [], chosen.noise[split]
        table.append((str(split), positives, *(f"{len(x)} ({hours(x):.2f} h)" if x else "-" for x in kinds)))
    by = [store.by.get(role, "") for role in (*chosen.keywords, NEGATIVES, noise_label)]
    table.append(("split by", ", ".join(by[:-2]), by[-2], "", by[-1]))
    console.table(", ".join(chosen.keywords), ("split", "keywords", "negatives", "only mined", "noise"), table)
    if chosen.spoken:
        console.warn(f"left out, their transcript holds a keyword: {len(chosen.spoken)} negatives")
