"""What the model is asked: fire once after the keyword, nowhere else."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kws.smoothing import smoothed


def max_pooling_loss(
    logits: Tensor,
    target: Tensor,
    start: Tensor,
    end: Tensor,
    early_n: int,
    late_n: int,
    smooth_n: int = 1,
    smooth_k: int = 0,
) -> tuple[Tensor, Tensor]:
    """Max-pooling loss over time (Sun et al., 2016; Hou et al., 2020).

    A keyword must be scored somewhere from `early_n` rows before its end to `late_n` rows after; its column must stay
    low before the keyword begins, and everywhere in a clip that does not hold it. Only the highest row of each span is
    judged, after the smoothing that the detector will apply (here on logits).

    Args:
        logits: raw scores.
        target: 1 where the clip holds the keyword, else 0.
        start, end: first and last row of the keyword in a clip that holds one.
        early_n, late_n: rows, at least 0.
        smooth_n, smooth_k: the smoothing, as in `Detector`.

    Shape: logits [B, K, N], target [B, K], start and end [B]; returns the loss of each clip and column [B, K], and the
        highest logit of each clip outside its keyword [B, K].
    """
    if smooth_n > 1:
        before = F.pad(logits, (smooth_n - 1, 0), mode="replicate")
        logits = smoothed(before.transpose(1, 2), smooth_n, smooth_k).transpose(1, 2)
    row = torch.arange(logits.shape[2], device=logits.device)
    low = torch.finfo(logits.dtype).min
    at_end = (row >= (end - early_n)[:, None]) & (row <= (end + late_n)[:, None])
    hit = logits.masked_fill(~at_end[:, None], low).amax(2)
    # a clip without this column's keyword is judged whole, one with it only up to where the keyword begins
    quiet = (row < start[:, None])[:, None] | (target[:, :, None] < 0.5)
    other = logits.masked_fill(~quiet, low).amax(2)
    wrong = F.softplus(other.clamp_min(-30.0))
    right = F.softplus(-hit) * target
    return right + wrong, other
