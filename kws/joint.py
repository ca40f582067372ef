"""What processes that train together share of a buffer: the first fills it and looks, all learn what came of it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kws.curves import Shared, Step, Validated, Weighed
from kws.harvest import Harvest
from kws.operating import OperatingPoint
from kws.ranks import Ranks
from kws.replay.share import Observed
from kws.replay.snapshot import Contents, Snapshot
from kws.trainer import Hard, Trainer


class Joint:
    """The `Rounds` of a trainer in any of the processes.

    Args:
        ranks: the processes.
        rounds: do the work; None but in the first process.
        received: a snapshot with these contents.
    """

    def __init__(self, ranks: Ranks, rounds: Harvest | None, received: Callable[[Contents], Snapshot]) -> None:
        self.ranks, self.rounds, self.received = ranks, rounds, received

    def snapshot(self, state: Mapping[str, Any] | None = None) -> Snapshot:
        """See `Harvest`."""
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
    def _first(self) -> Harvest:
        assert self.rounds is not None
        return self.rounds

    def fill(self, trainer: Trainer, round_: int, pool: bool, hard: Sequence[Hard]) -> Snapshot:
        """See `Rounds`."""
        return self._shared(lambda: self._first.fill(trainer, round_, pool, hard))

    def observe(self, trainer: Trainer) -> Observed:
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

    def weight(self, told: Weighed) -> None:
        """Nothing."""

    def validation(self, told: Sequence[Validated]) -> None:
        """Nothing."""
