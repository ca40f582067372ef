import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.confusables.synthesis.base import Utterance
from kws.confusables.synthesis.command import Command, _filled
from kws.confusables.synthesis.plan import Prompt, Role, plan, plan_splits
from kws.confusables.synthesis.render import render
from kws.data.manifest import CONFUSABLE, Split

# A synthesiser with options, as most have: a tone whose frequency is 10 Hz times the number of letters.
SCRIPT = """
import argparse, json, sys
import numpy as np, soundfile
parser = argparse.ArgumentParser()
parser.add_argument("--voice")
parser.add_argument("--rate", type=int)
parser.add_argument("--pitch", type=int)
parser.add_argument("--log")
parser.add_argument("out")
parser.add_argument("text")
given = parser.parse_args()
if given.log:
    with open(given.log, "a") as log:
        log.write(json.dumps(sys.argv[1:]) + chr(10))
hz = 10 * len(given.text.strip()) + (500 if given.voice == "high" else 0)
soundfile.write(given.out, 0.5 * np.sin(2 * np.pi * hz * np.arange(4000) / 8000), 8000)
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("bin") / "synthesise.py"
    path.write_text(SCRIPT)
    return str(path)


def one(text="computer", voice="default"):
    return Utterance("train/x/x-0.flac", "x", text, "", "", voice, 140, 60, Split.TRAIN)


def sound_of(words, text="computer", voice="default", **more):
    command = Command(tuple(words), (voice,), **more)
    return next(command.synthesise([one(text, voice)], 16000))


def test_a_text_is_spoken_by_the_voice_at_the_rate_and_pitch(script, tmp_path):
    log = tmp_path / "log"
    words = [sys.executable, script, "--log", str(log), "--voice={voice}", "--rate", "{rate}", "--pitch", "{pitch}"]
    pcm = sound_of([*words, "{wav}", "{text}"], "hello {wav}; $(x) \"'", "high")
    (given,) = map(json.loads, log.read_text().splitlines())
    assert given[2:7] == ["--voice=high", "--rate", "140", "--pitch", "60"]
    assert given[-1] == "hello {wav}; $(x) \"'", "one argument, as it is"
    assert pcm.dtype == np.int16
    assert len(pcm) == 8000, "0.5 s, at the rate of the clips"
    assert np.argmax(np.abs(np.fft.rfft(pcm))) * 2 == 500 + 10 * len(given[-1])
    assert not Path(given[-2]).exists(), "nothing is left behind"


@pytest.mark.parametrize("text", ["--voice=high", "-h", "- one", "@file", "/x y", "'tis"])
def test_a_text_is_never_read_as_an_option(script, text):
    pcm = sound_of([sys.executable, script, "{wav}", "{text}"], text)
    assert np.argmax(np.abs(np.fft.rfft(pcm))) * 2 == 10 * len(text)


@settings(deadline=None)
@given(st.text(min_size=1))
def test_an_argument_that_begins_with_the_text_begins_with_a_letter_a_digit_or_a_space(text):
    try:
        filled = _filled("{text}", one(text), Path("/tmp/x.wav"))
    except KwsError:
        assert not any(char.isalnum() for char in text)
        return
    assert filled[0].isalnum() or filled[0] == " "
    assert "\0" not in filled
    filled.encode()


def test_values_are_filled_in_once():
    assert _filled("{text}", one("{wav} {voice}", "v"), Path("/w")) == " {wav} {voice}"
    assert _filled("-t{text}", one("-x"), Path("/w")) == "-t-x"
    assert _filled("{voice}{rate}:{pitch}", one(voice="v"), Path("/w")) == "v140:60"


@pytest.mark.parametrize(
    ("template", "error"),
    [
        (("say", "{wav}", "{words}"), r"\{words\} must be one of \{text\}, \{voice\}, \{wav\}, \{rate\}, \{pitch\}"),
        (("say", "{wav}"), r"\{text\} is missing"),
        (("say", "{text}"), r"\{wav\} is missing"),
        ((), r"\{text\} is missing"),
        (("{text}", "{wav}"), "must begin with a program"),
        (("", "{text}", "{wav}"), "must begin with a program"),
    ],
)
def test_a_bad_template_is_refused_by_name(template, error):
    with pytest.raises(KwsError, match=error):
        Command(template)


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"names": ()}, "one or more"),
        ({"names": ("a", "a")}, "only once"),
        ({"names": ("-a",)}, "voice '-a'"),
        ({"names": ("a\n",)}, r"voice 'a\\n'"),
        ({"names": ("a", "b")}, r"\{voice\} is missing, and there are 2 voices"),
        ({"timeout_s": 0}, "timeout_s=0"),
    ],
)
def test_bad_voices_and_timeouts_are_refused_by_name(changed, error):
    with pytest.raises(KwsError, match=error):
        Command(**{"template": ("say", "{wav}", "{text}")} | changed)


SILENCE = """
import sys, wave
with wave.open(sys.argv[1], "wb") as file:
    file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000), file.writeframes(bytes(800))
"""


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (
            "import sys; print('loud'); sys.exit('no such\\x1b voice')",
            "exit code 1 .no such\N{REPLACEMENT CHARACTER} voice",
        ),
        ("import os; os._exit(3)", r"exit code 3 \(no message\)"),
        ("pass", r"wrote no file \{wav\}"),
        ("import sys; open(sys.argv[1], 'w').write('text')", "wrote a file that is not usable audio"),
        (SILENCE, r"not usable audio \(silent\)"),
        ("import time; time.sleep(60)", r"timed out after 0\.5 s"),
    ],
)
def test_a_failure_is_one_line_that_names_the_command(code, error):
    timeout_s = 0.5 if "sleep" in code else 60
    with pytest.raises(KwsError, match=error) as caught:
        sound_of([sys.executable, "-c", code, "{wav}", "{text}"], timeout_s=timeout_s)
    assert str(caught.value).startswith(f"command: {sys.executable} for 'computer': ")
    assert "\n" not in str(caught.value)


def test_a_missing_program_is_named():
    with pytest.raises(KwsError, match="command: no-such-program-here for 'computer': cannot be run"):
        sound_of(["no-such-program-here", "{wav}", "{text}"])


def test_phoneme_strings_are_refused_before_synthesis():
    command = Command(("say", "{wav}", "{text}"))
    with pytest.raises(KwsError, match="the synthesiser command speaks no phoneme strings"):
        plan(command, [Role(CONFUSABLE, [Prompt("cat", "[[k'at]]")], 1)], 0, Split.TRAIN)


def test_a_plan_is_rendered_by_voices_that_have_splits(script, tmp_path):
    command = Command((sys.executable, script, "--voice", "{voice}", "{wav}", "{text}"), tuple("abcdefgh"))
    roles = [Role("computer", [Prompt("computer")], 6), Role(CONFUSABLE, [Prompt("commuter"), Prompt("-x")], 6)]
    planned = plan_splits(command, roles, 0)
    render(tmp_path / "clips", command, planned, workers=2)
    assert len(list((tmp_path / "clips").rglob("*.*"))) == len(planned) + 2
    voices = [{one.voice for one in planned if one.split is split} for split in Split]
    assert len(set.union(*voices)) == sum(map(len, voices))
    manifest = (tmp_path / "clips/manifest.csv").read_text()
    assert f'"command {Path(sys.executable).name}, {planned[0].voice}",' in manifest
    assert soundfile.info(tmp_path / "clips" / planned[0].file).samplerate == 16000


def test_rendering_resumes_after_a_failure(script, tmp_path):
    command = Command((sys.executable, script, "{wav}", "{text}"))
    planned = plan(command, [Role("computer", [Prompt("computer")], 3)], 0, Split.TRAIN)

    def stop(done, _):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        render(tmp_path / "clips", command, planned, workers=1, progress=stop)
    steps = []
    render(tmp_path / "clips", command, planned, workers=1, progress=lambda *step: steps.append(step))
    assert steps == [(2, 3), (3, 3)]
