"""Texts and paths on the command line and in recipes are taken literally."""

import json
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from kws.common.errors import KwsError
from kws.config.app import composed
from kws.config.declared import settings_of
from kws.config.schema import SCHEMAS, TrainConfig
from kws.config.words import elements, literal, quoted, read_recipe, recipe_files, unquoted

TRAIN = list(settings_of(TrainConfig))
NAMES = ["with space", "comma, here", "a=b", "(1)", "[x]", "hash#1", "quote's", '"quoted"s', "Ümlaut", "中文", "007"]


def value_of(word: str) -> object:
    """The value that Hydra reads."""
    (override,) = OverridesParser.create().parse_overrides([word])
    return override.value()


@pytest.mark.parametrize(
    "name", [*NAMES, "yes", "7", "true", "1e3", "back\\slash\\", "a:b", "{x}", "~x", "x@y", "$HOME"]
)
@pytest.mark.parametrize(("verb", "key"), [("train", "data.root"), ("train", "out"), ("mine", "streams")])
def test_a_path_is_taken_literally(verb: str, key: str, name: str) -> None:
    if verb == "mine" and name == "[x]":
        name = "[x]/a.wav"
    (word,) = literal([f"{key}={name}"], list(settings_of(SCHEMAS[verb])))
    assert value_of(word) == name


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(lambda text: "${" not in text))
def test_any_text_survives_its_quotes(text: str) -> None:
    assert value_of(f"out={quoted(text)}") == text
    assert unquoted(quoted(text)) == text or quoted(text) == text


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("keyword=7", "7"),
        ("keyword=true", "true"),
        ("keyword=[yes,no,on,off,7]", ["yes", "no", "on", "off", "7"]),
        ("keyword=[computer,hey computer]", ["computer", "hey computer"]),
        ("keyword=[computer, 'a, b']", ["computer", "a, b"]),
        ("keyword= [a b,c]", ["a b", "c"]),
        ("keyword='yes'", "yes"),
        ('keyword="a b"', "a b"),
        ("keyword=[]", []),
        ("init=null", None),
        ("seed=3", 3),
        ("model.dilations=[1,2]", [1, 2]),
        ("confuse.kinds={word: 1}", {"word": 1}),
        ("out='a b'", "a b"),
    ],
)
def test_lists_numbers_and_quoted_values_keep_their_meaning(word: str, value: object) -> None:
    (read,) = literal([word], TRAIN)
    assert value_of(read) == value
    assert literal([read], TRAIN) == [read], "a second time changes nothing"


def test_a_comma_separates_runs_in_a_sweep_alone() -> None:
    words = ["-m", "data.root=a b,'c, d',e (1)", "keyword=[a b,c],[d]", "seed=0,1", "out=choice(a,b)"]
    read = literal(words, TRAIN)
    assert read == ["-m", "data.root='a b','c, d','e (1)'", "keyword=['a b',c],[d]", "seed=0,1", "out=choice(a,b)"]


def test_the_home_folder_in_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a b")
    words = [
        "data.root=~/x",
        "data.root='~/x'",
        "init=~/m.pt",
        "replay.buffer=~",
        "recipe=~/r.yaml",
    ]
    values = [value_of(word) for word in literal(words, TRAIN)]
    assert values == [f"/home/a b{end}" for end in ("/x", "/x", "/m.pt", "", "/r.yaml")]
    assert value_of(literal(["streams=[~/x,y]"], list(settings_of(SCHEMAS["mine"])))[0]) == ["/home/a b/x", "y"]
    assert literal(["keyword=~/x"], TRAIN) == ["keyword='~/x'"], "no path"


@pytest.mark.parametrize("name", ["/x/${a}", "${a", "$", "${}", "a ${b:c} 'd", "${a${b}}", "\\\\${a}"])
def test_a_path_may_hold_what_is_no_interpolation(tmp_path: Path, name: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(json.dumps({"data": {"root": name}}))
    read = literal([f"data.root={name}", "out=runs/${seed}"], TRAIN)
    assert literal(read, TRAIN) == read, "a second time changes nothing"
    value = str(value_of(read[0]))
    found = OmegaConf.create({"data": {"root": value}, "out": value_of(read[1]), "seed": 3})
    assert found.out == "runs/3"
    assert found.data.root == name
    assert read_recipe(file, TRAIN).data.root == name


def test_the_path_of_a_recipe_may_not() -> None:
    with pytest.raises(KwsError, match=r"recipe=a \$\{b\}/r\.yaml: must be a path without \$\{"):
        literal(["recipe=a ${b}/r.yaml"], TRAIN)


def test_the_home_folder_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/a b")
    for place, wanted in (("~/c,d", "/home/a b/c,d"), ("/c", "/c"), (None, "/home/a b/.cache/kws")):
        monkeypatch.setenv("KWS_CACHE", place or "")
        if place is None:
            monkeypatch.delenv("KWS_CACHE")
        assert composed("data", ["keyword=x"]).data.cache == wanted


def test_elements_between_commas() -> None:
    assert elements("a, 'b, c' ,[d,e],quote's (1") == ["a", "'b, c'", "[d,e]", "quote's (1"]
    assert elements("") == []


def test_recipe_files_of_a_command_line() -> None:
    words = ["recipe='my recipes/a (1).yaml',wake_word,b.yml", "out=x.yaml", "recipe=choice(c.yaml,d.yaml)"]
    assert recipe_files(words) == ["my recipes/a (1).yaml", "b.yml", "c.yaml", "d.yaml"]


def test_a_recipe_reads_texts_literally_and_other_settings_by_their_type(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(
        "keyword: [yes, no, on, off, 7, 1e3, 'x']\ntensorboard: no\ninit: null\ndata: {root: ~/r, noise_label: off}\n"
    )
    found = read_recipe(file, TRAIN)
    assert found.keyword == ["yes", "no", "on", "off", "7", "1e3", "x"]
    assert found.data == {"root": str(Path("~/r").expanduser()), "noise_label": "off"}
    assert (found.tensorboard, found.init) == (False, None)
    file.write_text("keyword: 2024-01-01\n")
    assert read_recipe(file, TRAIN).keyword == "2024-01-01"
    file.write_text("a: [")
    with pytest.raises(KwsError, match="must be a YAML file of settings"):
        read_recipe(file, TRAIN)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("seed=(1)", "seed=(1): must be a whole number"),
        ("optim.lr=a b(", "optim.lr=a b(: must be a number"),
        ("model.dilations=[1,", "model.dilations=[1,: must be a list such as [1,2]"),
        ("tensorboard=(", "tensorboard=(: must be true or false"),
        ("confuse.kinds={", "confuse.kinds={: must be settings such as {name: value}"),
        ("model=a(", "model=a(: no such option; must be one of bc_resnet_1, "),
        ("seed=1,2", "seed=1,2: must be one value, or [a,b] where a list is allowed; -m sweeps over several"),
        ("keyword=a,b", "keyword=a,b: must be a list in brackets, keyword=[a,b]; -m sweeps over several"),
        ("foo=a b(", "foo: no such setting"),
    ],
)
def test_what_cannot_be_read_is_named(cli, word, message):
    said = cli("train", "keyword=beep", "data.root=.", word)
    assert said.code == 2
    assert said.err.startswith(f"kws: {message}")


def test_a_recipe_in_a_folder_of_any_name(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = " ".join(NAMES)
    Path(name).mkdir()
    Path(name, f"{name}.yaml").write_text("seed: 7\n")
    said = cli(*shlex.split(shlex.join(["train", f"recipe={name}/{name}.yaml", f"out={name}", "--cfg", "job"])))
    assert said.code == 0, said.err
    assert "seed: 7\n" in said.out
