"""Classification: each clip belongs to one of several classes. Training clips are augmented, others are not."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kws.common.errors import LeakError
from kws.common.seeding import generator
from kws.common.settings import Pair
from kws.data import augment
from kws.data.audio_cache import AudioCache
from kws.data.batch import uniform
from kws.data.classification_dataset import SILENCE, Roles
from kws.data.clip_bank import ClipBank
from kws.data.features import LogMel
from kws.data.manifest import Split
from kws.data.noise import repeated
from kws.evaluation.classification import ValidationAccuracy
from kws.models.registry import KeywordNet
from kws.training.distributed import Distributed, compiled
from kws.training.metrics import ClassificationMetrics, MetricsLog
from kws.training.trainer import Task


@dataclass
class ClassificationConfig:
    """Task classification: how classes are made up, and how training clips are augmented; as published."""

    unknown: Annotated[
        float, Field(ge=0, le=10, description="clips of other words, as a share of those of the words; 0: none")
    ] = 0.1
    silence: Annotated[
        float, Field(ge=0, le=10, description="clips of background noise, as a share of those of the words; 0: none")
    ] = 0.1
    shift_s: Annotated[float, Field(ge=0, le=1, description="clips are shifted by up to this, either way")] = 0.1
    noise_p: Annotated[float, Field(ge=0, le=1, description="share of clips with background noise")] = 0.8
    noise_amplitude: Annotated[
        list[float], Pair(0, 10), Field(description="factor of the noise samples, [low, high]")
    ] = field(default_factory=lambda: [0.0, 0.1])
    time_masks: Annotated[int, Field(ge=0, le=10, description="time masks of each clip")] = 2
    time_mask_s: Annotated[float, Field(ge=0, le=1, description="longest time mask")] = 0.2
    mel_masks: Annotated[int, Field(ge=0, le=10, description="frequency masks of each clip")] = 2
    mel_mask_n: Annotated[
        int | None,
        Field(ge=0, le=64, description="widest frequency mask; null: as published for a BC-ResNet, 0 for other models"),
    ] = None


@dataclass(frozen=True)
class Clips:
    """The clips of one split.

    Args:
        split: of the recordings.
        bank: audio of the recorded clips.
        target: class of each clip, int64 [n]: the clips of the bank in its order, then silences.
        noise: audio that silence is cut from.
        clip_n: samples a clip.
    """

    split: Split
    bank: ClipBank
    target: Tensor
    noise: ClipBank
    clip_n: int

    def __len__(self) -> int:
        return len(self.target)

    def windows(self, index: Tensor, offset: Tensor) -> Tensor:
        """Windows of clips from an offset on; silences are zeros. Shape: index, offset [B]; returns [B, T]."""
        silent = index >= len(self.bank)
        if not len(self.bank):
            return torch.zeros(len(index), self.clip_n, device=self.bank.device)
        pcm = self.bank.window(index.clamp_max(len(self.bank) - 1), offset, self.clip_n)
        return pcm.masked_fill(silent[:, None].to(pcm.device), 0)

    def noises(self, n: int, rng: torch.Generator) -> Tensor:
        """Windows of noise at random places; each recording is equally likely. Shape: returns [n, T]."""
        index = torch.randint(len(self.noise), (n,), generator=rng)
        room = self.noise.lengths[index] - self.clip_n
        offset = (torch.rand(n, generator=rng, dtype=torch.double) * (room + 1)).long()
        return self.noise.window(index, offset, self.clip_n)

    def plain(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All clips as recorded, `size` at a time, with their classes; silence is the same at every call."""
        silences = len(self) - len(self.bank)
        rng = generator(0, "silence", self.split)
        loud = torch.rand(silences, 1, generator=rng).to(self.bank.device)
        silence = self.noises(silences, rng) * loud if silences else None
        for index in torch.split(torch.arange(len(self)), size):
            pcm = self.windows(index, torch.zeros_like(index))
            at = (index >= len(self.bank)).nonzero().flatten()
            if silence is not None and len(at):
                pcm[at.to(pcm.device)] = silence[(index[at] - len(self.bank)).to(silence.device)]
            yield pcm, self.target[index].to(pcm.device)


def load_clips(store: AudioCache, roles: Roles, split: Split, clip_n: int, device: torch.device) -> Clips:
    """Load the clips of a split; each is decoded when it is first used.

    Raises:
        LeakError: a training clip, or the noise of one, is of another split.
    """
    mine, noise = roles.clips[split], roles.noise[split]
    for entry in [*(i for i, _ in mine), *(one.entry for one in noise)]:
        recording = store.entries[entry].recording
        if split is Split.TRAIN and recording.split is not split:
            raise LeakError(f"{recording.name}: a {recording.split} recording among those of training")
    classes = [k for _, k in mine] + [len(roles.classes) - 1] * roles.silences[split]
    assert not roles.silences[split] or roles.classes[-1] == SILENCE
    longest_n = 2 * clip_n  # a window may begin this far before or after a clip
    bank = ClipBank([store.entries[i].n_samples for i, _ in mine], lambda n: store.audio(mine[n][0]), longest_n, device)
    cut = [repeated(store.audio(one.entry)[one.start : one.end], clip_n, store.sample_rate) for one in noise]
    return Clips(split, bank, torch.tensor(classes, dtype=torch.long), ClipBank.of(cut, longest_n, device), clip_n)


class EpochSampler:
    """Training batches: each epoch samples every clip once, in another order.

    Args:
        clips: of the train split.
        size: of a batch; the last batch of an epoch may be smaller.
        config: augmentation; `mel_mask_n` must be a number.
        sample_rate: of the clips in Hz.
        hop_s: seconds between feature frames.
        seed: of the run.
    """

    def __init__(
        self, clips: Clips, size: int, config: ClassificationConfig, sample_rate: int, hop_s: float, seed: int
    ) -> None:
        self.clips, self.size, self.config, self.seed = clips, size, config, seed
        self.shift_n, self.time_mask_n = round(config.shift_s * sample_rate), round(config.time_mask_s / hop_s)
        self.steps_per_epoch = math.ceil(len(clips) / size)
        self._order: tuple[int, Tensor] = (-1, torch.zeros(0))

    def sample(self, step: int) -> Tensor:
        """Indexes of the clips of a step; they depend on the seed and the step alone."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, torch.randperm(len(self.clips), generator=generator(self.seed, "epoch", epoch))
        return self._order[1][place * self.size : (place + 1) * self.size]

    def render(self, index: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Audio of the clips, shifted and with noise added, and their classes. Shape: returns [B, T] and [B]."""
        config, clips = self.config, self.clips
        rng, n = generator(self.seed, "batch", step), len(index)
        offset = torch.randint(-self.shift_n, self.shift_n + 1, (n,), generator=rng)
        pcm = clips.windows(index, offset)
        if len(clips.noise):
            amplitude = uniform(n, config.noise_amplitude, rng) * (torch.rand(n, generator=rng) < config.noise_p)
            # Silence is noise at any level (Warden, 2018).
            amplitude = torch.where(index >= len(clips.bank), torch.rand(n, generator=rng), amplitude)
            pcm = (pcm + clips.noises(n, rng) * amplitude[:, None].to(pcm.device)).clamp(-1, 1)
        return pcm, clips.target[index].to(pcm.device)

    def augment_features(self, x: Tensor, step: int) -> Tensor:
        """SpecAugment (Park et al., 2019) without time warping. Shape: x [B, M, N]; returns the same."""
        config, rng = self.config, generator(self.seed, "masks", step)
        assert config.mel_mask_n is not None
        masks = (2, self.time_mask_n, config.time_masks), (1, config.mel_mask_n, config.mel_masks)
        for axis, longest, count in masks:
            size = x.shape[axis]
            x = augment.mask(x, axis, augment.spans(len(x), size, min(longest, size), count, rng))
        return x


@dataclass(frozen=True)
class ClassificationPlan:
    """One batch as numbers: indexes of clips."""

    step: int
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)


@dataclass(eq=False)
class ClassificationTask(Task):
    """Cross-entropy on the logits at the end of each clip; a `Task` for one process.

    Args:
        front_end: on the device.
        sampler: training batches.
        label_smoothing: spread over all classes, 0 to 1.
        accuracy: counts correct validation clips with the weights after a step.
        steps, validate_every: of the run; None: no validation.
    """

    front_end: LogMel
    sampler: EpochSampler
    label_smoothing: float
    accuracy: Callable[[Mapping[str, Tensor], int], ValidationAccuracy]
    steps: int
    validate_every: int | None

    def setup(self, net: KeywordNet, dist: Distributed, compile: bool) -> Callable[[Tensor], Tensor]:
        """See `Task`."""
        self.net = net
        return compiled(net.last_logits, dist.device) if compile else net.last_logits

    def start(self, state: Mapping[str, Any] | None) -> None:
        """See `Task`. There is no state beside the step and the weights."""

    def sample(self, step: int) -> ClassificationPlan:
        """See `Task`."""
        return ClassificationPlan(step, self.sampler.sample(step))

    def render(self, plan: ClassificationPlan, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Features and classes. Shape: returns [B, M, N] and [B]."""
        pcm, target = self.sampler.render(plan.index[rows], plan.step)
        x = self.front_end.clips(pcm, self.front_end.hop_n * self.net.stride)
        return self.sampler.augment_features(x, plan.step), target

    def loss(self, model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Task`. Shape: losses [B, 2]: the mean loss, and 1 where the class is right."""
        x, target = batch
        logits = model(x)
        members = len(logits) // len(target)  # of an ensemble, each with the loss of its own logits
        loss = torch.nn.functional.cross_entropy(logits, target.repeat(members), label_smoothing=self.label_smoothing)
        right = (logits.detach().unflatten(0, (members, -1)).mean(0).argmax(1) == target).float()
        return loss, torch.stack([loss.detach().expand(len(right)), right], 1)

    def after_step(self, plan: ClassificationPlan, batch: Any, losses: Tensor, lr: float) -> ClassificationMetrics:
        """See `Task`."""
        epoch = plan.step // self.sampler.steps_per_epoch
        return ClassificationMetrics(plan.step, epoch, float(losses[0, 0]), int(losses[:, 1].sum()), len(plan), lr)

    def validate(self, weights: Mapping[str, Tensor], step: int, log: MetricsLog) -> None:
        """See `Task`."""
        if self.validate_every is not None and ((step + 1) % self.validate_every == 0 or step + 1 == self.steps):
            row = self.accuracy(weights, step)
            log.validation([row], f"{row.right} of {row.clips} validation clips right")
