"""Piper voices small enough to make: each phone is a tone, as long as the pace asks, with noise of the model's own."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

RATE, PHONE_N, HZ, OWN_HZ = 22050, 1000, 40, 5  # phone i lasts 1000 samples; speaker s says it at 40 i + 5 s Hz
SIGNS = "_^$ ˈˌəkæmpjuːɾɚtdʒɑɹvɪsʌnoʊeɡlɔbzf,.?!"


def write_voice(folder: Path, name: str, speakers: dict[str, int] | None = None, **settings: object) -> None:
    """`NAME.onnx` and `NAME.onnx.json`, as Piper exports them."""
    many = bool(speakers)
    constants = {
        "zero": np.int64(0),
        "one": np.int64(1),
        "pace": np.array([1], np.int64),
        "level": np.array([0], np.int64),
        "phone_n": np.float32(PHONE_N),
        "hz": np.float32(HZ),
        "angle": np.float32(2 * np.pi / RATE),
        "soft": np.float32(0.05),
        "column": np.array([-1, 1], np.int64),
        "flat": np.array([1, 1, -1], np.int64),
    }
    nodes = [
        ("Gather", ["scales", "pace"], "length"),
        ("Squeeze", ["length"], "length0"),
        ("Mul", ["length0", "phone_n"], "n_float"),
        ("Cast", ["n_float"], "n", {"to": TensorProto.INT64}),
        ("Range", ["zero", "n", "one"], "t_int"),
        ("Cast", ["t_int"], "t", {"to": TensorProto.FLOAT}),
        ("Cast", ["input"], "ids", {"to": TensorProto.FLOAT}),
        ("Mul", ["ids", "hz"], "plain_hz"),
    ]
    if many:
        constants["own_hz"] = np.float32(OWN_HZ)
        nodes += [
            ("Cast", ["sid"], "who", {"to": TensorProto.FLOAT}),
            ("Mul", ["who", "own_hz"], "more_hz"),
            ("Add", ["plain_hz", "more_hz"], "tone_hz"),
        ]
    else:
        nodes.append(("Identity", ["plain_hz"], "tone_hz"))
    nodes += [
        ("Reshape", ["tone_hz", "column"], "tones"),
        ("Mul", ["tones", "t"], "turns"),
        ("Mul", ["turns", "angle"], "phase"),
        ("Sin", ["phase"], "clean"),
        ("RandomNormalLike", ["clean"], "white"),
        ("Gather", ["scales", "level"], "noise_scale"),
        ("Mul", ["white", "noise_scale"], "loud_noise"),
        ("Mul", ["loud_noise", "soft"], "noise"),
        ("Add", ["clean", "noise"], "noisy"),
        ("Reshape", ["noisy", "flat"], "output"),
    ]
    inputs = [
        helper.make_tensor_value_info("input", TensorProto.INT64, [1, "phones"]),
        helper.make_tensor_value_info("input_lengths", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("scales", TensorProto.FLOAT, [3]),
    ]
    if many:
        inputs.append(helper.make_tensor_value_info("sid", TensorProto.INT64, [1]))
    graph = helper.make_graph(
        [helper.make_node(op, given, [out], **(more[0] if more else {})) for op, given, out, *more in nodes],
        "tones",
        inputs,
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 1, "samples"])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / f"{name}.onnx"))
    config = {
        "audio": {"sample_rate": RATE, "quality": "tiny"},
        "espeak": {"voice": "en-us"},
        "phoneme_type": "espeak",
        "num_symbols": len(SIGNS),
        "num_speakers": len(speakers or {}) or 1,
        "speaker_id_map": speakers or {},
        "phoneme_id_map": {sign: [number] for number, sign in enumerate(SIGNS)},
        "inference": {"noise_scale": 0.667, "length_scale": 1.0, "noise_w": 0.8},
    }
    (folder / f"{name}.onnx.json").write_text(json.dumps(config | settings), encoding="utf-8")
