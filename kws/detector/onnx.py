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

from kws.common.errors import KwsError
from kws.detector.detector import Detector
from kws.detector.graph import StreamGraph, exported
from kws.detector.torchscript import METADATA


def pack(detector: Detector, metadata: Mapping[str, Any]) -> bytes:
    """The content of an ONNX file.

    Raises:
        KwsError: the extra kws[onnx] is not installed.
    """
    try:
        import onnxscript  # noqa: F401  used by torch.onnx
    except ImportError as error:
        raise KwsError("format=onnx needs the extra kws[onnx]: pip install 'kws[onnx]'") from error
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
            )
    finally:
        logging.disable(before)
    assert program is not None
    program.model.metadata_props.update(
        labels=json.dumps(detector.labels),
        thresholds=json.dumps(detector.thresholds),
        sample_rate=str(detector.sample_rate),
        frame_s=repr(detector.frame_s),
        **{METADATA: json.dumps(dict(metadata), default=str)},
    )
    return bytes(program.model_proto.SerializeToString())


class OnnxScorer:
    """An exported file as a `StreamScorer`, on tensors."""

    def __init__(self, source: Path | bytes) -> None:
        from kws.detector.onnx_runner import OnnxDetector

        try:
            self._runner = OnnxDetector(source)
        except ValueError as error:
            raise KwsError(str(error)) from None
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
