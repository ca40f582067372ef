"""How well classes are told apart: accuracy, each class, which is taken for which."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from kws.common.console import Console
from kws.detector.checkpoint import ModelSpec
from kws.evaluation.intervals import wilson
from kws.evaluation.report.page import Table, share_text


@dataclass(frozen=True)
class Told:
    """How many validation clips are told right, with the 95 % interval of the share (Wilson)."""

    step: int
    loss: float
    right: int
    clips: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Share:
    """So many of so many, with the 95 % interval of the share (Wilson); of nothing it may be anything."""

    right: int
    clips: int
    share: float
    low: float
    high: float

    @classmethod
    def of(cls, right: int, clips: int) -> "Share":
        return cls(right, clips, right / clips if clips else 0.0, *wilson(right, clips))

    def __str__(self) -> str:
        return share_text(self.right, self.clips, self.low, self.high) if self.clips else "-"


@dataclass(frozen=True)
class Result:
    """What a net said of clips whose class is known.

    Shape: confusion int64 [K, K], a row what a clip is, a column what it was taken for.
    """

    classes: Sequence[str]
    confusion: Tensor
    loss: float

    @property
    def accuracy(self) -> Share:
        """Over all clips."""
        return Share.of(int(self.confusion.diagonal().sum()), int(self.confusion.sum()))

    def found(self, k: int) -> Share:
        """Of the clips of a class, how many were taken for it (recall)."""
        return Share.of(int(self.confusion[k, k]), int(self.confusion[k].sum()))

    def meant(self, k: int) -> Share:
        """Of the clips that were taken for a class, how many are of it (precision)."""
        return Share.of(int(self.confusion[k, k]), int(self.confusion[:, k].sum()))

    def told(self, step: int) -> Told:
        """As a row of the curves."""
        a = self.accuracy
        return Told(step, self.loss, a.right, a.clips, a.share, a.low, a.high)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        each = {
            name: {"recall": asdict(self.found(k)), "precision": asdict(self.meant(k))}
            for k, name in enumerate(self.classes)
        }
        return {
            "accuracy": asdict(self.accuracy),
            "loss": self.loss,
            "classes": each,
            "confusion": self.confusion.tolist(),
        }


@torch.no_grad()
def judge(
    recipe: ModelSpec,
    weights: Mapping[str, Tensor],
    batches: Iterator[tuple[Tensor, Tensor]],
    device: torch.device,
    tick: Callable[[int], None] = lambda done: None,
) -> Result:
    """What these weights say at the end of each clip.

    Args:
        recipe, weights: the net.
        batches: clips with their classes, see `Clips.plain`.
        device: where it runs.
        tick: told how many clips are done.
    """
    net, front_end = recipe.net().to(device), recipe.front_end().to(device)
    net.load_state_dict(weights)
    net.eval()
    classes = [*recipe.labels, *(recipe.others or ())]
    confusion, loss, done = torch.zeros(len(classes) ** 2, dtype=torch.long), 0.0, 0
    for pcm, target in batches:
        logits = net.judge(front_end.clips(pcm, front_end.hop_n * net.stride))
        loss += float(torch.nn.functional.cross_entropy(logits, target, reduction="sum"))
        place = (target * len(classes) + logits.argmax(1)).cpu()
        confusion += torch.bincount(place, minlength=len(confusion))
        done += len(target)
        tick(done)
    return Result(classes, confusion.view(len(classes), -1), loss / max(1, done))


def tables(result: Result, title: str) -> list[Table]:
    """Accuracy and each class; and which class is taken for which."""
    shares = [(name, str(result.found(k)), str(result.meant(k))) for k, name in enumerate(result.classes)]
    rows = [("all", str(result.accuracy), ""), *shares]
    counts = [(name, *map(str, line)) for name, line in zip(result.classes, result.confusion.tolist(), strict=True)]
    return [
        Table(title, ("class", "found, of those there are [95 %]", "right, of those so called [95 %]"), rows),
        Table(f"{title}: what a clip is (rows), and what it was taken for", ("", *result.classes), counts),
    ]


def show(console: Console, result: Result, title: str) -> list[Table]:
    """The tables in the terminal; of many classes only the pairs that were confused most."""
    made = tables(result, title)
    console.table(made[0].title, made[0].header, made[0].rows)
    if len(result.classes) <= 15:
        console.table(made[1].title, made[1].header, made[1].rows)
    else:
        names, lines = result.classes, result.confusion.tolist()
        wrong = [(n, names[i], names[j]) for i, line in enumerate(lines) for j, n in enumerate(line) if n and i != j]
        worst = [(said, taken, str(n)) for n, said, taken in sorted(wrong, key=lambda one: -one[0])[:10]]
        console.table(f"{title}: most often confused; all in the report", ("is", "taken for", "clips"), worst)
    return made
