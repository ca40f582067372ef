"""Max-pooling loss of a wake word: score high once at the end of the keyword, and low everywhere else."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kws.detector.smoothing import smoothed


def cross_entropy(wrong: Tensor, focal_gamma: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """Binary cross-entropy of predictions, each given by its logit for the wrong class.

    Label smoothing (Szegedy et al., 2016): the target probability of the wrong class is `label_smoothing` / 2. Focal
    loss (Lin et al., 2017) weighs a prediction by its distance from the target to the power of `focal_gamma`, so that
    easy ones hardly count; with a smoothed target as in Li et al. (2020).

    Args:
        wrong: logits of the wrong class.
        focal_gamma: at least 0; 0 is plain cross-entropy. Between 0 and 1 with smoothing, the gradient is unbounded at
            the target.
        label_smoothing: 0 to 1; 0 is plain cross-entropy.

    Shape: any; returns the same.
    """
    target = label_smoothing / 2
    loss = F.softplus(wrong)
    if label_smoothing:
        loss = (1 - target) * loss + target * F.softplus(-wrong)
    if focal_gamma:
        # The weight has no gradient beyond these limits: none is infinite.
        far = (torch.sigmoid(wrong.clamp(-30.0, 30.0)) - target).abs().clamp_min(1e-14)
        loss = loss * far**focal_gamma
    return loss


def slope(wrong: Tensor, focal_gamma: float = 0.0, label_smoothing: float = 0.0) -> Tensor:
    """Absolute derivative of `cross_entropy`. Shape: any; returns the same."""
    with torch.enable_grad():
        at = wrong.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(cross_entropy(at, focal_gamma, label_smoothing).sum(), at)
    return gradient.abs()


def plain_loss(other: Tensor) -> Tensor:
    """Plain cross-entropy of negatives, which rises with the score; a smoothed or focal objective does not.

    Shape: other [B, K], the highest logits outside the keyword, from `max_pooling_loss`; returns the same.
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
) -> tuple[Tensor, Tensor, Tensor]:
    """Max-pooling loss over time (Sun et al., 2016; Hou et al., 2020).

    The logit of a keyword must be high somewhere from `early_n` rows before its end to `late_n` rows after. It must be
    low before the keyword begins, and everywhere in a clip without the keyword. The loss is that of the highest row of
    each span, after the smoothing that the detector applies (here on logits).

    Args:
        logits: raw scores.
        target: 1 where the clip contains the keyword, 0 where it does not; negative where it contains a longer keyword
            that contains this one: then only the rows before must be low.
        start, end: first and last row of the keyword in a clip that contains one.
        early_n, late_n: rows, at least 0.
        smooth_n, smooth_k: the smoothing, as in `Detector`.
        focal_gamma, label_smoothing: as in `cross_entropy`.

    Shape: logits [B, K, N], target [B, K], start and end [B]; returns, for each clip and column [B, K], the loss, the
        highest logit outside the keyword, and the gradient: the sum of |d loss / d logit| over the rows. Where a
        smoothing window holds rows of the keyword and quiet rows, their opposite gradients are counted in full.
    """
    if smooth_n > 1:
        before = F.pad(logits, (smooth_n - 1, 0), mode="replicate")
        logits = smoothed(before.transpose(1, 2), smooth_n, smooth_k).transpose(1, 2)
    row = torch.arange(logits.shape[2], device=logits.device)
    low = torch.finfo(logits.dtype).min
    at_end = (row >= (end - early_n)[:, None]) & (row <= (end + late_n)[:, None])
    hit = logits.masked_fill(~at_end[:, None], low).amax(2)
    # all rows of a clip without this column's keyword; else the rows before the keyword of the clip begins
    quiet = (row < start[:, None])[:, None] | (target[:, :, None] == 0)
    present = target.clamp_min(0)
    other = logits.masked_fill(~quiet, low).amax(2)
    wrong = cross_entropy(other.clamp_min(-30.0), focal_gamma, label_smoothing)
    if label_smoothing:  # where no row is quiet, the floor of `other` would count as overconfident
        wrong = wrong * quiet.any(2)
    right = cross_entropy(-hit, focal_gamma, label_smoothing) * present
    gradient = slope(other.clamp_min(-30.0), focal_gamma, label_smoothing) * quiet.any(2)
    return right + wrong, other, gradient + slope(-hit, focal_gamma, label_smoothing) * present
