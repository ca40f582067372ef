"""Settings that a command shows, back as what they are; no test of its own."""

from dataclasses import fields
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kws.schema import FAMILIES, INPUTS, FeaturesConfig

GROUPS = {"model": (*FAMILIES.values(),), "features": (FeaturesConfig, *INPUTS.values())}


def typed(schema: type, shown: Any) -> DictConfig:
    """The settings of a verb, `model` and `features` of the type that has just these keys."""
    whole = OmegaConf.structured(schema)
    for group, kinds in GROUPS.items():
        if group in shown:
            keys = set(shown[group])
            whole[group] = OmegaConf.structured(next(k for k in kinds if {f.name for f in fields(k)} == keys))
    made = OmegaConf.merge(whole, shown)
    assert isinstance(made, DictConfig)
    return made
