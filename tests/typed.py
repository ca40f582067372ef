"""What `kws VERB --cfg job` shows, as typed settings again; no test of its own."""

from dataclasses import fields
from typing import Any

from omegaconf import OmegaConf

from kws.model_schema import FAMILIES


def typed(schema: type, shown: str | dict[str, Any]) -> Any:
    """It as a configuration of the schema, its model of the family that has just those keys."""
    plain: Any = OmegaConf.create(shown)  # type: ignore[call-overload]
    whole = OmegaConf.structured(schema)
    if plain.get("model"):
        keys = set(plain.model)
        whole.model = OmegaConf.structured(next(f for f in FAMILIES.values() if {x.name for x in fields(f)} == keys))
    return OmegaConf.merge(whole, plain)
