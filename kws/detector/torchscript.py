"""Export of a detector to a TorchScript file that needs torch alone, and loading of detectors of either kind."""

import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch

from kws.common.errors import KwsError, first_line
from kws.common.files import replacing
from kws.detector import checkpoint
from kws.detector.detector import Detector

METADATA = "kws.json"
MEMBERS = ("sample_rate", "labels", "thresholds", "frame_s", "reset")


@contextmanager
def without_deprecation() -> Iterator[None]:
    """Ignore the deprecation of TorchScript, which the export contract requires."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch.jit.*deprecated", category=DeprecationWarning)
        yield


def export(detector: Detector, path: Path, metadata: Mapping[str, Any]) -> None:
    """Write a detector as TorchScript, atomically, after a check that the file gives equal scores.

    Args:
        detector: on the CPU; its state is reset.
        path: file to write; an existing file is replaced.
        metadata: plain values about the model, stored as JSON in `_extra_files` under "kws.json".

    Raises:
        KwsError: scores of the written file differ by more than 1e-5; nothing is left at `path`.
    """
    detector.reset()
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    with without_deprecation():
        extra = {METADATA: json.dumps(dict(metadata), default=str)}
        torch.jit.save(torch.jit.script(detector), packed, _extra_files=extra)
    packed.seek(0)
    verify(detector, packed, path)
    with replacing(path) as file:
        file.write(packed.getbuffer())


def verify(detector: Detector, packed: BinaryIO, path: Path) -> None:
    """Score two seconds of noise with both, in different chunks; raise KwsError if scores differ by more than 1e-5."""
    pcm = 0.1 * torch.randn(2 * detector.sample_rate, generator=torch.Generator().manual_seed(0))
    exported = load_exported(packed)
    detector.reset()
    want = detector(pcm)
    got = torch.cat([exported(piece) for piece in torch.split(pcm, 1280)])
    detector.reset()
    worst = float((want - got).abs().max()) if want.shape == got.shape else float("inf")
    if not worst <= 1e-5:  # also where a score is not a number
        raise KwsError(f"{path.name}: scores differ from the detector by {worst:g}; must be at most 1e-5")


def load_exported(path: Path | BinaryIO) -> Any:
    """Load an exported detector from a file, on the CPU.

    Raises:
        KwsError: not a TorchScript file, or not an exported detector.
    """
    try:
        if isinstance(path, Path):
            checkpoint.refuse_damaged(path)
        with without_deprecation():
            module = torch.jit.load(str(path) if isinstance(path, Path) else path, map_location="cpu").eval()
    except Exception as error:  # a damaged file can raise anything
        raise KwsError(f"{path}: not a readable TorchScript file ({first_line(error)})") from None
    if lacking := [m for m in MEMBERS if not hasattr(module, m)]:
        raise KwsError(f"{path}: not an exported detector, it has no {', '.join(lacking)}")
    if not all(map(math.isfinite, module.thresholds)):
        raise KwsError(f"{path}: a threshold is not a finite number, so it detects nothing; export it again")
    return module


def open_detector(path: Path) -> Any:
    """Load a detector from a checkpoint or an exported file.

    Raises:
        KwsError: the file is neither.
    """
    if not path.is_file():
        raise KwsError(f"{path}: no such file; expected a checkpoint (model.pt) or an exported detector (detector.pt)")
    if checkpoint.is_torchscript(path):
        return load_exported(path)
    return checkpoint.read_model(path).detector
