"""Settings of kws rooms."""

from dataclasses import dataclass, field
from typing import Annotated

from omegaconf import MISSING
from pydantic import Field

from kws.common.settings import OUTPUT, Pair
from kws.config.shared import Seed


@dataclass
class RoomsConfig:
    """kws rooms: simulate impulse responses of living rooms, for augment.rooms of kws train."""

    out: Annotated[str, OUTPUT, Field(description="folder of the responses; with a larger n it gets more")] = MISSING
    n: Annotated[int, Field(ge=1, le=100_000, description="responses, each of a room of its own")] = 200
    decay_s: Annotated[list[float], Pair(0.2, 1), Field(description="time in which sound decays by 60 dB, s")] = field(
        default_factory=lambda: [0.2, 0.6]
    )
    distance_m: Annotated[list[float], Pair(0.2, 6), Field(description="from speaker to microphone, m")] = field(
        default_factory=lambda: [0.5, 5.0]
    )
    sample_rate: Annotated[int, Field(ge=8000, le=48000, description="Hz")] = 16000
    seed: Seed = 0
