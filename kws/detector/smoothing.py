"""Scores smoothed over the last rows: the mean of them, or k of n."""

from torch import Tensor


def smoothed(rows: Tensor, n: int, k: int) -> Tensor:
    """Of each row and the n - 1 before it the mean (Chen et al., 2014), or the k-th highest.

    The k-th highest of the last n reaches a threshold exactly where k of them do: "k of n" is a score like any other,
    so thresholds are swept and calibrated on it as on the mean.

    Args:
        rows: the first n - 1 are only looked back at.
        n: rows, at least 1.
        k: 0 for the mean, else 1 to n.

    Shape: rows [..., N + n - 1, K], returns [..., N, K].
    """
    windows = rows.unfold(-2, n, 1)
    if k == 0:
        return windows.mean(-1)
    return windows.kthvalue(n - k + 1, -1)[0]
