"""The base of all keyword models: a net that scores a clip, a stream and a chunk with the same numbers.

A family of models is a net and the dataclass of its settings, registered together by `register`.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kws.common.errors import KwsError

Self = TypeVar("Self", bound="KeywordNet")
Net = TypeVar("Net", bound="type[KeywordNet]")


@dataclass
class ModelConfig:
    """Settings of every family. A family adds those that its net takes, by the same names."""

    stride: Annotated[int, Field(ge=1, le=100, description="feature frames per score row")] = 2
    smooth_s: Annotated[float, Field(ge=0, le=1, description="seconds over which scores are smoothed")] = 0.1
    smooth_k: Annotated[
        int, Field(ge=0, le=100, description="0: moving average; k: k of the rows in smooth_s must reach the threshold")
    ] = 0

    def check_rows(self, n_rows: int) -> None:
        """Check the number of rows of a feature frame: mel bands, or cepstra.

        Raises:
            SettingError: the net cannot take them.
        """


class Family(NamedTuple):
    """A family of models."""

    settings: type[ModelConfig]
    net: "type[KeywordNet]"


FAMILIES: dict[str, Family] = {}


def register(name: str, settings: type[ModelConfig]) -> Callable[[Net], Net]:
    """Register a net, with its settings, as the family of models `name`: a decorator.

    The net is built as net(n_mels, n_keywords, **settings), without smooth_s and smooth_k.

    Raises:
        KwsError: another family has this name.
    """

    def add(net: Net) -> Net:
        if name in FAMILIES and FAMILIES[name].net.__module__ != net.__module__:
            raise KwsError(f"{name}: this family of models is registered twice, the second time by {net.__module__}")
        FAMILIES[name] = Family(settings, net)
        return net

    return add


def family_of(model: ModelConfig) -> str:
    """The name of the family that these settings belong to."""
    return next(name for name, family in FAMILIES.items() if type(model) is family.settings)


def shape_of(model: ModelConfig) -> dict[str, Any]:
    """The arguments of the net beside mel bands and keywords, by name."""
    return {key: value for key, value in asdict(model).items() if key not in ("smooth_s", "smooth_k")}


class KeywordNet(nn.Module):
    """Maps log-mel frames and its cache to logits and the next cache.

    The cache holds all that a stream remembers; one that has not begun is `initial_cache`. A family writes `hidden` and
    `head`, and sets the rest. A module of it whose class has `folds`, pairs of the names of a convolution and of the
    batch norm that follows it at once, has them made one by `folded`.

    Attributes:
        stride: input frames per score row.
        receptive_field: frames that a logit depends on.
        cache_shapes: of each tensor of the cache, without the batch.
        width: channels that the head sees, C.
        head: [B, C, N] to logits [B, K, N].
        source: of the class: where the family is from.
        streams_from: of the class: what a stream goes on from.
    """

    if TYPE_CHECKING:  # TorchScript would take the annotation for a type of its own
        head: nn.Module
    source, streams_from = "", "cache"

    def __init__(self, n_mels: int, n_keywords: int, stride: int) -> None:
        super().__init__()
        self.n_mels, self.n_keywords, self.stride = n_mels, n_keywords, stride
        self.receptive_field, self.width = 0, 0
        self.cache_shapes: list[list[int]] = []

    def initial_cache(self, batch: int) -> list[Tensor]:
        """The cache of a stream that has not begun: zeros."""
        device = next(self.parameters()).device
        return [torch.zeros([batch, *shape], device=device) for shape in self.cache_shapes]

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What the head sees of the frames `x` that follow what `cache` remembers.

        Shape: x [B, M, N], N a multiple of the stride; returns [B, C, N / stride] and the next cache.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits of the frames `x` that follow what `cache` remembers.

        Shape: x [B, M, N], N a multiple of the stride; returns logits [B, K, N / stride] and the next cache.
        """
        y, following = self.hidden(x, cache)
        return self.head(y), following

    def judge(self, x: Tensor) -> Tensor:
        """Logits of the last row of clips that are heard from silence. Shape: x [B, M, N] as above, returns [B, K]."""
        y, _ = self.hidden(x, self.initial_cache(len(x)))
        logits: Tensor = self.head(y[:, :, -1:])
        return logits[:, :, 0]

    def folded(self: Self) -> Self:
        """A copy in evaluation mode, batch norms made part of their convolutions where they can be: same scores."""
        net = copy.deepcopy(self).eval()
        for part in net.modules():
            for conv, norm in getattr(part, "folds", ()):
                if not isinstance(getattr(part, norm), nn.Identity):  # as in one that was folded
                    setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                    setattr(part, norm, nn.Identity())
        return net


def to_train(net: Self, device: torch.device) -> Self:
    """The net on its device, convolutions in two dimensions channels-last, which train faster so."""
    net.to(device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def doubting(head: nn.Conv1d) -> nn.Conv1d:
    """A head that starts out doubting, since keywords are rare."""
    assert head.bias is not None
    nn.init.constant_(head.bias, -2.0)
    return head
