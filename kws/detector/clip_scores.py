"""What a detector makes of single clips: how high each scores, and its embedding."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data.audio import to_float
from kws.detector.detector import Detector

AT_ONCE = 64  # clips


def hear_clips(
    detector: Detector, clips: Sequence[NDArray[np.int16]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The highest score of each keyword in each clip, heard from silence, and the hidden layer where any is highest.

    Shape: clips int16 [T], each its own; returns scores float32 [N, K] in [0, 1] and embeddings float32 [N, C].
    """
    scores = np.zeros((len(clips), len(detector.labels)), np.float32)
    embeddings = np.zeros((len(clips), detector.model.width), np.float32)
    order = sorted(range(len(clips)), key=lambda i: len(clips[i]))
    for n, same in groupby(order, key=lambda i: len(clips[i])):
        indexes = list(same)
        for at in range(0, len(indexes), AT_ONCE):
            some = indexes[at : at + AT_ONCE]
            rows_n = max(1, -(-n // detector.block_n))  # the last row is completed with silence
            # In memory of torch's: where an array of NumPy's begins may change the last bit of a sum.
            sound = torch.zeros(len(some), rows_n * detector.block_n)
            for place, i in enumerate(some):
                sound[place, :n] = torch.from_numpy(to_float(clips[i]))
            rows, hidden = detector.hear_batch(sound)
            peak = rows.amax(2).argmax(1)
            scores[some] = rows.amax(1).cpu().numpy()
            embeddings[some] = hidden[torch.arange(len(some), device=hidden.device), peak].cpu().numpy()
    return scores, embeddings
