"""Terminal output: progress bars with the time left, warnings, tables."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.cells import cell_len
from rich.console import Console as RichConsole
from rich.console import JustifyMethod, RenderableType
from rich.markup import escape as escape_markup
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from kws.common.errors import printable

LOG_EVERY_S = 30.0  # between two lines about progress where standard output is no terminal


def escape(text: str) -> str:
    """Escape text for rich: the name of a recording must drive neither the terminal nor rich markup."""
    return escape_markup(printable(text))


class Console:
    """Writes to standard output, warnings to standard error. Escapes all text.

    Args:
        quiet: write nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.out = RichConsole(highlight=False, quiet=quiet)
        self.err = RichConsole(stderr=True, highlight=False, quiet=quiet)

    def say(self, text: str) -> None:
        """Print one line."""
        self.out.print(escape(text), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print one line in yellow on standard error."""
        self.err.print(f"[yellow]{escape(text)}[/]", soft_wrap=True)

    def table(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]], blocks: bool = False) -> None:
        """Print a table, the first column left-aligned, the others right-aligned.

        With `blocks`, a table that is wider than the terminal is printed as a block of lines for each row.
        """
        made = Table(title=escape(title), box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
        for i, name in enumerate(header):
            made.add_column(escape(name), justify="left" if i == 0 else "right")
        for row in rows:
            made.add_row(*map(escape, row))
        if blocks and not self._fits(made):
            self._blocks(title, header, rows)
        else:
            self._print(made, 1000)

    def _fits(self, table: Table) -> bool:
        """Whether a table fits into the terminal; a file or a pipe has room for any."""
        needed = self.out.measure(table, options=self.out.options.update(max_width=10_000)).maximum
        return not self.out.is_terminal or needed <= self.out.width

    def _blocks(self, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print each row as its first cell, and a line for each other cell; `-` is left out."""
        width = max(map(cell_len, header))
        self.out.print(f"[bold]{escape(title)}[/]", soft_wrap=True)
        for first, *others in rows:
            self.out.print(f"\n[bold]{escape(first)}[/]", soft_wrap=True)
            for name, cell in zip(header[1:], others, strict=True):
                if cell != "-":
                    self.say(f"  {name}{' ' * (width - cell_len(name))}  {cell}")

    def _print(self, table: Table, width: int) -> None:
        """Print a table; a file or a pipe has no width of its own."""
        out = self.out if self.out.is_terminal else RichConsole(file=self.out.file, highlight=False, width=width)
        out.print(table)

    def lines(self, header: Sequence[str], rows: Sequence[Sequence[str]], cut: int, from_left: int) -> bool:
        """Print a table with one line per row. In a terminal the last `cut` columns are shortened to fit.

        Without room for 8 characters of each they are left out. Column `from_left` is shortened at its beginning, the
        others at their end. Returns whether all columns are shown.
        """
        made = Table(box=box.SIMPLE_HEAD, padding=0)
        widths = [max(map(cell_len, column)) for column in zip(header, *rows, strict=True)]
        needed, n_numbers, n_columns = sum(widths) + len(widths) + 1, len(header) - cut, len(header)
        if self.out.is_terminal:
            room = (self.out.width - sum(widths[:-cut]) - len(widths) - 1) // cut
            if room < 8:
                header, rows, widths = header[:-cut], [row[:-cut] for row in rows], widths[:-cut]
            else:
                widths[-cut:] = [min(width, room) for width in widths[-cut:]]
        for i, (name, width) in enumerate(zip(header, widths, strict=True)):
            number = 0 < i < n_numbers
            justify: JustifyMethod = "right" if number else "left"
            made.add_column(escape(name), justify=justify, no_wrap=True, overflow="ellipsis", width=width)
        for row in rows:
            cells = list(row)
            if from_left < len(cells) and cell_len(cells[from_left]) > widths[from_left]:
                cells[from_left] = "…" + cells[from_left][1 - widths[from_left] :]
            made.add_row(*map(escape, cells))
        self._print(made, needed)
        return len(header) == n_columns

    @contextmanager
    def progress(self, what: str, total: int, unit: str = "") -> Iterator[Callable[..., None]]:
        """Show a progress bar with the time left; in a file or a pipe, a line every `LOG_EVERY_S`.

        Yields `tick(done, note, total)`. `unit` is that of the numbers, such as s.
        """
        if not self.out.is_terminal:
            with _Lines(self, what, total, unit) as tick:
                yield tick
            return
        counts = (BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}{task.fields[unit]}"))
        times = (TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        with _Bar(TextColumn("{task.description:<22}"), *counts, *times, console=self.out) as bar:
            task = bar.add_task(escape(what), total=total, note="", unit=f" {unit}".rstrip())

            def tick(done: int, note: str = "", total: int | None = None) -> None:
                bar.update(task, completed=done, note=printable(note), total=total)

            yield tick


@contextmanager
def audio_progress(console: Console, what: str, total_s: float) -> Iterator[Callable[[float], None]]:
    """Show progress in seconds of audio, with the time left and the speed relative to real time."""
    begun = time.monotonic()
    with console.progress(what, round(total_s), "s") as tick:

        def report(done_s: float) -> None:
            pace = done_s / max(1e-3, time.monotonic() - begun)
            tick(min(round(done_s), round(total_s)), f"{pace:.0f}x real time")

        yield report
        tick(round(total_s))


class _Lines:
    """Progress as lines of a log: one every `LOG_EVERY_S`, also while nothing is done, and one at the end."""

    def __init__(self, console: Console, what: str, total: int, unit: str) -> None:
        self.console, self.what, self.total, self.unit = console, what, total, f" {unit}".rstrip()
        self.begun, self.done, self.note = time.monotonic(), 0, ""
        self.first: int | None = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._log, daemon=True)

    def __enter__(self) -> Callable[..., None]:
        self.thread.start()
        return self._tick

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.ended.set()
        self.thread.join()
        if kind is None:
            counts = f"{self.done} of {self.total}{self.unit}"
            self.console.say(f"{self.what}: {counts} in {_clock(self._elapsed_s)}{self._noted}")

    def _tick(self, done: int, note: str = "", total: int | None = None) -> None:
        self.total = self.total if total is None else total
        self.done, self.note = done, note
        if self.first is None:  # a resumed run begins in the middle
            self.first = done

    @property
    def _noted(self) -> str:
        return f"; {self.note}" if self.note else ""

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self.begun

    def _log(self) -> None:
        while not self.ended.wait(LOG_EVERY_S):
            new = self.done - (self.first or 0)
            # The first steps say little about the others.
            known = new > 0 and (new >= self.total / 20 or self._elapsed_s > 120)
            left = f", {_clock(self._elapsed_s * (self.total - self.done) / new)} left" if known else ""
            share = f" ({self.done / self.total:.0%})" if self.total else ""
            self.console.say(f"{self.what}: {self.done} of {self.total}{self.unit}{share}{left}{self._noted}")


def _clock(seconds: float) -> str:
    """A duration: 0:05, 12:30, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class _Bar(Progress):
    """Progress bar with a note on a line of its own below the bar."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if task.fields["note"]:
                yield Text(f"  {task.fields['note']}", no_wrap=True, overflow="ellipsis")
