"""A detector exported to ONNX, at work. Imports numpy and onnxruntime alone, for devices without torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_RANGES = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


class OnnxDetector:
    """Turn audio, in chunks of any size, into keyword scores. The object holds the state of one stream.

    Args:
        path: file of `kws export format=onnx`, or its content.
        threads: of onnxruntime; a keyword model is too small for more than one.

    Raises:
        ValueError: not an exported detector of kws.

    Attributes:
        labels: keywords, one score column each.
        thresholds: of each keyword.
        sample_rate: Hz.
        frame_s: seconds of audio in a row of scores.
        metadata: how the detector was made, with the thresholds for other false-alarm rates.
    """

    def __init__(self, path: str | Path | bytes, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path if isinstance(path, bytes) else str(path), options, providers=["CPUExecutionProvider"]
            )
            told = self._session.get_modelmeta().custom_metadata_map
            self.labels: list[str] = json.loads(told["labels"])
            self.thresholds: list[float] = json.loads(told["thresholds"])
            self.sample_rate, self.frame_s = int(told["sample_rate"]), float(told["frame_s"])
            self.metadata: dict[str, Any] = json.loads(told["kws.json"])
        except Exception as error:  # onnxruntime raises several kinds for a damaged file
            name = "these bytes" if isinstance(path, bytes) else path
            raise ValueError(f"{name}: not a detector that kws export wrote as ONNX") from error
        self._inputs = [one.name for one in self._session.get_inputs()]
        self._start = [np.zeros(one.shape, np.float32) for one in self._session.get_inputs()[1:]]
        self._block_n = round(self.frame_s * self.sample_rate)
        self.reset()

    def reset(self) -> None:
        """Reset the stream to silence, as freshly loaded."""
        self._state = self._start
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)

    def __call__(self, pcm: NDArray[Any]) -> NDArray[np.float32]:
        """Score the rows that this chunk completes, perhaps none.

        Floats are taken as they are, int16 and int32 are divided by their range. Samples that are not finite, or more
        than 60 dB above full scale, count as silence.

        Shape: pcm [n] in [-1, 1], n from 0 up; returns float32 [rows, K] in [0, 1].
        """
        samples = np.asarray(pcm).reshape(-1)
        samples = samples.astype(np.float32) / np.float32(_RANGES.get(samples.dtype, 1.0))
        samples = np.where(np.abs(samples) <= 1000, samples, np.float32(0))
        stream = np.concatenate([self._rest, samples])
        used = len(stream) // self._block_n * self._block_n
        self._rest = stream[used:]
        if not used:
            return np.zeros((0, len(self.labels)), np.float32)
        inputs = dict(zip(self._inputs, [stream[:used], *self._state], strict=True))
        scores, *self._state = self._session.run(None, inputs)
        return np.asarray(scores, np.float32)
