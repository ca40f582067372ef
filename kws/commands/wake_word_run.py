"""A wake-word run with its recordings: the training, and the scores of its splits."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from kws.commands import builders
from kws.commands.speech import SyntheticClips
from kws.commands.training_run import Run
from kws.common.console import audio_progress
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection
from kws.data.manifest import Split
from kws.detector.detector import Detector
from kws.evaluation import comparison
from kws.evaluation.comparison import Comparison
from kws.evaluation.scoring import KeywordScores, StreamSource, total_s
from kws.evaluation.splits import evaluate_split, split_streams
from kws.evaluation.validation import ValidationStreams
from kws.replay import storage
from kws.replay.buffer import Buffer
from kws.replay.snapshot import Snapshot
from kws.training.hard_negatives import HardNegativeMiner, held_out_sources
from kws.training.metrics import ShareMetrics, StepMetrics, ValidationMetrics
from kws.training.optim import ValidatedWeights, mean_weights
from kws.training.validation import Validator
from kws.training.wake_word import WakeWordConfig, WakeWordTask

Scores = Mapping[str, KeywordScores]  # by keyword
Pairs = dict[str, Comparison]  # by split and keyword


@dataclass(frozen=True)
class WakeWord:
    """A run with its recordings.

    Args:
        r: the run.
        store, chosen: audio and roles of the recordings.
        made: the synthetic clips, if any.
        folder: of the replay buffer.
        rooms: impulse responses, if clips are set into rooms. Shape: [R, L].
    """

    r: Run
    store: AudioCache
    chosen: Selection
    made: SyntheticClips
    folder: Path
    rooms: Tensor | None

    def streams(self, split: Split, passes: int = 1) -> list[StreamSource]:
        """The streams of a split."""
        return split_streams(self.store, self.chosen, split, self.r.s.stream, passes)

    def score(self, title: str, detector: Detector, split: Split, passes: int = 1) -> Scores:
        """Score the streams of a split."""
        streams, stream = self.streams(split, passes), self.r.s.stream
        with audio_progress(self.r.console, title, total_s(streams)) as tick:
            return evaluate_split(detector, self.store, self.chosen, split, streams, stream.chunk_s, tick)

    def paired(self, split: Split, a: Scores, b: Scores, new: Detector) -> Pairs:
        """Compare the model that the run started from with a new one, both at the calibrated thresholds on a split."""
        old = self.r.continues
        assert old is not None
        own = dict(zip(new.labels, zip(old.detector.thresholds, new.thresholds, strict=True), strict=True))
        t = self.r.s.stream.refractory_s
        return {f"{split}, {k}": comparison.compare(a[k], b[k], own[k], (), t)[0] for k in b}


def fit(w: WakeWord, buffer: Buffer | None, id_: str) -> tuple[Mapping[str, Tensor], list[ValidatedWeights]]:
    """Train; return the weights to keep, and the validated weights whose mean they are: none for the moving average.

    Only rank 0 has a buffer.
    """
    r, store, chosen = w.r, w.store, w.chosen
    s, spec, dist, stream = r.s, r.spec, r.dist, r.s.stream
    net, front_end = r.net(), spec.front_end().to(dist.device)
    sampler, entries = dist.main_first(
        lambda: builders.batch_sampler(s, store, chosen, spec.clip_n, dist.device, w.made.folders(), w.rooms)
    )
    miner = None
    if buffer is not None:
        miner = HardNegativeMiner(
            s.mining, s.replay, s.seed, stream.negative_gap_s, spec, store, chosen, entries, sampler.plain_keywords,
            buffer, r.console, id_, dist.device,
        )  # fmt: skip
    sound = partial(storage.read, w.folder / storage.CLIPS)
    task = WakeWordTask(
        WakeWordConfig(s.seed, s.optim, s.batch, s.replay, s.mining, s.validate_every, builders.target(s.threshold)),
        spec,
        front_end,
        sampler,
        Validator(spec, lambda: ValidationStreams(store, chosen, stream, stream.chunk_s, stream.refractory_s)),
        miner,
        lambda contents: Snapshot(contents, sound, spec.clip_n, dist.device, s.replay),
        r.out / "checkpoints",
        held_out_sources(store),
    )
    kinds = {"metrics": StepMetrics, "share": ShareMetrics, "validation": ValidationMetrics}
    weights: Mapping[str, Tensor] = r.fit(net, task, s.optim, kinds)
    if buffer is not None:
        task.replay.write_back(buffer)
    if task.best:
        weights, steps = mean_weights(task.best), ", ".join(str(one) for one in task.best)
        r.console.say(f"kept: the mean of the weights after steps {steps}; chosen on the validation split")
    return weights, task.best
