"""What every keyword model is: a net that scores a clip, a stream and a chunk with the same numbers."""

import copy
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Self = TypeVar("Self", bound="KeywordNet")


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
