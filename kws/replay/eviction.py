"""Eviction: which clips leave a full replay buffer.

An eviction rule orders clips, the first to be evicted first. One of your own is a function with the decorator
`register_eviction`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, make_dataclass
from hashlib import blake2b
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from kws.common.errors import KwsError
from kws.replay.records import SPAN_S, ClipTable

MAX_CLUSTERS = 64
FITTED = 10_000  # clips that the clusters are fitted to, where there are more

Order = NDArray[np.int64]
EvictionRule = Callable[..., Order]
RULES: dict[str, EvictionRule] = {}
EMBEDDING_RULES: set[str] = set()  # those that need embeddings, which take long to read
_SETTINGS: dict[str, type] = {}


def register_eviction(
    name: str, settings: type | None = None, embeddings: bool = False
) -> Callable[[EvictionRule], EvictionRule]:
    """Make a function the eviction rule `replay.eviction=name`.

    The function takes a table of clips, the places of those that may be evicted, oldest first, and the group of each
    clip of the table whose limit is exceeded. It returns the places in the order of eviction.

    Args:
        name: of the rule.
        settings: a dataclass of settings with defaults, `replay.eviction_rules.NAME.*`. The function then takes one as
            its last argument.
        embeddings: whether it needs the embeddings of the clips.
    """

    def register(rule: EvictionRule) -> EvictionRule:
        RULES[name] = rule
        if settings is not None:
            _SETTINGS[name] = settings
        if embeddings:
            EMBEDDING_RULES.add(name)
        return rule

    return register


def _known(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"must be one of {', '.join(RULES)}")
    return name


Share = Annotated[float | None, Field(ge=0, le=1)]


@dataclass
class QuotaConfig:
    """Share of the capacity that clips of a kind may fill; null for no limit."""

    false_trigger: Annotated[Share, Field(description="false triggers of streams")] = None
    batch_hard: Annotated[Share, Field(description="hardest negatives of training batches")] = None
    neighbour: Annotated[Share, Field(description="neighbours of the keyword in embedding space")] = None
    confusable: Annotated[Share, Field(description="confusables")] = None
    user: Annotated[Share, Field(description="clips that a user added")] = None


@dataclass
class EvictionRules:
    """Settings of registered eviction rules, a group each."""


def rule_settings() -> EvictionRules:
    """Defaults of the settings of registered rules."""
    groups = [(name, kind, field(default_factory=kind)) for name, kind in _SETTINGS.items()]
    made: EvictionRules = make_dataclass("EvictionRules", groups, bases=(EvictionRules,))()
    return made


@dataclass
class EvictionConfig:
    """Limits of the replay buffer, and the rule by which clips are evicted beyond them."""

    capacity: Annotated[int, Field(ge=1, le=10**7, description="clips in the buffer")] = 2000
    hours: Annotated[
        float | None, Field(ge=0.001, le=10**5, description="hours of audio in the buffer; null: no limit")
    ] = None
    quota: QuotaConfig = field(default_factory=QuotaConfig)
    max_per_recording: Annotated[
        int | None, Field(ge=1, le=10**7, description="clips in each started 10 s of a recording; null: no limit")
    ] = 10
    eviction: Annotated[
        str,
        AfterValidator(_known),
        Field(description="rule of a full buffer: hardest (keeps high scores), oldest, reservoir, balanced"),
    ] = "hardest"
    eviction_rules: EvictionRules = field(default_factory=rule_settings)

    def quotas(self) -> dict[str, float]:
        """The quotas that are set, by kind."""
        return {kind: share for kind, share in asdict(self.quota).items() if share is not None}


def no_limits() -> EvictionConfig:
    """Limits of a buffer that a user fills: nothing is evicted."""
    return EvictionConfig(capacity=10**7, max_per_recording=None)


def surplus(clips: ClipTable, config: EvictionConfig, sample_rate: int) -> list[int]:
    """The clips to evict so that all limits hold, as places in the table, in the order of eviction.

    First `max_per_recording` is enforced, then `quota`, `capacity` and `hours`. The rule chooses the clips, and among
    equal ones the oldest.

    Args:
        clips: of the buffer, oldest first.
        config: limits and rule.
        sample_rate: Hz.

    Raises:
        KwsError: an unknown rule.
    """
    if config.eviction not in RULES:
        raise KwsError(f"replay.eviction={config.eviction}: must be one of {', '.join(RULES)}")
    rule, settings = RULES[config.eviction], getattr(config.eviction_rules, config.eviction, None)
    left, evicted = np.arange(len(clips)), list[int]()

    def enforce(group: NDArray[np.int64], exceeds: Callable[[Order], NDArray[np.bool_]]) -> None:
        nonlocal left
        if exceeds(left).any():  # in any order
            order = rule(clips, left, group) if settings is None else rule(clips, left, group, settings)
            out = order[exceeds(order)]
            evicted.extend(out.tolist())
            left = np.setdiff1d(left, out)

    def at_most(group: NDArray[np.int64], limit: NDArray[np.float64]) -> None:
        enforce(group, lambda order: _followers(group[order]) >= limit[group[order]])

    if config.max_per_recording is not None:
        recording = np.unique(np.array(clips.recording, str), return_inverse=True)[1]
        spans = np.floor(clips.start_s.clip(0) / SPAN_S)  # a clip may begin before its recording
        places, place = np.unique(np.stack([recording, spans], 1), axis=0, return_inverse=True)
        at_most(place, np.full(len(places), config.max_per_recording, np.float64))
    if quota := config.quotas():
        kinds, kind = np.unique(np.array(clips.kind, str), return_inverse=True)
        limit = np.array([quota.get(name, math.inf) for name in kinds.tolist()], np.float64) * config.capacity
        at_most(kind, np.floor(limit + 1e-9))  # in floating point 0.29 x 100 is less than 29
    one_group = np.zeros(len(clips), np.int64)
    at_most(one_group, np.array([config.capacity], np.float64))
    if (max_hours := config.hours) is not None:
        max_n = max_hours * 3600 * sample_rate
        enforce(one_group, lambda order: np.cumsum(clips.n_samples[order][::-1])[::-1] > max_n)
    return evicted


@register_eviction("hardest")
def hardest(clips: ClipTable, places: Order, group: NDArray[np.int64]) -> Order:
    """Evict the lowest scores. A clip without a score counts as the hardest."""
    score = clips.score[places]
    return places[np.argsort(np.where(np.isnan(score), np.inf, score), kind="stable")]


@register_eviction("oldest")
def oldest(clips: ClipTable, places: Order, group: NDArray[np.int64]) -> Order:
    """Evict the oldest clips."""
    return places


@register_eviction("reservoir")
def reservoir(clips: ClipTable, places: Order, group: NDArray[np.int64]) -> Order:
    """Keep a uniform sample of all clips ever found.

    Bottom-k sampling (Cohen & Kaplan, 2007) is Vitter's reservoir (1985) without state. The random number of a clip is
    a hash of its hash, and the lowest numbers stay, in whatever order the clips come in.
    """
    numbers = b"".join(blake2b(clips.hash[i].encode(), digest_size=8).digest() for i in places.tolist())
    return places[np.argsort(~np.frombuffer(numbers, np.uint64), kind="stable")]


@register_eviction("balanced", embeddings=True)
def balanced(clips: ClipTable, places: Order, group: NDArray[np.int64]) -> Order:
    """Evict the lowest score of the largest embedding cluster within each group, again and again.

    In eviction order, the clip with the most harder clips in its cluster comes first.
    """
    cluster = _clusters(clips.embedding, len(clips))
    order = hardest(clips, places, group)
    cell = group * (cluster.max() + 1) + cluster
    return order[np.argsort(-_followers(cell[order]), kind="stable")]


def _followers(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each clip in eviction order, the number of clips of its group that are evicted after it."""
    back = groups[::-1]
    order = np.argsort(back, kind="stable")
    ordered = back[order]
    before = np.empty_like(back)
    before[order] = np.arange(len(back)) - np.searchsorted(ordered, ordered)
    return before[::-1]


def _clusters(embedding: NDArray[np.float32] | None, n: int) -> NDArray[np.int64]:
    """The cluster of each clip by mini-batch k-means (Sculley, 2010). Clips without an embedding form one cluster.

    About sqrt(N) clusters may be too many, and k-means then splits a large one into parts that would each keep a share.
    So clusters whose centres are all within half the clips' spread are merged.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from sklearn.cluster import MiniBatchKMeans  # slow to import, and seldom needed

    cluster = np.zeros(n, np.int64)
    if embedding is None:
        return cluster
    has = np.isfinite(embedding).all(1)
    known = embedding[has]
    k = min(MAX_CLUSTERS, round(math.sqrt(len(known))))
    if k < 2:
        cluster[has] = 1
        return cluster
    sample = known
    if len(known) > FITTED:
        sample = known[np.random.default_rng(0).choice(len(known), FITTED, replace=False)]
    # A fixed number of steps: early stopping would depend on a sum whose last digits change with the threads.
    means = MiniBatchKMeans(k, random_state=0, n_init=1, max_iter=20, max_no_improvement=None).fit(sample)
    spread = float(np.sqrt(sample.var(0, dtype=np.float64).sum()))
    merged = fcluster(linkage(means.cluster_centers_, "complete"), spread / 2, "distance")
    cluster[has] = merged[means.predict(known)]  # from 1
    return cluster
