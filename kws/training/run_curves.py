"""The training curves of a run as panels of its page."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from kws.evaluation.report.curves import Line, Panel, TrainingCurves
from kws.training.metrics import read_columns

_KINDS = {"keywords": "positive", "fresh negatives": "fresh", "replayed": "replayed"}


def wake_word_curves(folder: Path, rounds: Sequence[int]) -> TrainingCurves:
    """Loss and gradient by kind of row, replayed share, and misses on the validation streams where a run counts them.

    Args:
        folder: of the run, with metrics.csv and validation.csv.
        rounds: steps of the mining rounds.

    Raises:
        KwsError: one of the files cannot be read.
    """
    names = [f"{group}_{kind}" for group in ("loss", "gradient") for kind in _KINDS.values()]
    m = read_columns(folder / "metrics.csv", ["step", "share", "replayed", "batch", *names])
    steps, replays = m["step"], any(m["replayed"])
    kinds = {name: kind for name, kind in _KINDS.items() if replays or kind != "replayed"}

    begins = next((i for i, n in enumerate(m["replayed"]) if n), 0)

    def lines(group: str, scale: float) -> dict[str, Line]:
        rows = {name: slice(begins if kind == "replayed" else 0, None) for name, kind in kinds.items()}
        return {
            name: (steps[rows[name]], [scale * y for y in m[f"{group}_{kind}"][rows[name]]])
            for name, kind in kinds.items()
        }

    panels = [Panel("loss", lines("loss", 1)), Panel("gradient, %", lines("gradient", 100))]
    if replays:
        drawn = [100 * n / batch for n, batch in zip(m["replayed"], m["batch"], strict=True)]
        wanted = [100 * share for share in m["share"]]
        panels.append(Panel("batch, %", {"replayed": (steps, drawn), "scheduled": (steps, wanted)}))
    v = read_columns(folder / "validation.csv", ["step", "misses", "events"])
    missed, events = defaultdict[float, float](float), defaultdict[float, float](float)
    for step, misses, n in zip(v["step"], v["misses"], v["events"], strict=True):  # a row for each keyword
        missed[step] += misses
        events[step] += n
    if events:
        misses_line = list(events), [100 * missed[step] / n for step, n in events.items()]
        panels.append(Panel("validation misses, %", {"misses": misses_line}, noisy=False))
    return TrainingCurves(panels, rounds)


def phone_curves(folder: Path) -> TrainingCurves:
    """Loss of the training batches, and errors in the validation split. Raises KwsError as `wake_word_curves`."""
    m = read_columns(folder / "metrics.csv", ["step", "loss"])
    panels = [Panel("loss of a phone", {"train": (m["step"], m["loss"])})]
    v = read_columns(folder / "validation.csv", ["step", "errors", "phones"])
    if v["step"]:
        line = v["step"], [100 * wrong / n for wrong, n in zip(v["errors"], v["phones"], strict=True)]
        panels.append(Panel("validation errors, % of the phones", {"validation": line}, noisy=False))
    return TrainingCurves(panels)


def classification_curves(folder: Path) -> TrainingCurves:
    """Loss and errors of the training batches and of the validation split. Raises KwsError as `wake_word_curves`."""
    m = read_columns(folder / "metrics.csv", ["step", "loss", "right", "batch"])
    wrong = [100 * (1 - right / batch) for right, batch in zip(m["right"], m["batch"], strict=True)]
    panels = [Panel("loss", {"train": (m["step"], m["loss"])}), Panel("train errors, %", {"train": (m["step"], wrong)})]
    v = read_columns(folder / "validation.csv", ["step", "accuracy"])
    if v["step"]:
        line = v["step"], [100 * (1 - accuracy) for accuracy in v["accuracy"]]
        panels.append(Panel("validation errors, %", {"validation": line}, noisy=False))
    return TrainingCurves(panels)
