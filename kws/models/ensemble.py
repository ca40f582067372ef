"""An ensemble: nets that are trained beside each other, and score as one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kws.common.errors import KwsError
from kws.models.base import KeywordNet, keyword_head, merge_norms


class Ensemble(KeywordNet):
    """Nets whose logits are averaged (Hansen & Salamon, 1990). One linear head takes the hidden rows of all members.

    Each member learns from its own loss: in training mode, `forward` and `last_logits` return the logits of one member
    after those of another, along the batch. The mean alone would be trained like a single net, whose parts rely on each
    other. In evaluation mode they return the mean.

    Args:
        nets: members with equal input, stride and score columns. Their heads are replaced by one.

    Raises:
        KwsError: the head of a member is not linear.
    """

    def __init__(self, nets: Sequence[KeywordNet]) -> None:
        first = nets[0]
        super().__init__(first.n_mels, first.n_keywords, first.stride)
        for net in nets:
            if not (isinstance(net.head, nn.Conv1d) and net.head.kernel_size == (1,)):
                raise KwsError(f"{type(net).__name__}: must have a head of one Conv1d of kernel 1 to be in an ensemble")
            net.head = nn.Identity()
        self.nets = nn.ModuleList(nets)
        self.source, self.streams_from = first.source, first.streams_from
        self.width, self.receptive_field = sum(net.width for net in nets), max(net.receptive_field for net in nets)
        self.cache_shapes = [shape for net in nets for shape in net.cache_shapes]
        self.cache_ns = [len(net.cache_shapes) for net in nets]
        self.head = keyword_head(self.width, self.n_keywords)

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        rows, following = self.members(x, cache)
        return torch.cat(rows, 1), following

    def forward(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        rows, following = self.members(x, cache)
        return self.apart(rows) if self.training else self.head(torch.cat(rows, 1)), following

    def last_logits(self, x: Tensor) -> Tensor:
        last = [net.last_logits(x).unsqueeze(2) for net in self.nets]  # type: ignore[operator]
        logits: Tensor = self.apart(last) if self.training else self.head(torch.cat(last, 1))
        return logits[:, :, 0]

    def members(self, x: Tensor, cache: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Hidden rows of each member, and the next cache."""
        rows: list[Tensor] = []
        following: list[Tensor] = []
        for i, net in enumerate(self.nets):
            first = len(following)
            y, kept = net.hidden(x, cache[first : first + self.cache_ns[i]])  # type: ignore[operator]
            rows.append(y)
            following.extend(kept)
        return rows, following

    def apart(self, rows: list[Tensor]) -> Tensor:
        """Logits of each member alone, one member after the other. Their mean is the logit of the ensemble.

        Shape: rows [B, C, N] of each member; returns [members * B, K, N].
        """
        logits: list[Tensor] = []
        first = 0
        for y in rows:  # without a copy of all rows, whose gradient would be slow
            weight = self.head.weight[:, first : first + y.shape[1], 0] * len(rows)  # type: ignore[index]
            first += y.shape[1]
            own = nn.functional.linear(y.transpose(1, 2), weight, self.head.bias)  # type: ignore[arg-type]
            logits.append(own.transpose(1, 2))
        return torch.cat(logits)

    def folded(self) -> "Ensemble":
        net = merge_norms(self)
        net.nets = nn.ModuleList([member.folded() for member in net.nets])  # type: ignore[operator]
        return net
