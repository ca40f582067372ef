"""What a net weighs, works and hears, measured on the net itself."""

from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from kws.models.base import KeywordNet


@dataclass(frozen=True)
class Figures:
    """Of one net.

    Args:
        weights: trained numbers.
        macs_per_s: multiply-adds of its convolutions for a second of sound, as it runs in a detector.
        rows_per_s: score rows.
        hears_s: sound that a score depends on, before smoothing.
        waits_s: how long sound waits for its score at most: a row.
        source: where the family is from.
        streams_from: what a stream goes on from: a cache, or windows, each of which is heard anew.
    """

    weights: int
    macs_per_s: float
    rows_per_s: float
    hears_s: float
    waits_s: float
    source: str
    streams_from: str


def weights(net: torch.nn.Module) -> int:
    """Its trained numbers."""
    return sum(p.numel() for p in net.parameters())


def measure(net: KeywordNet, window_s: float, hop_s: float) -> Figures:
    """The figures of a net on frames of `window_s` seconds each `hop_s`."""
    rows_n, row_s = 4, net.stride * hop_s
    ready = net.folded()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        ready(torch.zeros(1, net.n_mels, rows_n * net.stride), ready.initial_cache(1))
    return Figures(
        weights=weights(net),
        macs_per_s=counter.get_total_flops() / 2 / (rows_n * row_s),
        rows_per_s=1 / row_s,
        hears_s=(net.receptive_field - 1) * hop_s + window_s,
        waits_s=row_s,
        source=net.source,
        streams_from=net.streams_from,
    )
