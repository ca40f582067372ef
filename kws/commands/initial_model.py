"""The model that a training run starts from: `init` of kws train."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from kws import models
from kws.common.errors import KwsError, LeakError, first_line
from kws.config.setting import BASE_NET
from kws.data.audio_cache import Entry
from kws.data.features import FeaturesConfig
from kws.data.manifest import Split
from kws.detector.checkpoint import TRAINED_N, Checkpoint, read_model
from kws.models.base import FAMILIES
from kws.models.frontends import INPUTS

FROM_BASE = ("model", "features", "data.sample_rate")  # what a run takes from a base net
FROM_MODEL = (*FROM_BASE, "batch.clip_s")  # and from a detector; a base net knows no keyword, which clips must hold
FILES = ("words", "include", "exclude")  # of confuse; a model may not name files of this machine
INIT = "init.pt"  # copy of the model in the run folder, so that a resume does not depend on the folder of another run


def model_file(init: str) -> Path:
    """The file that the setting `init` names; `base` is the base net that comes with kws."""
    return Path(models.__file__).with_name("base_net.pt") if init == BASE_NET else Path(init)


def chosen(key: str) -> str | None:
    """The word of the command line that gives a setting, or one of its group."""
    for given in HydraConfig.get().overrides.task:
        name = given.lstrip("+~").split("=")[0]
        if name == key or name.startswith((f"{key}.", f"{key}/")):
            return str(given)
    return None


def read_initial(cfg: DictConfig, out: Path) -> Checkpoint | None:
    """Read the model of `init`, and give the configuration its architecture and sample rate.

    A detector also gives its clip length and, where the configuration has none, its keyword and synthetic clips. From a
    base net clips are at least as long as its own, unless the command line chooses a length.

    Args:
        cfg: composed configuration, changed in place.
        out: the run folder; its copy of the model is read in place of `init`.

    Raises:
        KwsError: not the model of a run, or the command line chooses an architecture as well.
    """
    if cfg.init is None:
        return None
    copy = out / INIT
    model = read_model(copy if copy.is_file() else model_file(cfg.init), base=True)
    for key in FROM_BASE if model.is_base else FROM_MODEL:
        if given := chosen(key):
            other = "; init=null starts from random weights" if model.is_base else ""
            raise KwsError(f"{given}: must be left out with init={cfg.init}, the model of which decides it{other}")
    features = INPUTS[model.spec.input].settings if model.spec.input else FeaturesConfig
    labels = model.spec.labels
    try:
        trained = OmegaConf.create(config_of(model, f"init={cfg.init}"))
        with open_dict(cfg):
            cfg.features = OmegaConf.merge(OmegaConf.structured(features), trained.features)
            cfg.model = OmegaConf.merge(OmegaConf.structured(FAMILIES[model.spec.family].settings), trained.model)
            cfg.data.sample_rate = trained.data.sample_rate
            if model.is_base:
                if not chosen("batch.clip_s"):
                    cfg.batch.clip_s = max(cfg.batch.clip_s, model.spec.clip_n / model.spec.sample_rate)
                return model
            cfg.batch.clip_s = trained.batch.clip_s
            if not any(cfg.data.synthetic.values()):  # else few_shot's few recordings would be all that is left
                cfg.data.synthetic = OmegaConf.merge(cfg.data.synthetic, trained.data.synthetic)
                for key in FILES:
                    if chosen(f"confuse.{key}"):
                        trained.confuse[key] = cfg.confuse[key]
                    elif isinstance(file := trained.confuse[key], str):
                        rule = "must be given again, or as null: the run of init had a file"
                        raise KwsError(f"confuse.{key}: {rule}, {file}")
                cfg.confuse = OmegaConf.merge(cfg.confuse, trained.confuse)
                if cfg.batch.real_share is None:
                    cfg.batch.real_share = trained.batch.real_share
            if OmegaConf.is_missing(cfg, "keyword"):
                cfg.keyword = labels[0] if len(labels) == 1 else labels
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError, AttributeError) as error:
        raise KwsError(f"init={cfg.init}: must be a model of this version of kws ({first_line(error)})") from None
    return model


def config_of(model: Checkpoint, given: str) -> dict[str, Any]:
    """The configuration of the run that trained a model, unchecked. The file may come from anybody.

    Args:
        model: of a run.
        given: the setting that names it, for errors.

    Raises:
        KwsError: there is none, or it has interpolations, which would read the environment of this machine.
    """
    text = model.facts.get("config")
    if not isinstance(text, str):
        raise KwsError(f"{given}: must be the model.pt of a run; this one has no configuration")
    found = OmegaConf.to_container(OmegaConf.create(text), resolve=False)
    if not isinstance(found, dict) or "${" in repr(found):
        raise KwsError(f"{given}: the settings of its run must be resolved, without ${{")
    return {str(key): value for key, value in found.items()}


def refuse_known(model: Checkpoint, entries: Iterable[Entry]) -> None:
    """Raise LeakError if a recording that is held out now trained the model; its test would be worth nothing."""
    held_out = {source.hash for source in model.held_out}
    for entry in entries:
        if entry.recording.split is Split.TRAIN or entry.hash in held_out:
            continue
        if {entry.hash[:TRAINED_N], entry.whole[:TRAINED_N]} & model.trained_on:
            other = ", or start from random weights (init=null)" if model.is_base else ""
            raise LeakError(
                f"init: {entry.recording.name}: a {entry.recording.split} recording trained the model that this run "
                f"starts from; put it into the train split, or leave it out{other}"
            )
