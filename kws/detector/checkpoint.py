"""Checkpoints: plain tensors and numbers, written whole or not at all, read with weights_only=True."""

import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.data.features import LogMel
from kws.data.manifest import Source, Split
from kws.detector.detector import Detector
from kws.models.registry import KeywordNet, make

FORMAT = 2


@dataclass(frozen=True)
class ModelSpec:
    """What it takes to build the net again: plain numbers."""

    labels: list[str]
    sample_rate: int
    n_mels: int
    window_s: float
    hop_s: float
    low_hz: float
    family: str  # of the net, and what that takes: see kws.models
    shape: dict[str, Any]
    smooth_n: int
    clip_n: int  # samples a training clip
    smooth_k: int = 0  # see Detector
    others: list[str] | None = None  # classes beside the labels, of which a clip is just one; None: no such rule
    input: str | None = None  # layer between the log-mel frames and the net, see kws.models.frontends; null: none
    input_shape: dict[str, Any] = field(default_factory=dict)  # what that takes

    def front_end(self) -> LogMel:
        return LogMel(self.sample_rate, self.n_mels, self.window_s, self.hop_s, self.low_hz)

    def net(self) -> KeywordNet:
        columns = len(self.labels) + len(self.others or ())
        return make(self.family, self.n_mels, columns, self.shape, self.input, self.input_shape)

    def detector(self, state: Mapping[str, Tensor], thresholds: Sequence[float] | None = None) -> Detector:
        """These weights as a detector, on the CPU; its thresholds are 0.5 where none are given."""
        net = self.net()
        net.load_state_dict(state)
        limits = [0.5] * len(self.labels) if thresholds is None else thresholds
        exclusive = self.others is not None
        return Detector(self.front_end(), net, self.labels, limits, self.smooth_n, self.smooth_k, exclusive)


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Save atomically: a crash leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        torch.save(dict(content), file)


def read(path: Path) -> dict[str, Any]:
    """Load a file that `write` made; only tensors and plain values are ever built from it.

    Raises:
        KwsError: it is missing, damaged, or no checkpoint of this program.
    """
    if not path.is_file():
        raise KwsError(f"{path}: no such file; a checkpoint (model.pt) is wanted")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is a TorchScript file: the error says so
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what a damaged file makes an unpickler raise is not a closed list
        raise KwsError(f"{path}: no checkpoint that can be read; it is damaged, or another kind of file") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise KwsError(f"{path}: no kws checkpoint of format {FORMAT}")
    return content


def first_line(error: Exception) -> str:
    """The first line of an error's text, or its kind where it has none."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """16 hex digits that name these weights."""
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode())
        digest.update(state[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def write_model(
    path: Path,
    recipe: ModelSpec,
    state: Mapping[str, Tensor],
    thresholds: list[float],
    facts: Mapping[str, Any],
    held_out: Iterable[Source] = (),
) -> None:
    """Write what `read_model` reads.

    Args:
        path: file to write.
        recipe: how the net is built.
        state: its weights.
        thresholds: one a keyword.
        facts: about the run, plain values.
        held_out: the validation and test recordings of the run, so that nobody mines them with this model.
    """
    weights = {k: v.detach().cpu() for k, v in state.items()}
    content = {"format": FORMAT, "recipe": asdict(recipe), "model": weights, "thresholds": thresholds}
    held = [(s.hash, s.name, str(s.split)) for s in held_out]
    write(path, content | {"hash": weights_hash(weights), "facts": dict(facts), "held_out": held})


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint, ready to use."""

    recipe: ModelSpec
    detector: Detector
    hash: str
    facts: dict[str, Any]
    held_out: list[Source]


def read_model(path: Path) -> Checkpoint:
    """A detector from a checkpoint.

    Raises:
        KwsError: no checkpoint with a model in it.
    """
    content = read(path)
    if not {"recipe", "model", "thresholds", "hash", "facts"} <= set(content):
        raise KwsError(f"{path}: a checkpoint without a finished model; give the model.pt of a run")
    try:
        recipe = ModelSpec(**content["recipe"])
        detector = recipe.detector(content["model"], list(content["thresholds"]))
        held_out = [Source(hash_, name, Split(split)) for hash_, name, split in content.get("held_out", ())]
    except Exception as error:  # plain values of any kind may stand in a forged file
        raise KwsError(f"{path}: its net cannot be built ({first_line(error)})") from None
    return Checkpoint(recipe, detector, content["hash"], content["facts"], held_out)
