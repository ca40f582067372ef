"""Input layers between log-mel frames and a net: per-channel energy normalisation (PCEN) and cepstra (MFCC)."""

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
from kws.models.base import KeywordNet, merge_norms


@dataclass
class PCENConfig(FeaturesConfig):
    """Per-channel energy normalisation: each mel energy relative to its recent mean, so that gain matters little."""

    trainable: Annotated[bool, Field(description="train alpha, delta and r of each band")] = False
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
class LogMelPCENConfig(PCENConfig):
    """Two nets, one on log-mel frames and one on PCEN; their logits are averaged."""

    def layer(self) -> tuple[str | None, dict[str, Any]]:
        return "log_mel_pcen", super().layer()[1]


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
    """Transforms log-mel frames, one by one. Its state is one tensor of a model's cache.

    Attributes:
        n_mels: mel bands of the input, M.
        n_rows: rows of the output, R.
        past_n: earlier frames that a frame depends on.
    """

    def __init__(self, n_mels: int, n_rows: int, past_n: int) -> None:
        super().__init__()
        self.n_mels, self.n_rows, self.past_n = n_mels, n_rows, past_n

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Shape: x [B, M, N], past [B, M, past_n], zeros at the start; returns [B, R, N] and the next past."""
        raise NotImplementedError


def recent_mean(x: Tensor, memory_n: int, keep: float) -> Tensor:
    """Weighted mean of the last `memory_n` frames. Each frame has `keep` times the weight of the next frame.

    Sums over windows are built by doubling, so the cost grows with the logarithm of `memory_n`. No state is carried
    from frame to frame, so rounding errors do not accumulate.

    Shape: x [B, M, memory_n - 1 + N]; returns [B, M, N].
    """
    frames_n = x.shape[2] - memory_n + 1
    total = torch.zeros_like(x[:, :, :frames_n])
    sums, n, done = x, 1, 0  # each of `sums` covers n frames, `total` the newest `done`
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
    """Per-channel energy normalisation (Wang et al., 2017) of each mel energy E by its recent mean M.

    (E / (1e-6 + M)^alpha + delta)^r - delta^r. The published M is an infinite exponential mean. Here the mean covers
    `memory_n` frames, so that the receptive field is finite. Before a stream there is silence, E = 0.

    Args:
        n_mels: mel bands, M.
        memory_n: frames of the mean, including the current one.
        keep: weight of a frame in the mean relative to the next frame, between 0 and 1.
        alpha, delta, r: see `PCENConfig`.
        trainable: train the logarithms of alpha, delta and r of each band. As vectors they have no weight decay.
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
        # The formula above, in a form that is precise for small values.
        y = delta.pow(r) * torch.expm1(r * torch.log1p(relative / delta))
        return y, energies[:, :, energies.shape[2] - self.past_n :]


class MFCC(InputLayer):
    """Mel-frequency cepstral coefficients (Davis & Mermelstein, 1980): the orthonormal DCT-II of each log-mel frame.

    Args:
        n_mels: mel bands, M.
        n_mfcc: number of the lowest coefficients, at most M.
    """

    def __init__(self, n_mels: int, n_mfcc: int) -> None:
        super().__init__(n_mels, n_mfcc, 0)
        self.dct: Tensor
        self.register_buffer("dct", torchaudio.functional.create_dct(n_mfcc, n_mels, "ortho").t(), persistent=False)

    def forward(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return self.dct @ x, past


class Input(NamedTuple):
    """Settings and class of an input layer; `beside`: a second net takes the log-mel frames as they are."""

    settings: type[FeaturesConfig]
    layer: type[InputLayer]
    beside: bool = False


INPUTS: Mapping[str, Input] = {
    "pcen": Input(PCENConfig, PCEN),
    "mfcc": Input(MFCCConfig, MFCC),
    "log_mel_pcen": Input(LogMelPCENConfig, PCEN, beside=True),
}


class FrontEndNet(KeywordNet):
    """A net behind an input layer.

    Args:
        layer: the input layer.
        body: a net for `layer.n_rows` input rows. Its head moves to this net.
    """

    def __init__(self, layer: InputLayer, body: KeywordNet) -> None:
        super().__init__(layer.n_mels, body.n_keywords, body.stride)
        self.layer, self.body = layer, body
        self.head, body.head = body.head, nn.Identity()  # a state dict holds the head once
        self.source, self.streams_from = body.source, body.streams_from
        self.width, self.receptive_field = body.width, layer.past_n + body.receptive_field
        self.cache_shapes = [[layer.n_mels, layer.past_n], *body.cache_shapes]

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        y, past = self.layer(x, cache[0])
        y, following = self.body.hidden(y, cache[1:])
        return y, [past] + following  # noqa: RUF005 (TorchScript has no *)

    def last_logits(self, x: Tensor) -> Tensor:
        y, _ = self.layer(x, self.initial_cache(len(x))[0])
        logits: Tensor = self.head(self.body.last_logits(y).unsqueeze(2))  # the head of the body is the identity
        return logits[:, :, 0]

    def folded(self) -> "FrontEndNet":
        net = merge_norms(self)
        net.body = net.body.folded()
        return net


def input_layer(name: str, n_mels: int, shape: Mapping[str, Any]) -> InputLayer:
    """Build an input layer with the arguments `shape`, by name. Raises KwsError if there is no such layer."""
    if name not in INPUTS:
        raise KwsError(f"features/input={name}: must be one of {', '.join(INPUTS)}")
    return INPUTS[name].layer(n_mels, **shape)
