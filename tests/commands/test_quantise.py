"""kws export quantize=int8: figures before and after, in the file and its card; refusals write nothing."""

import json

import numpy as np
import onnx
import pytest

from kws.detector.checkpoint import read_model
from kws.runtime import OnnxDetector
from tests.nets import sound


def test_an_int8_export_states_what_it_costs(cli, run, tmp_path):
    given = ("export", f"checkpoint={run}/model.pt", f"out={tmp_path}/d", "quantize=int8")
    for words, line in (
        (["format=torchscript"], "quantize=int8: must be left out for torchscript; format=onnx has it"),
        (["format=[onnx,pt2]"], "quantize=int8: must be left out for pt2; format=onnx has it"),
        (["format=onnx", f"data_root={tmp_path}/none"], "no such file or folder"),
    ):
        refused = cli(*given, *words)
        assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
        assert line in refused.err
    assert not list(tmp_path.iterdir())
    done = cli(*given, "format=onnx", "quantize_max_loss=1")
    assert done.code == 0, done.err
    runner, detector = OnnxDetector(tmp_path / "d.onnx"), read_model(run / "model.pt").detector
    quantize = runner.metadata["quantize"]
    change = quantize["changes"][0]
    results = json.loads((run / "results.json").read_text())["outcomes"][0]
    assert change["keyword"] == results["keyword"]
    assert change["before"]["threshold"] == change["after"]["threshold"] == results["as_calibrated"]["threshold"]
    assert change["before"]["hours"] == results["calibration"]["hours"]
    assert "int8 on the validation streams" in done.out
    assert "## int8" in (tmp_path / "d.card.md").read_text()

    kinds = {one.name: one.data_type for one in onnx.load(tmp_path / "d.onnx").graph.initializer}
    assert kinds["detector.model.blocks.0.weight_quantized"] == onnx.TensorProto.INT8
    assert kinds["detector.features.banks"] == onnx.TensorProto.FLOAT
    pcm = sound(100 * 320)
    got = runner(pcm.numpy())
    assert 0 < np.abs(got - detector(pcm).numpy()).max() < 0.2
    runner.reset()
    pieces = [runner(pcm.numpy()[i : i + 777]) for i in range(0, len(pcm), 777)]
    assert np.concatenate(pieces) == pytest.approx(got, abs=1e-5), "ranges must not depend on the chunk"
