"""Accuracy of a classifier: overall, by class, and its confusion matrix."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kws.common.console import Console
from kws.detector.checkpoint import ModelSpec
from kws.evaluation.intervals import proportion_text, wilson
from kws.evaluation.results import Table

MAX_SHOWN_CLASSES = 15  # of a confusion matrix in the terminal
SHOWN_PAIRS = 10


@dataclass(frozen=True)
class ValidationAccuracy:
    """Accuracy on the validation clips at one step, with the 95 % Wilson interval."""

    step: int
    loss: float
    right: int
    clips: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Proportion:
    """A proportion of clips with its 95 % Wilson interval."""

    right: int
    clips: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, right: int, clips: int) -> "Proportion":
        """The proportion `right` of `clips`; without a clip it is 0, with the interval (0, 1)."""
        return cls(right, clips, right / clips if clips else 0.0, *wilson(right, clips))

    def __str__(self) -> str:
        return proportion_text(self.right, self.clips) if self.clips else "-"


@dataclass(frozen=True)
class ClassificationResult:
    """Classification of labelled clips.

    Shape: confusion int64 [K, K], rows are true classes, columns predicted ones.
    """

    classes: Sequence[str]
    confusion: Tensor
    loss: float

    @property
    def accuracy(self) -> Proportion:
        """Clips classified correctly."""
        return Proportion.of(int(self.confusion.diagonal().sum()), int(self.confusion.sum()))

    def recall(self, k: int) -> Proportion:
        """Clips of class k that are predicted as class k."""
        return Proportion.of(int(self.confusion[k, k]), int(self.confusion[k].sum()))

    def precision(self, k: int) -> Proportion:
        """Clips predicted as class k that are of class k."""
        return Proportion.of(int(self.confusion[k, k]), int(self.confusion[:, k].sum()))

    @property
    def useless(self) -> str:
        """Why nobody can use the classifier; empty where somebody can."""
        most = Proportion.of(int(self.confusion.sum(1).max()), int(self.confusion.sum()))
        if self.accuracy.right > most.right:
            return ""
        return f"useless: {self.accuracy} right, and {most.share:.1%} are of the most frequent class"

    def at_step(self, step: int) -> ValidationAccuracy:
        """The accuracy as a row of validation.csv."""
        a = self.accuracy
        return ValidationAccuracy(step, self.loss, a.right, a.clips, a.share, a.low, a.high)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        classes = {
            name: {"recall": asdict(self.recall(k)), "precision": asdict(self.precision(k))}
            for k, name in enumerate(self.classes)
        }
        confusion = self.confusion.tolist()
        return {
            "accuracy": asdict(self.accuracy),
            "useless": self.useless,
            "loss": self.loss,
            "classes": classes,
            "confusion": confusion,
        }


@torch.no_grad()
def classify(
    spec: ModelSpec,
    weights: Mapping[str, Tensor],
    batches: Iterator[tuple[Tensor, Tensor]],
    device: torch.device,
    progress: Callable[[int], None] = lambda _: None,
) -> ClassificationResult:
    """Classify clips and compare with their classes.

    Args:
        spec, weights: the net.
        batches: clips and class numbers.
        device: of the computation.
        progress: called with the number of clips classified up to now.

    Shape: clips float32 [B, T] in [-1, 1], class numbers int64 [B].
    """
    net, front_end = spec.net().to(device), spec.front_end().to(device)
    net.load_state_dict(weights)
    net.eval()
    classes = [*spec.labels, *(spec.others or ())]
    confusion, loss, done = torch.zeros(len(classes) ** 2, dtype=torch.long), 0.0, 0
    for pcm, target in batches:
        logits = net.last_logits(front_end.clips(pcm, front_end.hop_n * net.stride))
        loss += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
        cell = (target * len(classes) + logits.argmax(1)).cpu()
        confusion += torch.bincount(cell, minlength=len(confusion))
        done += len(target)
        progress(done)
    return ClassificationResult(classes, confusion.view(len(classes), -1), loss / max(1, done))


def tables(result: ClassificationResult, title: str) -> list[Table]:
    """Accuracy with recall and precision of each class, and the confusion matrix."""
    shares = [(name, str(result.recall(k)), str(result.precision(k))) for k, name in enumerate(result.classes)]
    rows = [("all", str(result.accuracy), ""), *shares]
    counts = [(name, *map(str, line)) for name, line in zip(result.classes, result.confusion.tolist(), strict=True)]
    return [
        Table(title, ("class", "recall [95 %]", "precision [95 %]"), rows),
        Table(f"{title}: confusion matrix, true class (rows) and predicted class", ("", *result.classes), counts),
    ]


def show(console: Console, result: ClassificationResult, title: str) -> list[Table]:
    """Print and return the tables. With many classes only the most frequent confusions are printed."""
    made = tables(result, title)
    if len(result.classes) <= MAX_SHOWN_CLASSES:
        shown = made
    else:
        names, lines = result.classes, result.confusion.tolist()
        wrong = [(n, names[i], names[j]) for i, line in enumerate(lines) for j, n in enumerate(line) if n and i != j]
        worst = sorted(wrong, key=lambda one: -one[0])[:SHOWN_PAIRS]
        rows = [(true, predicted, str(n)) for n, true, predicted in worst]
        confusions = f"{title}: most frequent confusions; all in the report"
        shown = [made[0], Table(confusions, ("true", "predicted", "clips"), rows)]
    for table in shown:
        console.table(*table)
    return made
