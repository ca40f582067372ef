"""What processes that train together share of a buffer: the first fills it and looks, all learn what came of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kws.evaluation.operating_points import OperatingPoint
from kws.evaluation.validation import ValidationCounts
from kws.replay.snapshot import Contents, Snapshot
from kws.training.distributed import Distributed
from kws.training.hard_negatives import HardNegativeMiner
from kws.training.metrics import Shared, Step, Validated
from kws.training.trainer import Hard, Trainer


class Joint:
    """The `Rounds` of a trainer in any of the processes.

    Args:
        ranks: the processes.
        rounds: do the work; None but in the first process.
        received: a snapshot with these contents.
    """

    def __init__(
        self, ranks: Distributed, rounds: HardNegativeMiner | None, received: Callable[[Contents], Snapshot]
    ) -> None:
        self.ranks, self.rounds, self.received = ranks, rounds, received

    def snapshot(self, state: Mapping[str, Any] | None = None) -> Snapshot:
        """See `HardNegativeMiner`."""
        return self._shared(lambda: self._first.snapshot(state))

    def _shared(self, taken: Callable[[], Snapshot]) -> Snapshot:
        """A snapshot that the first process takes, for all."""
        kept: list[Snapshot] = []

        def contents() -> Contents:
            kept.append(taken())
            return kept[0].contents()

        sent = self.ranks.first(contents)
        return kept[0] if kept else self.received(sent)

    @property
    def _first(self) -> HardNegativeMiner:
        assert self.rounds is not None
        return self.rounds

    def fill(self, trainer: Trainer, round_: int, pool: bool, hard: Sequence[Hard]) -> Snapshot:
        """See `Rounds`."""
        return self._shared(lambda: self._first.fill(trainer, round_, pool, hard))

    def observe(self, trainer: Trainer) -> ValidationCounts:
        """See `Rounds`."""
        return self.ranks.first(lambda: self._first.observe(trainer))

    def validate(self, trainer: Trainer) -> Mapping[str, OperatingPoint]:
        """See `Rounds`."""
        return self.ranks.first(lambda: self._first.validate(trainer))


class Unheard:
    """The log of a process that is not the first."""

    def step(self, told: Step) -> None:
        """Nothing."""

    def share(self, told: Shared) -> None:
        """Nothing."""

    def validation(self, told: Sequence[Validated]) -> None:
        """Nothing."""
