"""Settings declared by annotations: checks, descriptions, and the refusal of old names."""

import math
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Annotated

import pytest
from pydantic import Field

from kws.common.settings import Each, Pair, SettingError
from kws.config.declared import settings_of
from kws.config.renamed import REMOVED, RENAMED, refusal
from kws.config.validation import check


class Colour(StrEnum):
    red = auto()
    blue = auto()


@dataclass
class Schedule:
    share: Annotated[float, Field(ge=0, le=0.5, description="replayed share of a batch")] = 0.1
    most: Annotated[float, Field(ge=0, le=0.5)] = 0.25

    def check(self) -> None:
        if self.share > self.most:
            raise SettingError("share", self.share, f"must be at most most={self.most}")


@dataclass
class Storage:
    capacity: Annotated[int | None, Field(ge=1, le=1000, description="clips; null: no limit")] = 20

    def check(self) -> None:
        if self.capacity == 13:
            raise SettingError("capacity", self.capacity, "must not be 13")


@dataclass
class Replay(Schedule, Storage):
    snr_db: Annotated[list[float], Pair(-20, 60)] = field(default_factory=lambda: [0.0, 25.0])
    dilations: Annotated[list[int], Each(1, 64), Field(min_length=1)] = field(default_factory=lambda: [1, 2])
    colour: Annotated[Colour, Field(description="of the case")] = Colour.red


@dataclass
class Root:
    mine: Replay = field(default_factory=Replay)
    seed: Annotated[int, Field(ge=0)] = 0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 0.9}, "mine.share=0.9: must be between 0 and 0.5"),
        ({"share": math.nan}, "mine.share=nan: must be between 0 and 0.5"),
        ({"share": 0.3}, "mine.share=0.3: must be at most most=0.25"),
        ({"capacity": 0}, "mine.capacity=0: must be between 1 and 1000"),
        ({"capacity": 13}, "mine.capacity=13: must not be 13"),
        ({"capacity": "many"}, "mine.capacity=many: must be between 1 and 1000"),
        ({"snr_db": [5.0, 1.0]}, "mine.snr_db=[5.0, 1.0]: must be [low, high] with low <= high"),
        ({"snr_db": [0.0, 99.0]}, "mine.snr_db=[0.0, 99.0]: must be between -20 and 60"),
        ({"snr_db": [math.nan, 1.0]}, "mine.snr_db=[nan, 1.0]: must be between -20 and 60"),
        ({"dilations": []}, "mine.dilations=[]: must have at least 1 item"),
        ({"dilations": [1, 99]}, "mine.dilations=[1, 99]: must be between 1 and 64"),
        ({"colour": "green"}, "mine.colour=green: must be 'red' or 'blue'"),
    ],
)
def test_an_invalid_value_is_refused_with_key_value_and_rule(values, message):
    with pytest.raises(SettingError) as caught:
        check(Root(Replay(**values)))
    assert str(caught.value).startswith(message)


def test_valid_values_pass():
    check(Root(Replay(share=0.5, most=0.5, capacity=None, snr_db=[-20.0, 60.0], dilations=[64])))


def test_every_setting_is_described():
    found = {one.key: (one.default, one.allowed, one.description) for one in settings_of(Root)}
    assert found["mine.share"] == (0.1, "0 to 0.5", "replayed share of a batch")
    assert found["mine.capacity"] == (20, "1 to 1000", "clips; null: no limit")
    assert found["mine.snr_db"] == ([0.0, 25.0], "-20 to 60", "")
    assert found["mine.colour"] == ("red", "red, blue", "of the case")
    assert found["seed"] == (0, "at least 0", "")


def test_an_old_name_is_refused_with_the_new_one():
    assert refusal("replay.most") == "replay.most: renamed to replay.max_share"
    assert refusal("data.said.positives") == "data.said.positives: renamed to data.synthetic.positives"
    assert refusal("task=classes") == "task=classes: renamed to task=classification"
    assert refusal("optim.tied.factor") == f"optim.tied.factor: removed; {REMOVED['optim.tied']}"
    assert refusal("replay.share") is None
    assert not set(RENAMED) & set(REMOVED)
    assert not set(RENAMED) & set(RENAMED.values())
