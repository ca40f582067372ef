"""kws train: train a wake-word detector or a classifier of words and export it, or train a base net."""

import time
from collections.abc import Mapping
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from kws.commands import builders
from kws.commands.base_net import train_base
from kws.commands.classification import train_classification
from kws.commands.initial_model import read_initial
from kws.commands.training_run import Run
from kws.commands.wake_word import train_wake_word
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.app import verb
from kws.config.compose import keywords, settings
from kws.config.schema import Task, TrainConfig
from kws.config.sweep import in_sweep, place
from kws.data.classification_dataset import others
from kws.evaluation import results
from kws.evaluation.results import Outcome
from kws.runs.folder import SessionRecorder, finished, refuse_other_run
from kws.runs.lock import refuse_busy
from kws.training.distributed import lacks_bfloat16, processes, together
from kws.training.phones import inventory

# Settings that only some tasks read.
OF_TASKS: Mapping[tuple[Task, ...], tuple[str, ...]] = {
    (Task.classification,): ("classification", "optim.epochs", "optim.warmup_epochs"),
    (Task.phones,): ("phones",),
    (Task.wake_word, Task.phones): ("augment",),
    (Task.wake_word, Task.classification): ("keyword", "batch.size", "optim.label_smoothing"),
    (Task.wake_word,): (
        *("replay", "mining", "threshold", "stream", "confuse", "data.extra", "data.synthetic", "precision"),
        *("batch.positive_share", "batch.real_share", "batch.noise_share", "batch.max_keyword_s"),
        *("batch.keyword_end_s", "optim.negative_weight", "optim.peak_early_s", "optim.peak_late_s"),
        *("optim.focal_gamma", "optim.average", "optim.best_n"),
        *("augment.speed", "augment.context", "augment.own_context", "augment.room"),
    ),
}


def run(cfg: DictConfig) -> None:
    """Train, or resume a killed run, in the folder `out`."""
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir) if in_sweep() else None  # a sweep makes the folder before any check
    with SessionRecorder(list(hydra.overrides.task), folder) as session:
        if cfg.task is Task.phones and OmegaConf.is_missing(cfg, "keyword"):
            cfg.keyword = "phones"  # none of its columns is a keyword
        init = read_initial(cfg, place(cfg.out))
        s = settings(cfg, TrainConfig)
        refuse_other_task(s.task)
        refuse_processes(s)
        builders.threads(s.threads)
        classes = others(s.classification.unknown, s.classification.silence) if s.task is Task.classification else None
        columns = inventory() if s.task is Task.phones else keywords(s.keyword)
        spec = builders.model_spec(s, columns, classes)
        out, config, begun = place(s.out), OmegaConf.to_yaml(cfg, resolve=True), time.monotonic()
        with together(builders.device(s.device), s.precision) as dist:
            console = Console(quiet=not dist.is_main)
            if dist.on_main(lambda: finished(out, config)):
                console.say(f"{out}: finished already, see {out / 'report.html'}; give another out to run it again")
                return
            dist.on_main(lambda: refuse_other_run(out, config))  # now, not after all recordings were read
            dist.on_main(lambda: refuse_busy(out))
            if s.task is Task.wake_word and s.precision != "32-true" and lacks_bfloat16(dist.device):
                console.warn(
                    f"precision={s.precision}: this CPU has no instructions for bfloat16, so training is slower than "
                    "with precision=32-true: 1.7 to 6.5 times where it was measured"
                )
            a_run = Run(s, config, out, spec, console, dist, session, init)
            outcomes, warning = list[Outcome](), ""
            if s.task is Task.wake_word:
                outcomes, warning = train_wake_word(a_run)
            elif s.task is Task.classification:
                train_classification(a_run)
            else:
                train_base(a_run)
            if s.task is not Task.phones:
                console.say(f"detector  {out / 'detector.pt'}")
            console.say(f"report    {out / 'report.html'}")
            console.say(f"time      {time.monotonic() - begun:.0f} s")
            results.show_verdicts(console, outcomes)
            if warning:
                console.warn(warning)


def refuse_other_task(task: Task) -> None:
    """Raise KwsError for a setting of the command line that only other tasks read."""
    for given in HydraConfig.get().overrides.task:
        key = given.lstrip("+~").split("=")[0]
        for readers, keys in OF_TASKS.items():
            if task not in readers and key.startswith(keys):
                raise KwsError(f"{given}: must be left out unless task={' or '.join(readers)}")


def refuse_processes(s: TrainConfig) -> None:
    """Raise KwsError for settings that several processes cannot train with."""
    n = processes()
    if n > 1 and s.task is not Task.wake_word:
        raise KwsError(f"task={s.task}: must be wake_word under torchrun")
    if n > s.batch.size:
        raise KwsError(f"batch.size={s.batch.size}: must be at least {n}, a row for each process")
    if n > 1 and in_sweep():
        raise KwsError("-m: must be left out under torchrun, which trains one run at a time")


main = verb("train", run)
