"""A run's folder belongs to one configuration: the same command goes on with it, another is refused."""

import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from kws.audio import replacing
from kws.errors import KwsError

FREE = (
    "out",
    "device",
    "threads",
    "data.cache",
)  # may differ when a run goes on; other threads or devices round otherwise


_ID = re.compile(r"# run ([0-9a-f]{12})\n")  # the first line of config.yaml


def place(out: str) -> Path:
    """The run folder that `out` names; in a sweep Hydra has numbered it."""
    hydra = HydraConfig.get()  # it would make `out` before anything is checked; only in a sweep it must
    return Path(hydra.runtime.output_dir) if hydra.mode is RunMode.MULTIRUN else Path(out).absolute()


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
    mine = flat(OmegaConf.to_container(OmegaConf.create(config)))
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
        tree = OmegaConf.to_container(OmegaConf.load(file))
    except Exception:  # what a damaged file makes a parser raise is not a closed list
        tree = None
    if not isinstance(tree, dict) or not tree:
        raise KwsError(f"{file}: no configuration that can be read; give another out")
    return dotted(tree)


def finished(out: Path, config: str) -> bool:
    """Did a run of this very configuration come to its end in `out`? A sweep that goes on passes it over."""
    if not ((out / "results.json").is_file() and (out / "config.yaml").is_file()):
        return False
    return began(out / "config.yaml") == flat(OmegaConf.to_container(OmegaConf.create(config)))


def commit() -> str:
    """The commit of the checkout this program runs from; empty where it is installed without one."""
    top = Path(__file__).resolve().parent.parent
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
