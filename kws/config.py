"""The schema of every setting, its checks, and where conf/ and recipes/ lie.

A verb composes its configuration with Hydra, turns it into these dataclasses once (`settings`), and hands plain values
to the library: nothing below the verbs knows of Hydra.
"""

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from kws.errors import KwsError


class Layout(enum.Enum):
    """How a folder of recordings is described."""

    auto = "auto"
    csv = "csv"
    jsonl = "jsonl"
    folders = "folders"
    speech_commands = "speech_commands"


class Split(enum.Enum):
    """What decides the part (train, validation, test) of a recording."""

    auto = "auto"
    column = "column"
    hash = "hash"


class Schedule(enum.Enum):
    """How the replayed share comes up after the first mining round."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"


@dataclass
class SpeakConfig:
    """A corpus spoken with espeak-ng in place of recordings; used when data.root is not given."""

    enabled: bool
    positives: int
    confusables: int
    sentences: int
    noises: int


@dataclass
class DataConfig:
    root: str | None
    manifest: str | None
    layout: Layout
    split: Split
    part_column: str
    noise_label: str
    sample_rate: int
    max_bad_share: float
    cache: str
    speak: SpeakConfig


@dataclass
class FeaturesConfig:
    n_mels: int
    window_s: float
    hop_s: float
    low_hz: float


@dataclass
class ModelConfig:
    channels: int
    kernel: int
    dilations: list[int]
    stride: int
    smooth_s: float


@dataclass
class AugmentConfig:
    speed: float
    speed_p: float
    noise_p: float
    snr_db: list[float]
    level_db: list[float]
    context_p: float
    own_context_p: float
    context_db: list[float]
    colour_db: float
    time_masks: int
    time_mask_s: float
    mel_masks: int
    mel_mask_n: int


@dataclass
class BatchConfig:
    size: int
    positive_share: float
    noise_share: float
    clip_s: float
    max_keyword_s: float
    end_s: list[float]


@dataclass
class OptimConfig:
    steps: int
    lr: float
    warmup: int
    weight_decay: float
    ema: float
    negative_weight: float
    early_s: float
    late_s: float
    save_every: int


@dataclass
class ReplayConfig:
    share: float
    schedule: Schedule
    ramp_steps: int
    alpha: float
    capacity: int
    buffer: str | None


@dataclass
class MiningConfig:
    rounds: int
    first_at: float
    last_at: float
    pool_share: float
    passes: int
    snr_db: list[float]
    noise_db: list[float]
    per_hour: float
    min_score: float
    max_per_recording: int
    post_s: float


@dataclass
class ThresholdConfig:
    at_fa_per_hour: float
    passes: int


@dataclass
class StreamConfig:
    snr_db: list[float]
    noise_db: list[float]
    gap_s: float
    negative_gap_s: float
    chunk_s: float
    refractory_s: float


@dataclass
class TrainConfig:
    keyword: Any
    out: str
    seed: int
    device: str
    threads: int
    compare_without_replay: bool
    data: DataConfig
    features: FeaturesConfig
    model: ModelConfig
    augment: AugmentConfig
    batch: BatchConfig
    optim: OptimConfig
    replay: ReplayConfig
    mining: MiningConfig
    threshold: ThresholdConfig
    stream: StreamConfig


@dataclass
class MineConfig:
    checkpoint: str
    buffer: str
    streams: Any
    data: DataConfig
    at_score: float | None
    per_hour: float
    min_score: float
    max_per_recording: int
    post_s: float
    capacity: int
    threads: int


@dataclass
class EvaluateConfig:
    detector: str
    keyword: Any
    positive: str | None
    events: str | None
    negative: Any
    out: str | None
    report: str | None
    threads: int
    data: DataConfig
    threshold: ThresholdConfig
    stream: StreamConfig


@dataclass
class ExportConfig:
    checkpoint: str
    out: str
    thresholds: Any
    force: bool


# What each number may be: (lowest, highest), inclusive. Keys that need more than a range are checked in `check`.
RANGES: Mapping[str, tuple[float, float]] = {
    "seed": (0, 2**31 - 1),
    "threads": (0, 1024),
    "data.sample_rate": (8000, 48000),
    "data.max_bad_share": (0, 1),
    "data.speak.positives": (20, 100000),
    "data.speak.confusables": (0, 100000),
    "data.speak.sentences": (20, 100000),
    "data.speak.noises": (6, 100000),
    "features.n_mels": (8, 128),
    "features.window_s": (0.005, 0.1),
    "features.hop_s": (0.002, 0.05),
    "features.low_hz": (0, 1000),
    "model.channels": (4, 1024),
    "model.kernel": (2, 31),
    "model.dilations": (1, 64),
    "model.stride": (1, 8),
    "model.smooth_s": (0, 1),
    "augment.speed": (0, 0.5),
    "augment.speed_p": (0, 1),
    "augment.noise_p": (0, 1),
    "augment.snr_db": (-20, 60),
    "augment.level_db": (-80, 0),
    "augment.context_p": (0, 1),
    "augment.own_context_p": (0, 1),
    "augment.context_db": (-60, 30),
    "augment.colour_db": (0, 20),
    "augment.time_masks": (0, 10),
    "augment.time_mask_s": (0, 1),
    "augment.mel_masks": (0, 10),
    "augment.mel_mask_n": (0, 64),
    "batch.size": (2, 65536),
    "batch.positive_share": (0.01, 0.9),
    "batch.noise_share": (0, 0.9),
    "batch.clip_s": (0.5, 10),
    "batch.max_keyword_s": (0.2, 5),
    "batch.end_s": (0, 5),
    "optim.steps": (1, 10**8),
    "optim.lr": (1e-7, 10),
    "optim.warmup": (0, 10**7),
    "optim.weight_decay": (0, 1),
    "optim.ema": (0, 0.99999),
    "optim.negative_weight": (0, 100),
    "optim.early_s": (0, 2),
    "optim.late_s": (0, 2),
    "optim.save_every": (1, 10**7),
    "replay.share": (0, 0.5),
    "replay.ramp_steps": (0, 10**7),
    "replay.alpha": (0, 2),
    "replay.capacity": (1, 10**7),
    "mining.rounds": (0, 50),
    "mining.first_at": (0, 1),
    "mining.last_at": (0, 1),
    "mining.pool_share": (0, 0.9),
    "mining.passes": (1, 100),
    "mining.snr_db": (-20, 60),
    "mining.noise_db": (-80, 0),
    "mining.per_hour": (1, 10**5),
    "mining.min_score": (0, 1),
    "mining.max_per_recording": (1, 10**6),
    "mining.post_s": (0, 2),
    "at_score": (0, 1),
    "threshold.at_fa_per_hour": (0, 1000),
    "threshold.passes": (1, 100),
    "stream.snr_db": (-20, 60),
    "stream.noise_db": (-80, 0),
    "stream.gap_s": (0, 60),
    "stream.negative_gap_s": (0, 60),
    "stream.chunk_s": (0.01, 10),
    "stream.refractory_s": (0, 60),
    "per_hour": (1, 10**5),
    "min_score": (0, 1),
    "max_per_recording": (1, 10**6),
    "post_s": (0, 2),
    "capacity": (1, 10**7),
}

PAIRS: tuple[str, ...] = (
    "augment.snr_db",
    "augment.level_db",
    "augment.context_db",
    "batch.end_s",
    "mining.snr_db",
    "mining.noise_db",
)
PAIRS += ("stream.snr_db", "stream.noise_db")  # [low, high]

Settings = TypeVar("Settings", TrainConfig, MineConfig, EvaluateConfig, ExportConfig)


def settings(cfg: DictConfig, schema: type[Settings]) -> Settings:
    """The composed configuration as plain, checked dataclasses.

    Raises:
        KwsError: a value is missing, out of range or at odds with another; the message names the key.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise KwsError(f"{missing[0]}=... must be given; {hint(missing[0])}")
    plain = OmegaConf.to_object(cfg)
    assert isinstance(plain, schema)
    refuse_extra(plain)
    check(plain)
    return plain


def hint(key: str) -> str:
    """What a person would write for a key that must be given."""
    return {
        "keyword": "one word or a list, such as keyword=computer or keyword=[alexa,computer]",
        "checkpoint": "the model.pt of a run, such as checkpoint=runs/mine/model.pt",
        "detector": "a checkpoint (model.pt) or an exported detector (detector.pt)",
        "buffer": "the folder of a replay buffer, such as buffer=runs/mine/buffer",
        "streams": "a recording, a folder or a list of them, such as streams=[radio.flac,kitchen/]",
        "out": "where to write, such as out=detector.pt",
    }.get(key, "it has no default")


def refuse_extra(config: Any, prefix: str = "") -> None:
    """A key that was added with +key=value reaches nothing: say so; raises KwsError."""
    known = {item.name for item in dataclasses.fields(config)}
    for name, value in vars(config).items():
        if name not in known:
            raise KwsError(f"{prefix}{name}: no such setting; allowed are {', '.join(sorted(known))}")
        if dataclasses.is_dataclass(value):
            refuse_extra(value, f"{prefix}{name}.")


def leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of nested dataclasses with its value, dotted."""
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield prefix + item.name, value


def check(config: Any) -> None:
    """Hold every number to its range and combinations to their rules; raises KwsError naming key, value, allowed."""
    for key, value in leaves(config):
        low, high = RANGES.get(key, (None, None))
        numbers = value if isinstance(value, list) else [value]
        if low is not None and high is not None and value is not None:
            for number in numbers:
                if not low <= number <= high:  # also refuses NaN
                    raise KwsError(f"{key}={value}: allowed is {low:g} to {high:g}")
        if key in PAIRS and (len(numbers) != 2 or numbers[0] > numbers[1]):
            raise KwsError(f"{key}={value}: allowed is [low,high] with low <= high")
    if isinstance(config, TrainConfig):
        check_train(config)


def check_train(c: TrainConfig) -> None:
    """Rules between settings of a training run."""
    if not c.model.dilations:
        raise KwsError("model.dilations=[]: allowed is a list of at least one dilation")
    if c.model.kernel < c.model.stride:
        raise KwsError(f"model.kernel={c.model.kernel}: allowed is model.stride={c.model.stride} or more")
    if c.features.hop_s > c.features.window_s:
        raise KwsError(f"features.hop_s={c.features.hop_s}: allowed is at most window_s={c.features.window_s}")
    if c.augment.context_p + c.augment.own_context_p > 1:
        raise KwsError(
            f"augment.own_context_p={c.augment.own_context_p}: allowed is at most 1 - augment.context_p = "
            f"{1 - c.augment.context_p:g}"
        )
    if c.batch.max_keyword_s + c.batch.end_s[1] > c.batch.clip_s:
        raise KwsError(
            f"batch.clip_s={c.batch.clip_s}: allowed is at least max_keyword_s + end_s[1] = "
            f"{c.batch.max_keyword_s + c.batch.end_s[1]:g}"
        )
    if c.batch.positive_share + c.replay.share > 0.95:
        raise KwsError(
            f"replay.share={c.replay.share}: allowed is at most 0.95 - batch.positive_share = "
            f"{0.95 - c.batch.positive_share:g}, so that fresh negatives remain"
        )
    if c.mining.first_at > c.mining.last_at:
        raise KwsError(f"mining.first_at={c.mining.first_at}: allowed is at most mining.last_at={c.mining.last_at}")
    if c.mining.rounds and not c.mining.pool_share:
        raise KwsError(
            f"mining.rounds={c.mining.rounds}: allowed is 0 with mining.pool_share=0: nothing could be mined"
        )
    if c.mining.post_s >= c.batch.clip_s:
        raise KwsError(f"mining.post_s={c.mining.post_s}: allowed is less than batch.clip_s={c.batch.clip_s}")
    if not c.data.root and not c.data.speak.enabled:
        raise KwsError("data.root=DIR must be given: a folder of recordings with a manifest, or one folder a label")


def keywords(value: Any, key: str = "keyword") -> list[str]:
    """The keywords of a setting that is one word or a list of them.

    Raises:
        KwsError: none, an empty one, one twice, or something that is no text.
    """
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(w, str) and w.strip() for w in words):
        raise KwsError(f"{key}={value!r}: allowed is a word or a list of words, such as [alexa,computer]")
    if len(set(words)) != len(words):
        raise KwsError(f"{key}={value!r}: a keyword stands there twice")
    return list(words)


def paths(value: Any, key: str) -> list[Path]:
    """The paths of a setting that is one path or a list of them; raises KwsError for anything else or none."""
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(p, str) and p for p in items):
        raise KwsError(f"{key}={value!r}: allowed is a path or a list of paths")
    return [Path(p) for p in items]


def folder(name: str) -> Path:
    """Where `conf` or `recipes` lies: inside an installed wheel, or at the top of a checkout."""
    here = Path(__file__).parent
    for place in (here / name, here.parent / name):
        if place.is_dir():
            return place.resolve()
    raise KwsError(f"{name}/: not found beside the package; the installation is incomplete")


def register() -> None:
    """Make the schemas and every file of recipes/ known to Hydra: `recipe=NAME` is then an override like any other."""
    store = ConfigStore.instance()
    for name, schema in SCHEMAS.items():
        store.store(name=f"{name}_schema", node=schema)
    root = folder("recipes")
    for file in sorted(root.rglob("*.yaml")):
        place = file.relative_to(root)
        group = "/".join(("recipe", *place.parent.parts))
        store.store(group=group, name=place.stem, node=OmegaConf.load(file), package="_global_")


SCHEMAS: Mapping[str, type] = {
    "train": TrainConfig,
    "mine": MineConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
}
