"""Smoothing of scores over the last rows: their mean, or k of n."""

from torch import Tensor

from kws.common.tensors import windows


def smoothed(rows: Tensor, n: int, k: int) -> Tensor:
    """The mean (Chen et al., 2014) or the k-th highest of each row and the n - 1 rows before it.

    The k-th highest of n rows reaches a threshold exactly where k of them do. So "k of n" is a score like any other:
    thresholds are swept and calibrated on it as on the mean.

    Args:
        rows: the first n - 1 rows are context only.
        n: rows, at least 1.
        k: 0 for the mean, else 1 to n.

    Shape: rows [..., N + n - 1, K], returns [..., N, K].
    """
    found = windows(rows, n)
    if k == 0:
        return found.mean(-2)
    return found.topk(k, -2)[0][..., k - 1, :]
