"""Nearest neighbours of the keyword: what a model places beside it, though it does not fire there."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Near = Callable[[Tensor], Tensor]  # how near each row is: hidden layer [N, C] to cosine [N]


def nearness(keywords: NDArray[np.float32]) -> Near:
    """A function from the hidden layer to the highest cosine with any of the keywords.

    Approximate nearest-neighbour negatives (Xiong et al., 2021), exact here: a pool of hours is small.

    Shape: keywords float32 [P, C], embeddings of clips that hold the keyword.
    """
    known = torch.nn.functional.normalize(torch.from_numpy(keywords), dim=1)

    def near(hidden: Tensor) -> Tensor:
        return (torch.nn.functional.normalize(hidden, dim=1) @ known.to(hidden.device).t()).amax(1)

    return near
