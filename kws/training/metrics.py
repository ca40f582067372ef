"""Training curves: CSV files, TensorBoard event files, and a note below the progress bar."""

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import replacing

if TYPE_CHECKING:  # scipy and tensorboard are slow to import
    from torch.utils.tensorboard import SummaryWriter

    from kws.evaluation.operating_points import OperatingPoint


@dataclass(frozen=True)
class StepMetrics:
    """One training step of a wake word.

    Losses are means over the rows of a kind: keywords, fresh and replayed negatives. Gradients are the shares of the
    kinds in the sum of |d loss / d logit| over the batch.
    """

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
    gradient_positive: float
    gradient_fresh: float
    gradient_replayed: float

    def __str__(self) -> str:
        return f"loss {self.loss:.3f}, {self.replayed} of {self.buffer} replayed"


@dataclass(frozen=True)
class ClassificationMetrics:
    """One training step of a classification; `right` counts the correct clips of the augmented batch."""

    step: int
    epoch: int
    loss: float
    right: int
    batch: int
    lr: float

    def __str__(self) -> str:
        return f"epoch {self.epoch}, loss {self.loss:.3f}"


@dataclass(frozen=True)
class PhoneMetrics:
    """One training step of a base net: the mean loss of a phone, and the utterances of the batch."""

    step: int
    loss: float
    batch: int
    lr: float

    def __str__(self) -> str:
        return f"loss {self.loss:.3f}"


@dataclass(frozen=True)
class PhoneErrors:
    """Errors of a base net in the phones of the validation utterances."""

    step: int
    errors: int
    phones: int
    utterances: int

    def __str__(self) -> str:
        return f"{self.errors} errors in {self.phones} phones"


def gradient_shares(file: Path) -> str:
    """Which rows moved the net since replay began, in words; "" where no batch replayed a clip.

    Example: keywords 55%, fresh negatives 31%, replayed 14% (10% of the rows)

    Args:
        file: metrics.csv of a wake word.
    """
    with file.open(newline="", encoding="utf-8") as lines:
        replaying = [row for row in csv.DictReader(lines) if int(row["replayed"])]
    if not replaying:
        return ""
    positive, fresh, replayed, rows = (
        f"{sum(map(share, replaying)) / len(replaying):.0%}"
        for share in (
            lambda row: float(row["gradient_positive"]),
            lambda row: float(row["gradient_fresh"]),
            lambda row: float(row["gradient_replayed"]),
            lambda row: int(row["replayed"]) / int(row["batch"]),
        )
    )
    return f"keywords {positive}, fresh negatives {fresh}, replayed {replayed} ({rows} of the rows)"


@dataclass(frozen=True)
class ShareMetrics:
    """One decision on an adaptive replay share, with the validation counts that it rests on."""

    step: int
    before: float
    after: float
    false_alarms: int
    hours: float
    misses: int
    events: int
    reason: str


@dataclass(frozen=True)
class ValidationMetrics:
    """One keyword on the validation streams, at the threshold for a rate; intervals as in `OperatingPoint`."""

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
        """Row of an operating point after a step."""
        return cls(step, keyword, *(getattr(point, field.name) for field in dataclasses.fields(cls)[2:]))


def summary(rows: Sequence[ValidationMetrics]) -> str:
    """Misses of all keywords in a few words; too few hours for the wanted rate are named.

    Examples: misses 3/40 at 0.5/h; misses 3/40 with no alarm in 0.51 h.
    """
    counted = f"misses {sum(row.misses for row in rows)}/{sum(row.events for row in rows)}"
    rate, hours = rows[0].wanted_fa_per_hour, rows[0].hours
    return f"{counted} at {rate:g}/h" if rate * hours >= 1 else f"{counted} with no alarm in {hours:.2f} h"


class Curves(AbstractContextManager["Curves"]):
    """Appends rows to a CSV file. Rows of steps that a resumed run repeats are dropped first.

    Args:
        path: the CSV file.
        step: the step at which training starts or resumes.
        kind: dataclass of a row; its first field is `step`.
    """

    def __init__(self, path: Path, step: int, kind: type[Any]) -> None:
        names = [field.name for field in dataclasses.fields(kind)]
        done = read_rows(path, names) if path.is_file() else []
        with replacing(path) as target:
            text = io.StringIO(newline="")
            csv.writer(text).writerows([names, *([row[n] for n in names] for row in done if int(row["step"]) < step)])
            target.write(text.getvalue().encode())
        self.file = path.open("a", newline="", encoding="utf-8", buffering=1)  # a kill loses at most one line
        self.writer = csv.writer(self.file)

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def add(self, row: Any) -> None:
        """Append one row."""
        self.writer.writerow(f"{v:.6g}" if isinstance(v, float) else v for v in dataclasses.astuple(row))


class MetricsLog(ExitStack):
    """Writes the curves of a run: metrics.csv, validation.csv, share.csv and tensorboard/.

    Args:
        folder: of the run.
        step: the step at which training starts or resumes.
        kinds: dataclass of the rows of each CSV file, by the name of the file; other rows are discarded.
        tensorboard: write event files as well.
        console, tick: for messages, and for the progress bar.
    """

    def __init__(
        self,
        folder: Path,
        step: int,
        kinds: dict[str, type[Any]],
        tensorboard: bool,
        console: Console,
        tick: Callable[..., None],
    ) -> None:
        super().__init__()
        self.console, self.tick = console, tick
        self.done, self.note, self.validated = step, "", ""
        self.events_folder = folder / "tensorboard"
        self.writer: SummaryWriter | None = None
        self.curves = {n: self.enter_context(Curves(folder / f"{n}.csv", step, kind)) for n, kind in kinds.items()}
        if tensorboard:
            self._to_tensorboard(lambda: self._open(step))
            self.callback(self._close)

    def step(self, row: Any) -> None:
        """Record a training step."""
        self._add("metrics", row, "train")
        self.done, self.note = row.step + 1, str(row)
        self.tick(self.done, self.note + self.validated)

    def share(self, row: ShareMetrics) -> None:
        """Record a decision on an adaptive replay share."""
        self._add("share", row)
        self.console.say(f"step {row.step}: share {row.before:.3f} -> {row.after:.3f}: {row.reason}")

    def validation(self, rows: Sequence[Any], note: str) -> None:
        """Record a validation, summarised by `note`: one row, or one for each keyword."""
        for row in rows:
            self._add("validation", row, f"validation/{row.keyword}" if hasattr(row, "keyword") else "validation")
        self.validated = f", {note}"
        self.tick(self.done, self.note + self.validated)

    def _add(self, name: str, row: Any, group: str = "") -> None:
        """Append a row to a CSV file; with a group, each of its numbers is a curve in TensorBoard too."""
        if name in self.curves:
            self.curves[name].add(row)
        if group and self.writer is not None:
            self._to_tensorboard(lambda: self._plot(row, group))

    def _open(self, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(self.events_folder, purge_step=step)  # hides what a killed run wrote from `step` on

    def _plot(self, row: Any, group: str) -> None:
        assert self.writer is not None
        for name, value in asdict(row).items():
            if name != "step" and not isinstance(value, str):
                self.writer.add_scalar(f"{group}/{name}", value, row.step)
        self.writer.flush()  # a kill loses no step that the CSV file has

    def _to_tensorboard(self, write: Callable[[], None]) -> None:
        """Run `write`; an error ends the event files and never the run."""
        try:
            write()
        except Exception as error:  # of the file system or of tensorboard
            self.console.warn(f"{self.events_folder}: TensorBoard stops here ({error}); the CSV files go on")
            self.writer = None

    def _close(self) -> None:
        if self.writer is not None:
            self._to_tensorboard(self.writer.close)


def read_rows(path: Path, names: Sequence[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV file of curves that have `step` and these columns. A kill may have cut the last row.

    Raises:
        KwsError: no such file, or a column is missing.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = [row for row in reader if all(row.get(n) for n in names) and (row.get("step") or "").isdigit()]
            missing = [name for name in names if name not in (reader.fieldnames or ())]
    except (OSError, ValueError, csv.Error) as error:
        raise KwsError(f"{path}: no curves of a run can be read ({error})") from error
    if missing:
        raise KwsError(f"{path}: no column {missing[0]}; another version of kws wrote it, or another program")
    return rows


def read_columns(path: Path, names: Sequence[str]) -> dict[str, list[float]]:
    """Read columns of numbers of a CSV file of curves.

    Raises:
        KwsError: no such file, or a column is missing or holds no number.
    """
    rows = read_rows(path, names)
    try:
        return {name: [float(row[name]) for row in rows] for name in names}
    except ValueError as error:
        raise KwsError(f"{path}: no curves of a run can be read ({error})") from error
