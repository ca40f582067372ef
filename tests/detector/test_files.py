"""Exported files of every format give the scores of the detector, and hold what a runner needs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from kws.common.errors import KwsError
from kws.detector import files, parity
from kws.detector.files import Format, export, open_detector
from kws.runtime import OnnxDetector
from tests.models.test_models import lively_detector
from tests.nets import LABELS, random_detector, sound

TURN_N = sum(parity.CHUNKS_N)
RUNNER = """
import json, sys
import numpy as np
from kws.runtime import OnnxDetector
detector = OnnxDetector(sys.argv[1])
pcm = np.load(sys.argv[2])
rows = np.concatenate([detector(pcm[i : i + 777]) for i in range(0, len(pcm), 777)])
detector.reset()
whole = np.int16(np.clip(pcm, -1, 1) * 32767)
again = np.concatenate([detector(whole), detector(np.zeros((1, 0), np.int16))])
print(json.dumps({
    "labels": detector.labels, "thresholds": detector.thresholds, "rate": detector.sample_rate,
    "frame_s": detector.frame_s, "made": detector.metadata, "rows": rows.tolist(), "again": again.tolist(),
    "heavy": sorted({"torch", "hydra", "omegaconf", "pydantic", "scipy", "onnx"} & sys.modules.keys()),
}))
"""


# ONNX is made from the program of PT2, so one net is enough for that.
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("ds_tcn_2d", Format.onnx),
        ("ds_tcn", Format.onnx),
        ("log-mel and pcen, window", Format.onnx),
        ("log-mel and pcen, window", Format.pt2),
    ],
)
def test_a_file_gives_the_scores_of_the_detector(name: str, kind: Format, exported: Path, tmp_path: Path) -> None:
    detector, path = lively_detector(name), exported
    if name != "ds_tcn":
        path = tmp_path / f"d.{kind}"
        export(detector, path, {"command": "kws train"}, kind)
    content, pcm = path.read_bytes(), sound(30 * 320)
    want = detector(pcm)
    assert (want.amax(0) - want.amin(0)).min() > 0.1, "constant scores would show nothing"
    for chunk_n in (len(pcm), 1280, 777, 160):
        score = files.scorer(content, detector, kind)
        rows = torch.cat([score(chunk) for chunk in torch.split(pcm, chunk_n)])
        torch.testing.assert_close(rows, want, rtol=0, atol=1e-5)


def test_onnx_runs_without_torch(exported: Path, tmp_path: Path) -> None:
    detector, pcm = lively_detector("ds_tcn"), sound(12000)
    np.save(tmp_path / "pcm.npy", pcm.numpy())
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(exported), str(tmp_path / "pcm.npy")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout)
    assert printed["heavy"] == []
    assert (printed["labels"], printed["thresholds"], printed["rate"]) == (LABELS, [0.5, 0.75], 16000)
    assert printed["frame_s"] == pytest.approx(0.02)
    assert printed["made"] == {"command": "kws train", "hash": "ab"}
    want = detector(pcm)
    torch.testing.assert_close(torch.tensor(printed["rows"]), want, rtol=0, atol=1e-5)
    detector.reset()
    whole = detector(torch.from_numpy(np.int16(np.clip(pcm.numpy(), -1, 1) * 32767)))
    torch.testing.assert_close(torch.tensor(printed["again"]), whole, rtol=0, atol=1e-5)
    opened = open_detector(exported)
    torch.testing.assert_close(opened(pcm), want, rtol=0, atol=1e-5)


def test_other_onnx_files_are_one_line(tmp_path: Path) -> None:
    for name, content in (("empty.onnx", b""), ("text.onnx", b"hello"), ("flipped.onnx", bytes(range(256)) * 40)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(KwsError, match=rf"{name}: not a detector that kws export wrote as ONNX"):
            open_detector(tmp_path / name)
    (tmp_path / "d.pt2").write_bytes(b"PK")
    with pytest.raises(KwsError, match="may run code"):
        open_detector(tmp_path / "d.pt2")


@pytest.mark.parametrize("n", [1279, TURN_N, TURN_N + 800, 2 * TURN_N + 1600])
def test_audio_of_any_length_is_compared(n: int) -> None:
    parity.require_equal(random_detector(), random_detector(), sound(n), "x.pt")


def test_onnx_takes_audio_as_the_detector_does_and_refuses_other_metadata(exported: Path, tmp_path: Path) -> None:
    detector = lively_detector("ds_tcn")
    runner, pcm = OnnxDetector(exported), sound(3200).numpy()
    coded = [pcm.astype(np.float64), pcm.astype(np.float16), np.int16(pcm * 32767), np.int32(pcm * 2**30)]
    coded += [np.uint8(pcm * 127 + 128), pcm[None], pcm[:, None], np.where(np.arange(3200) == 9, np.nan, pcm)]
    for one in coded:
        detector.reset()
        runner.reset()
        np.testing.assert_allclose(runner(one), detector(torch.from_numpy(np.asarray(one))).numpy(), atol=1e-5)
    for bad in (np.zeros((2, 800), np.float32), np.zeros(800, np.int64), np.zeros(800, bool), np.zeros(800, complex)):
        with pytest.raises(ValueError, match="pcm: must be"):
            runner(bad)
    values = {"frame_s": ["0.0", "1e9"], "labels": ['"abc"'], "thresholds": ['["x"]', "[NaN, 0.5]", "[0.5]"]}
    for key, value in [(key, value) for key, some in values.items() for value in some]:
        model = onnx.load(exported)
        for one in model.metadata_props:
            if one.key == key:
                one.value = value
        onnx.save(model, tmp_path / "bad.onnx")
        with pytest.raises(KwsError, match=r"bad\.onnx: not a detector that kws export wrote"):
            open_detector(tmp_path / "bad.onnx")
