"""Export of a detector by torch.export, the successor of TorchScript. A call takes the samples of one row."""

import io
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kws.detector.detector import Detector
from kws.detector.graph import StreamGraph, exported
from kws.detector.torchscript import METADATA


def pack(detector: Detector, metadata: Mapping[str, Any]) -> bytes:
    """The content of a PT2 file. `kws.json` in it has also what a runner needs: labels, thresholds and rates."""
    facts = {
        "labels": detector.labels,
        "thresholds": detector.thresholds,
        "sample_rate": detector.sample_rate,
        "frame_s": detector.frame_s,
        **metadata,
    }
    packed = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on tensors that share memory
        torch.export.save(exported(detector, rows_n=1), packed, extra_files={METADATA: json.dumps(facts, default=str)})
    return packed.getvalue()


def scorer(content: bytes, detector: Detector) -> Callable[[Tensor], Tensor]:
    """A function that scores the next samples with a file of this detector.

    Only for a file that was just written: loading one of somebody else may run code.
    """
    step = torch.export.load(io.BytesIO(content)).module()
    state, rest = StreamGraph(detector).start(), torch.zeros(0)

    def score(pcm: Tensor) -> Tensor:
        nonlocal state, rest
        stream = torch.cat([rest, pcm])
        used = len(stream) // detector.block_n * detector.block_n
        rest = stream[used:]
        if not used:
            return torch.zeros(0, len(detector.labels))
        scores = []
        with torch.no_grad():
            for piece in torch.split(stream[:used], detector.block_n):
                rows, *state = step(piece, *state)
                scores.append(rows)
        return torch.cat(scores)

    return score
