"""The model card beside an exported detector: what it is, how it was made, what it measured, how to run it."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path

from jinja2 import ChainableUndefined, Environment, PackageLoader

from kws.commands.quantise import Quantised
from kws.common.errors import printable
from kws.common.files import replacing
from kws.detector.checkpoint import Checkpoint
from kws.detector.detector import Detector
from kws.detector.files import Format
from kws.evaluation.intervals import false_alarms_text, proportion_text
from kws.evaluation.quantisation import rows

_MARKUP = str.maketrans({c: f"&#{ord(c)};" for c in "&<>\"'`|*_[]#\\:@"})
RUN = {
    Format.torchscript: "`torch.jit.load(FILE)` needs torch alone",
    Format.onnx: "`kws.runtime.OnnxDetector(FILE)` needs numpy and onnxruntime alone",
    Format.pt2: "`torch.export.load(FILE)` needs torch alone",
}


def is_card_of(path: Path, model: Checkpoint) -> bool:
    """Whether a file is the card of another export of a model, which a later one may replace."""
    return f"| weights | SHA-256 begins {plain(model.hash)} |" in path.read_text("utf-8", "replace").splitlines()


def write_card(
    path: Path,
    files: Mapping[Path, Format],
    detector: Detector,
    model: Checkpoint,
    results: Path,
    quantised: Quantised | None = None,
) -> None:
    """Write the card of exported files, in Markdown.

    Args:
        path: of the card; an older one is replaced.
        files: with their formats.
        detector: as exported.
        model: the checkpoint.
        results: results.json of its run; the card has no figures where it is missing.
        quantised: where the file is int8.
    """
    environment = Environment(
        loader=PackageLoader("kws", "commands"), undefined=ChainableUndefined, trim_blocks=True, autoescape=False
    )
    environment.filters |= {"plain": plain, "zip": zip, "shell": lambda words: shlex.join(map(str, words))}
    as_trained = (detector.smooth_n, detector.smooth_k) == (model.spec.smooth_n, model.spec.smooth_k)
    thresholds = dict(zip(detector.labels, detector.thresholds, strict=True))
    text = environment.get_template("model_card.md").render(
        labels=detector.labels,
        thresholds=detector.thresholds,
        sample_rate=detector.sample_rate,
        frame_s=detector.frame_s,
        family=model.spec.family,
        weights_n=sum(p.numel() for p in detector.model.parameters()),
        facts=model.facts,
        hash=model.hash,
        outcomes=measured(results, thresholds) if as_trained else [],
        quantised=quantised,
        losses=[] if quantised is None else rows(quantised.loss),
        files=[(file.name, RUN[kind]) for file, kind in files.items()],
    )
    with replacing(path) as file:
        file.write((text.rstrip() + "\n").encode(errors="replace"))


def measured(results: Path, thresholds: Mapping[str, float]) -> list[dict[str, object]]:
    """Misses and false alarms on the test split of a run; none where its results are missing, damaged, or of other
    thresholds than these.
    """
    try:
        found = []
        for one in json.loads(results.read_bytes())["outcomes"]:
            p = one["as_calibrated"]
            if abs(float(p["threshold"]) - thresholds.get(one["keyword"], -1.0)) > 1e-6:
                continue
            found.append(
                {
                    "keyword": one["keyword"],
                    "threshold": float(p["threshold"]),
                    "misses": proportion_text(p["misses"], p["events"]),
                    "false_alarms": false_alarms_text(p["false_alarms"], p["hours"]),
                    "real": one.get("real_keywords"),
                }
            )
        return found
    except (OSError, ValueError, KeyError, TypeError):
        return []


def plain(text: object) -> str:
    """Text that is no markup of Markdown or HTML: names come from anybody."""
    return printable(" ".join(str(text).split())).translate(_MARKUP)
