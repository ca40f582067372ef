"""A run resumes with the recordings that it began with."""

from dataclasses import replace
from pathlib import Path

import pytest

from kws.common.errors import KwsError
from kws.data.audio_cache import Entry
from kws.data.manifest import Recording, Split
from kws.runs.data import FILE, claim_data

ENTRIES = [
    Entry(Recording(Path(name), name, "cat", split), f"hash of {name}", 0, 1)
    for name, split in (("a.wav", Split.TRAIN), ("b.wav", Split.TEST), ("caf\udce9.wav", Split.TRAIN))
]


def test_the_same_recordings_resume(tmp_path: Path) -> None:
    claim_data(tmp_path, ENTRIES)
    written = (tmp_path / FILE).read_bytes()
    claim_data(tmp_path, ENTRIES)
    assert (tmp_path / FILE).read_bytes() == written


def changed(**fields: object) -> list[Entry]:
    return [replace(ENTRIES[0], recording=replace(ENTRIES[0].recording, **fields)), *ENTRIES[1:]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("entries", "change"),
    [
        (ENTRIES[1:], r"1 gone \(a\.wav\)"),
        ([*ENTRIES, replace(ENTRIES[0], recording=replace(ENTRIES[0].recording, name="c.wav"))], r"1 new \(c\.wav\)"),
        (changed(split=Split.TEST), r"1 moved to another split \(a\.wav: train to test\)"),
        (changed(label="dog"), r"1 with another label \(a\.wav\)"),
        (changed(text="a cat"), r"1 with another speaker, transcript, source or bounds \(a\.wav\)"),
        ([replace(ENTRIES[0], hash="other"), *ENTRIES[1:]], r"1 with other sound \(a\.wav\)"),
        (ENTRIES[::-1], "they are in another order"),
        ([], r"3 gone \(a\.wav, b\.wav, caf.*\.wav\)"),
    ],
)
def test_changed_recordings_are_refused_with_what_changed(tmp_path: Path, entries: list[Entry], change: str) -> None:
    claim_data(tmp_path, ENTRIES)
    with pytest.raises(KwsError, match=rf"out=.*: the recordings changed since this run began: {change};? "):
        claim_data(tmp_path, entries)


def test_bounds_differ_in_their_column_and_their_last_digit(tmp_path: Path) -> None:
    bounds = [(None, 1.0), (1.0, None), (1000.0001, 1001.0), (1000.0002, 1001.0)]
    for i, (first, other) in enumerate(zip(bounds[::2], bounds[1::2], strict=True)):
        (out := tmp_path / str(i)).mkdir()
        claim_data(out, changed(start_s=first[0], end_s=first[1]))
        claim_data(out, changed(start_s=first[0], end_s=first[1]))
        with pytest.raises(KwsError, match=r"1 with another speaker, transcript, source or bounds \(a\.wav\)"):
            claim_data(out, changed(start_s=other[0], end_s=other[1]))


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(KwsError, match=r"recordings\.json: unreadable"):
        claim_data(tmp_path, ENTRIES)
