"""The streaming detector: front end, model and smoothing, as in checkpoints and exported files."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kws.common.errors import KwsError
from kws.common.tensors import last
from kws.data.features import LogMel
from kws.detector.pcm import full_scale, one_channel
from kws.detector.smoothing import smoothed
from kws.models.registry import KeywordNet


class Detector(nn.Module):
    """Turn PCM, in chunks of any size, into smoothed keyword scores. The object holds the state of one stream.

    Args:
        features: front end.
        model: causal model. The detector keeps a copy with batch norms folded into convolutions where possible.
        labels: keywords, one score column each.
        thresholds: one for each keyword, in [0, 1].
        smooth_n: number of rows to smooth over, at least 1.
        smooth_k: 0 for the mean of these rows, 1 to `smooth_n` for the `smooth_k`-th highest, see `smoothed`.
        exclusive: True where exactly one of the model's classes is present at a time: scores are softmax probabilities,
            and the first classes, the labels, are returned. False scores each keyword by itself (sigmoid).

    Raises:
        KwsError: the number of thresholds is not that of the labels, or `smooth_n` or `smooth_k` is out of range.
    """

    labels: list[str]
    thresholds: list[float]
    cache: list[Tensor]
    cache_shapes: list[list[int]]
    one: list[int]

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
                f"smooth_n={smooth_n}, {len(thresholds)} thresholds: must be at least 1, and one for each keyword"
            )
        if not 0 <= smooth_k <= smooth_n:
            raise KwsError(f"smooth_k={smooth_k}: must be between 0 (the mean) and smooth_n={smooth_n}")
        self.features = copy.deepcopy(features).eval()
        self.model = model.folded()
        self.labels = list(labels)
        self.thresholds = [float(t) for t in thresholds]
        self.sample_rate = features.sample_rate
        self.smooth_n, self.smooth_k, self.exclusive = smooth_n, smooth_k, exclusive
        self.context_n = features.context_n
        self.block_n = features.hop_n * model.stride  # samples a row
        self.frame_s = self.block_n / features.sample_rate
        # A stream is a batch of one, or has no such dimension where the model can do without: fewer operations.
        self.one = [] if self.model.batch_free else [1]
        self.cache_shapes = model.cache_shapes
        # Samples that a row depends on, up to its end. A clip of this length gives the score of a stream.
        self.reach_n = model.receptive_field * features.hop_n + self.context_n + (smooth_n - 1) * self.block_n
        self.tail = torch.zeros(0)
        self.recent = torch.zeros(0)
        self.cache = []
        self.reset()

    @torch.jit.export
    def reset(self) -> None:
        """Reset the stream to silence, as freshly loaded."""
        device = self.features.window.device
        self.tail = torch.zeros(self.context_n, device=device)
        self.recent = torch.zeros(self.smooth_n - 1, len(self.labels), device=device)
        self.cache = self._initial_cache(self.one)

    def _initial_cache(self, batch: list[int]) -> list[Tensor]:
        cache: list[Tensor] = []
        for shape in self.cache_shapes:
            cache.append(torch.zeros(batch + shape, device=self.features.window.device))
        return cache

    def forward(self, pcm: Tensor) -> Tensor:
        """Score the rows that this chunk completes.

        Other float types are converted, integers (int16, int32, uint8) are divided by their range, and [1, n] and
        [n, 1] are one channel. Samples that are not finite, or more than 60 dB above full scale, count as silence.

        Shape: pcm float32 [n] in [-1, 1], n from 0 up; returns float32 [rows, K] in [0, 1].

        Raises:
            ValueError: another shape, or samples that are no audio.
        """
        return self.score_and_embed(pcm)[0]

    def score_and_embed(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """Score the rows that this chunk completes, and return the input of the model's head (embedding) at each.

        Shape: pcm float32 [n] in [-1, 1], n from 0 up; returns float32 [rows, K] in [0, 1] and [rows, C].
        """
        with torch.no_grad():
            stream = torch.cat([self.tail, one_channel(pcm.to(self.tail.device))])
            rows_n = (stream.shape[0] - self.context_n) // self.block_n
            if rows_n == 0:
                self.tail = stream
                nothing = torch.zeros(0, len(self.labels), device=stream.device)
                return nothing, torch.zeros(0, self.model.width, device=stream.device)
            used = rows_n * self.block_n
            x = self.features(stream[: self.context_n + used].view(self.one + [-1]))  # noqa: RUF005 (TorchScript)
            hidden, self.cache = self.model.hidden(x, self.cache)
            self.tail = stream[used:]
            raw = self.raw(hidden).view(-1, len(self.labels))
            scores = torch.cat([self.recent, raw])
            self.recent = last(scores, self.smooth_n - 1)
            return smoothed(scores, self.smooth_n, self.smooth_k), hidden.view(self.model.width, -1).t()

    @torch.jit.export
    def batch(self, pcm: Tensor) -> Tensor:
        """Score several recordings, each from silence. The state of the stream does not change.

        Shape: pcm float32 [B, n] in [-1, 1], or other samples; returns float32 [B, n // block_n, K] in [0, 1].
        """
        return self.score_and_embed_batch(pcm)[0]

    @torch.jit.export
    def score_and_embed_batch(self, pcm: Tensor) -> tuple[Tensor, Tensor]:
        """Score as `batch` does, and return the embedding at each row.

        Shape: pcm float32 [B, n] in [-1, 1]; returns float32 [B, rows, K] in [0, 1] and [B, rows, C].
        """
        with torch.no_grad():
            x = self.features.clips(full_scale(pcm.to(self.features.window.device)), self.block_n)
            hidden, _ = self.model.hidden(x, self._initial_cache([pcm.shape[0]]))
            before = torch.zeros(pcm.shape[0], self.smooth_n - 1, len(self.labels), device=x.device)
            scores = torch.cat([before, self.raw(hidden)], 1)
            return smoothed(scores, self.smooth_n, self.smooth_k), hidden.transpose(1, 2)

    def raw(self, hidden: Tensor) -> Tensor:
        """Scores before smoothing. Shape: hidden [..., C, N], returns [..., N, K] in [0, 1]."""
        logits = self.model.head(hidden).transpose(-2, -1)
        if self.exclusive:
            return torch.softmax(logits, -1)[..., : len(self.labels)]
        return torch.sigmoid(logits)
