"""Every `kws` command of the documentation fits the settings as they are."""

import re
import shlex
from itertools import chain

import pytest

from kws.cli import VERBS
from kws.config import compose, schema
from tests import ROOT
from tests.typed import typed

PAGES = [
    p
    for p in chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md"), ROOT.glob("recipes/**/*.md"))
    if p.is_file() and p.name != "extending.md"
]  # that page has a test of its own


def commands(text: str) -> list[list[str]]:
    """The words after `kws` of each command in the blocks of code, and of those that make calls with ARGS."""
    found = []
    for block in re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.removeprefix("$ "), comments=True)
            words = [word for word in words if not re.fullmatch(r"[A-Z_]+=\S*", word) or word.startswith("ARGS=")]
            if words and words[0].split("/")[-1] == "kws":
                found.append(words[1:])
            elif words[:2] == ["make", "quickstart"]:
                given = [word.removeprefix("ARGS=") for word in words[2:]]
                found.append(["train", "recipe=quickstart", *shlex.split(" ".join(given))])
    return found


COMMANDS = [
    (page.relative_to(ROOT).as_posix(), words) for page in sorted(PAGES) for words in commands(page.read_text())
]


def test_the_readme_shows_every_verb():
    assert {words[0] for page, words in COMMANDS if page == "README.md"} >= set(VERBS)


@pytest.mark.parametrize("words", sorted({tuple(words) for _, words in COMMANDS}), ids=lambda x: " ".join(x)[:60])
def test_a_command_of_the_documentation_fits_the_settings(cli, words):
    verb, *words = words
    if "-m" in words:  # a sweep: its first run
        words = [re.sub(r"^([\w.]+=[^\[\]'\",]*),.*", r"\1", word) for word in words if word != "-m"]
    said = cli(verb, *words, *([] if "--help" in words else ["--cfg", "job"]))
    assert said.code == 0, said.err
    if "--help" not in words:
        wanted = schema.SCHEMAS[verb]
        assert compose.settings(typed(wanted, said.out), wanted)
