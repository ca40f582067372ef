"""A run's folder belongs to one configuration: the same command goes on with it, another is refused."""

import json
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from kws.common.errors import KwsError, one_line
from kws.common.files import replacing

FREE = (
    "out",
    "device",
    "threads",
    "data.cache",
)  # may differ when a run goes on; other threads or devices round otherwise


_ID = re.compile(r"# run ([0-9a-f]{12})\n")  # the first line of config.yaml


def claim(out: Path, config: str) -> str:
    """Take `out` for the run of this configuration, new or to go on with; returns the run's id.

    The id goes with the folder wherever that is moved, and is never given twice: by it a buffer knows whose events to
    take back.

    Args:
        out: the run folder, made if it is not there.
        config: the resolved configuration, YAML.

    Raises:
        KwsError: another configuration began there; the message names the first key that differs.
    """
    mine = flat(parsed(config))
    file = out / "config.yaml"
    if file.is_file():
        theirs = began(file)
        for key in sorted(mine.keys() | theirs.keys()):
            if mine.get(key) != theirs.get(key):
                raise KwsError(
                    f"out={out}: a run with {key}={theirs.get(key)} began there, this one has {key}={mine.get(key)}; "
                    "give another out, or the same settings to go on with it"
                )
        if not (known := run_id(out)):
            raise KwsError(f"{file}: no run id in its first line; another version of kws began there, give another out")
        return known
    id_ = uuid.uuid4().hex[:12]
    out.mkdir(parents=True, exist_ok=True)
    with replacing(file) as target:
        target.write(f"# run {id_}\n{config}".encode())
    return id_


def run_id(folder: Path) -> str:
    """The id of the run whose folder this is; empty where it is none."""
    try:
        with (folder / "config.yaml").open(encoding="utf-8", errors="replace") as file:
            known = _ID.match(file.readline(100))
    except OSError:
        return ""
    return known.group(1) if known else ""


def began(file: Path) -> dict[str, Any]:
    """The configuration that began a run, dotted, without what may differ; raises KwsError where it cannot be read."""
    return {key: value for key, value in settings_of(file).items() if key not in FREE}


def settings_of(file: Path) -> dict[str, Any]:
    """All settings of a run, dotted; nothing is resolved. Raises KwsError where they cannot be read."""
    try:
        tree = parsed(file.read_text(encoding="utf-8"))
    except Exception:  # what a damaged file makes a parser raise is not a closed list
        tree = None
    if not isinstance(tree, dict) or not tree:
        raise KwsError(f"{file}: no configuration that can be read; give another out")
    return dotted(tree)


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads what OmegaConf writes: 1e-05 is a number, and 2026-11-26 is a text, other than in YAML 1.1."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parsed(config: str) -> Any:
    """A configuration from its YAML text."""
    return yaml.load(config, _Loader)


def finished(out: Path, config: str) -> bool:
    """Did a run of this very configuration come to its end in `out`? A sweep that goes on passes it over."""
    if not ((out / "results.json").is_file() and (out / "config.yaml").is_file()):
        return False
    return began(out / "config.yaml") == flat(parsed(config))


def commit() -> str:
    """The commit of the checkout this program runs from; empty where it is installed without one."""
    top = Path(__file__).resolve().parents[2]
    if not (top / ".git").exists() or not shutil.which("git"):
        return ""
    asked = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40"]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def flat(tree: Any) -> dict[str, Any]:
    """Dotted keys and their values, lists whole, without those that may differ."""
    return {key: value for key, value in dotted(tree).items() if key not in FREE}


def dotted(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys and their values, lists whole."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= dotted(value, f"{prefix}.{key}" if prefix else str(key))
    return found


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
