"""kws export: a checkpoint as a TorchScript file."""

from pathlib import Path

import numpy as np

from kws.commands import builders
from kws.common.console import Console
from kws.common.errors import KwsError
from kws.config.app import verb
from kws.config.schema import ExportConfig
from kws.detector import checkpoint
from kws.detector.torchscript import export

SUFFIXES = (".pt", ".pth", ".ts", ".jit", ".torchscript")
NOT_CALIBRATED = "scores are probabilities; no threshold was calibrated: a class triggers from one half on"


def run(s: ExportConfig) -> None:
    """Export `checkpoint` to the file `out`."""
    out = Path(s.out)
    if out.suffix and out.suffix.lower() not in SUFFIXES:
        raise KwsError(f"out={out}: must end in .pt; TorchScript is the only format, no ONNX, TFLite or ExecuTorch yet")
    if out.exists() and not s.force:
        raise KwsError(f"out={out}: the file exists; force=true overwrites it")
    model = checkpoint.read_model(Path(s.checkpoint))
    classes = model.spec.others is not None
    if s.thresholds is None and "calibration" not in model.facts and not classes:
        raise KwsError(f"thresholds=... must be given: {s.checkpoint} was never calibrated")
    smoothing = {key: value for key in ("smooth_s", "smooth_k") if (value := getattr(s, key)) is not None}
    if smoothing and s.thresholds is None and not classes:
        raise KwsError(f"thresholds=... must be given: {s.checkpoint} was not calibrated with this smoothing")
    detector = builders.resmoothed(model, s.smooth_s, s.smooth_k)
    if s.thresholds is not None:
        detector.thresholds = thresholds(s.thresholds, len(model.spec.labels))
    export(detector, out, model.facts | {"checkpoint": model.hash} | smoothing)
    pairs = zip(detector.labels, detector.thresholds, strict=True)
    console = Console()
    console.say(f"{out}: " + ", ".join(f"{k} at {t:.4f}" for k, t in pairs))
    useless = model.facts.get("useless")
    for keyword, why in useless.items() if isinstance(useless, dict) and s.thresholds is None else ():
        console.warn(f"{keyword}: {why}")
    if classes and s.thresholds is None:
        console.say(NOT_CALIBRATED)


def thresholds(value: object, count: int) -> list[float]:
    """Check the thresholds setting: one number for each keyword, in [0, 1].

    The numbers are rounded to float32, so that comparisons in float32 and float64 agree.
    """
    numbers = value if isinstance(value, list) else [value]
    good = [float(np.float32(n)) for n in numbers if isinstance(n, int | float) and type(n) is not bool and 0 <= n <= 1]
    if len(good) != count or len(numbers) != count:
        raise KwsError(f"thresholds={value}: must be {count} number(s) between 0 and 1, one for each keyword")
    return good


main = verb("export", run)
