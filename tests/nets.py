"""Small detectors with random weights, and audio to score, for tests."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from kws.data.features import LogMel
from kws.detector.detector import Detector
from kws.models.registry import DSTCN, KeywordNet

LABELS = ["alexa", "computer"]


Net = TypeVar("Net", bound=KeywordNet)


def as_if_trained(make: Callable[[], Net], seed: int = 0) -> Net:
    """A net with random statistics in its batch norms, whose scores vary between 0 and 1, as after training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = make()
        for part in net.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.running_mean = 0.5 * torch.randn(part.num_features)
                part.running_var = 0.5 + 1.5 * torch.rand(part.num_features)
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, std=0.3)
        assert isinstance(net.head, nn.Conv1d)
        nn.init.normal_(net.head.weight, std=2 / net.width**0.5)
        net.head.bias = nn.Parameter(torch.zeros(net.n_keywords))
    return net.eval()


def lively(make: Callable[[], Net], seed: int = 0) -> Net:
    """A net whose scores vary along `sound`: norms have the statistics of such audio, and the head is scaled.

    With arbitrary norms a deep net gives the same score for all audio, and a test would show nothing.
    """
    net = as_if_trained(make, seed)
    row_n = 160 * net.stride
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for part in net.modules():
            if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
                part.reset_running_stats()
                part.momentum = None  # the mean over all batches
        frames = LogMel().clips(torch.stack([sound(60 * 320, n) for n in range(8)]), row_n)
        net.train()(frames, net.initial_cache(8))
        logits = net.eval()(frames[:1], net.initial_cache(1))[0][0]
        assert isinstance(net.head, nn.Conv1d)
        assert net.head.bias is not None
        scale = 0.7 / logits.std(1)
        net.head.weight *= scale[:, None, None]
        net.head.bias.copy_(-scale * logits.mean(1))
    return net


def random_net(seed: int = 0, channels: int = 8, kernel: int = 5, dilations: tuple[int, ...] = (1, 2)) -> DSTCN:
    """A small net, as after training."""
    return as_if_trained(lambda: DSTCN(40, len(LABELS), channels, kernel, dilations, stride=2), seed)


def random_detector(seed: int = 0, smooth_n: int = 5) -> Detector:
    return Detector(LogMel(), random_net(seed), LABELS, [0.5, 0.75], smooth_n)


def sound(n_samples: int, seed: int = 0) -> Tensor:
    """Noise whose level and colour change every 50 ms or so. Shape: float32 [n_samples]."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n_samples, generator=rng)
    level = 10 ** (-4 * torch.rand(n_samples // 800 + 1, generator=rng)).repeat_interleave(800)[:n_samples]
    smooth = torch.rand(n_samples // 800 + 1, generator=rng).repeat_interleave(800)[:n_samples]
    return (0.3 * level * (x + 2 * smooth * x.roll(1))).clamp(-1, 1)
