import csv
import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile

from kws.common.errors import KwsError
from kws.confusables.synthesis.base import Espeak
from kws.confusables.synthesis.espeak import Voice, speak
from kws.confusables.synthesis.plan import Prompt, Role, plan_splits
from kws.confusables.synthesis.render import COLUMNS, _chunks, render
from kws.data import manifest
from kws.data.audio import to_int16
from kws.data.manifest import CONFUSABLE, Split
from tests import ROOT

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
PHONEMES = "[[k'A:m pj'u:t#oU]]"
NEAR = [
    Prompt("commuter", keyword="computer"),
    Prompt("come pewter", PHONEMES, "computer"),
    Prompt("../x"),
]
ROLES = [Role("computer", [Prompt("computer", keyword="computer")], 60), Role(CONFUSABLE, NEAR, 90)]


@pytest.fixture(scope="module")
def planned():
    return plan_splits(Espeak(), ROLES, 3)


@pytest.fixture(scope="module")
def rendered(planned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rendered") / "one"
    assert render(folder, Espeak(), planned, workers=1) == folder / "manifest.csv"
    return folder


def digests(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert files
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_each_clip_is_spoken_by_its_voice_and_the_manifest_names_it(rendered, planned):
    with (rendered / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == len(planned) == 150
    on_disk = {path.relative_to(rendered).as_posix() for path in rendered.rglob("*.flac")}
    assert on_disk == {row["path"] for row in rows}
    for row, one in list(zip(rows, planned, strict=True))[::10]:
        assert (row["path"], row["label"], row["part"], row["text"]) == (one.file, one.label, one.split, one.text)
        assert (row["keyword"], row["phonemes"]) == (one.keyword, one.phonemes)
        assert row["speaker"] == f"espeak-ng {one.voice.partition('+')[2]}"
        assert row["source"] == f"espeak-ng {one.voice}, {one.rate_wpm} wpm, pitch {one.pitch}"
        if not one.phonemes:
            pcm, rate = soundfile.read(rendered / row["path"], dtype="int16")
            assert rate == 16000
            assert np.array_equal(pcm, to_int16(speak(one.text, Voice(one.voice, one.rate_wpm, one.pitch))))


def test_the_manifest_reads_as_recordings_with_splits(rendered, planned):
    found = manifest.read(rendered)
    assert [(one.name, one.label, one.split) for one in found] == [(one.file, one.label, one.split) for one in planned]
    speakers = {split: {one.speaker for one in found if one.split is split} for split in Split}
    assert len(set.union(*speakers.values())) == sum(map(len, speakers.values())), (
        "even by speaker, no matter the accent"
    )


def test_a_phoneme_string_is_synthesised_in_place_of_the_text(rendered, planned):
    (one, *_) = (one for one in planned if one.phonemes)
    pcm, _ = soundfile.read(rendered / one.file, dtype="int16")
    assert not np.array_equal(pcm, to_int16(speak(one.text, Voice(one.voice, one.rate_wpm, one.pitch))))
    assert pcm.any()


def test_two_processes_write_the_same_bytes_as_one(rendered, planned, tmp_path):
    steps = []
    render(tmp_path / "two", Espeak(), planned, workers=2, progress=lambda *step: steps.append(step))
    assert digests(tmp_path / "two") == digests(rendered)
    assert steps == [(0, 150), *((n, 150) for n in (50, 100, 150))]


KILLED = """
import sys, time
from pathlib import Path
from kws.confusables.synthesis.render import render
from kws.confusables.synthesis.base import Espeak
from tests.confusables.synthesis.test_render import ROLES, plan_splits

class Slow(Espeak):
    def synthesise(self, utterances, sample_rate):
        for pcm in super().synthesise(utterances, sample_rate):
            time.sleep(0.05)
            yield pcm

if __name__ == "__main__":
    render(Path(sys.argv[1]), Slow(), plan_splits(Espeak(), ROLES, 3), workers=2)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_killed_call_resumes_to_the_same_bytes(rendered, planned, tmp_path):
    folder, script = tmp_path / "killed", tmp_path / "script.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{KILLED}")
    process = subprocess.Popen([sys.executable, str(script), str(folder)], cwd=ROOT)
    while len(list(folder.rglob("*.flac"))) < 20:
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    settled = still(folder)
    assert 20 <= len(settled) < 150, "its workers do not outlive it"
    assert not (folder / "manifest.csv").exists()
    draft = folder / "train/computer/half.flac.0123456789abcdef0123456789abcdef.tmp"
    draft.write_bytes(b"fLaC")
    steps = []
    render(folder, Espeak(), planned, workers=1, progress=lambda *step: steps.append(step))
    assert digests(folder) == digests(rendered)
    assert steps[-1] == (150, 150)


def still(folder):
    """The clips of a folder, once no process adds to them."""
    before = None
    while (now := sorted(folder.rglob("*.flac"))) != before:
        before = now
        time.sleep(1)
    return now


def test_existing_clips_are_not_rendered_again(rendered, planned, tmp_path):
    folder = tmp_path / "stopped"

    def stop(done, _):
        if done >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(folder, Espeak(), planned, workers=1, progress=stop)
    assert not (folder / "manifest.csv").exists()
    written = {path: path.stat().st_mtime_ns for path in folder.rglob("*.flac")}
    assert len(written) == 100
    steps = []
    render(folder, Espeak(), planned, workers=1, progress=lambda *step: steps.append(step))
    assert steps == [(100, 150), (150, 150)]
    assert all(path.stat().st_mtime_ns == then for path, then in written.items())
    assert digests(folder) == digests(rendered)


@dataclass(frozen=True)
class Renamed(Espeak):
    """Another synthesiser with the same voices."""

    name = "other"


@dataclass(frozen=True)
class Mute(Espeak):
    """Speaks nothing."""

    def synthesise(self, utterances, sample_rate):
        raise KwsError(f"text: nothing for {utterances[0].text!r}")


def test_a_complete_folder_is_not_rendered_again(rendered, planned):
    before = digests(rendered)
    assert render(rendered, Mute(), planned) == rendered / "manifest.csv"
    assert digests(rendered) == before


def test_a_folder_of_other_clips_is_refused_and_unchanged(rendered, planned, tmp_path):
    before = digests(rendered)
    for changed in (
        {"utterances": plan_splits(Espeak(), ROLES, 4)},
        {"utterances": planned[:-1]},
        {"sample_rate": 8000},
        {"synthesiser": Renamed()},
    ):
        with pytest.raises(KwsError, match="holds other recordings; name a new folder"):
            render(**{"folder": rendered, "synthesiser": Espeak(), "utterances": planned} | changed)
    assert digests(rendered) == before
    (tmp_path / "manifest.csv").write_text("path,label\nmine.wav,computer\n")
    with pytest.raises(KwsError, match="holds other recordings"):
        render(tmp_path, Espeak(), planned)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.csv"]


def test_another_release_of_the_synthesiser_does_not_resume(rendered, planned, tmp_path, monkeypatch):
    with pytest.raises(KwsError, match="nothing for"):
        render(tmp_path / "begun", Mute(), planned, workers=1)
    assert json.loads((tmp_path / "begun/arguments.json").read_text())["release"]
    monkeypatch.setattr("kws.confusables.synthesis.base.version", lambda _: "9.9")
    with pytest.raises(KwsError, match="holds other recordings"):
        render(tmp_path / "begun", Espeak(), planned, workers=1)


def test_a_failing_utterance_raises_and_writes_no_manifest(planned, tmp_path):
    with pytest.raises(KwsError, match="nothing for"):
        render(tmp_path / "a", Mute(), planned, workers=2)
    assert not (tmp_path / "a/manifest.csv").exists()
    with pytest.raises(KwsError, match="no clips"):
        render(tmp_path / "b", Espeak(), [])
    assert not (tmp_path / "b").exists()


def test_chunks_depend_on_the_plan_alone(planned):
    class Two(Espeak):
        batch_size = 4

        def model(self, voice):
            return voice.partition("+")[0] == "en-us"

    chunks = _chunks(Two(), planned)
    assert sorted(one.file for chunk in chunks for one in chunk) == sorted(one.file for one in planned)
    for chunk in chunks:
        assert len(chunk) <= 4
        assert len({one.voice.startswith("en-us+") for one in chunk}) == 1
