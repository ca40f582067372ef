"""Layers between log-mel frames and a net: energies relative to their recent level (PCEN), or cepstra (MFCC)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from kws.common.errors import KwsError
from kws.common.settings import SettingError
from kws.common.torchaudio_compat import torchaudio
from kws.data.features import FLOOR, SCALE, SHIFT, FeaturesConfig
from kws.models.base import KeywordNet


@dataclass
class PCENConfig(FeaturesConfig):
    """Per-channel energy normalisation: each mel energy against its own recent mean, so that gain matters little."""

    trainable: Annotated[bool, Field(description="train alpha, delta and r of each band")] = True
    time_constant_s: Annotated[
        float, Field(ge=0.01, le=100, description="time constant of the exponential mean, s")
    ] = 0.4
    memory_s: Annotated[
        float, Field(ge=0.05, le=10, description="length of the mean, s; it adds to the context of the net")
    ] = 0.3
    alpha: Annotated[float, Field(ge=0.01, le=2, description="exponent of the mean; 1: full normalisation")] = 0.98
    delta: Annotated[float, Field(ge=0.001, le=1000, description="relative energy below which compression ends")] = 2.0
    r: Annotated[float, Field(ge=0.01, le=1, description="exponent of the compression")] = 0.5

    def layer(self) -> tuple[str | None, dict[str, Any]]:
        keep = math.exp(-self.hop_s / self.time_constant_s)
        values = {"alpha": self.alpha, "delta": self.delta, "r": self.r, "trainable": self.trainable}
        return "pcen", {"memory_n": round(self.memory_s / self.hop_s), "keep": keep, **values}


@dataclass
class MFCCConfig(FeaturesConfig):
    """Mel-frequency cepstral coefficients, the lowest of them."""

    n_mfcc: Annotated[int, Field(ge=1, le=128, description="coefficients, at most n_mels")] = 20

    def check(self) -> None:
        if self.n_mfcc > self.n_mels:
            raise SettingError("n_mfcc", self.n_mfcc, f"must be at most n_mels={self.n_mels}")

    def layer(self) -> tuple[str | None, dict[str, Any]]:
        return "mfcc", {"n_mfcc": self.n_mfcc}

    def n_rows(self) -> int:
        return self.n_mfcc


class InputLayer(nn.Module):
    """Turns log-mel frames into as many frames of something else; what it remembers is one tensor of a model's cache.

    Attributes:
        n_mels: mel bands that it hears, M.
        n_rows: rows that it gives for them, R.
        past_n: frames of the past that a frame depends on.
    """

    def __init__(self, n_mels: int, n_rows: int, past_n: int) -> None:
        super().__init__()
        self.n_mels, self.n_rows, self.past_n = n_mels, n_rows, past_n

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: x [B, M, N], past [B, M, past_n], zeros where nothing was; returns [B, R, N] and the next past."""
        raise NotImplementedError


def recent_mean(x: Tensor, memory_n: int, keep: float) -> Tensor:
    """The mean of the last `memory_n` frames, each weighing `keep` times as much as the one after it.

    Windows are made of two of half their length, so the cost grows with the logarithm of `memory_n`; nothing is
    carried on from frame to frame, so nothing drifts.

    Shape: x [B, M, memory_n - 1 + N]; returns [B, M, N].
    """
    frames_n = x.shape[2] - memory_n + 1
    total = torch.zeros_like(x[:, :, :frames_n])
    sums, n, done = x, 1, 0  # `sums` are over n frames each; `total` has the newest `done`
    while done < memory_n:
        if memory_n & n:
            first = memory_n - done - n
            total = torch.add(total, sums[:, :, first : first + frames_n], alpha=keep**done)
            done += n
        if done < memory_n:
            sums = torch.add(sums[:, :, n:], sums[:, :, : sums.shape[2] - n], alpha=keep**n)
            n *= 2
    return total * ((1 - keep) / (1 - keep**memory_n))


class PCEN(InputLayer):
    """Per-channel energy normalisation (Wang et al., 2017): each mel energy E against its own recent mean M.

    (E / (1e-6 + M)^alpha + delta)^r - delta^r. As published, M is an endless exponential mean; here it ends after
    `memory_n` frames, so that a frame depends on a known stretch of sound. Before a stream begins there is
    silence, E = 0.

    Args:
        n_mels: mel bands, M.
        memory_n: frames that the mean goes back, the newest included.
        keep: weight of a frame in the mean, as a share of that of the one after it, above 0 and below 1.
        alpha: how much of the level is taken out, above 0; 1: all.
        delta: energy, relative to the mean, below which compression ends.
        r: exponent of the compression.
        trainable: are alpha, delta and r trained, for each band? Their logarithms are, vectors: the trainer lets
            matrices decay and leaves these alone.
    """

    def __init__(
        self, n_mels: int, memory_n: int, keep: float, alpha: float, delta: float, r: float, trainable: bool
    ) -> None:
        super().__init__(n_mels, n_mels, memory_n - 1)
        self.memory_n, self.keep = memory_n, keep
        self.shift, self.scale, self.floor = SHIFT, SCALE, FLOOR
        self.log_alpha: Tensor
        self.log_delta: Tensor
        self.log_r: Tensor
        for name, value in (("log_alpha", alpha), ("log_delta", delta), ("log_r", r)):
            whole = torch.full((n_mels,), math.log(value))
            if trainable:
                self.register_parameter(name, nn.Parameter(whole))
            else:
                self.register_buffer(name, whole, persistent=False)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        energy = (torch.exp(x * self.scale - self.shift) - self.floor).clamp_min(0)
        energies = torch.cat([past, energy], 2)
        level = torch.log(recent_mean(energies, self.memory_n, self.keep) + self.floor)
        alpha, delta, r = self.log_alpha.exp()[:, None], self.log_delta.exp()[:, None], self.log_r.exp()[:, None]
        relative = energy * torch.exp(-alpha * level)
        # The same formula, written so that small values keep their digits.
        y = delta.pow(r) * torch.expm1(r * torch.log1p(relative / delta))
        return y, energies[:, :, energies.shape[2] - self.past_n :]


class MFCC(InputLayer):
    """Mel-frequency cepstral coefficients (Davis & Mermelstein, 1980): the orthonormal DCT-II of each log-mel frame.

    Args:
        n_mels: mel bands, M.
        n_mfcc: coefficients that are kept, from the lowest, at most M.
    """

    def __init__(self, n_mels: int, n_mfcc: int) -> None:
        super().__init__(n_mels, n_mfcc, 0)
        self.dct: Tensor
        self.register_buffer("dct", torchaudio.functional.create_dct(n_mfcc, n_mels, "ortho").t(), persistent=False)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return self.dct @ x, past


class Input(NamedTuple):
    """An input layer and its settings."""

    settings: type[FeaturesConfig]
    layer: type[InputLayer]


INPUTS: Mapping[str, Input] = {"pcen": Input(PCENConfig, PCEN), "mfcc": Input(MFCCConfig, MFCC)}


class Fronted(KeywordNet):
    """A net that hears what an input layer makes of the log-mel frames.

    Args:
        layer: the input layer.
        body: a net for as many rows as it gives; its head becomes the head of this one.
    """

    def __init__(self, layer: InputLayer, body: KeywordNet) -> None:
        super().__init__(layer.n_mels, body.n_keywords, body.stride)
        self.layer, self.body = layer, body
        self.head, body.head = body.head, nn.Identity()  # else the weights would stand in a file twice
        self.source, self.streams_from = body.source, body.streams_from
        self.width, self.receptive_field = body.width, layer.past_n + body.receptive_field
        self.cache_shapes = [[layer.n_mels, layer.past_n], *body.cache_shapes]

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, past = self.layer(x, cache[0])
        y, following = self.body.hidden(y, cache[1:])
        return y, [past] + following  # noqa: RUF005 (TorchScript has no *)

    def judge(self, x: Tensor) -> Tensor:
        """As the body judges, which may need less than all rows."""
        y, _ = self.layer(x, self.initial_cache(len(x))[0])
        logits: Tensor = self.head(self.body.judge(y).unsqueeze(2))  # the body's own head hands on what it sees
        return logits[:, :, 0]

    def folded(self) -> "Fronted":
        """As it is now, the body folded."""
        net = super().folded()
        net.body = net.body.folded()
        return net


def input_layer(name: str, n_mels: int, shape: Mapping[str, Any]) -> InputLayer:
    """An input layer, as `shape` says by name what it takes.

    Raises:
        KwsError: no such layer.
    """
    if name not in INPUTS:
        raise KwsError(f"{name}: no such input layer; allowed are {', '.join(INPUTS)}")
    return INPUTS[name].layer(n_mels, **shape)
