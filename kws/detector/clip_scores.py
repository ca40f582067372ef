"""Scores and embeddings of single clips."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data.audio import to_float
from kws.detector.detector import Detector

CLIPS_PER_BATCH = 64


def score_clips(
    detector: Detector, clips: Sequence[NDArray[np.int16]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The highest score of each keyword in each clip, and the embedding of the row where any keyword scores highest.

    Shape: clips int16 [T] each, of any length; returns scores float32 [N, K] in [0, 1] and embeddings float32 [N, C].
    """
    scores = np.zeros((len(clips), len(detector.labels)), np.float32)
    embeddings = np.zeros((len(clips), detector.model.width), np.float32)
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    for n, same in groupby(order, key=lambda i: len(clips[i])):
        indexes = list(same)
        for at in range(0, len(indexes), CLIPS_PER_BATCH):
            batch = indexes[at : at + CLIPS_PER_BATCH]
            rows_n = max(1, -(-n // detector.block_n))  # the last row is completed with silence
            # In memory of torch: the alignment of a NumPy array may change the last bit of a sum.
            pcm = torch.zeros(len(batch), rows_n * detector.block_n)
            for row, i in enumerate(batch):
                pcm[row, :n] = torch.from_numpy(to_float(clips[i]))
            rows, hidden = detector.score_and_embed_batch(pcm)
            peak = rows.amax(2).argmax(1)
            scores[batch] = rows.amax(1).cpu().numpy()
            embeddings[batch] = hidden[torch.arange(len(batch), device=hidden.device), peak].cpu().numpy()
    return scores, embeddings
