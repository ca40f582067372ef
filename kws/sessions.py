"""The sessions of a run: when each began, how long it lasted, with what, and how it ended; a resume is one more."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kws.audio import replacing
from kws.errors import KwsError, one_line

FILE = "sessions.json"
# What a run writes as it goes: the last sign of life of a session that was killed.
SIGNS = ("metrics.csv", "state.pt", "config.yaml", "model.pt", "detector.pt")


@dataclass(frozen=True)
class Session:
    """One call of `kws train`.

    Args:
        began: seconds since 1970.
        command: what was given on the command line.
        choices: of each config group, such as model: ds_tcn.
        threads, device: that it computed with; None where it failed before it computed.
        seconds: that it lasted; None while it is at work, or where it was killed and nothing followed.
        ended: finished, failed, stopped (by Ctrl-C) or killed; empty as `seconds` is None.
        error: why it failed.
    """

    began: float
    command: list[str] = field(default_factory=list)
    choices: dict[str, str] = field(default_factory=dict)
    threads: int | None = None
    device: str | None = None
    seconds: float | None = None
    ended: str = ""
    error: str = ""

    @property
    def date(self) -> str:
        """When it began, for people."""
        return datetime.fromtimestamp(self.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


class Keeper:
    """Keeps the session that happens inside it, in the folder of its run.

    The file is written when the session begins and when it ends: what is killed ends nothing, and is closed by the next
    session, at its last sign of life.

    Args:
        command: what was given on the command line.
        choices: of each config group.
        folder: where a session is kept that fails before it begins; None: nowhere.
    """

    def __init__(self, command: Sequence[str], choices: Mapping[str, str], folder: Path | None = None) -> None:
        self.session = Session(time.time(), list(command), dict(choices))
        self.since = time.monotonic()
        self.folder = folder
        self.before: list[Session] = []
        self.begun = False

    def begin(self, folder: Path, threads: int, device: str) -> None:
        """The run is the one of this folder, and goes on."""
        self.folder, self.begun = folder, True
        self.before = [closed(one, folder) for one in read(folder)]
        self.session = replace(self.session, threads=threads, device=device)
        write(folder, [*self.before, self.session])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception | KeyboardInterrupt):
            return  # as if it were killed
        if not self.begun:
            # Whose folder it is, is known: nobody's. One with a configuration may be another run's.
            if self.folder is None or error is None or (self.folder / "config.yaml").exists():
                return
            self.before = read(self.folder)
        assert self.folder is not None
        ended = "finished" if error is None else "failed" if isinstance(error, Exception) else "stopped"
        why = ""
        if isinstance(error, Exception):
            why = one_line(error) if isinstance(error, KwsError | OSError) else f"{type(error).__name__}: {error}"
        last = replace(self.session, seconds=round(time.monotonic() - self.since, 3), ended=ended, error=why)
        write(self.folder, [*self.before, last])


def closed(session: Session, folder: Path) -> Session:
    """A session that was killed, as long as it gave signs of life; any other as it is."""
    if session.ended:
        return session
    signs = [file.stat().st_mtime for name in SIGNS if (file := folder / name).is_file()]
    lasted = max([session.began, *signs]) - session.began
    return replace(session, seconds=round(lasted, 3), ended="killed")


def read(folder: Path) -> list[Session]:
    """The sessions of a run; none where none were kept, or the file is damaged: nothing of a run hangs on them."""
    try:
        found = [Session(**one) for one in json.loads((folder / FILE).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, RecursionError):
        return []
    return found if all(map(_plain, found)) else []


def _plain(s: Session) -> bool:
    """Is every field of the kind that it should be? The file may come from anybody."""
    numbers: list[Any] = [s.began, *([] if s.seconds is None else [s.seconds])]
    texts: list[Any] = [s.ended, s.error, *([] if s.device is None else [s.device])]
    return (
        all(isinstance(n, int | float) and 0 <= n < 1e11 for n in numbers)
        and all(isinstance(text, str) for text in texts)
        and isinstance(s.command, list)
        and isinstance(s.choices, dict)
        and all(isinstance(word, str) for word in (*s.command, *s.choices, *s.choices.values()))
        and (s.threads is None or isinstance(s.threads, int))
    )


def write(folder: Path, sessions: Sequence[Session]) -> None:
    """Keep them, whole or not at all."""
    with replacing(folder / FILE) as file:
        file.write((json.dumps([asdict(one) for one in sessions], indent=1, ensure_ascii=False) + "\n").encode())
