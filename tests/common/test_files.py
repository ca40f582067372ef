"""Atomic writes, and messages about paths."""

import errno
import os
from pathlib import Path

import pytest

from kws.common.errors import one_line
from kws.common.files import did_you_mean, remove_drafts, replacing, unwritable


def test_an_error_names_the_file_of_the_user(tmp_path: Path) -> None:
    with pytest.raises(OSError) as caught, replacing(tmp_path / "no" / "x.html"):  # noqa: PT011
        pass
    assert one_line(caught.value) == f"{tmp_path}/no/x.html: No such file or directory"
    with pytest.raises(OSError) as caught, replacing(tmp_path / "x.html"):  # noqa: PT011
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert one_line(caught.value) == f"{tmp_path}/x.html: No space left on device"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError) as caught, replacing(tmp_path / "folder") as file:  # noqa: PT011
        file.write(b"whole")
    assert one_line(caught.value) == f"{tmp_path}/folder: Is a directory"
    assert os.listdir(tmp_path) == ["folder"]


def test_temporary_files_of_killed_processes_are_removed_and_no_others(tmp_path: Path) -> None:
    kept = ["state.pt", "my.tmp", f"x.{'g' * 32}.tmp", f"{'a' * 32}.tmp"]
    for name in [*kept, f"state.pt.{'0a' * 16}.tmp", f"16000-b.i16.{'f' * 32}.tmp"]:
        (tmp_path / name).touch()
    remove_drafts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    remove_drafts(tmp_path / "none")


def test_a_path_that_is_nearly_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kitchen" / "buffer").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert did_you_mean(Path("kitchn/buffer")) == " (did you mean kitchen/buffer?)"
    assert did_you_mean(Path("kitchen/bufer")) == " (did you mean kitchen/buffer?)"
    assert did_you_mean(Path("elsewhere")) == ""
    assert did_you_mean(Path("kitchen/buffer")) == "", "it exists, though it is no buffer"


def test_what_cannot_be_written_is_known_before(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert unwritable(tmp_path / "new" / "deep" / "x.html") == ""
    assert unwritable(tmp_path / "file") == ""
    assert unwritable(tmp_path / "file" / "x.html") == f"{tmp_path}/file is no folder"
