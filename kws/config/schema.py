"""The settings of each command: its own, and the groups that its modules declare."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum, auto
from typing import Annotated, Any

from omegaconf import MISSING
from pydantic import Field

from kws.common.errors import KwsError
from kws.common.settings import INPUT, OUTPUT, PATH, TEXT, Each, OneOf, Pair, SettingError
from kws.config.deploy import ExportConfig, ListenConfig, ReviewConfig, ServeConfig
from kws.config.refusals import no_recordings
from kws.config.shared import Plugins, Seed, SmoothK, SmoothS, Threads
from kws.config.simulation import RoomsConfig
from kws.confusables.settings import MIN_CLIPS, CandidatesConfig, Synth, SyntheticConfig
from kws.data.augment import AugmentConfig
from kws.data.batch import BatchConfig
from kws.data.dataset import DataConfig
from kws.data.features import FeaturesConfig
from kws.data.streams import StreamConfig
from kws.data.transcripts import Match
from kws.evaluation.calibration import ThresholdConfig
from kws.evaluation.data_checks.check_settings import CheckConfig
from kws.models.base import ModelConfig
from kws.replay.config import ReplayConfig
from kws.replay.dedup import DuplicatesConfig
from kws.replay.mining import SelectionConfig
from kws.replay.mining_streams import MiningConfig
from kws.replay.quarantine import QuarantineConfig
from kws.replay.records import Kind, State
from kws.training.classification import ClassificationConfig
from kws.training.optim import OptimConfig
from kws.training.phones import PhonesConfig


class Task(StrEnum):
    """Purpose of a net."""

    wake_word = auto()
    classification = auto()
    phones = auto()


@dataclass
class TrainDataConfig(DataConfig):
    """Recordings of a training run, and synthetic ones."""

    extra: Annotated[
        str | None, INPUT, Field(description="folder of more recordings, all for training, such as those of kws review")
    ] = None
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)

    def check(self) -> None:
        if not self.root and min(self.synthetic.positives, self.synthetic.sentences) < MIN_CLIPS:
            raise KwsError(no_recordings(MIN_CLIPS))


class Engine(StrEnum):
    """Where recordings are scored."""

    local = auto()
    ray = auto()


class Order(StrEnum):
    """Sort key of a list of clips."""

    score = auto()
    drawn = auto()
    loss = auto()
    age = auto()


@dataclass
class TrainConfig:
    """kws train: train a model. The settings below are the defaults; a recipe (recipes/*.yaml) changes some of them."""

    task: Annotated[
        Task,
        Field(description="wake_word: keywords or not; classification: one of several; phones: a base net of speech"),
    ] = Task.wake_word
    keyword: Annotated[Any, TEXT, Field(description="one word, or a list: [alexa,computer]")] = MISSING
    out: Annotated[str, OUTPUT, Field(description="run folder; that of a killed run resumes it")] = (
        "runs/${now:%Y-%m-%d_%H-%M-%S}"
    )
    init: Annotated[
        str | None,
        PATH,
        Field(description="model.pt of a run to start from: architecture, weights, keyword; base: the base net of kws"),
    ] = None
    seed: Seed = 0
    device: Annotated[str, Field(description="auto, cpu, cuda, cuda:1")] = "auto"
    precision: Annotated[
        str, Field(description="32-true; bf16-mixed: train in bfloat16, faster where the CPU or GPU computes in it")
    ] = "32-true"
    compile: Annotated[
        bool, Field(description="compile the net by torch.compile: faster steps after a minute of compiling")
    ] = False
    threads: Threads = 0
    plugins: Plugins = field(default_factory=list)
    validate_every: Annotated[
        int | None,
        Field(ge=1, le=10**7, description="steps between validations, each a row of validation.csv; null: none"),
    ] = 100
    tensorboard: Annotated[bool, Field(description="write the metrics as TensorBoard events too")] = True
    data: TrainDataConfig = field(default_factory=TrainDataConfig)
    confuse: CandidatesConfig = field(default_factory=CandidatesConfig)
    features: FeaturesConfig = MISSING
    model: ModelConfig = MISSING
    augment: AugmentConfig = MISSING
    batch: BatchConfig = field(default_factory=BatchConfig)
    classification: ClassificationConfig = field(default_factory=ClassificationConfig)
    phones: PhonesConfig = field(default_factory=PhonesConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    mining: MiningConfig = field(default_factory=MiningConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)


@dataclass
class MineConfig(QuarantineConfig, DuplicatesConfig, SelectionConfig):
    """kws mine: stream recordings through a checkpoint and put its false alarms into a replay buffer."""

    checkpoint: Annotated[str, INPUT, Field(description="model.pt of a run")] = MISSING
    buffer: Annotated[str, OUTPUT, Field(description="folder of the replay buffer; made if missing")] = MISSING
    streams: Annotated[Any, INPUT, Field(description="recordings or folders without the keyword; or a list")] = MISSING
    data: DataConfig = field(default_factory=DataConfig)
    keep_above: Annotated[
        float | None, Field(ge=0, le=1, description="mine all that scores this, up to max_per_recording; null: off")
    ] = None
    capacity: Annotated[
        int | None, Field(ge=1, le=10**7, description="clips; the lowest scores beyond are evicted; null: no limit")
    ] = None
    threads: Threads = 0
    plugins: Plugins = field(default_factory=list)


@dataclass
class DataCheckConfig(CheckConfig):
    """kws data: check recordings before anyone trains on them."""

    keyword: Annotated[Any, TEXT, Field(description="one word, or a list: [alexa,computer]")] = MISSING
    threads: Threads = 0
    plugins: Plugins = field(default_factory=list)


@dataclass
class BufferConfig:
    """kws buffer: list the clips of a replay buffer, decide about them, export and import them."""

    action: Annotated[
        str,
        OneOf("stats list check export import review release retire prune"),
        Field(description="what to do; or the first word: kws buffer list"),
    ] = MISSING
    buffer: Annotated[str, PATH, Field(description="folder of the replay buffer: buffer/ of a run")] = MISSING
    state: Annotated[
        State | None,
        Field(
            description="of the clips; null: all but evicted for list, quarantined for review and release, quarantined "
            "and active for retire, all for export"
        ),
    ] = None
    kind: Annotated[
        Kind | None, Field(description="only clips found this way; null: any. import: user (the default) or confusable")
    ] = None
    keyword: Annotated[
        str | None,
        Field(description="only clips of this keyword; null: any. import: that which they do not contain"),
    ] = None
    source: Annotated[str | None, Field(description="name of the recording; null: any")] = None
    clips: Annotated[Any, TEXT, Field(description="hashes or their beginnings: [3f2a91,b07c]; null: any")] = None
    sort: Annotated[Order, Field(description="list: highest first")] = Order.score
    limit: Annotated[int | None, Field(ge=1, le=10**7, description="list, review: clips, at most; null: all")] = 50
    out: Annotated[
        str | None,
        OUTPUT,
        Field(description="export: a new folder; review: HTML file, null: review.html in the buffer"),
    ] = None
    plots: Annotated[str | None, OUTPUT, Field(description="stats: folder for the figures as PNG files")] = None
    curves: Annotated[
        str | None, INPUT, Field(description="stats: metrics.csv of a run, for the share; null: beside the buffer")
    ] = None
    folder: Annotated[
        str | None, INPUT, Field(description="import: exported folder, or recordings without the keyword")
    ] = None
    text: Annotated[str | None, Field(description="import: their transcript, if known")] = None
    transcript_match: Annotated[Match, Field(description="import: forms of the keyword that count in it")] = Match.word
    max_undecodable: Annotated[
        float, Field(ge=0, le=1, description="import: share of recordings that may fail to decode")
    ] = 0.1
    sample_rate: Annotated[int, Field(ge=8000, le=48000, description="import: Hz of a new buffer")] = 16000
    decisions: Annotated[
        str | None, INPUT, Field(description="review: the file saved by the page; it is carried out")
    ] = None
    retired: Annotated[bool, Field(description="prune: also delete the audio of retired clips, for good")] = False
    min_age_s: Annotated[
        float, Field(ge=0, le=10**9, description="prune: age of unfinished files, s; younger ones may be in use")
    ] = 3600.0


@dataclass
class EvaluateConfig:
    """kws evaluate: misses at fixed false alarms an hour, for a checkpoint or an exported file."""

    detector: Annotated[str | None, INPUT, Field(description="checkpoint model.pt, or exported detector.pt")] = None
    compare: Annotated[
        Any,
        INPUT,
        Field(description="two detectors, [a,b], on the same streams; shows if they differ by more than chance"),
    ] = None
    keyword: Annotated[Any, TEXT, Field(description="one, or a list; null: every keyword of the model")] = None
    positive: Annotated[Any, INPUT, Field(description="recordings with the keyword, files or folders")] = None
    events: Annotated[
        Any,
        INPUT,
        Field(description="keyword times in positive, a file each: JSON, CSV, Audacity, RTTM; null: one a recording"),
    ] = None
    collar_s: Annotated[
        list[float] | None,
        Each(0, 60),
        Field(
            description="s before and after a keyword in which a trigger is a hit; null: [0, 0.5], JSON pairs [0, 0]"
        ),
    ] = None
    negative: Annotated[Any, INPUT, Field(description="recordings without the keyword, or folders of them")] = None
    confusables: Annotated[
        str | None,
        INPUT,
        Field(description="folder of kws confuse; counts false alarms on the confusables of its test voices"),
    ] = None
    smooth_s: SmoothS = None
    smooth_k: SmoothK = None
    engine: Annotated[
        Engine, Field(description="local: this machine; ray: a Ray cluster (extra kws[ray]) with the same paths")
    ] = Engine.local
    out: Annotated[str | None, OUTPUT, Field(description="JSON file for the figures")] = None
    report: Annotated[
        str | None, OUTPUT, Field(description="HTML page: curves, tables, misses and false alarms to play")
    ] = None
    plots: Annotated[str | None, OUTPUT, Field(description="folder for the same pictures as PNG files")] = None
    threads: Threads = 0
    plugins: Plugins = field(default_factory=list)
    data: DataConfig = field(default_factory=DataConfig)
    # null: the thresholds of the detector; else thresholds are calibrated anew on the validation split of data.root
    threshold: ThresholdConfig = field(default_factory=lambda: ThresholdConfig(at_fa_per_hour=None))
    stream: StreamConfig = field(default_factory=StreamConfig)

    def check(self) -> None:
        if self.collar_s is not None and len(self.collar_s) != 2:
            raise SettingError("collar_s", self.collar_s, "must be [before, after]")


@dataclass
class ConfuseConfig:
    """kws confuse: find confusables of a keyword, synthesise them in many voices, and add them to a replay buffer."""

    action: Annotated[
        str, OneOf("say list"), Field(description="say (synthesise) or list; or first word: kws confuse list")
    ] = "say"
    keyword: Annotated[str, Field(description="keyword of the detector")] = MISSING
    out: Annotated[
        str | None,
        OUTPUT,
        Field(
            description="list: CSV file of all candidates, to edit and give to confuse.include; say: folder for clips "
            "and manifest.csv, null: runs/confuse-KEYWORD"
        ),
    ] = None
    limit: Annotated[
        int | None, Field(ge=1, le=10**7, description="list: rows shown, over all distances; null: all")
    ] = 60
    seed: Seed = 0
    confusables: Annotated[
        int | None,
        Field(ge=1, le=10**6, description="say: clips for training; null: one of each; other voices add two thirds"),
    ] = None
    positives: Annotated[
        int,
        Field(ge=0, le=10**6, description="say: clips of the keyword by the same voices, so that a voice is no cue"),
    ] = 0
    buffer: Annotated[str | None, OUTPUT, Field(description="say: replay buffer of the clips; null: out/buffer")] = None
    synth: Annotated[
        Synth, Field(description="espeak: built in; piper: your voices (extra kws[piper]); command: any program")
    ] = Synth.espeak
    voices: Annotated[Any, PATH, Field(description="piper: folder of NAME.onnx; command: names for {voice}")] = None
    command: Annotated[
        Any, TEXT, Field(description='program and arguments: [say,-v,"{voice}",-o,"{wav}","{text}"]; {rate}, {pitch}')
    ] = None
    rates: Annotated[list[int], Pair(80, 450), Field(description="words a minute")] = field(
        default_factory=lambda: [130, 210]
    )
    pitches: Annotated[list[int], Pair(0, 99), Field(description="pitches of the voices")] = field(
        default_factory=lambda: [20, 80]
    )
    workers: Annotated[int, Field(ge=0, le=256, description="processes; 0: one a core")] = 0
    confuse: CandidatesConfig = field(default_factory=CandidatesConfig)


@dataclass
class ModelsConfig:
    """kws models: models to train, with their weights, operations and context."""

    features: FeaturesConfig = MISSING
    model: ModelConfig | None = None
    plugins: Plugins = field(default_factory=list)

    def check(self) -> None:
        if self.model is not None:
            self.model.check_rows(self.features.n_rows())


@dataclass
class RunsConfig:
    """kws runs: the runs under a folder in one table, or the recipe of one of them."""

    dir: Annotated[str, INPUT, Field(description="folder of runs, at any depth; or in short kws runs DIR")] = MISSING
    at_fa_per_hour: Annotated[
        list[float] | None,
        Each(0, 1000),
        Field(description="false alarms an hour to show misses at, such as [0.5,2]; null: those of the calibrations"),
    ] = None
    sort: Annotated[
        str | None, Field(description="run, misses (at the first rate), alarms, time, state or a setting: replay.share")
    ] = None
    group: Annotated[bool, Field(description="one row for all seeds of the same settings: sums, and range")] = False
    recipe_of: Annotated[str | None, Field(description="run of the table: print its recipe, or copy it to out")] = None
    out: Annotated[
        str | None, OUTPUT, Field(description="new CSV file of the table; with recipe_of, new file of the recipe")
    ] = None


SCHEMAS: Mapping[str, type] = {
    "train": TrainConfig,
    "mine": MineConfig,
    "data": DataCheckConfig,
    "buffer": BufferConfig,
    "confuse": ConfuseConfig,
    "evaluate": EvaluateConfig,
    "export": ExportConfig,
    "listen": ListenConfig,
    "review": ReviewConfig,
    "serve": ServeConfig,
    "models": ModelsConfig,
    "rooms": RoomsConfig,
    "runs": RunsConfig,
}
