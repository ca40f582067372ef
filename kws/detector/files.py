"""Files of detectors: the formats of an export, and what opens them again."""

import io
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum, auto
from pathlib import Path
from typing import Any

from torch import Tensor

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.detector import checkpoint, onnx, pt2, torchscript
from kws.detector.detector import Detector
from kws.detector.parity import gate_audio, require_equal


class Format(StrEnum):
    """Formats of an exported detector."""

    torchscript = auto()
    onnx = auto()
    pt2 = auto()


SUFFIXES: Mapping[Format, Sequence[str]] = {
    Format.torchscript: (".pt", ".pth", ".ts", ".jit", ".torchscript"),
    Format.onnx: (".onnx",),
    Format.pt2: (".pt2",),
}


def export(
    detector: Detector,
    path: Path,
    metadata: Mapping[str, Any],
    kind: Format = Format.torchscript,
    clips: Path | None = None,
) -> None:
    """Write a detector, atomically, after a check that the file gives equal scores.

    Args:
        detector: on the CPU; its state is reset.
        path: file to write; an existing file is replaced.
        metadata: plain values about the model, stored as JSON.
        kind: format of the file.
        clips: folder of real clips for the check, beside generated audio; None for that alone.

    Raises:
        KwsError: scores of the file differ by more than 1e-5, and nothing is written; or a package is missing.
    """
    write(path, checked(detector, path.name, metadata, kind, clips))


def checked(
    detector: Detector, name: str, metadata: Mapping[str, Any], kind: Format, clips: Path | None = None
) -> bytes:
    """The content of a file that gives the scores of the detector. Arguments and errors: see `export`."""
    content = packed(detector, metadata, kind)
    require_equal(detector, scorer(content, detector, kind), gate_audio(detector.sample_rate, clips), name)
    return content


def write(path: Path, content: bytes) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)


def packed(detector: Detector, metadata: Mapping[str, Any], kind: Format) -> bytes:
    """The content of a file."""
    pack = {Format.torchscript: torchscript.pack, Format.onnx: onnx.pack, Format.pt2: pt2.pack}[kind]
    return pack(detector, metadata)


def scorer(content: bytes, detector: Detector, kind: Format) -> Callable[[Tensor], Tensor]:
    """A function that scores the next samples with the content of a file of this detector."""
    if kind is Format.onnx:
        return onnx.OnnxScorer(content)
    if kind is Format.pt2:
        return pt2.scorer(content, detector)
    loaded: Callable[[Tensor], Tensor] = torchscript.load_exported(io.BytesIO(content))
    return loaded


def open_detector(path: Path) -> Any:
    """Load a detector from a checkpoint, or from a file that was exported as TorchScript or ONNX.

    Raises:
        KwsError: the file is none of these.
    """
    if path.is_dir():
        raise KwsError(f"{path}: a folder, no file; expected {path / 'model.pt'} or {path / 'detector.pt'}")
    if not path.is_file():
        raise KwsError(f"{path}: no such file; expected a checkpoint (model.pt) or an exported detector (detector.pt)")
    if path.suffix.lower() in SUFFIXES[Format.onnx]:
        return onnx.OnnxScorer(path)
    if path.suffix.lower() in SUFFIXES[Format.pt2]:
        raise KwsError(f"{path}: cannot be opened here, since a PT2 file may run code; give model.pt of its run")
    if checkpoint.is_torchscript(path):
        return torchscript.load_exported(path)
    return checkpoint.read_model(path).detector
