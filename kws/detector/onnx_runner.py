"""A detector exported to ONNX, at work. Imports numpy and onnxruntime alone, for devices without torch."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_BLOCK_N = 10**6  # samples of a row
MOST = 1000.0  # magnitude of a sample, 60 dB above full scale
_FLOATS = (np.float16, np.float32, np.float64)


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
        import onnxruntime  # an extra: other formats are exported and run without it

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                path if isinstance(path, bytes) else str(path), options, providers=["CPUExecutionProvider"]
            )
            known = self._session.get_modelmeta().custom_metadata_map
            self.labels: list[str] = [str(label) for label in json.loads(known["labels"])]
            self.thresholds: list[float] = [float(t) for t in json.loads(known["thresholds"])]
            self.sample_rate, self.frame_s = int(known["sample_rate"]), float(known["frame_s"])
            self.metadata: dict[str, Any] = dict(json.loads(known["kws.json"]))
            self._block_n = round(self.frame_s * self.sample_rate)
            self._inputs = [one.name for one in self._session.get_inputs()]
            self._outputs = [one.name for one in self._session.get_outputs()]
            self._start = [np.zeros(one.shape, np.float32) for one in self._session.get_inputs()[1:]]
            rates = self.sample_rate > 0 and 1 <= self._block_n <= MOST_BLOCK_N
            if not rates or not all(map(math.isfinite, self.thresholds)):
                raise ValueError("rates or thresholds are no numbers that work")
            self.reset()
            if self(np.zeros(self._block_n, np.float32)).shape != (1, len(self.thresholds)):
                raise ValueError("scores are not one for each threshold")
            if len(self.labels) != len(self.thresholds):
                raise ValueError("there is not one threshold for each label")
        except Exception as error:  # onnxruntime raises several kinds for a damaged file
            name = "these bytes" if isinstance(path, bytes) else path
            raise ValueError(f"{name}: not a detector that kws export wrote as ONNX") from error
        self.reset()

    def reset(self) -> None:
        """Reset the stream to silence, as freshly loaded."""
        self._state = self._start
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)

    def __call__(self, pcm: NDArray[Any]) -> NDArray[np.float32]:
        """Score the rows that this chunk completes, perhaps none.

        Floats are taken as they are, int16, int32 and uint8 are divided by their range, and [1, n] and [n, 1] are one
        channel. Samples that are not finite, or more than 60 dB above full scale, count as silence.

        Shape: pcm [n] in [-1, 1], n from 0 up; returns float32 [rows, K] in [0, 1].

        Raises:
            ValueError: another shape, or samples that are no audio.
        """
        stream = _full_scale(np.asarray(pcm))
        if len(self._rest):
            stream = np.concatenate([self._rest, stream])
        used = len(stream) // self._block_n * self._block_n
        self._rest = stream[used:].copy()  # the memory may be the caller's
        if not used:
            return np.zeros((0, len(self.labels)), np.float32)
        scores, *self._state = self._session.run(self._outputs, self.inputs(stream[:used]))
        return np.asarray(scores, np.float32)

    def inputs(self, rows: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Inputs of the graph for the samples of whole rows, with the state of the stream."""
        return dict(zip(self._inputs, [rows, *self._state], strict=True))


def _full_scale(pcm: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as in kws/detector/pcm.py."""
    if pcm.ndim != 1 and not (pcm.ndim == 2 and 1 in pcm.shape):
        raise ValueError(f"pcm: must be one channel of audio, [n], [1, n] or [n, 1], not {list(pcm.shape)}")
    pcm = pcm.reshape(-1)
    if pcm.dtype == np.uint8:
        return (pcm.astype(np.float32) - np.float32(128)) / np.float32(128)
    if pcm.dtype in (np.int16, np.int32):
        return pcm.astype(np.float32) / np.float32(np.iinfo(pcm.dtype).max + 1)
    if pcm.dtype not in _FLOATS:
        raise ValueError("pcm: must be samples of type float32, float64, float16, int16, int32 or uint8")
    with np.errstate(over="ignore", invalid="ignore"):
        if pcm.dtype == np.float32 and pcm.dot(pcm) <= MOST**2:  # false for a NaN too
            return pcm
        samples = pcm.astype(np.float32)
    samples[~(np.abs(samples) <= MOST)] = 0
    return samples
