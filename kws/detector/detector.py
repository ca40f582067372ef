"""The detector: front end, model and smoothing as one stream machine; checkpoint and exported file are both this."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kws.common.errors import KwsError
from kws.data.features import LogMel
from kws.detector.smoothing import smoothed
from kws.models.registry import KeywordNet


class Detector(nn.Module):
    """Turns PCM, in chunks of any size, into smoothed keyword scores; holds the state of one stream.

    Args:
        features: front end.
        model: causal model; it is copied, its batch norms are folded into the convolutions where they can be.
        labels: keywords, one score column each.
        thresholds: one a keyword, in [0, 1].
        smooth_n: rows that are smoothed over, at least 1.
        smooth_k: 0: a score is their mean (Chen et al., 2014). Else it is the `smooth_k`-th highest of them, 1 to
            `smooth_n`: it reaches a threshold where so many of the last `smooth_n` rows do.
        exclusive: just one of the model's classes is there at a time: scores are their probabilities (softmax), and
            those of the labels, which are the first, are told. Else each keyword is judged by itself (sigmoid).

    Raises:
        KwsError: not one threshold a keyword, or nothing to smooth over.
    """

    labels: list[str]
    thresholds: list[float]
    cache: list[Tensor]
    cache_shapes: list[list[int]]

    def __init__(
        self,
        features: LogMel,
        model: KeywordNet,
        labels: Sequence[str],
        thresholds: Sequence[float],
        smooth_n: int,
        smooth_k: int = 0,
        exclusive: bool = False,
    ) -> None:
        super().__init__()
        if smooth_n < 1 or len(thresholds) != len(labels):
            raise KwsError(
                f"smooth_n={smooth_n}, {len(thresholds)} thresholds: allowed is 1 or more, and one a keyword"
            )
        if not 0 <= smooth_k <= smooth_n:
            raise KwsError(f"smooth_k={smooth_k}: allowed is 0 (the mean) to smooth_n={smooth_n}")
        self.features = copy.deepcopy(features).eval()
        self.model = model.folded()
        self.labels = list(labels)
        self.thresholds = [float(t) for t in thresholds]
        self.sample_rate = features.sample_rate
        self.smooth_n, self.smooth_k, self.exclusive = smooth_n, smooth_k, exclusive
        self.context_n = features.context_n
        self.block_n = features.hop_n * model.stride  # samples a row
        self.frame_s = self.block_n / features.sample_rate
        self.cache_shapes = model.cache_shapes
        # A row depends on this many samples up to its end: what a clip must hold for its score to be reproducible.
        self.reach_n = model.receptive_field * features.hop_n + self.context_n + (smooth_n - 1) * self.block_n
        self.tail = torch.zeros(0)
        self.recent = torch.zeros(0)
        self.cache = []
        self.reset()

    @torch.jit.export
    def reset(self) -> None:
        """Back to silence, as freshly loaded."""
        device = self.features.window.device
        self.tail = torch.zeros(self.context_n, device=device)
        self.recent = torch.zeros(self.smooth_n - 1, len(self.labels), device=device)
        cache: list[Tensor] = []
        for shape in self.cache_shapes:
            cache.append(torch.zeros([1] + shape, device=device))  # noqa: RUF005 (TorchScript has no *)
        self.cache = cache

    def forward(self, pcm: Tensor) -> Tensor:
        """The rows that this chunk completes.

        Shape: pcm float32 [n] in [-1, 1], n from 0 up; returns float32 [rows, K] in [0, 1].
        """
        return self.hear(pcm)[0]

    def hear(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """The rows that this chunk completes, and what the model's head saw at each.

        Shape: pcm float32 [n] in [-1, 1], n from 0 up; returns float32 [rows, K] in [0, 1] and [rows, C].
        """
        with torch.no_grad():
            heard = torch.cat([self.tail, pcm.to(self.tail.device)])
            rows_n = (heard.shape[0] - self.context_n) // self.block_n
            if rows_n == 0:
                self.tail = heard
                nothing = torch.zeros(0, len(self.labels), device=heard.device)
                return nothing, torch.zeros(0, self.model.width, device=heard.device)
            used = rows_n * self.block_n
            x = self.features(heard[: self.context_n + used].unsqueeze(0))
            hidden, self.cache = self.model.hidden(x, self.cache)
            self.tail = heard[used:]
            scores = torch.cat([self.recent, self.raw(hidden)[0]])
            self.recent = scores[scores.shape[0] - (self.smooth_n - 1) :]
            return smoothed(scores, self.smooth_n, self.smooth_k), hidden[0].t()

    @torch.jit.export
    def batch(self, pcm: Tensor) -> Tensor:
        """Recordings side by side, each from silence; the stream that is being heard is left alone.

        Shape: pcm float32 [B, n] in [-1, 1]; returns float32 [B, n // block_n, K] in [0, 1].
        """
        return self.hear_batch(pcm)[0]

    @torch.jit.export
    def hear_batch(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """As `batch`, and what the model's head saw at each row.

        Shape: pcm float32 [B, n] in [-1, 1]; returns float32 [B, rows, K] in [0, 1] and [B, rows, C].
        """
        with torch.no_grad():
            x = self.features.clips(pcm.to(self.features.window.device), self.block_n)
            cache: list[Tensor] = []
            for shape in self.cache_shapes:
                cache.append(torch.zeros([pcm.shape[0]] + shape, device=x.device))  # noqa: RUF005
            hidden, _ = self.model.hidden(x, cache)
            before = torch.zeros(pcm.shape[0], self.smooth_n - 1, len(self.labels), device=x.device)
            scores = torch.cat([before, self.raw(hidden)], 1)
            return smoothed(scores, self.smooth_n, self.smooth_k), hidden.transpose(1, 2)

    def raw(self, hidden: Tensor) -> Tensor:
        """Scores before smoothing. Shape: hidden [B, C, N], returns [B, N, K] in [0, 1]."""
        logits = self.model.head(hidden)
        if self.exclusive:
            return torch.softmax(logits, 1)[:, : len(self.labels)].transpose(1, 2)
        return torch.sigmoid(logits).transpose(1, 2)
