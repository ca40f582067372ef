"""Size, operations and context of a net, measured on the net itself."""

import copy
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from kws.models.base import KeywordNet


@dataclass(frozen=True)
class Figures:
    """Figures of a net.

    Args:
        weights: number of trained weights.
        macs_per_s: multiply-adds of the convolutions per second of audio, in a detector.
        rows_per_s: score rows per second.
        context_s: audio that a score depends on, before smoothing, seconds.
        row_s: longest time from audio to the score of its row, seconds.
    """

    weights: int
    macs_per_s: float
    rows_per_s: float
    context_s: float
    row_s: float


def weights(net: torch.nn.Module) -> int:
    """Number of trained weights."""
    return sum(p.numel() for p in net.parameters())


def measure(net: KeywordNet, window_s: float, hop_s: float) -> Figures:
    """Measure a net on frames of `window_s` seconds every `hop_s` seconds."""
    rows_n, row_s = 4, net.stride * hop_s
    empty = copy.deepcopy(net).eval().to("meta")  # shapes without numbers: nothing is computed
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        empty(torch.zeros(1, net.n_mels, rows_n * net.stride, device="meta"), empty.initial_cache(1))
    macs_per_s = counter.get_total_flops() / 2 / (rows_n * row_s)
    return Figures(weights(net), macs_per_s, 1 / row_s, (net.receptive_field - 1) * hop_s + window_s, row_s)
