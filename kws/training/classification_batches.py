"""The clips of a part: as they are, to measure by; and drawn in batches and varied, to train with."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kws.common.errors import LeakError
from kws.common.seeding import generator
from kws.data import augment
from kws.data.audio_cache import AudioCache
from kws.data.batch import uniform
from kws.data.classification_dataset import SILENCE, Roles
from kws.data.clip_bank import ClipBank
from kws.data.manifest import Split


@dataclass(frozen=True)
class Clips:
    """The clips of one part.

    Args:
        part: for which they are.
        bank: their sound.
        target: the class of each, int64 [n]: first those of the bank, in its order, then silences.
        noise: what silence is cut from.
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
        """These clips, each from its offset on; silences are zeros. Shape: index, offset [B]; returns [B, T]."""
        silent = index >= len(self.bank)
        if not len(self.bank):
            return torch.zeros(len(index), self.clip_n, device=self.bank.device)
        pcm = self.bank.window(index.clamp_max(len(self.bank) - 1), offset, self.clip_n)
        return pcm.masked_fill(silent[:, None].to(pcm.device), 0)

    def noises(self, n: int, rng: torch.Generator) -> Tensor:
        """Windows of noise from anywhere, recordings as often as one another. Shape: returns [n, T]."""
        index = torch.randint(len(self.noise), (n,), generator=rng)
        room = self.noise.lengths[index] - self.clip_n
        offset = (torch.rand(n, generator=rng, dtype=torch.double) * (room + 1)).long()
        return self.noise.window(index, offset, self.clip_n)

    def plain(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All clips as they were recorded, `size` at a time, with their classes; silence is the same every time."""
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


def clips(store: AudioCache, roles: Roles, split: Split, clip_n: int, device: torch.device) -> Clips:
    """The clips of a part, decoded when they are first heard.

    Raises:
        LeakError: a clip of training, or its noise, is of another part.
    """
    mine, noise = roles.clips[split], roles.noise[split]
    for entry in [*(i for i, _ in mine), *(one.entry for one in noise)]:
        recording = store.entries[entry].recording
        if split is Split.TRAIN and recording.split is not split:
            raise LeakError(f"{recording.name}: a {recording.split} recording among those of training")
    classes = [k for _, k in mine] + [len(roles.classes) - 1] * roles.silences[split]
    assert not roles.silences[split] or roles.classes[-1] == SILENCE
    longest_n = 2 * clip_n  # a window may lie so far off a clip
    bank = ClipBank.lazy(
        [store.entries[i].n_samples for i, _ in mine], lambda n: store.audio(mine[n][0]), longest_n, device
    )
    cut = [store.audio(one.entry)[one.start : one.end] for one in noise]
    return Clips(split, bank, torch.tensor(classes, dtype=torch.long), ClipBank.of(cut, longest_n, device), clip_n)


@dataclass(frozen=True)
class Variation:
    """How clips of training are varied; see conf/classes for what each does."""

    shift_n: int
    noise_p: float
    noise_amplitude: tuple[float, float]
    time_masks: int
    time_mask_n: int  # frames
    mel_masks: int
    mel_mask_n: int  # bands


class Drawer:
    """Batches of training: each epoch goes through all clips in an order of its own.

    Args:
        of: the clips.
        size: of a batch; the last of an epoch is what is left.
        variation: how they are varied.
        seed: of the run.
    """

    def __init__(self, of: Clips, size: int, variation: Variation, seed: int) -> None:
        self.of, self.size, self.variation, self.seed = of, size, variation, seed
        self.steps_per_epoch = -(-len(of) // size)
        self._order: tuple[int, Tensor] = (-1, torch.zeros(0))

    def index(self, step: int) -> Tensor:
        """Which clips a step sees; nothing but the seed and the step decides it."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._order[0] != epoch:
            self._order = epoch, torch.randperm(len(self.of), generator=generator(self.seed, "epoch", epoch))
        return self._order[1][place * self.size : (place + 1) * self.size]

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """The clips of a step, moved and with noise added, and their classes. Shape: returns [B, T] and [B]."""
        v, of, index = self.variation, self.of, self.index(step)
        rng, n = generator(self.seed, "batch", step), len(index)
        offset = torch.randint(-v.shift_n, v.shift_n + 1, (n,), generator=rng)
        pcm = of.windows(index, offset)
        if len(of.noise):
            amplitude = uniform(n, v.noise_amplitude, rng) * (torch.rand(n, generator=rng) < v.noise_p)
            # Silence is noise at any level (Warden, 2018).
            amplitude = torch.where(index >= len(of.bank), torch.rand(n, generator=rng), amplitude)
            pcm = (pcm + of.noises(n, rng) * amplitude[:, None].to(pcm.device)).clamp(-1, 1)
        return pcm, of.target[index].to(pcm.device)

    def vary_features(self, x: Tensor, step: int) -> Tensor:
        """SpecAugment (Park et al., 2019) without warping. Shape: x [B, M, N]; returns the same."""
        v, rng = self.variation, generator(self.seed, "masks", step)
        for axis, longest, count in ((2, v.time_mask_n, v.time_masks), (1, v.mel_mask_n, v.mel_masks)):
            size = x.shape[axis]
            x = augment.mask(x, axis, augment.spans(len(x), size, min(longest, size), count, rng))
        return x
