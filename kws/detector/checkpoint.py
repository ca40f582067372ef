"""Checkpoints: tensors and plain values, written atomically, read with weights_only=True."""

import hashlib
import io
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kws.common.errors import KwsError, first_line
from kws.common.files import replacing
from kws.data.features import LogMel
from kws.data.manifest import Source, Split
from kws.data.names import shown
from kws.detector.detector import Detector
from kws.models.registry import KeywordNet, make

FORMAT = 2
BASE = "phones"  # task of a base net, in its facts
LOWEST_RATE, HIGHEST_RATE = 8000, 48000  # Hz
TRAINED_N = 16  # hexadecimal digits of the hash of a recording that trained a model


@dataclass(frozen=True)
class ModelSpec:
    """Plain values from which the net and the front end are built."""

    labels: list[str]
    sample_rate: int
    n_mels: int
    window_s: float
    hop_s: float
    low_hz: float
    family: str  # registered name of the net, see kws.models
    shape: dict[str, Any]  # settings of the family
    smooth_n: int
    clip_n: int  # samples of a training clip
    smooth_k: int = 0  # see `smoothed`
    others: list[str] | None = None  # classification: classes beside the labels. None: keywords, scored independently
    input: str | None = None  # layer between the log-mel frames and the net, see kws.models.frontends
    input_shape: dict[str, Any] = field(default_factory=dict)  # settings of that layer

    def front_end(self) -> LogMel:
        """Build the front end."""
        return LogMel(self.sample_rate, self.n_mels, self.window_s, self.hop_s, self.low_hz)

    def net(self) -> KeywordNet:
        """Build the net with fresh weights."""
        columns = len(self.labels) + len(self.others or ())
        return make(self.family, self.n_mels, columns, self.shape, self.input, self.input_shape)

    def detector(self, state: Mapping[str, Tensor], thresholds: Sequence[float] | None = None) -> Detector:
        """Build the detector of these weights, on the CPU; thresholds default to 0.5."""
        net = self.net()
        net.load_state_dict(state)
        limits = [0.5] * len(self.labels) if thresholds is None else thresholds
        exclusive = self.others is not None
        return Detector(self.front_end(), net, self.labels, limits, self.smooth_n, self.smooth_k, exclusive)


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Save atomically: after a crash the file is the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()  # torch reports a full disk by an error that names no file
    torch.save(dict(content), packed)
    with replacing(path) as file:
        file.write(packed.getbuffer())


def read(path: Path) -> dict[str, Any]:
    """Load a file of `write`. Unpickling builds tensors and plain values only.

    Raises:
        KwsError: the file is missing, damaged, or not a kws checkpoint.
    """
    if path.is_dir():
        raise KwsError(f"{path}: a folder, no file; expected {path / 'model.pt'}")
    if not path.is_file():
        raise KwsError(f"{path}: no such file; expected a checkpoint (model.pt)")
    if is_torchscript(path):
        raise KwsError(f"{path}: the exported file, not a checkpoint; expected model.pt of the run")
    try:
        refuse_damaged(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file can make the unpickler raise anything
        raise KwsError(f"{path}: not a readable checkpoint; the file is damaged or of another kind") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise KwsError(f"{path}: not a kws checkpoint of format {FORMAT}")
    return content


def refuse_damaged(path: Path) -> None:
    """Raise an error of some kind unless each part of a file of torch has its checksum, which torch does not check."""
    with zipfile.ZipFile(path) as archive:
        if (name := archive.testzip()) is not None:
            raise ValueError(f"{name}: wrong checksum")


def is_torchscript(path: Path) -> bool:
    """Whether a file is an exported one. False also for a damaged file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any("/code/" in name for name in archive.namelist())
    except Exception:  # a damaged archive can raise anything
        return False


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """Hash of the weights: 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_model(
    path: Path,
    spec: ModelSpec,
    state: Mapping[str, Tensor],
    thresholds: list[float],
    facts: Mapping[str, Any],
    held_out: Iterable[Source] = (),
    trained_on: Iterable[str] = (),
) -> None:
    """Write a model for `read_model`.

    Args:
        path: file to write.
        spec: net and front end.
        state: weights.
        thresholds: one for each keyword.
        facts: plain values about the run.
        held_out: validation and test recordings of the run. Mining with this model refuses them.
        trained_on: content hashes of the recordings that trained it. A run that starts from it may not hold them out.
    """
    weights = {k: v.detach().cpu() for k, v in state.items()}
    content = {"format": FORMAT, "recipe": asdict(spec), "model": weights, "thresholds": thresholds}
    held = [(s.hash, s.name, str(s.split)) for s in held_out]
    known = sorted({hash_[:TRAINED_N] for hash_ in trained_on})
    trained = torch.tensor([list(bytes.fromhex(one)) for one in known], dtype=torch.uint8)
    more = {"facts": dict(facts), "held_out": held, "trained_on": trained}
    write(path, content | {"hash": weights_hash(weights)} | more)


@dataclass(frozen=True)
class Checkpoint:
    """A model read from a file."""

    spec: ModelSpec
    detector: Detector
    hash: str
    facts: dict[str, Any]
    held_out: list[Source]
    weights: dict[str, Tensor]
    trained_on: frozenset[str]  # the first digits of the hashes of the recordings; empty in files of older versions

    @property
    def is_base(self) -> bool:
        """Whether it is a base net, which detects nothing: training starts from it."""
        return self.facts.get("task") == BASE


def refuse_forged(path: Path, recipe: object, facts: object) -> None:
    """Raise KwsError if values of a file, which anybody may have written, are of another kind than those of a model."""
    recipe = recipe if isinstance(recipe, dict) else {}
    labels, rate = recipe.get("labels"), recipe.get("sample_rate")
    words = [one for one in labels if isinstance(one, str) and one == shown(one)] if isinstance(labels, list) else []
    if not isinstance(facts, dict):
        raise KwsError(f"{path}: not a model of kws, its facts are no table")
    if not words or words != labels or len({*words}) < len(words):
        raise KwsError(f"{path}: not a model of kws, its labels are not distinct words")
    if type(rate) is not int or not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise KwsError(f"{path}: not a model of kws, its sample rate is {rate!r}")


def read_model(path: Path, base: bool = False) -> Checkpoint:
    """Read a model.

    Args:
        path: of the file.
        base: accept a base net too.

    Raises:
        KwsError: not a checkpoint, or one without a finished model, or a base net where none is accepted.
    """
    content = read(path)
    if not {"recipe", "model", "thresholds", "hash", "facts"} <= set(content):
        raise KwsError(f"{path}: a checkpoint without a finished model; use the model.pt of a run")
    refuse_forged(path, content["recipe"], content["facts"])
    try:
        spec = ModelSpec(**content["recipe"])
        detector = spec.detector(content["model"], list(content["thresholds"]))
        held_out = [Source(hash_, name, Split(split)) for hash_, name, split in content.get("held_out", ())]
        trained_on = frozenset(bytes(row).hex() for row in content.get("trained_on", torch.zeros(0)).tolist())
    except Exception as error:  # a forged file can hold plain values of any kind
        named = content["facts"].get("plugins")
        plugins = ",".join(map(str, named)) if isinstance(named, list) else ""
        hint = f"; it was trained with plugins=[{plugins}]" if plugins else ""
        raise KwsError(f"{path}: the net cannot be built ({first_line(error)}){hint}") from None
    numbers = [*content["model"].values(), torch.tensor(detector.thresholds)]
    if not all(one.isfinite().all() for one in numbers):
        raise KwsError(f"{path}: a weight or a threshold is not a finite number, so it detects nothing; train it again")
    model = Checkpoint(spec, detector, content["hash"], content["facts"], held_out, content["model"], trained_on)
    if model.is_base and not base:
        raise KwsError(f"{path}: a base net, which detects nothing; kws train init={path} keyword=WORD starts from it")
    return model
