"""What the model is asked: fire once after the keyword, nowhere else."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kws.detector.smoothing import smoothed


def cost(wrong: Tensor, focal_gamma: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of answers, each by its logit for the wrong one.

    Label smoothing (Szegedy et al., 2016) wants the wrong answer at a probability of `label_smoothing` / 2. Focal loss
    (Lin et al., 2017) weighs an answer by its distance from what is wanted to the power of `focal_gamma`, so that easy
    ones hardly count; with a smoothed target as Li et al. (2020) do.

    Args:
        wrong: logits for the wrong answer.
        focal_gamma: at least 0; 0 is plain cross-entropy. Below 1 with smoothing the gradient has no bound where the
            target is met.
        label_smoothing: 0 to 1; 0 is plain.

    Shape: any; returns the same.
    """
    wanted = label_smoothing / 2
    loss = F.softplus(wrong)
    if label_smoothing:
        loss = (1 - wanted) * loss + wanted * F.softplus(-wrong)
    if focal_gamma:
        # Beyond these limits the weight has no gradient, so that none is infinite.
        far = (torch.sigmoid(wrong.clamp(-30.0, 30.0)) - wanted).abs().clamp_min(1e-14)
        loss = loss * far**focal_gamma
    return loss


def hardness(other: Tensor) -> Tensor:
    """What a negative costs by plain cross-entropy, whatever the objective: rises with its score, always.

    Shape: other [B, K], the highest logits outside the keyword as of `max_pooling_loss`; returns the same.
    """
    return F.softplus(other.detach().clamp_min(-30.0))


def max_pooling_loss(
    logits: Tensor,
    target: Tensor,
    start: Tensor,
    end: Tensor,
    early_n: int,
    late_n: int,
    smooth_n: int = 1,
    smooth_k: int = 0,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
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
        focal_gamma, label_smoothing: how the rows that are judged cost, as in `cost`.

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
    wrong = cost(other.clamp_min(-30.0), focal_gamma, label_smoothing)
    if label_smoothing:  # a floor in place of rows that are not there would count as too sure
        wrong = wrong * quiet.any(2)
    right = cost(-hit, focal_gamma, label_smoothing) * target
    return right + wrong, other
