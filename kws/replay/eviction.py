"""Which clips a full buffer lets go."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from hashlib import blake2b
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from kws.common.errors import KwsError
from kws.replay.records import Kind

MOST_CLUSTERS = 64
FITTED = 10_000  # clips that the clusters are found from, where there are more


class Eviction(StrEnum):
    """Who goes from a full buffer."""

    HARDEST = "hardest"  # the lowest scores go
    OLDEST = "oldest"  # the oldest go
    RESERVOIR = "reservoir"  # every clip ever found has the same chance to stay
    BALANCED = "balanced"  # the largest clusters of embeddings give up their lowest scores


@dataclass(frozen=True)
class Limits:
    """What a buffer may hold, and who goes beyond it.

    Args:
        clips: most clips, at least 1.
        hours: most sound, in hours, above 0; None for no limit.
        per_kind: by name of a kind, the most of `clips` that may be of it, 0 to 1; a kind not named has no limit.
        per_source: most clips of one recording, at least 1; None for no limit.
        eviction: who goes.

    Raises:
        KwsError: a value out of its range, or an unknown kind.
    """

    clips: int = 2000
    hours: float | None = None
    per_kind: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    per_source: int | None = None
    eviction: Eviction = Eviction.HARDEST

    def __post_init__(self) -> None:
        if self.clips < 1:
            raise KwsError(f"replay.capacity={self.clips}: at least 1 expected")
        if self.hours is not None and not self.hours > 0:
            raise KwsError(f"replay.hours={self.hours}: above 0 expected, or null for no limit")
        for kind, share in self.per_kind.items():
            if kind not in list(Kind):
                raise KwsError(f"replay.quota: no kind {str(kind)!r}; there are {', '.join(Kind)}")
            if not 0 <= share <= 1:
                raise KwsError(f"replay.quota.{kind}={share}: 0 to 1 expected")
        if self.per_source is not None and self.per_source < 1:
            raise KwsError(f"replay.per_source={self.per_source}: at least 1 expected, or null for no limit")
        if self.eviction not in list(Eviction):
            raise KwsError(f"replay.eviction={self.eviction}: one of {', '.join(Eviction)} expected")


@dataclass
class Clips:
    """The clips of a buffer, column by column, the oldest first.

    Args:
        hash: of their content.
        kind: by name.
        source: hash of the recording each is cut from.
        n_samples: their lengths.
        score: as last given; NaN where there is none yet, which counts as the hardest.
        embedding: what they sound like; a row with a NaN for a clip that has none, None where no clip has one.

    Shape: n_samples int64 [N], score float64 [N], embedding float32 [N, D].
    """

    hash: list[str]
    kind: list[str]
    source: list[str]
    n_samples: NDArray[np.int64]
    score: NDArray[np.float64]
    embedding: NDArray[np.float32] | None = None


def surplus(clips: Clips, limits: Limits, sample_rate: int) -> list[int]:
    """The clips to evict so that all limits hold, as indexes, in the order they go.

    First goes what exceeds `per_source`, then `per_kind`, then `clips`, then `hours`; who goes is for
    `limits.eviction` to say, and the oldest among equals.

    Args:
        clips: what the buffer holds.
        limits: what it may hold.
        sample_rate: Hz.
    """
    n = len(clips.hash)
    everything = np.zeros(n, np.int64)
    stages: list[tuple[NDArray[np.int64], Callable[[NDArray[np.int64]], NDArray[np.bool_]]]] = []

    def at_most(group: NDArray[np.int64], most: NDArray[np.float64]) -> None:
        stages.append((group, lambda line: _followers(group[line]) >= most[group[line]]))

    def too_long(line: NDArray[np.int64]) -> NDArray[np.bool_]:
        hours = np.cumsum(clips.n_samples[line][::-1])[::-1] / sample_rate / 3600
        return np.asarray(hours > (math.inf if limits.hours is None else limits.hours))

    if limits.per_source is not None:
        sources, source = _codes(clips.source)
        at_most(source, np.full(len(sources), limits.per_source, np.float64))
    if limits.per_kind:
        kinds, kind = _codes(clips.kind)
        most = np.array([limits.per_kind.get(name, math.inf) for name in kinds]) * limits.clips
        at_most(kind, np.floor(most + 1e-9))  # in floating point 0.29 x 100 is less than 29
    at_most(everything, np.array([limits.clips], np.float64))
    stages.append((everything, too_long))

    clusters = cache(lambda: _clusters(clips.embedding, n))
    left, gone = _line(clips, limits.eviction), list[int]()
    for group, goes in stages:
        line = left
        if not goes(line).any():  # in whatever order
            continue
        if limits.eviction == Eviction.BALANCED:
            line = _largest_first(line, group, clusters())
        out = line[goes(line)]
        gone += out.tolist()
        stays = np.ones(n, bool)
        stays[out] = False
        left = left[stays[left]]
    return gone


def _line(clips: Clips, eviction: Eviction) -> NDArray[np.int64]:
    """All clips in the order they go, which for balanced is that within a cluster."""
    if eviction == Eviction.OLDEST:
        return np.arange(len(clips.hash))
    if eviction == Eviction.RESERVOIR:
        # Bottom-k sampling (Cohen & Kaplan, 2007) is Vitter's reservoir (1985) without its state: a clip's lot is a
        # hash of its hash, and the lowest lots stay, in whatever order the clips come in.
        lots = b"".join(blake2b(clip.encode(), digest_size=8).digest() for clip in clips.hash)
        return np.argsort(~np.frombuffer(lots, np.uint64), kind="stable")
    return np.argsort(np.where(np.isnan(clips.score), np.inf, clips.score), kind="stable")


def _codes(names: Sequence[str]) -> tuple[list[str], NDArray[np.int64]]:
    """The different names, and for each name which of them it is."""
    code: dict[str, int] = {}
    codes = np.array([code.setdefault(name, len(code)) for name in names], np.int64)
    return list(code), codes


def _followers(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each place in a line, how many of its group stand behind it."""
    back = groups[::-1]
    order = np.argsort(back, kind="stable")
    ordered = back[order]
    before = np.empty_like(back)
    before[order] = np.arange(len(back)) - np.searchsorted(ordered, ordered)
    return before[::-1]


def _largest_first(line: NDArray[np.int64], group: NDArray[np.int64], cluster: NDArray[np.int64]) -> NDArray[np.int64]:
    """The line as it goes when always the largest cluster within a group gives up its first clip.

    A clip goes when its cluster has come down to it and those behind it: the most followers first.
    """
    cell = group * (cluster.max() + 1) + cluster
    return line[np.argsort(-_followers(cell[line]), kind="stable")]


def _clusters(embedding: NDArray[np.float32] | None, n: int) -> NDArray[np.int64]:
    """The cluster of each clip by mini-batch k-means (Sculley, 2010); clips without an embedding are one of their own.

    About sqrt(N) clusters are more than there may be, and k-means then cuts a large one to pieces that would each keep
    a share. So those whose centres are all within half the clips' spread count as one.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from sklearn.cluster import MiniBatchKMeans  # slow to import, and seldom needed

    cluster = np.zeros(n, np.int64)
    if embedding is None:
        return cluster
    has = np.isfinite(embedding).all(1)
    known = embedding[has]
    k = min(MOST_CLUSTERS, round(math.sqrt(len(known))))
    if k < 2:
        cluster[has] = 1
        return cluster
    sample = known
    if len(known) > FITTED:
        sample = known[np.random.default_rng(0).choice(len(known), FITTED, replace=False)]
    # A fixed number of steps: when to stop early hangs on a sum whose last digits change with the threads.
    means = MiniBatchKMeans(k, random_state=0, n_init=1, max_iter=20, max_no_improvement=None).fit(sample)
    spread = float(np.sqrt(sample.var(0, dtype=np.float64).sum()))
    merged = fcluster(linkage(means.cluster_centers_, "complete"), spread / 2, "distance")
    cluster[has] = merged[means.predict(known)]  # from 1
    return cluster
