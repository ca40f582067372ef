"""Training curves as CSV, readable by anything: a row a step, a look at the share, or a keyword on validation."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.evaluation.classification import ValidationAccuracy

if TYPE_CHECKING:  # scipy is slow to import, and only its name is wanted
    from kws.evaluation.operating_points import OperatingPoint


@dataclass(frozen=True)
class Step:
    """What one step had to say."""

    step: int
    loss: float
    loss_positive: float
    loss_fresh: float
    loss_replayed: float
    share: float
    replayed: int
    batch: int
    buffer: int
    lr: float


@dataclass(frozen=True)
class Shared:
    """A change of an adaptive share, or why there was none."""

    step: int
    before: float
    after: float
    false_alarms: int
    hours: float
    misses: int
    events: int
    reason: str


@dataclass(frozen=True)
class Validated:
    """One keyword on the validation streams, at the threshold for the wanted rate; intervals as in `OperatingPoint`."""

    step: int
    keyword: str
    wanted_fa_per_hour: float
    threshold: float
    misses: int
    events: int
    miss_rate: float
    miss_low: float
    miss_high: float
    false_alarms: int
    hours: float
    fa_per_hour: float
    fa_low: float
    fa_high: float

    @classmethod
    def of(cls, step: int, keyword: str, point: "OperatingPoint") -> Self:
        """What was counted after a step."""
        return cls(step, keyword, *(getattr(point, field.name) for field in dataclasses.fields(cls)[2:]))


@dataclass(frozen=True)
class Learned:
    """What one step of telling classes apart had to say: how many clips of its batch were right as they were varied."""

    step: int
    epoch: int
    loss: float
    right: int
    batch: int
    lr: float


Row = Step | Shared | Validated | Learned | ValidationAccuracy


class Curves:
    """Appends to `path`; rows of steps that a resumed run does again are dropped first.

    Args:
        path: the CSV file.
        step: the step at which training goes on.
        kind: the record of a row; its first field is `step`.
    """

    def __init__(self, path: Path, step: int, kind: type[Row]) -> None:
        self.names = [f.name for f in dataclasses.fields(kind)]
        done = []
        if path.is_file():
            with path.open(newline="", encoding="utf-8") as file:
                done = [row for row in csv.DictReader(file) if whole(row, self.names) and int(row["step"]) < step]
        with replacing(path) as target:
            text = io.StringIO(newline="")
            csv.writer(text).writerows([self.names, *([row[n] for n in self.names] for row in done)])
            target.write(text.getvalue().encode())
        self.file = path.open("a", newline="", encoding="utf-8", buffering=1)  # a kill loses no more than a line
        self.writer = csv.writer(self.file)

    def add(self, row: Row) -> None:
        """One more row."""
        self.writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in dataclasses.astuple(row))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Columns of a file of curves, as far as its rows were written to their end.

    Raises:
        KwsError: no such file, or a column is missing or holds no number.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if whole(row, list(names))]
            if missing := [name for name in names if name not in (reader.fieldnames or ())]:
                raise KwsError(f"{path}: no column {missing[0]}; another version of kws wrote it, or another program")
            return {name: [float(row[name]) for row in rows] for name in names}
    except (OSError, ValueError) as error:
        raise KwsError(f"{path}: no curves of a run can be read ({error})") from error


def whole(row: dict[str, str], names: list[str]) -> bool:
    """Is this a row that was written to its end? A kill may have cut the last."""
    return all(row.get(n) for n in names) and row["step"].isdigit()
