"""The type of every setting. Values, with what they mean, stand in conf/; what numbers may be, in limits.py."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kws.models.base import ModelConfig


class Layout(enum.Enum):
    """How a folder of recordings is described."""

    auto = "auto"
    csv = "csv"
    jsonl = "jsonl"
    folders = "folders"
    speech_commands = "speech_commands"


class SplitBy(enum.Enum):
    """What decides the part (train, validation, test) of a recording."""

    auto = "auto"
    column = "column"
    hash = "hash"


class Task(enum.Enum):
    """What a net is trained for."""

    wake_word = "wake_word"
    classes = "classes"


class Release(enum.Enum):
    """A release of Google Speech Commands, by its folder."""

    v1 = "speech_commands_v0.01"
    v2 = "speech_commands_v0.02"


class Optimizer(enum.Enum):
    """Who makes the steps."""

    adamw = "adamw"
    sgd = "sgd"


class Schedule(enum.Enum):
    """How the replayed share goes from the first mining round on."""

    constant = "constant"
    linear = "linear"
    cosine = "cosine"
    adaptive = "adaptive"


class Average(enum.Enum):
    """Which weights a run keeps."""

    ema = "ema"
    best = "best"


class Unsupported(enum.Enum):
    """What becomes of a wanted rate that the validation hours are too few for."""

    refuse = "refuse"
    guess = "guess"


class Engine(enum.Enum):
    """Where recordings are heard."""

    local = "local"
    ray = "ray"


class Draw(enum.Enum):
    """How clips of the buffer are drawn that were drawn before."""

    uniform = "uniform"
    proportional = "proportional"
    rank = "rank"


class Eviction(enum.Enum):
    """Who goes from a full buffer."""

    hardest = "hardest"
    oldest = "oldest"
    reservoir = "reservoir"
    balanced = "balanced"


class Order(enum.Enum):
    """What a list of clips is sorted by."""

    score = "score"
    drawn = "drawn"
    loss = "loss"
    age = "age"


@dataclass
class SpeakConfig:
    """A corpus spoken with espeak-ng in place of recordings; used when data.root is not given."""

    enabled: bool
    positives: int
    confusables: int
    sentences: int
    noises: int


@dataclass
class SaidConfig:
    """Clips in many voices beside the recordings: of the keyword, and of what sounds like it."""

    positives: int
    confusables: int


@dataclass
class DataConfig:
    root: str | None
    manifest: str | None
    layout: Layout
    split: SplitBy
    release: Release | None
    download: bool
    part_column: str
    noise_label: str
    sample_rate: int
    max_bad_share: float
    cache: str
    speak: SpeakConfig
    said: SaidConfig


@dataclass
class FeaturesConfig:
    n_mels: int
    window_s: float
    hop_s: float
    low_hz: float


@dataclass
class PCENConfig(FeaturesConfig):
    trainable: bool
    time_constant_s: float
    memory_s: float
    alpha: float
    delta: float
    r: float


@dataclass
class MFCCConfig(FeaturesConfig):
    n_mfcc: int


# What a net hears in place of log-mel frames: the settings of each; its file in conf/features/ names it.
INPUTS: Mapping[str, type[FeaturesConfig]] = {"pcen": PCENConfig, "mfcc": MFCCConfig}


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
    real_share: float | None
    noise_share: float
    clip_s: float
    max_keyword_s: float
    end_s: list[float]


@dataclass
class ClassesConfig:
    """Clips that are each one of several classes; used with task=classes."""

    unknown: float
    silence: float
    shift_s: float
    noise_p: float
    noise_amplitude: list[float]
    time_masks: int
    time_mask_s: float
    mel_masks: int
    mel_mask_n: int | None


@dataclass
class OptimConfig:
    steps: int
    epochs: int | None
    optimizer: Optimizer
    momentum: float
    lr: float
    warmup: int
    warmup_epochs: float
    weight_decay: float
    ema: float
    average: Average
    best_n: int
    focal_gamma: float
    label_smoothing: float
    negative_weight: float
    early_s: float
    late_s: float
    save_every: int


@dataclass
class ByKind:
    """A number for each kind of clip; so that replay.mix={confusable: 0.5} is an override like any other."""

    false_trigger: float | None
    batch_hard: float | None
    neighbour: float | None
    confusable: float | None
    user: float | None


@dataclass
class ReplayConfig:
    share: float
    schedule: Schedule
    ramp_steps: int
    guard: float
    target_fa_per_hour: float
    at_score: float
    check_every: int
    rise: float
    most: float
    draw: Draw
    alpha: float
    beta: float | None
    mix: ByKind
    online: bool
    online_every: int
    online_n: int
    capacity: int
    hours: float | None
    quota: ByKind
    per_source: int | None
    eviction: Eviction
    overlap: float
    cosine: float
    quarantine: float | None
    solved: float
    probe: int
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
    bands: int
    reserve: float
    neighbours: float
    max_per_recording: int
    post_s: float


@dataclass
class ThresholdConfig:
    at_fa_per_hour: float | None
    unsupported: Unsupported
    passes: int


@dataclass
class StreamConfig:
    snr_db: list[float]
    noise_db: list[float]
    gap_s: float
    negative_gap_s: float
    chunk_s: float
    refractory_s: float
    max_keyword_s: float


@dataclass
class CandidateKinds:
    """A share for each kind of candidate; so that confuse.kinds={phones: 0} is an override like any other."""

    word: float
    sequence: float
    phones: float
    part: float
    spelling: float


@dataclass
class CandidatesConfig:
    n: int
    bands: list[float]
    quotas: list[float]
    kinds: CandidateKinds
    language: str
    pronunciations: Any
    words: str | None
    include: Any
    exclude: Any


@dataclass
class TrainConfig:
    task: Task
    keyword: Any
    out: str
    seed: int
    device: str
    precision: str
    compile: bool
    threads: int
    validate_every: int | None
    tensorboard: bool
    data: DataConfig
    confuse: CandidatesConfig
    features: FeaturesConfig
    model: ModelConfig
    augment: AugmentConfig
    batch: BatchConfig
    classes: ClassesConfig
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
    bands: int
    reserve: float
    neighbours: float
    max_per_recording: int
    post_s: float
    capacity: int | None
    overlap: float
    cosine: float
    quarantine: float | None
    threads: int


@dataclass
class BufferConfig:
    action: str
    buffer: str
    state: str | None
    kind: str | None
    keyword: str | None
    source: str | None
    sort: Order
    most: int | None
    out: str | None
    plots: str | None
    curves: str | None
    folder: str | None
    text: str | None
    max_bad_share: float
    sample_rate: int
    decisions: str | None
    clips: Any
    retired: bool
    min_age_s: float


@dataclass
class EvaluateConfig:
    detector: str | None
    compare: Any
    keyword: Any
    positive: Any
    events: Any
    collar_s: list[float] | None
    negative: Any
    said: str | None
    smooth_s: float | None
    smooth_k: int | None
    engine: Engine
    out: str | None
    report: str | None
    plots: str | None
    threads: int
    data: DataConfig
    threshold: ThresholdConfig
    stream: StreamConfig


@dataclass
class ExportConfig:
    checkpoint: str
    out: str
    thresholds: Any
    smooth_s: float | None
    smooth_k: int | None
    force: bool


class Synth(enum.Enum):
    """Who speaks."""

    espeak = "espeak"
    piper = "piper"
    command = "command"


@dataclass
class ConfuseConfig:
    action: str
    keyword: str
    out: str | None
    most: int | None
    seed: int
    confusables: int | None
    positives: int
    buffer: str | None
    synth: Synth
    voices: Any
    command: Any
    rates: list[int]
    pitches: list[int]
    workers: int
    confuse: CandidatesConfig


@dataclass
class ModelsConfig:
    features: FeaturesConfig
    model: ModelConfig | None


@dataclass
class RunsConfig:
    dir: str
    at_fa_per_hour: list[float] | None
    sort: str | None
    group: bool
    recipe_of: str | None
    out: str | None


SCHEMAS: Mapping[str, type] = {
    "train": TrainConfig,
    "mine": MineConfig,
    "buffer": BufferConfig,
    "confuse": ConfuseConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "models": ModelsConfig,
    "runs": RunsConfig,
}
