"""Export of a detector to a TorchScript file that needs torch alone, and loading of one."""

import io
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

import torch

from kws.common.errors import KwsError, first_line
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


def pack(detector: Detector, metadata: Mapping[str, Any]) -> bytes:
    """The content of a TorchScript file. `metadata` is JSON in its `_extra_files`, under "kws.json"."""
    packed = io.BytesIO()
    detector.reset()
    with without_deprecation():
        extra = {METADATA: json.dumps(dict(metadata), default=str)}
        torch.jit.save(torch.jit.script(detector), packed, _extra_files=extra)
    return packed.getvalue()


def load_exported(path: Path | BinaryIO) -> Any:
    """Load an exported detector from a file, on the CPU.

    Raises:
        KwsError: not a TorchScript file, or not an exported detector.
    """
    try:
        if isinstance(path, Path):
            checkpoint.refuse_damaged(path)
        # torch takes no path that is not UTF-8
        with without_deprecation(), path.open("rb") if isinstance(path, Path) else nullcontext(path) as file:
            module = torch.jit.load(file, map_location="cpu").eval()
    except Exception as error:  # a damaged file can raise anything
        raise KwsError(f"{path}: not a readable TorchScript file ({first_line(error)})") from None
    if lacking := [m for m in MEMBERS if not hasattr(module, m)]:
        raise KwsError(f"{path}: not an exported detector, it has no {', '.join(lacking)}")
    if not _is_detector(module):
        raise KwsError(f"{path}: not an exported detector, its labels, thresholds, rates or scores are of another kind")
    if not all(map(math.isfinite, module.thresholds)):
        raise KwsError(f"{path}: a threshold is not a finite number, so it detects nothing; export it again")
    return module


def _is_detector(module: Any) -> bool:
    """Whether the members of a module that anybody may have written are those of a detector."""
    try:
        labels, thresholds = [str(one) for one in module.labels], [float(one) for one in module.thresholds]
        with torch.no_grad():
            rows = module(torch.zeros(0))
        module.reset()
        return (
            labels == module.labels
            and len({*labels}) == len(labels) == len(thresholds)
            and rows.shape == (0, len(labels))
            and checkpoint.LOWEST_RATE <= module.sample_rate <= checkpoint.HIGHEST_RATE
            and module.frame_s > 0
        )
    except Exception:  # such as a tensor in place of a list
        return False
