"""A detector as a graph whose state is an input and an output, for ONNX and for torch.export."""

import warnings

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kws.detector.detector import Detector
from kws.detector.smoothing import smoothed

MOST_ROWS = 100_000  # of one call


class StreamGraph(nn.Module):
    """The step of a stream: samples of whole rows and the state in, scores and the next state out.

    The state is the audio that the next frame overlaps, the raw scores that smoothing looks back on, and the cache of
    the model. It begins as zeros.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.features, self.model, self.detector = detector.features, detector.model, detector
        self.context_n, self.smooth_n, self.smooth_k = detector.context_n, detector.smooth_n, detector.smooth_k

    def start(self) -> list[Tensor]:
        """State before the first sample."""
        recent = torch.zeros(self.smooth_n - 1, len(self.detector.labels))
        cache = [one[0] if self.model.batch_free else one for one in self.model.initial_cache(1)]
        return [torch.zeros(self.context_n), recent, *cache]

    def names(self) -> list[str]:
        """Names of the tensors of the state."""
        return ["audio", "recent", *(f"cache_{i}" for i in range(len(self.model.cache_shapes)))]

    def forward(self, pcm: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Shape: pcm float32 [rows * block]; returns scores float32 [rows, K] and the state."""
        audio, recent, *cache = state
        stream = torch.cat([audio, pcm])
        x = self.features(stream)
        hidden, cache = self.model.hidden(x if self.model.batch_free else x.unsqueeze(0), cache)
        raw = self.detector.raw(hidden)
        scores = torch.cat([recent, raw if self.model.batch_free else raw[0]])
        kept = stream[stream.shape[0] - self.context_n :], scores[scores.shape[0] - (self.smooth_n - 1) :]
        return smoothed(scores, self.smooth_n, self.smooth_k), *kept, *cache


def exported(detector: Detector, rows_n: int | None = None) -> ExportedProgram:
    """The program of torch.export, for `rows_n` rows a call, or for any number of them."""
    graph = StreamGraph(detector).eval()
    state = graph.start()
    pcm = torch.zeros((rows_n or 4) * detector.block_n)
    rows = {0: Dim("rows", min=1, max=MOST_ROWS) * detector.block_n} if rows_n is None else None
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # deprecations within torch
        return torch.export.export(
            graph, (pcm, *state), dynamic_shapes={"pcm": rows, "state": tuple({} for _ in state)}
        )
