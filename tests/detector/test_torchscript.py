"""An exported file keeps the contract with torch alone; other files are refused in one line."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from kws.common.errors import KwsError
from kws.detector import checkpoint, torchscript
from kws.detector.files import export, open_detector
from kws.detector.torchscript import load_exported
from tests.nets import LABELS, random_detector, random_net, sound

CLIENT = """
import sys
for name in ("kws", "torchaudio", "librosa", "soundfile", "scipy", "omegaconf"):
    sys.modules[name] = None  # importing it is an error
import json, torch
extra = {"kws.json": ""}
model = torch.jit.load(sys.argv[1], _extra_files=extra)
pcm = torch.load(sys.argv[2], weights_only=True)
fresh = [model(piece) for piece in torch.split(pcm, 1280)]
returned = model.reset()
empty = model(torch.zeros(0))
again = [model(piece) for piece in torch.split(pcm, 1280)]
print(json.dumps({
    "types": [type(x).__name__ for x in (model.sample_rate, model.labels, model.thresholds, model.frame_s, returned)],
    "items": sorted({type(x).__name__ for x in model.labels}) + sorted({type(x).__name__ for x in model.thresholds}),
    "values": [model.sample_rate, model.labels, model.thresholds, model.frame_s],
    "dtype": str(fresh[0].dtype),
    "empty": list(empty.shape),
    "counts": [len(rows) for rows in fresh],
    "rows": torch.cat(fresh).tolist(),
    "again": torch.cat(again).tolist(),
    "extra": extra["kws.json"].decode(),
}))
"""


def test_a_process_with_torch_alone_can_use_it(tmp_path: Path) -> None:
    detector, pcm = random_detector(), sound(12000)
    detector(pcm)  # the exported state is silence
    export(detector, tmp_path / "out" / "detector.pt", {"command": "kws.train", "hash": "ab", "recordings": 3})
    torch.save(pcm, tmp_path / "pcm.pt")
    done = subprocess.run(
        [sys.executable, "-I", "-c", CLIENT, str(tmp_path / "out" / "detector.pt"), str(tmp_path / "pcm.pt")],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["types"] == ["int", "list", "list", "float", "NoneType"]
    assert printed["items"] == ["str", "float"]
    assert printed["values"] == [16000, LABELS, [0.5, 0.75], 0.02]
    assert printed["dtype"] == "torch.float32"
    assert printed["empty"] == [0, 2]
    assert printed["counts"] == [4] * 9 + [1]
    assert printed["again"] == printed["rows"]
    detector.reset()
    torch.testing.assert_close(torch.tensor(printed["rows"]), detector(pcm), rtol=0, atol=1e-5)
    assert json.loads(printed["extra"]) == {"command": "kws.train", "hash": "ab", "recordings": 3}
    assert os.listdir(tmp_path / "out") == ["detector.pt"], "no file beside it"


def test_an_export_with_different_scores_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "detector.pt"
    path.write_text("the old file")
    monkeypatch.setattr(torchscript, "load_exported", lambda _: random_detector(seed=1))
    with pytest.raises(KwsError, match=r"scores differ from the detector by 0\.\d+; must be at most 1e-05"):
        export(random_detector(), path, {})
    assert path.read_text() == "the old file"
    assert os.listdir(tmp_path) == ["detector.pt"]


def test_the_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    export(random_detector(), tmp_path / "detector.pt", {})
    assert (tmp_path / "detector.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_open_detector_reads_checkpoints_and_exported_files(tmp_path: Path) -> None:
    shape = {"channels": 8, "kernel": 5, "dilations": [1, 2], "stride": 2}
    recipe = checkpoint.ModelSpec(LABELS, 16000, 40, 0.025, 0.01, 60.0, "ds_tcn", shape, 5, 32000)
    checkpoint.write_model(tmp_path / "model.pt", recipe, random_net().state_dict(), [0.5, 0.75], {})
    export(random_detector(), tmp_path / "detector.pt", {})
    want = random_detector()(sound(4000))
    for name in ("model.pt", "detector.pt"):
        detector = open_detector(tmp_path / name)
        torch.testing.assert_close(detector(sound(4000)), want, rtol=0, atol=1e-5)
        assert detector.labels == LABELS


@pytest.mark.parametrize("what", ["weight", "threshold"])
def test_a_detector_that_is_not_finite_is_not_exported(tmp_path: Path, what: str) -> None:
    detector = random_detector()
    if what == "weight":
        with torch.no_grad():
            next(detector.model.parameters()).fill_(float("nan"))
    else:
        detector.thresholds[0] = float("nan")
    with pytest.raises(KwsError, match=r"scores differ from the detector by (nan|inf)|a threshold is not"):
        export(detector, tmp_path / "detector.pt", {})
    assert os.listdir(tmp_path) == []


def test_flipped_bytes_of_an_exported_file_are_one_line(tmp_path: Path) -> None:
    export(random_detector(), tmp_path / "whole.pt", {})
    whole = (tmp_path / "whole.pt").read_bytes()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        flipped = np.frombuffer(whole, np.uint8).copy()
        flipped[rng.choice(len(flipped), 60, replace=False)] ^= 0xFF
        (tmp_path / "flipped.pt").write_bytes(flipped.tobytes())
        with pytest.raises(KwsError, match=r"flipped\.pt: not a ") as caught:
            open_detector(tmp_path / "flipped.pt")
        assert "\n" not in str(caught.value)


class Other(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def test_other_files_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.script(Other()), tmp_path / "other.pt")
    with pytest.raises(KwsError, match="not an exported detector, it has no sample_rate, labels"):
        load_exported(tmp_path / "other.pt")
    export(random_detector(), tmp_path / "whole.pt", {})
    whole = (tmp_path / "whole.pt").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "text": b"hello", "empty": b""}.items():
        (tmp_path / name).write_bytes(content)
        for read in (load_exported, open_detector):
            with pytest.raises(KwsError, match=name) as caught:
                read(tmp_path / name)
            assert "\n" not in str(caught.value)
    for place in (tmp_path, tmp_path / "missing.pt"):
        with pytest.raises(KwsError, match=r"no such file|a folder, no file"):
            open_detector(place)
