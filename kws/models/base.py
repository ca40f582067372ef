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
from kws.models.layers import Pointwise

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
    """A registered net and its settings."""

    settings: type[ModelConfig]
    net: "type[KeywordNet]"


FAMILIES: dict[str, Family] = {}


def register(name: str, settings: type[ModelConfig]) -> Callable[[Net], Net]:
    """Register a net and its settings as the family `name`: a decorator.

    `kws.models.registry.make` builds the net as net(n_mels, n_keywords, **settings), without smooth_s and smooth_k.

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
    """Name of the family of these settings."""
    return next(name for name, family in FAMILIES.items() if type(model) is family.settings)


def shape_of(model: ModelConfig) -> dict[str, Any]:
    """Arguments of the net by name, without mel bands and keywords."""
    return {key: value for key, value in asdict(model).items() if key not in ("smooth_s", "smooth_k")}


class KeywordNet(nn.Module):
    """Maps log-mel frames and a cache to logits and the next cache.

    The cache is the state of a stream; `initial_cache` is the state before the first frame. A family implements
    `hidden` and `head`, and sets the attributes below. A module may list in `folds` pairs of attribute names: a
    convolution and the batch norm directly after it. `folded` merges each pair.

    Attributes:
        stride: input frames per score row.
        receptive_field: frames that a logit depends on.
        cache_shapes: shape of each tensor of the cache, without the batch.
        width: input channels of the head, C.
        head: maps [B, C, N] to logits [B, K, N].
        source: class attribute, publication of the family.
        streams_from: class attribute, state that a stream continues from: "cache" or "windows".
        batch_free: class attribute, whether `hidden` and `head` also take tensors without the dimension of the batch.
    """

    if TYPE_CHECKING:  # TorchScript would take the annotation for a type of its own
        head: nn.Module
    source, streams_from, batch_free = "", "cache", False

    def __init__(self, n_mels: int, n_keywords: int, stride: int) -> None:
        super().__init__()
        self.n_mels, self.n_keywords, self.stride = n_mels, n_keywords, stride
        self.receptive_field, self.width = 0, 0
        self.cache_shapes: list[list[int]] = []

    def initial_cache(self, batch: int) -> list[Tensor]:
        """Cache of a stream before its first frame: zeros."""
        device = next(self.parameters()).device
        return [torch.zeros([batch, *shape], device=device) for shape in self.cache_shapes]

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Input of the head (embedding) for the frames `x` that follow those in `cache`.

        Shape: x [B, M, N], N a multiple of the stride; returns [B, C, N / stride] and the next cache.
        """
        raise NotImplementedError

    def forward(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits for the frames `x` that follow those in `cache`.

        Shape: x [B, M, N], N a multiple of the stride; returns logits [B, K, N / stride] and the next cache. An
            `Ensemble` in training mode returns B rows for each member.
        """
        y, following = self.hidden(x, cache)
        return self.head(y), following

    def last_logits(self, x: Tensor) -> Tensor:
        """Logits of the last row of clips, from silence. Shape: x [B, M, N] as above, returns [B, K]."""
        y, _ = self.hidden(x, self.initial_cache(len(x)))
        logits: Tensor = self.head(y[:, :, -1:])
        return logits[:, :, 0]

    def folded(self) -> "KeywordNet":
        """A copy for scoring, in evaluation mode, with the batch norms of `folds` merged: same scores, same cache."""
        return merge_norms(self)


def merge_norms(net: Self) -> Self:
    """A copy in evaluation mode with the batch norms of `folds` merged into their convolutions: same scores."""
    net = copy.deepcopy(net).eval()
    for part in net.modules():
        for conv, norm in getattr(part, "folds", ()):
            if not isinstance(getattr(part, norm), nn.Identity):  # already merged
                setattr(part, conv, fuse_conv_bn_eval(getattr(part, conv), getattr(part, norm)))
                setattr(part, norm, nn.Identity())
    return net


def to_train(net: Self, device: torch.device) -> Self:
    """Move the net to its device; 2-D convolutions train faster in the channels-last layout."""
    net.to(device)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net


def keyword_head(width: int, n_keywords: int) -> nn.Conv1d:
    """One linear logit per keyword. The bias starts at -2, because keywords are rare."""
    head = Pointwise(width, n_keywords)
    assert head.bias is not None
    nn.init.constant_(head.bias, -2.0)
    return head
