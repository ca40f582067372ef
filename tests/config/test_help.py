"""The help and docs/settings.md come from the dataclasses."""

from pathlib import Path

import pytest

from kws.config.declared import commands, settings_of
from kws.config.groups import groups_of
from kws.config.help import COMMON, page
from kws.config.schema import SCHEMAS
from kws.config.setting import FILE, dumped

DOCS = Path(__file__).parents[2] / "docs"


def test_settings_json_is_up_to_date():
    assert FILE.read_text("utf-8") == dumped(commands()), "python -m kws.config.help > docs/settings.md"


def test_docs_settings_is_up_to_date():
    assert (DOCS / "settings.md").read_text("utf-8") == page(), "python -m kws.config.help > docs/settings.md"


@pytest.mark.parametrize("command", COMMON)
def test_the_common_settings_are_settings(command):
    known = {one.key for one in [*groups_of(command), *settings_of(SCHEMAS[command])]}
    assert set(COMMON[command]) <= known


def test_a_default_is_that_of_the_command():
    wanted = {"train": 0.5, "evaluate": None}  # an evaluation keeps the thresholds of the detector
    for command, default in wanted.items():
        found = {one.key: one.default for one in commands()[command].settings}
        assert found["threshold.at_fa_per_hour"] == default
