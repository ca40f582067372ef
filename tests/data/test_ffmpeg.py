"""Recordings that ffmpeg decodes. A script in place of ffmpeg shows what is asked of it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data import ffmpeg
from kws.data.audio import BadAudio, cut, length_s, load, pcm_blocks, to_int16
from kws.data.audio_cache import pack
from kws.data.manifest import Recording, Split

MP4 = b"\0\0\0\x1cftypM4A "


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program ffmpeg on the path that logs its arguments, and writes 2 s in stereo at 48 kHz to the last of them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    tone = np.sin(np.arange(96000) * 0.05).astype(np.float32) * 0.5
    soundfile.write(folder / "sound.w64", np.stack([tone, tone], 1), 48000, subtype="PCM_16", format="W64")
    script = folder / "ffmpeg"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" call >> {folder}/log\nfor last; do :; done\ncp {folder}/sound.w64 "$last"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def fails(program: Path, script: str) -> None:
    (program / "ffmpeg").write_text(f"#!/bin/sh\n{script}\n")


@pytest.mark.parametrize("name", ["-memo.m4a", "memo.AMR", "renamed.wav", "a b;$(x).webm"])
def test_a_memo_is_read_like_any_recording(program: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(MP4)
    x = load(path)
    assert len(x) == 32000
    assert np.abs(x).max() == pytest.approx(0.5, abs=0.01)
    assert np.array_equal(np.concatenate(list(pcm_blocks(path, 16000, 1000))), to_int16(x))
    log = (program / "log").read_text().splitlines()
    assert log.count("call") == 2, "once for each time it is read"
    assert f"file:{path}" in log
    assert log[log.index("-protocol_whitelist") + 1] == "file"
    assert len(cut(path, 16000, 0.5, 1.0)) == 8000
    assert length_s(path) == 0.0, "no ffprobe here"
    assert not list(tmp_path.glob("kws-ffmpeg-*"))


def test_failures_are_named(program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "memo.m4a"
    path.write_bytes(MP4)
    fails(program, "echo 'memo.m4a: Invalid data found when processing input' >&2; exit 1")
    with pytest.raises(BadAudio, match=r"memo\.m4a: Invalid data found when processing input$"):
        load(path)
    fails(program, "exec sleep 5")
    monkeypatch.setattr(ffmpeg, "_LIMIT_S", 0.1)
    with pytest.raises(BadAudio, match="ffmpeg took longer than"):
        load(path)
    (program / "ffmpeg").unlink()
    monkeypatch.setenv("PATH", str(program))
    with pytest.raises(BadAudio, match=r"needs ffmpeg, which is not on the path; or convert it with ffmpeg -i"):
        load(path)


def test_memos_in_the_cache(program: Path, tmp_path: Path) -> None:
    (tmp_path / "memo.m4a").write_bytes(MP4)
    store = pack([Recording(tmp_path / "memo.m4a", "memo.m4a", "cat", Split.TRAIN)], tmp_path / "cache")
    assert store.entries[0].n_samples == 32000
