"""The gate of every export: the written file must give the scores of the detector."""

from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kws.common.errors import KwsError
from kws.data.audio import BadAudio, load
from kws.detector.detector import Detector

LIMIT = 1e-5  # largest difference of a score
CHUNKS_N = (1280, 320, 777, 6400)  # samples, in turn
CLIPS = 10  # real ones


def gate_audio(sample_rate: int, clips: Path | None = None) -> Tensor:
    """Audio that shows differences: noise at levels from -80 to 0 dBFS, silence, and real clips where there are some.

    Args:
        sample_rate: Hz.
        clips: folder of clips, such as those of the replay buffer of the run.

    Shape: float32 [n].
    """
    noise = torch.randn(3 * sample_rate, generator=torch.Generator().manual_seed(0))
    level = torch.logspace(-4, 0, len(noise))
    parts = [0.3 * level * noise, torch.zeros(sample_rate // 2)]
    for file in sorted(clips.rglob("*.flac"))[:CLIPS] if clips is not None and clips.is_dir() else ():
        try:
            parts.append(torch.from_numpy(np.array(load(file, sample_rate))))
        except BadAudio:
            continue
    return torch.cat(parts)


def difference(detector: Detector, score: Callable[[Tensor], Tensor], audio: Tensor) -> float:
    """Largest difference of a score between the detector, at once, and its export, in chunks.

    Args:
        detector: its state is reset.
        score: scores the next samples with the export, freshly loaded.
        audio: float32 [n].

    Returns infinity where a score is missing or is not a number.
    """
    detector.reset()
    want = detector(audio)
    detector.reset()
    sizes = [n for n, _ in zip(cycle(CHUNKS_N), range(len(CHUNKS_N) * (len(audio) // sum(CHUNKS_N))))]
    got = torch.cat([score(chunk) for chunk in torch.split(audio, [*sizes, len(audio) - sum(sizes)])])
    if want.shape != got.shape or not got.isfinite().all():
        return float("inf")
    return float((want - got).abs().max())


def require_equal(detector: Detector, score: Callable[[Tensor], Tensor], audio: Tensor, name: str) -> None:
    """Raise KwsError if a score differs by more than `LIMIT`, see `difference`. `name` is that of the file."""
    if (worst := difference(detector, score, audio)) > LIMIT:
        raise KwsError(f"{name}: scores differ from the detector by {worst:g}; must be at most {LIMIT:g}")
