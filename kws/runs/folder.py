"""Run folders. A folder belongs to one configuration: the same command resumes its run, another one is refused."""

import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, Self

import yaml
from pydantic import Field, TypeAdapter

from kws.common.errors import KwsError, one_line
from kws.common.files import replacing
from kws.common.settings import shown
from kws.runs.lock import locked

# Settings that may differ when a run is resumed. Other threads or devices change the rounding.
FREE = ("out", "device", "threads", "data.cache")
# Settings that runs of before lack, with the value that they had.
ADDED: list[tuple[str, Any]] = [("model.stem_2d", []), ("data.synthetic.spliced", 0)]
# Settings that may differ too when a run resumes that diverged, and the file with the step of it.
FREE_AFTER_DIVERGENCE = ("optim.lr", "optim.warmup", "precision")
DIVERGED = "diverged"
RECIPE = "recipe.yaml"
_ID = re.compile(r"# run ([0-9a-f]{12})\n")  # the first line of config.yaml


def refuse_other_run(out: Path, config: str) -> None:
    """Raise KwsError if a folder belongs to another configuration. The message names the first key that differs.

    A run that diverged resumes with another learning rate too, until it has trained beyond that step.
    """
    file = out / "config.yaml"
    if not file.is_file():
        return
    mine, theirs = _compared(dotted(yaml.safe_load(config))), _compared(settings_of(file))
    free = FREE_AFTER_DIVERGENCE if (out / DIVERGED).exists() else ()
    for key in sorted(mine.keys() | theirs.keys()):
        if mine.get(key) != theirs.get(key) and key not in free:
            raise KwsError(
                f"out={out}: must be another folder: a run with {key}={shown(theirs.get(key))} began there, and "
                f"this one has {key}={shown(mine.get(key))}; the same settings resume it"
            )


def claim(out: Path, config: str) -> str:
    """Claim a folder for a configuration, new or to be resumed, and return the id of the run.

    The id is unique and moves with the folder. A buffer names it, so that the events of a run can be rolled back.

    Args:
        out: the run folder, created if it does not exist.
        config: the resolved configuration, YAML.

    Raises:
        KwsError: see `refuse_other_run`.
    """
    refuse_other_run(out, config)
    file = out / "config.yaml"
    if file.is_file():
        if not (known := run_id(out)):
            raise KwsError(f"{file}: no run id in its first line, so another version of kws wrote it; give another out")
        if _compared(dotted(yaml.safe_load(config))) != _compared(settings_of(file)):
            _write(file, known, config)
            (out / RECIPE).unlink(missing_ok=True)  # written anew
        return known
    id_ = uuid.uuid4().hex[:12]
    out.mkdir(parents=True, exist_ok=True)
    _write(file, id_, config)
    return id_


def _write(file: Path, id_: str, config: str) -> None:
    with replacing(file) as target:
        target.write(f"# run {id_}\n{config}".encode())


def run_id(folder: Path) -> str:
    """Id of the run in a folder; empty if the folder is no run."""
    try:
        with (folder / "config.yaml").open(encoding="utf-8", errors="replace") as file:
            known = _ID.match(file.readline(100))
    except OSError:
        return ""
    return known.group(1) if known else ""


def settings_of(file: Path) -> dict[str, Any]:
    """All settings of a run, dotted and unresolved. Raises KwsError if the file cannot be read."""
    try:
        tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    except Exception:  # a parser may raise anything on a damaged file
        tree = None
    if not isinstance(tree, dict) or not tree:
        raise KwsError(f"{file}: unreadable configuration; give another out")
    return dotted(tree)


def finished(out: Path, config: str) -> bool:
    """Whether a run of this configuration has finished in `out`. A resumed sweep skips it."""
    if not ((out / "results.json").is_file() and (out / "config.yaml").is_file()):
        return False
    return _compared(settings_of(out / "config.yaml")) == _compared(dotted(yaml.safe_load(config)))


def commit() -> str:
    """Git commit of the checkout that this program runs from; empty for an installed package."""
    top = Path(__file__).resolve().parents[2]
    if not (top / ".git").exists() or not shutil.which("git"):
        return ""
    command = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def own(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings without those that may differ in a resumed run."""
    return {key: value for key, value in settings.items() if key not in FREE}


def _compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a resumed run must have too."""
    return {key: value for key, value in own(settings).items() if (key, value) not in ADDED}


def dotted(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values. Lists are values."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= dotted(value, f"{prefix}.{key}" if prefix else str(key))
    return found


FILE = "sessions.json"
# Files that a run writes while it trains. Their times date the end of a killed session.
SIGNS = ("metrics.csv", "state.pt", "config.yaml", "model.pt", "detector.pt")

Seconds = Annotated[float, Field(ge=0, lt=1e11)]


@dataclass(frozen=True)
class Session:
    """One call of `kws train`.

    Args:
        began: seconds since 1970.
        command: words of the command line.
        threads, device: CPU threads and device; None if the session failed before training.
        seconds: duration; None while it runs, or if it was killed and the run was not resumed.
        ended: finished, failed, stopped (by Ctrl-C) or killed; empty while `seconds` is None.
        error: message of a failed session.
    """

    began: Seconds
    command: list[str] = field(default_factory=list)
    threads: int | None = None
    device: str | None = None
    seconds: Seconds | None = None
    ended: str = ""
    error: str = ""

    @property
    def date(self) -> str:
        """Start of the session, for display."""
        return datetime.fromtimestamp(self.began, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_SESSIONS = TypeAdapter(list[Session])


class SessionRecorder:
    """Context manager that records the session inside it in the run folder.

    The file is written at the start and at the end of a session. A killed session writes no end: the next session
    closes it, at the time of the last file that it wrote.

    Args:
        command: words of the command line.
        folder: folder for a session that fails before it claims one; None to discard such a session.
    """

    def __init__(self, command: Sequence[str], folder: Path | None = None) -> None:
        self.session = Session(time.time(), list(command))
        self.since = time.monotonic()
        self.folder = folder
        self.before: list[Session] = []
        self.begun = False
        self.held = ExitStack()

    def hold(self, folder: Path) -> None:
        """Hold the lock of a run folder until the session ends; raises KwsError if another session works there."""
        self.held.enter_context(locked(folder))

    def begin(self, folder: Path, threads: int, device: str) -> None:
        """Start the session in a claimed run folder."""
        self.folder, self.begun = folder, True
        self.before = [closed(one, folder) for one in read(folder)]
        self.session = replace(self.session, threads=threads, device=device)
        write(folder, [*self.before, self.session])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.held:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, Exception | KeyboardInterrupt):
            return  # counts as killed
        if not self.begun:
            # The run failed before it claimed a folder. A folder with a configuration may belong to another run.
            if self.folder is None or error is None or (self.folder / "config.yaml").exists():
                return
            self.before = read(self.folder)
        assert self.folder is not None
        ended = "finished" if error is None else "failed" if isinstance(error, Exception) else "stopped"
        message = ""
        if isinstance(error, Exception):
            message = one_line(error) if isinstance(error, KwsError | OSError) else f"{type(error).__name__}: {error}"
        last = replace(self.session, seconds=round(time.monotonic() - self.since, 3), ended=ended, error=message)
        write(self.folder, [*self.before, last])


def closed(session: Session, folder: Path) -> Session:
    """Close a killed session at the time of the last file that it wrote. Any other session stays unchanged."""
    if session.ended:
        return session
    signs = [file.stat().st_mtime for name in SIGNS if (file := folder / name).is_file()]
    lasted = max([session.began, *signs]) - session.began
    return replace(session, seconds=round(lasted, 3), ended="killed")


def read(folder: Path) -> list[Session]:
    """Sessions of a run; empty if the file is missing or damaged, because no run depends on it."""
    try:
        return _SESSIONS.validate_json((folder / FILE).read_bytes(), strict=True)  # the file may come from anybody
    except (OSError, ValueError):
        return []


def write(folder: Path, sessions: Sequence[Session]) -> None:
    """Write the sessions of a run, atomically."""
    with replacing(folder / FILE) as file:
        text = json.dumps([asdict(one) for one in sessions], indent=1, ensure_ascii=False) + "\n"
        file.write(text.encode(errors="replace"))  # a path need not be UTF-8
