"""What such a run tells as it trains: CSV always, TensorBoard unless it is off, a note beside the progress bar."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from kws.common.console import Console
from kws.evaluation.classification import ValidationAccuracy
from kws.training.metrics import Curves, Learned
from kws.training.tensorboard import EventFile


class ClassesLog:
    """The curves of a run; what its `Trainer` tells.

    Args:
        folder: of the run.
        step: the step at which training goes on.
        tensorboard: write event files too, in a folder of that name.
        console, tick: where the run speaks, and its progress bar.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool, console: Console, tick: Callable[..., None]) -> None:
        self.tick, self.done, self.note, self.held_out = tick, step, "", ""
        with ExitStack() as stack:
            self.steps = stack.enter_context(Curves(folder / "metrics.csv", step, Learned))
            self.validations = stack.enter_context(Curves(folder / "validation.csv", step, ValidationAccuracy))
            self.events = (
                stack.enter_context(EventFile(folder / "tensorboard", step, console.warn)) if tensorboard else None
            )
            self.files = stack.pop_all()

    def step(self, told: Learned) -> None:
        """A step is done."""
        self.steps.add(told)
        self._show("train", told)
        self.done, self.note = told.step + 1, f"epoch {told.epoch}, loss {told.loss:.3f}"
        self.tick(self.done, self.note + self.held_out)

    def validation(self, told: ValidationAccuracy) -> None:
        """The validation part was heard."""
        self.validations.add(told)
        self._show("validation", told)
        self.held_out = f", {told.right} of {told.clips} validation clips right"
        self.tick(self.done, self.note + self.held_out)

    def _show(self, group: str, row: Learned | ValidationAccuracy) -> None:
        if self.events is not None:
            self.events.add(row.step, {f"{group}/{k}": v for k, v in asdict(row).items() if k != "step"})

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.files.close()
