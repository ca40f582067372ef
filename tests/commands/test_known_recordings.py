"""Which recordings a detector knows from its training."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from kws.commands import known_recordings
from kws.common.console import Console
from kws.data.manifest import Source, Split


def test_a_held_out_part_of_a_file_is_not_known_by_its_other_parts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, test, placed, train = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
    held_out = [Source(test, "test", Split.TEST), Source(placed, "validation", Split.VALIDATION)]
    model = SimpleNamespace(held_out=held_out, trained_on={whole[:16], train[:16]})
    monkeypatch.setattr(known_recordings, "_model", lambda _: model)
    parts = {
        "test part": [test, whole],
        "validation part": [placed, whole],
        "train part": [train, whole],
        "new": ["e" * 64],
    }
    known_recordings.warn_known(Console(), Path("d.pt"), lambda: parts)
    said = capsys.readouterr().err
    assert "1 of the 4 recordings trained it, such as train part;" in said
    assert "1 of the 4 recordings placed its threshold, such as validation part;" in said
