"""Settings of the check of recordings."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from kws.common.settings import INPUT, OUTPUT, PATH, OneOf, SettingError
from kws.data.batch import KeywordLength
from kws.data.dataset import DataConfig
from kws.data.streams import StreamConfig
from kws.evaluation.calibration import ThresholdConfig


@dataclass
class CheckConfig:
    """What is checked, and what is written."""

    action: Annotated[str, OneOf("check"), Field(description="what to do; or the first word: kws data check DIR")] = (
        "check"
    )
    recipe: Annotated[
        str | None, PATH, Field(description="recipe that will train; what it synthesises need not be recorded")
    ] = None
    out: Annotated[
        str | None, OUTPUT, Field(description="HTML page: findings, players, bounds of keywords to drag")
    ] = "check.html"
    json: Annotated[str | None, OUTPUT, Field(description="JSON file with all findings")] = None
    checkpoint: Annotated[
        str | None, INPUT, Field(description="model.pt of a run; negatives that score like the keyword are listed")
    ] = None
    bounds: Annotated[
        str | None, INPUT, Field(description="file saved by the page; its bounds go into a copy of the manifest")
    ] = None
    manifest_out: Annotated[str, OUTPUT, Field(description="the new file for that copy")] = "manifest-bounds.csv"
    limit: Annotated[
        int | None, Field(ge=1, le=10**7, description="players under a heading of the page, at most; null: all")
    ] = 50
    data: DataConfig = field(default_factory=DataConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    batch: KeywordLength = field(default_factory=KeywordLength)
    stream: StreamConfig = field(default_factory=StreamConfig)

    def check(self) -> None:
        if self.threshold.at_fa_per_hour is None:
            raise SettingError("threshold.at_fa_per_hour", None, "must be a rate")
