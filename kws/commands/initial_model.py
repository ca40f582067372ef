"""`init=` of kws train: start from a finished model, and compare the new detector with it."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from kws.common.errors import KwsError
from kws.data.features import FeaturesConfig
from kws.detector.checkpoint import Checkpoint, read_model
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.models.base import FAMILIES
from kws.models.frontends import INPUTS
from kws.replay import exchange
from kws.replay.buffer import Buffer
from kws.replay.records import State

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
        if given.lstrip("+~").startswith(("model", "features")):
            raise KwsError(f"{given}: must be left out with init=..., which has the architecture")
    copy = out / INIT
    model = read_model(copy if copy.is_file() else Path(cfg.init))
    text = model.facts.get("config")
    if not isinstance(text, str):
        raise KwsError(f"init={cfg.init}: must be the model.pt of a run; this one has no configuration")
    trained = OmegaConf.create(text)
    features = INPUTS[model.spec.input].settings if model.spec.input else FeaturesConfig
    with open_dict(cfg):
        cfg.features = OmegaConf.merge(OmegaConf.structured(features), trained.features)
        cfg.model = OmegaConf.merge(OmegaConf.structured(FAMILIES[model.spec.family].settings), trained.model)
        cfg.batch.clip_s, cfg.data.sample_rate = trained.batch.clip_s, trained.data.sample_rate
        if OmegaConf.is_missing(cfg, "keyword"):
            cfg.keyword = model.spec.labels
    return model


def add_old_buffer(buffer: Callable[[int], Buffer], folder: Path, init: Path) -> int:
    """Copy the active clips of the buffer beside a finished model into the buffer at `folder`; returns the new ones.

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
            exchange.export(old, Path(name) / "clips", State.active)
        new, _ = exchange.restore(buffer, Path(name) / "clips")
    return new


def triggers(detector: Detector, buffer: Buffer) -> int:
    """How many active clips of a buffer trigger a detector at its thresholds."""
    scores, _ = score_clips(detector, [buffer.audio(row.hash) for row in buffer.rows(State.active)])
    return int((scores >= np.array(detector.thresholds, np.float32)).any(1).sum())
