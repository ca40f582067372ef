"""What an arm of a run tells as it trains: CSV always, TensorBoard unless it is off, a note beside the progress bar."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from kws.common.console import Console
from kws.training.metrics import Curves, Row, Shared, Step, Validated
from kws.training.tensorboard import EventFile


class RunLog:
    """The curves of one arm; what a `Trainer` tells.

    Args:
        folder: of the arm.
        step: the step at which training goes on.
        tensorboard: write event files too, in a folder of that name.
        console, tick: where the run speaks, and its progress bar.
    """

    def __init__(self, folder: Path, step: int, tensorboard: bool, console: Console, tick: Callable[..., None]) -> None:
        self.console, self.tick = console, tick
        self.done, self.note, self.missed = step, "", ""
        with ExitStack() as stack:
            self.steps = stack.enter_context(Curves(folder / "metrics.csv", step, Step))
            self.shares = stack.enter_context(Curves(folder / "share.csv", step, Shared))
            self.validations = stack.enter_context(Curves(folder / "validation.csv", step, Validated))
            self.events = (
                stack.enter_context(EventFile(folder / "tensorboard", step, console.warn)) if tensorboard else None
            )
            self.files = stack.pop_all()

    def step(self, told: Step) -> None:
        """A step is done."""
        self.steps.add(told)
        self._show("train", told)
        self.done, self.note = told.step + 1, f"loss {told.loss:.3f}, {told.replayed} replayed of {told.buffer}"
        self.tick(self.done, self.note + self.missed)

    def share(self, told: Shared) -> None:
        """An adaptive share was looked at."""
        self.shares.add(told)
        self.console.say(f"step {told.step}: share {told.before:.3f} -> {told.after:.3f}: {told.reason}")

    def validation(self, told: Sequence[Validated]) -> None:
        """The validation streams were heard."""
        for row in told:
            self.validations.add(row)
            self._show(f"validation/{row.keyword}", row)
        self.missed = f", {missed(told)}"
        self.tick(self.done, self.note + self.missed)

    def _show(self, group: str, row: Row) -> None:
        """In TensorBoard each number of a row is a curve."""
        if self.events is not None:
            numbers = {f"{group}/{k}": v for k, v in asdict(row).items() if k != "step" and not isinstance(v, str)}
            self.events.add(row.step, numbers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.files.close()


def missed(rows: Sequence[Validated]) -> str:
    """All keywords in few words: misses 3/40 at 0.5/h; where the hours are too few for that rate, what they allow."""
    counted = f"misses {sum(row.misses for row in rows)}/{sum(row.events for row in rows)}"
    rate, hours = rows[0].wanted_fa_per_hour, rows[0].hours
    return f"{counted} at {rate:g}/h" if rate * hours >= 1 else f"{counted} with no alarm in {hours:.2f} h"
