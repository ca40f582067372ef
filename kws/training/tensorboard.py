"""The curves for TensorBoard: an event file for each session of a run, one record a step.

The records are tensorboard's own, the writer is not: torch's SummaryWriter keeps them in the queue of a thread, which a
kill loses and whose errors are tracebacks, names its files by the second, and takes fifteen times as long.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self


class EventFile:
    """Appends numbers to a new event file in `folder`; an error is said once and ends the file, never the run.

    Args:
        folder: made if it is not there.
        step: the step at which training goes on: what earlier files hold of it and of later ones is no longer shown.
        warn: takes the line about an error.
    """

    def __init__(self, folder: Path, step: int, warn: Callable[[str], None]) -> None:
        self.folder, self.warn = folder, warn
        self.file: BinaryIO | None = None
        with self._guarded():
            from tensorboard.compat.proto.event_pb2 import SessionLog
            from tensorboard.summary.writer.record_writer import RecordWriter

            folder.mkdir(parents=True, exist_ok=True)
            # TensorBoard reads them in the order of their names.
            number = max((int(p.suffix[1:]) for p in folder.glob("events.out.tfevents.*")), default=0) + 1
            self.file = (folder / f"events.out.tfevents.{number:06}").open("xb", buffering=0)  # a kill loses nothing
            self.records = RecordWriter(self.file)
            self._write(file_version="brain.Event:2")
            self._write(step=step, session_log=SessionLog(status=SessionLog.START))

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """One number a name, of one step."""
        if self.file is None:
            return
        with self._guarded():
            from tensorboard.compat.proto.summary_pb2 import Summary

            listed = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
            self._write(step=step, summary=Summary(value=listed))

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self.records.write(Event(wall_time=time.time(), **fields).SerializeToString())

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever it is, a picture of a run is not worth the run
            self.warn(f"{self.folder}: no more curves for TensorBoard ({error}); the CSV files go on")
            self._close()

    def _close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
