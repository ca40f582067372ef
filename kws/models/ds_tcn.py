"""A causal depthwise-separable temporal convolutional net with an explicit cache per layer."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """One residual depthwise-separable causal convolution, dilated in time.

    Shape: x [B, C, N], cache [B, C, (kernel - 1) * dilation]; returns the same two shapes.
    """

    def __init__(self, channels: int, kernel: int, dilation: int) -> None:
        super().__init__()
        self.kernel, self.dilation = kernel, dilation
        self.past_n = (kernel - 1) * dilation
        self.depthwise = nn.Conv1d(channels, channels, kernel, dilation=dilation, groups=channels, bias=False)
        self.pointwise = nn.Conv1d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm1d(channels)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        n = x.shape[2]
        past = torch.cat([cache, x], 2)
        if self.training:  # the same sum, written out: its backward pass is about twice as fast on a CPU
            weight = self.depthwise.weight
            y = past[:, :, :n] * weight[:, 0, 0, None]
            for k in range(1, self.kernel):
                y = torch.addcmul(y, past[:, :, k * self.dilation : k * self.dilation + n], weight[:, 0, k, None])
        else:
            y = self.depthwise(past)
        y = torch.relu(self.norm(self.pointwise(y)))
        return x + y, past[:, :, past.shape[2] - self.past_n :]


class DSTCN(nn.Module):
    """DS-TCN over log-mel frames, as in the small-footprint nets of wekws (MDTC: Hou et al., 2020; Wang et al., 2023).

    A strided dense convolution, residual depthwise-separable blocks, one linear score per keyword. Every convolution
    looks back only.

    Args:
        n_mels: mel bands of the input, M.
        n_keywords: score columns, K.
        channels: width of the blocks, C.
        kernel: taps of each convolution, at least `stride`.
        dilations: one block each, in frames after the stride.
        stride: input frames per score row.
    """

    def __init__(
        self,
        n_mels: int = 40,
        n_keywords: int = 1,
        channels: int = 64,
        kernel: int = 5,
        dilations: Sequence[int] = (1, 2, 4, 1, 2, 4, 2),
        stride: int = 2,
    ) -> None:
        super().__init__()
        self.n_mels, self.n_keywords, self.stride = n_mels, n_keywords, stride
        self.past_n = kernel - stride
        self.norm_in = nn.BatchNorm1d(n_mels)
        self.stem = nn.Conv1d(n_mels, channels, kernel, stride=stride, bias=False)
        self.norm = nn.BatchNorm1d(channels)
        self.blocks = nn.ModuleList([Block(channels, kernel, d) for d in dilations])
        self.head = nn.Conv1d(channels, n_keywords, 1)
        assert self.head.bias is not None
        nn.init.constant_(self.head.bias, -2.0)  # keywords are rare: start out doubting
        self.cache_shapes = [(n_mels, self.past_n)] + [(channels, (kernel - 1) * d) for d in dilations]
        self.receptive_field = self.past_n + stride * (1 + (kernel - 1) * sum(dilations))

    def initial_cache(self, batch: int) -> list[Tensor]:
        """The cache of a stream that has not begun: zeros, one tensor a convolution."""
        device = self.head.weight.device
        return [torch.zeros(batch, c, n, device=device) for c, n in self.cache_shapes]

    def hidden(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """What the head sees of the frames `x` that follow what `cache` remembers.

        Shape: x [B, M, N], N a multiple of the stride; returns [B, C, N / stride] and the next cache.
        """
        past = torch.cat([cache[0], self.norm_in(x)], 2)
        following = [past[:, :, past.shape[2] - self.past_n :]]
        y = torch.relu(self.norm(self.stem(past)))
        for i, block in enumerate(self.blocks):
            y, kept = block(y, cache[i + 1])
            following.append(kept)
        return y, following

    def forward(self, x: Tensor, cache: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits of the frames `x` that follow what `cache` remembers.

        Shape: x [B, M, N], N a multiple of the stride; returns logits [B, K, N / stride] and the next cache.
        """
        y, following = self.hidden(x, cache)
        return self.head(y), following
