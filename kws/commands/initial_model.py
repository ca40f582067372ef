"""`init=` of kws train: start from a finished model, and compare the new detector with it."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kws.common.errors import KwsError, LeakError, first_line
from kws.data.audio_cache import Entry
from kws.data.features import FeaturesConfig
from kws.data.manifest import Split
from kws.detector.checkpoint import TRAINED_N, Checkpoint, read_model
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.models.base import FAMILIES
from kws.models.frontends import INPUTS
from kws.replay import exchange
from kws.replay.buffer import Buffer
from kws.replay.records import State
from kws.replay.refresh import BLOCK

FROM_MODEL = ("model", "features", "batch.clip_s", "data.sample_rate")  # what a run takes from the model
INIT = "init.pt"  # copy of the model in the run folder, so that a resume does not depend on the folder of another run


def read_initial(cfg: DictConfig, out: Path) -> Checkpoint | None:
    """Read the model of `init`, and give the configuration its architecture, clip length, sample rate and keyword.

    Args:
        cfg: composed configuration, changed in place.
        out: the run folder; its copy of the model is read in place of `init`.

    Raises:
        KwsError: not the model of a run, or the command line chooses an architecture as well.
    """
    if cfg.init is None:
        return None
    for given in HydraConfig.get().overrides.task:
        key = given.lstrip("+~").split("=")[0]
        if any(key == one or key.startswith((f"{one}.", f"{one}/")) for one in FROM_MODEL):
            raise KwsError(f"{given}: must be left out with init=..., the model of which decides it")
    copy = out / INIT
    model = read_model(copy if copy.is_file() else Path(cfg.init))
    text = model.facts.get("config")
    if not isinstance(text, str):
        raise KwsError(f"init={cfg.init}: must be the model.pt of a run; this one has no configuration")
    features = INPUTS[model.spec.input].settings if model.spec.input else FeaturesConfig
    labels = model.spec.labels
    try:
        trained = OmegaConf.create(text)
        with open_dict(cfg):
            cfg.features = OmegaConf.merge(OmegaConf.structured(features), trained.features)
            cfg.model = OmegaConf.merge(OmegaConf.structured(FAMILIES[model.spec.family].settings), trained.model)
            cfg.batch.clip_s, cfg.data.sample_rate = trained.batch.clip_s, trained.data.sample_rate
            if OmegaConf.is_missing(cfg, "keyword"):
                cfg.keyword = labels[0] if len(labels) == 1 else labels
    except (OmegaConfBaseException, YAMLError) as error:
        raise KwsError(f"init={cfg.init}: must be a model of this version of kws ({first_line(error)})") from None
    return model


def refuse_known(model: Checkpoint, entries: Iterable[Entry]) -> None:
    """Raise LeakError if a recording that is held out now trained the model; its test would be worth nothing."""
    held_out = {source.hash for source in model.held_out}
    for entry in entries:
        if entry.recording.split is Split.TRAIN or entry.hash in held_out:
            continue
        if {entry.hash[:TRAINED_N], entry.whole[:TRAINED_N]} & model.trained_on:
            raise LeakError(
                f"init: {entry.recording.name}: a {entry.recording.split} recording trained this model; split the "
                "recordings as the run that trained it did"
            )


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


def triggers(detectors: Sequence[Detector], buffer: Buffer) -> tuple[int, list[int]]:
    """Active clips of a buffer, and how many of them trigger each detector at its thresholds."""
    rows, counts = buffer.rows(State.active), [0] * len(detectors)
    for at in range(0, len(rows), BLOCK):  # the audio of a large buffer takes gigabytes
        audio = [buffer.audio(row.hash) for row in rows[at : at + BLOCK]]
        for i, detector in enumerate(detectors):
            scores, _ = score_clips(detector, audio)
            counts[i] += int((scores >= np.array(detector.thresholds, np.float32)).any(1).sum())
    return len(rows), counts
