"""Prioritized sampling: which clips of the replay buffer a batch replays, and their importance weights."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kws.common.errors import KwsError
from kws.common.settings import SettingError

EPS = 1e-3  # a clip with loss 0 keeps a small probability, since it may be forgotten again


class Sampling(StrEnum):
    """How clips are sampled."""

    uniform = "uniform"
    proportional = "proportional"  # P ~ (priority + EPS) ** priority_exponent
    rank = "rank"  # P ~ (1 / rank) ** priority_exponent: one huge loss is sampled no more than a large one


Share = Annotated[float | None, Field(ge=0, le=1000)]


@dataclass
class MixConfig:
    """Share of each kind in the replayed clips of a batch; all null: as the priorities have it."""

    false_trigger: Annotated[Share, Field(description="false triggers of streams")] = None
    batch_hard: Annotated[Share, Field(description="hardest negatives of training batches")] = None
    neighbour: Annotated[Share, Field(description="neighbours of the keyword in embedding space")] = None
    confusable: Annotated[Share, Field(description="confusables")] = None
    user: Annotated[Share, Field(description="clips that a person added")] = None


@dataclass
class SamplingConfig:
    """How batches sample clips from the replay buffer."""

    sampling: Annotated[
        Sampling, Field(description="how clips are sampled: all alike, by their priority or by its rank")
    ] = Sampling.proportional
    priority_exponent: Annotated[
        float, Field(ge=0, le=2, description="0 samples uniformly, 1 in proportion to the priority (the last loss)")
    ] = 0.6
    importance_exponent: Annotated[
        float | None, Field(ge=0, le=1, description="first exponent of the importance weights, rising to 1; null: none")
    ] = None
    mix: MixConfig = field(default_factory=MixConfig)

    def check(self) -> None:
        """Raise SettingError where no kind has a share."""
        if (shares := self.shares()) and not any(shares.values()):
            raise SettingError("mix", shares, "must have a share above 0")

    def shares(self) -> dict[str, float]:
        """The shares that are set, by kind."""
        return {kind: share for kind, share in asdict(self.mix).items() if share is not None}


def sampling_weights(priority: NDArray[np.float64], config: SamplingConfig) -> Tensor:
    """Weight of each clip in a sample, above 0 (Schaul et al., 2016).

    Args:
        priority: of each clip, finite and at least 0.
        config: the rule and its exponent.

    Shape: priority [R]; returns float64 [R].
    """
    values = torch.from_numpy(priority)
    if config.sampling is Sampling.uniform:
        return torch.ones_like(values)
    if config.sampling is Sampling.proportional:
        return (values + EPS) ** config.priority_exponent
    weights = torch.empty_like(values)  # of equal priorities the first clip ranks higher
    weights[torch.argsort(values, descending=True, stable=True)] = (
        1 / torch.arange(1, len(values) + 1, dtype=torch.float64)
    ) ** config.priority_exponent
    return weights


def sample(weights: Tensor, n: int, rng: torch.Generator) -> Tensor:
    """Sample different clips, one after another, each in proportion to its weight among those that are left.

    Args:
        weights: above 0, see `sampling_weights`.
        n: clips, at least 0; all of them where there are fewer.

    Shape: weights [R]; returns int64 [min(n, R)].
    """
    n = min(n, len(weights))
    return torch.multinomial(weights, n, generator=rng) if n else torch.zeros(0, dtype=torch.long)


def priority_of_score(score: NDArray[np.float64]) -> NDArray[np.float64]:
    """Priority of clips that were never sampled: the plain loss at their scores, 0 to 1. NaN where there is no score.

    Shape: score [R]; returns [R].
    """
    loss: NDArray[np.float64] = -np.log1p(-score.clip(0, 1 - 1e-6))
    return loss


def importance(probability: Tensor, n_clips: int, exponent: float) -> Tensor:
    """Importance weights of the losses of one batch, which correct for its sampling (Schaul et al., 2016).

    They only scale down.

    Args:
        probability: of each clip of the batch, above 0.
        n_clips: clips that the batch was sampled from.
        exponent: 0 corrects nothing, 1 corrects the sampling fully.

    Shape: probability [N]; returns [N], the largest is 1.
    """
    weight = (n_clips * probability) ** -exponent
    return weight / weight.max() if len(weight) else weight


def importance_exponent_at(step: int, first: int, last: int, exponent: float) -> float:
    """The exponent of `importance` at a step: constant up to step `first`, then rising linearly to 1 at `last`."""
    if step >= last:
        return 1.0
    return exponent if step <= first else exponent + (1 - exponent) * (step - first) / (last - first)


def split(n: int, mix: Mapping[str, float], available: Mapping[str, int], rng: torch.Generator) -> dict[str, int]:
    """How many clips of each kind a batch gets: the share rounded down or up, exact in the mean over batches.

    Systematic sampling (Madow, 1949): one uniform number rounds all cumulative shares. Clips that a kind lacks are
    taken from the others in proportion.

    Args:
        n: clips in all, at least 0; fewer where the kinds with a share have fewer.
        mix: the share of each kind, at least 0, of any sum above 0; a kind of share 0 gives nothing.
        available: clips of each kind; 0 for a kind that is not named.

    Raises:
        KwsError: a share is negative or not finite, or all are 0.
    """
    if not all(0 <= share < math.inf for share in mix.values()) or not any(mix.values()):
        raise KwsError(f"replay.mix={dict(mix)}: must be finite shares of at least 0, one of them above 0")
    # Fractions: with floats the last sum would now and then be a clip off.
    u = Fraction(torch.rand(1, generator=rng, dtype=torch.float64).item())
    share = {kind: Fraction(value) for kind, value in mix.items() if value > 0}
    counts, left = dict.fromkeys(mix, 0), n
    while share:
        each = left / sum(share.values(), Fraction())
        short = [kind for kind in share if share[kind] * each >= available.get(kind, 0)]
        if not short:
            break
        for kind in short:
            counts[kind] = available.get(kind, 0)
            left -= counts[kind]
            del share[kind]
    upto = u
    for kind, value in share.items():
        counts[kind] = math.floor(upto + value * each) - math.floor(upto)
        upto += value * each
    return counts
