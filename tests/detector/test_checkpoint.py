"""A checkpoint restores the model. Other files are refused, and code in them never runs."""

import errno
import math
import os
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError, one_line
from kws.detector import checkpoint
from kws.detector.checkpoint import FORMAT, ModelSpec, read, read_model, weights_hash, write, write_model
from kws.detector.files import open_detector
from tests.nets import LABELS, random_detector, random_net, sound

SHAPE = {"channels": 8, "kernel": 5, "dilations": [1, 2], "stride": 2}
RECIPE = ModelSpec(LABELS, 16000, 40, 0.025, 0.01, 60.0, "ds_tcn", SHAPE, 5, 32000)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("run") / "model.pt"
    write_model(path, RECIPE, random_net().state_dict(), [0.5, 0.75], {"seed": 3, "words": ["a", "b"]})
    return path


def test_the_model_is_restored(model: Path) -> None:
    found = read_model(model)
    assert found.spec == RECIPE
    assert found.facts == {"seed": 3, "words": ["a", "b"]}
    assert found.hash == weights_hash(random_net().state_dict())
    assert found.detector.thresholds == [0.5, 0.75]
    assert torch.equal(found.detector(sound(8000)), random_detector()(sound(8000)))


def test_a_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    old = {name: value for name, value in asdict(RECIPE).items() if name not in ("input", "input_shape")}
    found = read_model(forged(tmp_path / "old.pt", recipe=old))
    assert found.spec == RECIPE
    assert torch.equal(found.detector(sound(8000)), random_detector()(sound(8000)))


def test_the_hash_depends_on_the_weights_only() -> None:
    state = random_net().state_dict()
    assert weights_hash(dict(reversed(state.items()))) == weights_hash(state)
    other = {k: v.clone() for k, v in state.items()}
    other["head.bias"][0] += 1e-6
    assert weights_hash(other) != weights_hash(state)


class Bomb:
    """Creates a folder when it is unpickled."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.place),)


def test_code_in_a_pickle_does_not_run(tmp_path: Path) -> None:
    place = tmp_path / "crater"
    content = {"format": FORMAT, "recipe": asdict(RECIPE), "model": {}, "thresholds": Bomb(place)}
    torch.save(content, tmp_path / "zip.pt")
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(content))
    for name in ("zip.pt", "old.pt", "plain.pt"):
        for load in (read, read_model):
            with pytest.raises(KwsError, match=f"{name}: not a readable checkpoint"):
                load(tmp_path / name)
            assert not place.exists()
    pickle.loads((tmp_path / "plain.pt").read_bytes())  # an ordinary load runs it
    assert place.exists()


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_damaged_file_is_one_line(model: Path, data: st.DataObject) -> None:
    whole = model.read_bytes()
    cut = whole[: data.draw(st.integers(0, len(whole) - 30))]
    damaged = model.with_name("damaged.pt")
    damaged.write_bytes(cut)
    with pytest.raises(KwsError, match=r"damaged\.pt: not a readable checkpoint") as caught:
        read_model(damaged)
    assert "\n" not in str(caught.value)


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_flipped_bytes_are_one_line(model: Path, data: st.DataObject) -> None:
    """torch reads tensors without a look at their checksums, and may fail on the rest in any way."""
    flipped = bytearray(model.read_bytes())
    for at in data.draw(st.lists(st.integers(0, len(flipped) - 1), min_size=60, max_size=60, unique=True)):
        flipped[at] ^= 0xFF
    damaged = model.with_name("flipped.pt")
    damaged.write_bytes(flipped)
    for load in (read_model, open_detector):
        with pytest.raises(KwsError, match=r"flipped\.pt: not a ") as caught:
            load(damaged)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("where", ["model", "thresholds"])
def test_a_model_that_is_not_finite_is_refused(tmp_path: Path, where: str) -> None:
    weights = random_net().state_dict()
    weights["head.bias"][0] = math.nan
    changed = {"model": weights} if where == "model" else {"thresholds": [0.5, math.nan]}
    with pytest.raises(KwsError, match=r"x\.pt: a weight or a threshold is not a finite number"):
        read_model(forged(tmp_path / "x.pt", **changed))


def test_a_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write(tmp_path / "state.pt", {"format": FORMAT, "step": 1})
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        write(tmp_path / "state.pt", {"format": FORMAT, "step": 2})
    assert one_line(caught.value) == f"{tmp_path}/state.pt: No space left on device"
    assert read(tmp_path / "state.pt")["step"] == 1
    assert os.listdir(tmp_path) == ["state.pt"]


@pytest.mark.parametrize("content", [[1], {"step": 1}, {"format": FORMAT + 1}, {"format": "1"}])
def test_other_content_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(KwsError, match=r"x.pt: not a kws checkpoint of format 2"):
        read(tmp_path / "x.pt")


def test_a_training_state_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "state.pt", {"format": FORMAT, "step": 3})
    assert read(tmp_path / "state.pt")["step"] == 3
    with pytest.raises(KwsError, match=r"without a finished model; use the model\.pt"):
        read_model(tmp_path / "state.pt")
    with pytest.raises(KwsError, match="no such file"):
        read_model(tmp_path / "missing.pt")


def forged(path: Path, **changed: Any) -> Path:
    """A checkpoint with other content."""
    weights = random_net().state_dict()
    content = {"format": FORMAT, "recipe": asdict(RECIPE), "model": weights, "thresholds": [0.5, 0.5]}
    write(path, content | {"hash": "ab", "facts": {}} | changed)
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": asdict(RECIPE) | {"extra": 1}},
        {"recipe": {"labels": LABELS}},
        {"recipe": asdict(replace(RECIPE, shape=SHAPE | {"channels": 9}))},
        {"recipe": asdict(replace(RECIPE, labels=["alexa"]))},
        {"recipe": asdict(replace(RECIPE, shape=SHAPE | {"kernel": 1}))},
        {"recipe": asdict(replace(RECIPE, shape=SHAPE | {"dilations": ["1", "2"]}))},
        {"recipe": asdict(replace(RECIPE, shape=SHAPE | {"extra": 1}))},
        {"recipe": asdict(replace(RECIPE, family="rnn"))},
        {"recipe": asdict(replace(RECIPE, input="rasta"))},
        {"recipe": asdict(replace(RECIPE, input="mfcc", input_shape={"n_mfcc": 40}))},  # weights of other names
        {"recipe": asdict(replace(RECIPE, input="mfcc"))},
        {"recipe": [1, 2]},
        {"model": [1, 2]},
        {"recipe": asdict(replace(RECIPE, sample_rate=0))},
        {"recipe": asdict(replace(RECIPE, smooth_n=0))},
        {"thresholds": None},
        {"thresholds": ["high", "low"]},
        {"thresholds": [0.5]},
    ],
    ids=lambda changed: str(changed)[-40:],
)
def test_a_model_that_cannot_be_built_is_one_line(tmp_path: Path, changed: dict[str, Any]) -> None:
    with pytest.raises(KwsError, match=r"x\.pt: (the net cannot be built|not a model of kws)"):
        read_model(forged(tmp_path / "x.pt", **changed))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "state.pt"
    checkpoint.write(path, {"format": FORMAT, "step": 1})
    with pytest.raises((AttributeError, pickle.PicklingError)):
        checkpoint.write(path, {"format": FORMAT, "step": 2, "bad": lambda: None})
    assert read(path)["step"] == 1
    assert os.listdir(path.parent) == ["state.pt"]
