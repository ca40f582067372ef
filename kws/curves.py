"""Training curves as CSV: one row a step or a look at the share, readable by anything."""

import csv
import dataclasses
import io
from pathlib import Path
from types import TracebackType
from typing import Self

from kws.audio import replacing
from kws.trainer import Shared, Step


class Curves:
    """Appends to `path`; rows of steps that a resumed run does again are dropped first.

    Args:
        path: the CSV file.
        step: the step at which training goes on.
        kind: the record of a row; its first field is `step`.
    """

    def __init__(self, path: Path, step: int, kind: type[Step] | type[Shared] = Step) -> None:
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

    def add(self, row: Step | Shared) -> None:
        """One more row."""
        self.writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in dataclasses.astuple(row))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.file.close()


def whole(row: dict[str, str], names: list[str]) -> bool:
    """Is this a row that was written to its end? A kill may have cut the last."""
    return all(row.get(n) for n in names) and row["step"].isdigit()
