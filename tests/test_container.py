"""The Dockerfile of docs/home_assistant.md: its steps run as plain commands, offline, and a client gets an answer."""

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
import warnings
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests import ROOT
from tests.nets import LABELS

pytest.importorskip("wyoming", reason="the extra kws[wyoming] is not installed")
pytest.importorskip("onnxruntime", reason="the extra kws[onnx] is not installed")
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from wyoming.client import AsyncTcpClient
    from wyoming.info import Describe, Info

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEPS = [
    (line.split(maxsplit=1)[0], line.split(maxsplit=1)[1])
    for block in re.findall(r"^```dockerfile\n(.*?)^```", (ROOT / "docs/home_assistant.md").read_text(), re.M | re.S)
    for line in block.splitlines()
]
START_S = 120.0  # a machine may be busy


def values(name: str) -> list[str]:
    """The arguments of all steps with this name."""
    return [value for step, value in STEPS if step == name]


def ignored(folder: str, names: list[str]) -> set[str]:
    """The names in a folder of the checkout that .dockerignore leaves out: `**/NAME` anywhere, others at the top."""
    patterns = (ROOT / ".dockerignore").read_text().split()
    top = Path(folder) == ROOT
    own = [one.removeprefix("**/") for one in patterns if top or one.startswith("**/")]
    return {name for name in names for pattern in own if fnmatch(name, pattern)}


def build(detectors: Path, image: Path) -> None:
    """Run the steps that copy and install, with the folders of the image below `image`.

    The checkout is the build context, but for the exported files of a user, which lie in `detectors`.
    """
    for step, value in STEPS:
        if step == "COPY":
            source, target = value.split()
            place = image / target.lstrip("/")
            if source == ".":
                shutil.copytree(ROOT, place, ignore=ignored)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(detectors / source, place)
        elif step == "RUN":
            pip, *words = [word.replace("/src", f"{image}/src") for word in shlex.split(value)]
            assert pip == "pip"
            offline = ["--no-deps", "--no-index", "--no-build-isolation", "--quiet", f"--target={image}/usr"]
            done = subprocess.run(
                [sys.executable, "-m", "pip", *words, *offline, "--disable-pip-version-check"],
                check=False,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stderr


def describe(port: int, server: subprocess.Popen[str]) -> Info:
    """What the server says of itself, once it listens."""

    async def ask() -> Info:
        async with AsyncTcpClient("127.0.0.1", port) as client:
            await client.write_event(Describe().event())
            event = await asyncio.wait_for(client.read_event(), START_S)
            assert event is not None
            return Info.from_event(event)

    until = time.monotonic() + START_S
    while True:
        try:
            return asyncio.run(ask())
        except ConnectionRefusedError:
            assert server.poll() is None, server.communicate()
            assert time.monotonic() < until
            time.sleep(0.2)


def test_the_base_image_and_the_extras_are_those_of_the_project():
    (base,) = values("FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim", base)
    assert version
    assert version.group(1) in SpecifierSet(PROJECT["requires-python"])
    (run,) = values("RUN")
    (asked,) = (word for word in shlex.split(run) if word.startswith("/src["))
    named = Requirement(f"kws{asked.removeprefix('/src')}").extras
    assert named == {"wyoming", "onnx"}
    assert named <= PROJECT["optional-dependencies"].keys()


def test_the_steps_run_and_a_client_gets_an_answer(exported, tmp_path):
    image = tmp_path / "image"
    shutil.copy(exported, tmp_path / "computer.onnx")
    build(tmp_path, image)
    (command,), (exposed,) = values("CMD"), values("EXPOSE")
    words = json.loads(command)
    assert words[-1] == f"uri=tcp://0.0.0.0:{exposed}"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = [word.replace("/detectors", f"{image}/detectors") for word in words]
    words = [str(image / "usr/bin" / words[0]), *words[1:-1], f"uri=tcp://127.0.0.1:{port}"]
    environment = {**os.environ, "PYTHONPATH": f"{image}/usr", "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as server:
        try:
            info = describe(port, server)
            server.send_signal(signal.SIGTERM)
            assert server.wait(START_S) == 0
        finally:
            server.kill()
    assert [model.name for program in info.wake for model in program.models] == LABELS
    installed = subprocess.run(
        [sys.executable, "-c", "from importlib.util import find_spec; print(find_spec('kws').origin)"],
        check=True, cwd=tmp_path, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert installed.stdout.startswith(f"{image}/usr/"), "the command ran the package that the steps installed"
