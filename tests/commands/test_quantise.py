"""kws export quantize=int8: figures before and after, in the file and its card; refusals write nothing."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from kws.commands.quantise import refuse_other_validation, settings_of_run
from kws.common.errors import KwsError
from kws.data.audio_cache import Entry
from kws.data.features import LogMel
from kws.data.manifest import Recording, Source, Split
from kws.detector import int8
from kws.detector.checkpoint import read_model
from kws.detector.detector import Detector
from kws.detector.onnx import pack
from kws.models.registry import DSTCN, FrontEndNet, input_layer
from kws.runtime import OnnxDetector
from tests.nets import sound


def test_an_int8_export_states_what_it_costs(cli, run, tmp_path, monkeypatch):
    monkeypatch.setenv("KWS_CACHE", str(tmp_path.parent / "int8-cache"))
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


def test_a_checkpoint_names_no_folder_to_write_to(run, tmp_path, monkeypatch):
    monkeypatch.setenv("KWS_CACHE", str(tmp_path))
    model = read_model(run / "model.pt")
    text = model.facts["config"]
    assert settings_of_run(model).data.cache == str(tmp_path)
    assert settings_of_run(model).stream.chunk_s == 0.08
    data = "keyword: beep\ndata:\n  cache: ${oc.env:HOME}\n  download: true\n  release: v2\n  root: /none\n"
    for forged, why in (
        (data, "must be resolved"),
        ('data:\n  root: "\\x24{oc.env:HOME}"\n', "must be resolved"),
        ("- data", "must be resolved"),
        (text.replace("chunk_s: 0.08", "chunk_s: 0"), "stream.chunk_s=0.0: must be between"),
        (text + "unknown: 1\n", "another version"),
    ):
        with pytest.raises(KwsError, match=why):
            settings_of_run(replace(model, facts={"config": forged}))
    forged = data.replace("${oc.env:HOME}", "/elsewhere") + "plugins: [evil]\n"
    s = settings_of_run(replace(model, facts={"config": forged}))
    assert (s.data.cache, s.data.download, s.plugins) == (str(tmp_path), False, [])


def test_a_validation_split_of_other_recordings_is_refused(run):
    held = [Source("a", "a.wav", Split.VALIDATION), Source("b", "b.wav", Split.VALIDATION)]
    model = replace(read_model(run / "model.pt"), held_out=[*held, Source("t", "t.wav", Split.TEST)])

    def entries(*names: str) -> list[Entry]:
        return [Entry(Recording(Path(n), n, "beep", Split.VALIDATION), n, 0, 1) for n in names]

    refuse_other_validation(entries("a"), model, "D")
    for names, why in (
        ("ax", "1 of 2 are others (x), 1 are missing (b.wav)"),
        ("abt", "1 of 3 are others (t)"),
        ("", "2 are missing (a.wav)"),
    ):
        with pytest.raises(KwsError) as refused:
            refuse_other_validation(entries(*names), model, "D")
        assert str(refused.value) == f"data_root=D: must hold the validation recordings of the run: {why}"


def test_the_input_layer_stays_float32():
    body = DSTCN(13, 1, channels=8, kernel=3, dilations=(1, 2), stride=1)
    net = FrontEndNet(input_layer("mfcc", 40, {"n_mfcc": 13}), body)
    detector = Detector(LogMel(), net.eval(), ["beep"], [0.5], 1)
    small = onnx.load_from_string(int8.quantised(pack(detector, {}), sound(320 * 300).numpy()))
    kinds = {one.name: one.data_type for one in small.graph.initializer}
    assert kinds["detector.model.layer.dct"] == onnx.TensorProto.FLOAT
    assert any(kind == onnx.TensorProto.INT8 for name, kind in kinds.items() if name.startswith("detector.model.body."))
