"""Phones: a net learns to read what is said, row by row. Detectors start from its trunk, see docs/training.md."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kws.common.errors import LeakError
from kws.common.seeding import generator
from kws.common.settings import SettingError
from kws.common.torchaudio_compat import torchaudio
from kws.confusables.ipa import split_ipa
from kws.confusables.pronunciation import ARPABET, SCHWA, words_said
from kws.data import augment
from kws.data.audio_cache import AudioCache, Entry
from kws.data.augment import AugmentConfig
from kws.data.batch import uniform
from kws.data.clip_bank import ClipBank
from kws.data.features import LogMel
from kws.data.manifest import Split
from kws.data.noise import repeated
from kws.detector.checkpoint import ModelSpec
from kws.models.registry import KeywordNet
from kws.training.distributed import Distributed, compiled
from kws.training.metrics import MetricsLog, PhoneErrors, PhoneMetrics
from kws.training.trainer import Task

BLANK = "blank"  # first column: no phone begins in this row
TAIL_S = 0.5  # sound after an utterance, since a causal net names a phone after it has heard it


@dataclass
class PhonesConfig:
    """Task phones: recordings and batches of a base net."""

    batch_s: Annotated[
        float, Field(ge=10, le=10000, description="sound of a batch, s; recordings of similar length share one")
    ] = 130.0
    longest_s: Annotated[float, Field(ge=1, le=60, description="longer recordings are left out, s")] = 17.0

    def check(self) -> None:
        if self.longest_s + TAIL_S > self.batch_s:
            raise SettingError("longest_s", self.longest_s, f"must be at most batch_s - {TAIL_S:g}")


def inventory() -> list[str]:
    """The columns of the net: the blank, then the phones of CMUdict. Diphthongs are two phones."""
    return [BLANK, *sorted({SCHWA, *(phone for ipa in ARPABET.values() for phone in split_ipa(ipa))})]


@dataclass(frozen=True)
class Utterances:
    """Recordings of a split with the phones that are said in them.

    Args:
        split: of all of them.
        entries: of the audio cache: the recordings, then those of the noise.
        bank: audio of the recordings, in their order.
        phones: columns of the net for each recording. Shape: int64 [its phones] each.
        noise: audio that is mixed into those of the train split.
        left_out: number of transcribed recordings that are not among them, by reason.
    """

    split: Split
    entries: list[Entry]
    bank: ClipBank
    phones: list[Tensor]
    noise: ClipBank
    left_out: Counter[str]

    def __len__(self) -> int:
        return len(self.phones)

    def hours(self, sample_rate: int) -> float:
        """Hours of the recordings."""
        return int(self.bank.lengths.sum()) / sample_rate / 3600


def load_utterances(
    store: AudioCache, split: Split, noise_label: str, longest_s: float, row_n: int, device: torch.device
) -> Utterances:
    """The recordings of a split with an English transcript, and the noise of the train split.

    Args:
        store: all recordings.
        split: to load.
        noise_label: label of background noise.
        longest_s: longer recordings are left out.
        row_n: samples of a score row. Recordings with more phones than rows are left out.
        device: of the audio.
    """
    rate, column = store.sample_rate, {phone: i for i, phone in enumerate(inventory())}
    chosen, phones, noise, left_out = list[int](), list[Tensor](), list[int](), Counter[str]()
    for i, entry in enumerate(store.entries):
        one = entry.recording
        if one.split is not split:
            continue
        if one.label == noise_label:
            if split is Split.TRAIN:
                noise.append(i)
            continue
        if not one.text.strip():
            continue
        spoken = torch.tensor([column[phone] for _, phones in words_said(one.text) for phone in phones])
        equal = int((spoken[1:] == spoken[:-1]).sum())  # neighbours, which a blank must part
        if entry.whole and one.offset_s is None:
            left_out["cut in time"] += 1  # the transcript is that of the whole recording
        elif not len(spoken):
            left_out["a word is not in CMUdict"] += 1
        elif entry.n_samples > longest_s * rate:
            left_out[f"longer than phones.longest_s={longest_s:g}"] += 1
        elif len(spoken) + equal > entry.n_samples // row_n:
            left_out["more phones than rows"] += 1
        else:
            chosen.append(i)
            phones.append(spoken)
    lengths = [store.entries[i].n_samples for i in chosen]
    longest_n = max(lengths, default=0) + round(TAIL_S * rate)
    bank = ClipBank(lengths, lambda n: store.audio(chosen[n]), longest_n, device)
    cut = [repeated(store.audio(i), longest_n, rate) for i in noise]
    entries = [store.entries[i] for i in chosen + noise]
    return Utterances(split, entries, bank, phones, ClipBank.of(cut, longest_n, device), left_out)


@dataclass(frozen=True)
class PhonePlan:
    """One batch as numbers: indexes of utterances."""

    step: int
    index: Tensor

    def __len__(self) -> int:
        return len(self.index)


class UtteranceSampler:
    """Training batches of utterances of similar length; each epoch has every batch once, in another order.

    Args:
        utterances: of the train split.
        batch_s: seconds of sound in a batch, with the silence after the shorter utterances.
        config: noise, level, colour and masks. Speed and context are those of keywords and are not used.
        sample_rate: Hz.
        hop_s: seconds between feature frames.
        seed: of the run.

    Raises:
        LeakError: the utterances are of another split.
    """

    def __init__(
        self, utterances: Utterances, batch_s: float, config: AugmentConfig, sample_rate: int, hop_s: float, seed: int
    ) -> None:
        if utterances.split is not Split.TRAIN:
            raise LeakError(f"recordings of the {utterances.split} split among those of training")
        self.utterances, self.config, self.rate, self.seed = utterances, config, sample_rate, seed
        self.time_mask_n = round(config.time_mask_s / hop_s)
        self.batches: list[list[int]] = [[]]
        for i in utterances.bank.lengths.argsort(stable=True).tolist():
            longest_s = float(utterances.bank.lengths[i]) / sample_rate + TAIL_S
            if self.batches[-1] and (len(self.batches[-1]) + 1) * longest_s > batch_s:
                self.batches.append([])
            self.batches[-1].append(i)

    def sample(self, step: int) -> PhonePlan:
        """The utterances of a step; they depend on the seed and the step alone."""
        epoch, place = divmod(step, len(self.batches))
        order = torch.randperm(len(self.batches), generator=generator(self.seed, "epoch", epoch))
        return PhonePlan(step, torch.tensor(self.batches[int(order[place])]))

    def render(self, plan: PhonePlan) -> Tensor:
        """The utterances from their start, with noise, at a level. Shape: returns [B, T]."""
        c, rng, n = self.config, generator(self.seed, "batch", plan.step), len(plan)
        bank, noise = self.utterances.bank, self.utterances.noise
        length = int(bank.lengths[plan.index].max()) + round(TAIL_S * self.rate)
        pcm = bank.window(plan.index, torch.zeros(n, dtype=torch.long), length)
        if len(noise):
            other = torch.randint(len(noise), (n,), generator=rng)
            room = noise.lengths[other] - length + 1
            offset = (torch.rand(n, generator=rng, dtype=torch.double) * room).long()
            snr = uniform(n, c.snr_db, rng)
            snr[torch.rand(n, generator=rng) >= c.noise_p] = torch.inf
            pcm = augment.mix(pcm, noise.window(other, offset, length), snr.to(pcm.device))
        pcm = augment.set_level(pcm, uniform(n, c.level_db, rng).to(pcm.device))
        return augment.vary_clips(pcm, torch.randint(2**62, (n,), generator=rng), c)

    def augment_features(self, x: Tensor, step: int) -> Tensor:
        """Colour, and masks as in SpecAugment (Park et al., 2019). Shape: x [B, M, N]; returns the same."""
        c, rng = self.config, generator(self.seed, "masks", step)
        x = augment.recolour(x, augment.colours(len(x), x.shape[1], c.colour_db, rng))
        for axis, longest, count in ((2, self.time_mask_n, c.time_masks), (1, c.mel_mask_n, c.mel_masks)):
            size = x.shape[axis]
            x = augment.mask(x, axis, augment.spans(len(x), size, min(longest, size), count, rng))
        return x


@dataclass(eq=False)
class PhoneTask(Task):
    """Connectionist temporal classification (Graves et al., 2006) of phones; a `Task` for one process.

    Args:
        spec: of the net, whose columns are those of `inventory`.
        front_end: on the device.
        sampler: training batches.
        held_out: utterances that are counted, without noise.
        steps, validate_every: of the run; None: no validation.
    """

    max_grad_norm = 5.0

    spec: ModelSpec
    front_end: LogMel
    sampler: UtteranceSampler
    held_out: Utterances
    steps: int
    validate_every: int | None

    def setup(self, net: KeywordNet, dist: Distributed, compile: bool) -> Callable[..., Any]:
        """See `Task`."""
        self.net = net
        return compiled(net, dist.device) if compile else net

    def start(self, state: Mapping[str, Any] | None) -> None:
        """See `Task`. There is no state beside the step and the weights."""

    def sample(self, step: int) -> PhonePlan:
        """See `Task`."""
        return self.sampler.sample(step)

    def render(self, plan: PhonePlan, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Features of all rows, and their indexes. Shape: returns [B, M, N] and [B]."""
        x = self.front_end.clips(self.sampler.render(plan), self.front_end.hop_n * self.net.stride)
        return self.sampler.augment_features(x, plan.step), plan.index

    def loss(self, model: Callable[..., Any], batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """See `Task`. Shape: losses [B, 1]: for each phone of an utterance, the mean of the members of an ensemble."""
        x, index = batch
        logits, _ = model(x, self.net.initial_cache(len(x)))
        u = self.sampler.utterances
        n_rows = rows_of(u.bank.lengths[index], self.front_end, self.net, self.spec.sample_rate)
        members, spoken = len(logits) // len(x), [u.phones[i] for i in index.tolist()]
        losses = torch.nn.functional.ctc_loss(
            logits.permute(2, 0, 1).log_softmax(2),
            torch.cat(spoken * members).to(x.device),
            n_rows.repeat(members),
            torch.tensor([len(one) for one in spoken] * members),
            reduction="none",
        ).unflatten(0, (members, -1))
        each = losses.mean(0) / torch.tensor([len(one) for one in spoken], device=x.device)
        return each.mean(), each.detach()[:, None]

    def after_step(self, plan: PhonePlan, batch: Any, losses: Tensor, lr: float) -> PhoneMetrics:
        """See `Task`."""
        return PhoneMetrics(plan.step, float(losses.mean()), len(plan), lr)

    def validate(self, weights: Mapping[str, Tensor], step: int, log: MetricsLog) -> None:
        """See `Task`."""
        if self.validate_every is not None and ((step + 1) % self.validate_every == 0 or step + 1 == self.steps):
            row = phone_errors(self.spec, weights, self.held_out, self.front_end, step)
            log.validation([row], f"{row} of the validation split")


def rows_of(lengths: Tensor, front_end: LogMel, net: KeywordNet, sample_rate: int) -> Tensor:
    """Score rows in which utterances of these lengths in samples are spelled. Shape: [B]; returns [B]."""
    return (lengths + round(TAIL_S * sample_rate)) // (front_end.hop_n * net.stride)


@torch.no_grad()
def phone_errors(
    spec: ModelSpec, weights: Mapping[str, Tensor], utterances: Utterances, front_end: LogMel, step: int
) -> PhoneErrors:
    """Errors of greedy decoding without noise: edit distance (Levenshtein, 1966) to the phones of the transcripts.

    Of an ensemble the mean over its members: they name a phone in different rows, so the mean of logits names none.
    """
    device = utterances.bank.device
    net = spec.net().to(device).eval()
    net.load_state_dict(dict(weights))
    net.training = True  # an ensemble then returns the logits of each member; its layers stay in evaluation mode
    errors = 0.0
    for i in range(len(utterances)):
        length = utterances.bank.lengths[i : i + 1]
        n = int(length) + round(TAIL_S * spec.sample_rate)
        pcm = utterances.bank.window(torch.tensor([i]), torch.tensor([0]), n)
        logits, _ = net(front_end.clips(pcm, front_end.hop_n * net.stride), net.initial_cache(1))
        spelled = [torch.unique_consecutive(best) for best in logits.argmax(1)]
        target = utterances.phones[i].tolist()
        wrong = [torchaudio.functional.edit_distance(one[one > 0].tolist(), target) for one in spelled]
        errors += sum(wrong) / len(wrong)
    return PhoneErrors(step, round(errors), sum(len(one) for one in utterances.phones), len(utterances))
