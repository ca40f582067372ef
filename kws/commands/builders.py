"""Objects from settings, for several commands."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kws.common.console import Console
from kws.common.errors import KwsError, LeakError
from kws.common.text import plural
from kws.config import schema as c
from kws.data.audio_cache import AudioCache, Entry, pack
from kws.data.batch import IGNORED, BatchSampler, KeywordLength, Keywords
from kws.data.clip_bank import ClipBank
from kws.data.dataset import DataConfig, Selection
from kws.data.division import NEGATIVES, Division, divide
from kws.data.fingerprints import Fingerprints, fingerprints
from kws.data.manifest import Recording, Split
from kws.data.mending import Fault, listed
from kws.data.noise import repeated
from kws.data.overlap import contained
from kws.data.positives import CONTEXT_S, context
from kws.data.rooms import read_rooms
from kws.data.streams import StreamConfig
from kws.data.stretches import cut_out
from kws.detector.checkpoint import Checkpoint, ModelSpec
from kws.detector.detector import Detector
from kws.evaluation.calibration import ThresholdConfig
from kws.evaluation.results import Table
from kws.models.base import family_of, shape_of


def device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU if there is one. Raises KwsError if the device does not exist.

    Convolutions of a GPU compute with all bits of float32: TensorFloat-32 keeps 10 of the mantissa, and a clip would
    not have the score of the stream.
    """
    torch.backends.cudnn.allow_tf32 = False
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError):
        raise KwsError(f"device={name}: must be auto, cpu, or a device that torch finds here") from None
    return chosen


def threads(count: int) -> None:
    """Set the number of CPU threads. 0 leaves the choice to torch: OMP_NUM_THREADS, else the number of cores."""
    if count:
        torch.set_num_threads(count)


def store(
    data: DataConfig,
    console: Console,
    found: Sequence[Recording],
    keywords: Sequence[str],
    cut_noise: bool = True,
    extra: Sequence[Recording] = (),
) -> AudioCache:
    """As `read_store`. Prints the recordings that do not decode and those left out, and each leak between splits."""
    packed, division = read_store(data, console, found, keywords, cut_noise, extra)
    warn_undecodable(console, packed.bad, len(found) + len(extra))
    say_faults(console, Counter(chain.from_iterable(packed.faults.values())))
    for leak in division.leaks:
        console.warn(leak)
    if packed.duplicates:
        console.warn(
            f"left out, the same sound is in validation or test: {plural(len(packed.duplicates), 'recording')}, "
            f"{', '.join(packed.duplicates[:3])}"
        )
    return packed


def read_store(
    data: DataConfig,
    console: Console,
    found: Sequence[Recording],
    keywords: Sequence[str],
    cut_noise: bool = True,
    extra: Sequence[Recording] = (),
) -> tuple[AudioCache, Division]:
    """Decode recordings into the cache, and divide them into splits for these keywords.

    Args:
        data: settings.
        console: shows the progress.
        found: recordings.
        keywords: all labels with a score of their own, whether or not they are evaluated.
        cut_noise: as in `divide`; false for a classification, which takes rows of a manifest without what is around.
        extra: more recordings, which have the train split and do not change the division of the others.

    Returns:
        the cache without copies of held-out recordings, nor extra ones in which those are audible, and the division of
        the other recordings.
    """
    divisions: list[Division] = []
    added, audible = set(extra), list[str]()

    def divided(entries: list[Entry], pcm: NDArray[np.int16]) -> list[Entry]:
        context_s = CONTEXT_S if cut_noise else 0.0
        own, more = (
            cut_out(
                [e for e in entries if (e.recording in added) is is_extra], pcm, data.sample_rate, keywords, context_s
            )
            for is_extra in (False, True)
        )
        divisions.append(divide(own, pcm, data.sample_rate, keywords, data.noise_label, cut_noise))
        if not more:
            return divisions[0].entries
        held_out = held_out_sound(divisions[0].entries, pcm)
        checked = (e for e in more if not e.recording.made_of)  # a spliced clip comes from recordings that train anyway
        audible.extend(e.recording.name for e in checked if held_out.audible(sound(e, pcm)))
        more = [e for e in more if e.recording.name not in audible]
        divisions[0].leaks += known_voices(divisions[0].entries, more)
        return divisions[0].entries + more

    every = [*found, *extra]
    with console.progress("Reading recordings", len(every)) as tick:
        packed = pack(
            every, Path(data.cache), data.sample_rate, data.max_undecodable, lambda done, _: tick(done), divided
        )
        tick(len(every))
    packed.by = divisions[0].by
    packed.duplicates += audible
    return packed, divisions[0]


def known_voices(entries: Sequence[Entry], more: Sequence[Entry]) -> list[str]:
    """A line about the speakers of more train recordings that are in validation or test too; none without such."""
    held_out = {one.recording.speaker for one in entries if one.recording.split is not Split.TRAIN}
    speakers = {one.recording.speaker for one in more} - {""}
    known = sorted(held_out & speakers)
    named = ", ".join(known[:3]) + ", ..." * (len(known) > 3)
    of = f"{len(known)} of {len(speakers)} speakers of data.extra are in validation or test too"
    return [f"{of}, so that figures are of known voices: {named}"] if known else []


def held_out_sound(entries: Sequence[Entry], pcm: NDArray[np.int16]) -> Fingerprints:
    """Fingerprints of the validation and test recordings. Shape: pcm int16 [total of the cache]."""
    held_out = (one for one in entries if one.recording.split is not Split.TRAIN)
    return fingerprints((f"{one.recording.split} recording {one.recording.name}", sound(one, pcm)) for one in held_out)


def sound(entry: Entry, pcm: NDArray[np.int16]) -> NDArray[np.int16]:
    """Samples of an entry of the cache."""
    return pcm[entry.start : entry.start + entry.n_samples]


def longest_keywords(batch: KeywordLength, stream: StreamConfig) -> dict[Split, float]:
    """The longest keyword of each split in seconds, as training and calibration look for it."""
    return dict.fromkeys(Split, stream.max_keyword_s) | {Split.TRAIN: batch.max_keyword_s}


def split_table(store: AudioCache, chosen: Selection, noise_label: str) -> Table:
    """Number and hours of the recordings of each split, and by what they were divided."""

    def cell(indexes: Sequence[int]) -> str:
        hours = sum(store.entries[i].n_samples for i in indexes) / store.sample_rate / 3600
        return f"{len(indexes)} ({hours:.2f} h)" if indexes else "-"

    rows: list[Sequence[str]] = []
    for split in Split:
        positives = ", ".join(f"{len(p)}" for p in chosen.positives[split])
        mined = chosen.pool if split is Split.TRAIN else []
        rows.append((str(split), positives, *map(cell, (chosen.speech[split], mined, chosen.noise[split]))))
    by = [store.by.get(role, "") for role in (*chosen.keywords, NEGATIVES, noise_label)]
    rows.append(("split by", ", ".join(by[:-2]), by[-2], "", by[-1]))
    return Table(", ".join(chosen.keywords), ("split", "keywords", "negatives", "mining pool", "noise"), rows)


def warn_undecodable(console: Console, bad: Mapping[str, str], n: int) -> None:
    """Print the recordings, of `n` in all, that do not decode: the reason of each by its name."""
    for name, reason in bad.items():
        console.warn(f"{name}: not read: {reason}")
    if bad:
        console.warn(f"left out, no usable sound: {plural(len(bad), 'recording', n)}")


def warn_clean(console: Console, chosen: Selection, split: Split) -> None:
    """Warn where streams of a split are composed without noise, since noise is what devices have."""
    if not chosen.noise[split]:
        what = "thresholds are placed" if split is Split.VALIDATION else "figures are measured"
        console.warn(f"no background noise in the {split} split: {what} on clean streams")


def say_faults(console: Console, faults: Mapping[Fault, int]) -> None:
    """Print the numbers of recordings with each fault that was mended or is worth knowing, in one line."""
    if faults:
        console.say(f"recordings {listed(faults)}")


def model_spec(s: c.TrainConfig, labels: list[str], others: list[str] | None = None) -> ModelSpec:
    """The net and its front end; `others` as in `ModelSpec`.

    Raises:
        KwsError: the clips are shorter than the receptive field, or no whole number of rows for a classification.
    """
    row_s = s.features.hop_s * s.model.stride
    hop_n = round(s.features.hop_s * s.data.sample_rate)  # that of the front end, which may be a bit more or less
    row_n = hop_n * s.model.stride
    smooth_n = smoothing(s.model.smooth_s, s.model.smooth_k, row_s, "model.")
    layer, layer_shape = s.features.layer()
    built = ModelSpec(
        labels=labels,
        sample_rate=s.data.sample_rate,
        n_mels=s.features.n_mels,
        window_s=s.features.window_s,
        hop_s=s.features.hop_s,
        low_hz=s.features.low_hz,
        family=family_of(s.model),
        shape=shape_of(s.model),
        smooth_n=smooth_n,
        clip_n=round(s.batch.clip_s / row_s) * row_n,  # a whole number of rows
        smooth_k=s.model.smooth_k,
        others=others,
        input=layer,
        input_shape=layer_shape,
    )
    if others is not None:  # a clip is classified by its last row
        if abs(s.batch.clip_s / row_s - round(s.batch.clip_s / row_s)) > 1e-6:
            raise KwsError(
                f"batch.clip_s={s.batch.clip_s:g}: must be a whole number of score rows with task=classification, of "
                f"features.hop_s times model.stride={s.model.stride} or {row_s:g} s"
            )
        return built
    # A mined clip must hold all audio that its score depends on.
    reach_n, rate = built.net().receptive_field * hop_n, s.data.sample_rate
    reach_s = reach_n / rate + s.features.window_s + s.model.smooth_s
    rows_n = math.ceil((reach_s + s.mining.post_s) * rate / row_n - 1e-6)
    if round(s.batch.clip_s / row_s) < rows_n:
        raise KwsError(
            f"batch.clip_s={s.batch.clip_s}: must be at least {rows_n * row_s:.4g}, the receptive field of the model "
            f"({reach_s:.2f} s) and mining.post_s"
        )
    return built


def smoothing(smooth_s: float, smooth_k: int, row_s: float, group: str = "") -> int:
    """Number of score rows in `smooth_s`. Raises KwsError with the key in its group if `smooth_k` is above it."""
    smooth_n = max(1, round(smooth_s / row_s))
    if smooth_k > smooth_n:
        raise KwsError(
            f"{group}smooth_k={smooth_k}: must be between 0 and {smooth_n}, the rows of {1000 * row_s:g} ms in "
            f"{group}smooth_s={smooth_s:g}"
        )
    return smooth_n


def resmoothed(model: Checkpoint, smooth_s: float | None, smooth_k: int | None) -> Detector:
    """The detector of a checkpoint with another smoothing of its scores; None keeps the smoothing of its training."""
    spec, made = model.spec, model.detector
    k = spec.smooth_k if smooth_k is None else smooth_k
    n = smoothing(spec.smooth_n * made.frame_s if smooth_s is None else smooth_s, k, made.frame_s)
    return Detector(made.features, made.model, spec.labels, made.thresholds, n, k, made.exclusive)


def rooms(s: c.TrainConfig) -> Tensor | None:
    """The impulse responses of `augment.rooms`. Shape: [R, L]. Raises KwsError if there are none."""
    return None if s.augment.rooms is None else read_rooms(Path(s.augment.rooms), s.data.sample_rate)


def batch_sampler(
    s: c.TrainConfig,
    cache: AudioCache,
    chosen: Selection,
    clip_n: int,
    where: torch.device,
    synthetic: Sequence[Path] = (),
    rooms: Tensor | None = None,
) -> tuple[BatchSampler, list[int]]:
    """Training batches of train recordings outside the mined pool, and the cache entry of each clip of their bank.

    Args:
        s: settings.
        cache, chosen: audio and roles of the recordings.
        clip_n: samples of a clip.
        where: device of the bank.
        synthetic: folders of synthetic clips, resolved; other recordings are real.
        rooms: impulse responses of rooms, from `rooms`.

    Raises:
        LeakError: a training recording is of another split.
    """
    positives = [(i, k) for k, indexes in enumerate(chosen.positives[Split.TRAIN]) for i in indexes]
    used = [i for i, _ in positives] + chosen.speech[Split.TRAIN] + chosen.noise[Split.TRAIN]
    held_out = {hash_ for e in cache.entries if e.recording.split is not Split.TRAIN for hash_ in (e.hash, e.whole)}
    for i in used:
        recording = cache.entries[i].recording
        if recording.split is not Split.TRAIN:
            raise LeakError(f"{recording.name}: a {recording.split} recording among those of training")
        if leaked := next((one for one in recording.made_of if one.hash in held_out), None):
            raise LeakError(f"{recording.name}: spliced from {leaked.name}, a validation or test recording")
    place = {entry: n for n, entry in enumerate(used)}
    clips = [context(cache, chosen, i) for i, _ in positives]
    paths = [cache.entries[i].recording.path for i, _ in positives]
    real = [not any(map(path.is_relative_to, synthetic)) for path in paths]
    keywords = Keywords(
        index=torch.tensor([place[i] for i, _ in positives]),
        column=torch.tensor([k for _, k in positives]),
        start=torch.tensor([a for _, (a, _) in clips]),
        end=torch.tensor([b for _, (_, b) in clips]),
        real=torch.tensor(real),
    )
    speech = [cache.audio(i) for i in chosen.speech[Split.TRAIN]]
    noise = [repeated(cache.audio(i), clip_n, cache.sample_rate) for i in chosen.noise[Split.TRAIN]]
    sampler = BatchSampler(
        ClipBank.of([*(x for x, _ in clips), *speech, *noise], 2 * clip_n, where),
        keywords,
        [place[i] for i in chosen.speech[Split.TRAIN]],
        [place[i] for i in chosen.noise[Split.TRAIN]],
        targets(chosen.keywords),
        clip_n,
        s.batch,
        s.augment,
        cache.sample_rate,
        s.features.hop_s,
        None if rooms is None else rooms.to(where),
    )
    return sampler, used


def targets(keywords: Sequence[str]) -> Tensor:
    """Training target of a clip of each keyword. Shape: [K, K]."""
    made = torch.eye(len(keywords))
    for column, parts in enumerate(contained(keywords)):
        made[column, parts] = IGNORED
    return made


def target(threshold: ThresholdConfig) -> float:
    """The false-alarm rate of the calibration, which a run always has."""
    assert threshold.at_fa_per_hour is not None
    return threshold.at_fa_per_hour
