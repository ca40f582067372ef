"""Quantisation of an ONNX file to 8 bits: the matrix products of the net. Front end and input layer stay float32."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kws.detector.onnx import NETWORK
from kws.detector.onnx_runner import OnnxDetector

STEP_S = 1.0  # of the audio that ranges are taken from
INPUT_LAYER = ".layer."  # of a `kws.models.frontends.FrontEndNet`, which may be a member of an ensemble
TYPES = ("Gemm", "MatMul", "Conv")


def quantised(content: bytes, audio: NDArray[np.float32]) -> bytes:
    """Quantise the matrix products of the net, statically: ranges do not depend on the chunk that is scored.

    Depthwise convolutions are sums over taps, and stay float32. Weights have a scale for each output channel and 7 of
    the 8 bits: with all 8, sums of two products overflow the 16 bits of CPUs without VNNI, and scores would depend on
    the CPU. Scales of inputs are the extremes over `audio` (Jacob et al., 2018).

    Args:
        content: of a float32 file of `kws.detector.onnx.pack`.
        audio: with and without the keyword. Shape: float32 [n].
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    model = onnx.load_from_string(content)
    names = {one.name for one in model.graph.initializer}
    weights = {name for name in names if name.startswith(NETWORK) and INPUT_LAYER not in name}
    others = [n.name for n in model.graph.node if n.op_type in TYPES and not weights.intersection(n.input)]
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = Path(folder) / "int8.onnx"
            quantize_static(
                model,
                file,
                _Inputs(content, audio),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(TYPES),
                nodes_to_exclude=others,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            return file.read_bytes()
    finally:
        logging.disable(before)


class _Inputs:
    """The inputs of each call while the float32 file scores a stream, as onnxruntime asks for them."""

    def __init__(self, content: bytes, audio: NDArray[np.float32]) -> None:
        self._calls = _calls(OnnxDetector(content), audio)

    def __iter__(self) -> Iterator[Mapping[str, NDArray[Any]]]:
        return self._calls

    def get_next(self) -> Mapping[str, NDArray[Any]] | None:
        return next(self._calls, None)


def _calls(detector: OnnxDetector, audio: NDArray[np.float32]) -> Iterator[Mapping[str, NDArray[Any]]]:
    step = round(STEP_S / detector.frame_s) * round(detector.frame_s * detector.sample_rate)
    for start in range(0, len(audio) - step + 1, step):
        inputs = detector.inputs(audio[start : start + step])
        detector(audio[start : start + step])
        yield inputs
