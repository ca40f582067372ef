"""kws listen: lines and JSON of the triggers of a file or a pipe, and their audio."""

import io
import json
import sys
from types import ModuleType

import numpy as np
import pytest
import soundfile

from kws.data.manifest import Split, read
from kws.data.streams import compose
from kws.runtime import sources


@pytest.fixture(scope="module")
def stream(tones, tmp_path_factory):
    """The test keywords one after another, as FLAC."""
    spoken = [
        soundfile.read(r.path, dtype="int16")[0] for r in read(tones) if (r.label, r.split) == ("beep", Split.TEST)
    ]
    file = tmp_path_factory.mktemp("listen") / "p.flac"
    soundfile.write(file, compose(spoken, [], np.random.default_rng(1), 1.0).pcm, 16000)
    return file


@pytest.fixture(scope="module")
def detector(cli, run, tmp_path_factory):
    """The exported detector with a threshold that the tiny net reaches."""
    file = tmp_path_factory.mktemp("detector") / "d.pt"
    assert cli("export", f"checkpoint={run}/model.pt", f"out={file}", "thresholds=0.2").code == 0
    return file


def test_a_file_and_a_pipe_give_the_same_triggers_and_their_audio(cli, detector, stream, tmp_path, monkeypatch):
    shown = cli("listen", f"detector={detector}", f"input={stream}", "json=true", f"save={tmp_path}/kept")
    assert shown.code == 0, shown.err
    found = [json.loads(line) for line in shown.out.splitlines()]
    assert len(found) > 2
    assert all(one["keyword"] == "beep" and one["score"] >= 0.2 and not one["near"] for one in found)
    kept = sorted((tmp_path / "kept").glob("*.json"))
    assert [json.loads(file.read_text())["time_s"] for file in kept] == [one["time_s"] for one in found]
    pcm = soundfile.read(stream, dtype="int16")[0]
    for file in kept:
        told = json.loads(file.read_text())
        audio, rate = soundfile.read(file.with_suffix(".flac"), dtype="int16")
        first = round(told["begin_s"] * rate)
        np.testing.assert_array_equal(audio, pcm[first : first + len(audio)])
    pipe = io.TextIOWrapper(io.BytesIO(pcm.tobytes()))
    monkeypatch.setattr(sys, "stdin", pipe)
    lines = cli("listen", f"detector={detector}", "input=-").out.splitlines()
    assert [float(line.split()[0]) for line in lines] == [pytest.approx(one["time_s"], abs=0.006) for one in found]


def test_a_recording_without_a_trigger_is_not_passed_over_in_silence(cli, detector, tmp_path):
    soundfile.write(tmp_path / "quiet.flac", np.arange(32_000, dtype=np.int16) % 2 * 90, 16_000)
    said = cli("listen", f"detector={detector}", f"input={tmp_path}/quiet.flac")
    assert (said.code, said.out, said.err) == (0, "", "no trigger in 2.0 s\n")


def test_the_microphone(cli, detector, monkeypatch):
    """A device that gives some blocks and is then unplugged, and one that is not there."""
    fake = ModuleType("sounddevice")
    fake.PortAudioError = type("PortAudioError", (Exception,), {})
    fake.query_devices = lambda: "0 a microphone"

    class Stream:
        def __init__(self, **given):
            assert (given["samplerate"], given["channels"], given["dtype"]) == (16000, 1, "int16")
            for _ in range(25):
                given["callback"](bytes(2 * given["blocksize"]), given["blocksize"], None, None)

            self.there = given["device"] is None

        def __enter__(self):
            if not self.there:
                raise fake.PortAudioError("the device is gone")

        def __exit__(self, *_):
            return None

    fake.RawInputStream = Stream
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    assert cli("listen", f"detector={detector}", "device=list").out == "0 a microphone\n"
    done = cli("listen", f"detector={detector}", "device=usb")
    assert (done.code, done.err) == (
        2,
        "kws: device=usb: cannot record (the device is gone); device=list shows the devices\n",
    )
    monkeypatch.setattr(sources, "_GONE_S", 0.1)
    unplugged = cli("listen", f"detector={detector}")
    assert (unplugged.code, unplugged.err) == (
        2,
        "kws: device=null: gives no audio any more; was it unplugged?\n",
    )
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "pip install -c constraints.txt '.[listen]'" in cli("listen", f"detector={detector}").err


def test_what_cannot_be_heard_is_one_line(cli, detector, tmp_path):
    for words, reason in (
        ((f"detector={detector}", "input=none.wav"), "input=none.wav: no such file"),
        ((f"detector={tmp_path}/none.pt", "input=-"), "none.pt"),
        ((f"detector={detector}", "input=-", "near=2"), "must be between 0 and 1"),
    ):
        done = cli("listen", *words)
        assert (done.code, done.err.count("\n")) == (2, 1), done.err
        assert reason in done.err
