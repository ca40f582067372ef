"""All settings `replay.*`: each module of the package declares its own."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from kws.common.settings import INPUT
from kws.replay.dedup import DuplicatesConfig
from kws.replay.eviction import EvictionConfig
from kws.replay.mining import BatchMiningConfig
from kws.replay.quarantine import QuarantineConfig
from kws.replay.refresh import RefreshConfig
from kws.replay.sampler import SamplingConfig
from kws.replay.schedule import ScheduleConfig


@dataclass
class ReplayConfig(
    RefreshConfig,
    QuarantineConfig,
    DuplicatesConfig,
    EvictionConfig,
    BatchMiningConfig,
    SamplingConfig,
    ScheduleConfig,
):
    """How much of a batch is replayed, which clips, and which clips the buffer keeps."""

    buffer: Annotated[
        str | None, INPUT, Field(description="folder of a replay buffer that exists; null: buffer/ in the run folder")
    ] = None
