"""What `kws VERB --cfg job` shows, as typed settings again; no test of its own."""

from dataclasses import fields
from typing import Any

from omegaconf import OmegaConf

from kws.data.features import FeaturesConfig
from kws.models.frontends import INPUTS
from kws.models.registry import FAMILIES

GROUPS = {
    "model": tuple(family.settings for family in FAMILIES.values()),
    "features": (FeaturesConfig, *(one.settings for one in INPUTS.values())),
}


def typed(schema: type, shown: str | dict[str, Any]) -> Any:
    """It as a configuration of the schema, its model and features of the type that has just those keys."""
    plain: Any = OmegaConf.create(shown)  # type: ignore[call-overload]
    whole = OmegaConf.structured(schema)
    for group, types in GROUPS.items():
        if plain.get(group):
            keys = set(plain[group])
            whole[group] = OmegaConf.structured(next(one for one in types if {x.name for x in fields(one)} == keys))
    return OmegaConf.merge(whole, plain)
