"""Export of a detector to ONNX (extra kws[onnx]). Its state is an input and an output; see `StreamGraph`."""

import copy
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kws.common.errors import KwsError, missing_extra
from kws.detector.detector import Detector
from kws.detector.graph import StreamGraph, exported
from kws.detector.torchscript import METADATA

NETWORK = "detector.model."  # begins the names of its weights
MOST_FOLDED = 4096  # elements of a constant that is stored in place of its formula


def pack(detector: Detector, metadata: Mapping[str, Any]) -> bytes:
    """The content of an ONNX file.

    Raises:
        KwsError: the extra kws[onnx] is not installed.
    """
    try:
        from onnxscript import optimizer
    except ImportError as error:
        raise missing_extra("format=onnx", "onnx") from error
    names, before = StreamGraph(detector).names(), logging.root.manager.disable
    logging.disable(logging.WARNING)  # a hundred lines about nodes of the graph
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                exported(detector),
                input_names=["pcm", *names],
                output_names=["scores", *(f"next_{name}" for name in names)],
                dynamo=True,
                verbose=False,
                optimize=False,
            )
            assert program is not None
            # Large constants stay formulas in the file; onnxruntime computes them when it starts.
            optimizer.optimize_ir(program.model, output_size_limit=MOST_FOLDED)
    finally:
        logging.disable(before)
    program.model.metadata_props.update(
        labels=json.dumps(detector.labels),
        thresholds=json.dumps(detector.thresholds),
        sample_rate=str(detector.sample_rate),
        frame_s=repr(detector.frame_s),
    )
    model = program.model_proto
    for node in model.graph.node:  # lines of Python that made it
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    return with_metadata(model.SerializeToString(), metadata)


def with_metadata(content: bytes, metadata: Mapping[str, Any]) -> bytes:
    """The content of a file with this description of how it was made."""
    import onnx

    model = onnx.load_from_string(content)
    properties = {one.key: one.value for one in model.metadata_props}
    onnx.helper.set_model_props(model, properties | {METADATA: json.dumps(dict(metadata), default=str)})
    return bytes(model.SerializeToString())


class OnnxScorer:
    """An exported file as a `StreamScorer`, on tensors."""

    def __init__(self, source: Path | bytes) -> None:
        from kws.detector.onnx_runner import OnnxDetector

        try:
            self._runner = OnnxDetector(source)
        except ValueError as error:
            raise KwsError(str(error)) from None
        except ImportError as error:
            raise missing_extra("an ONNX file", "onnx") from error
        self.labels, self.thresholds = self._runner.labels, self._runner.thresholds
        self.sample_rate, self.frame_s = self._runner.sample_rate, self._runner.frame_s

    def reset(self) -> None:
        """Reset the stream to silence."""
        self._runner.reset()

    def __call__(self, pcm: Tensor) -> Tensor:
        """Score the rows that this chunk completes. Shape: as for a `Detector`."""
        return torch.from_numpy(self._runner(pcm.numpy()))

    def __deepcopy__(self, memo: object) -> "OnnxScorer":
        """Another stream of the same session, which threads may share."""
        another = copy.copy(self)
        another._runner = copy.copy(self._runner)
        another.reset()
        return another
