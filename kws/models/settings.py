"""The settings of each family of models: what its net takes, by the same names, and how its scores are smoothed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class ModelConfig:
    """What every family has."""

    stride: int
    smooth_s: float
    smooth_k: int


@dataclass
class DSTCNConfig(ModelConfig):
    channels: int
    kernel: int
    dilations: list[int]


@dataclass
class MDTCConfig(ModelConfig):
    channels: int
    kernel: int
    dilations: list[int]
    stacks: int


@dataclass
class BCResNetConfig(ModelConfig):
    tau: float
    groups: int
    dropout: float
    window: int
    train_every: int


@dataclass
class CausalBCResNetConfig(ModelConfig):
    tau: float
    groups: int
    dropout: float


@dataclass
class TCResNetConfig(ModelConfig):
    width_multiplier: float
    dropout: float
    window: int
    train_every: int


@dataclass
class DSCNNConfig(ModelConfig):
    channels: int
    window: int
    train_every: int


@dataclass
class MatchboxNetConfig(ModelConfig):
    channels: int
    kernels: list[int]
    repeats: int
    window: int
    train_every: int


# A file of conf/model/ names one of these; kws.models has the nets.
FAMILIES: Mapping[str, type[ModelConfig]] = {
    "ds_tcn": DSTCNConfig,
    "mdtc": MDTCConfig,
    "bc_resnet": BCResNetConfig,
    "bc_resnet_causal": CausalBCResNetConfig,
    "tc_resnet": TCResNetConfig,
    "ds_cnn": DSCNNConfig,
    "matchboxnet": MatchboxNetConfig,
}


def family_of(model: ModelConfig) -> str:
    """The name of its family."""
    return next(name for name, family in FAMILIES.items() if type(model) is family)


def shape_of(model: ModelConfig) -> dict[str, Any]:
    """What its net takes beside mel bands and keywords, by name."""
    return {key: value for key, value in asdict(model).items() if key not in ("smooth_s", "smooth_k")}
