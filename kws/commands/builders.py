"""From settings to objects: the last place that knows the configuration."""

from collections.abc import Sequence
from pathlib import Path

import torch

from kws.common.console import Console
from kws.common.errors import KwsError, LeakError
from kws.config import schema as c
from kws.data.audio import keyword_bounds, to_float
from kws.data.audio_cache import AudioCache, pack
from kws.data.batch import BatchSampler, Keywords
from kws.data.clip_bank import ClipBank
from kws.data.dataset import DataConfig, Selection
from kws.data.manifest import Recording, Split
from kws.detector.checkpoint import Checkpoint, ModelSpec
from kws.detector.detector import Detector
from kws.evaluation.operating_points import ThresholdConfig
from kws.models.base import family_of, shape_of
from kws.training.hard_negatives import Policy
from kws.training.optim import Average
from kws.training.wake_word import WakeWordConfig


def device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
        torch.zeros(1, device=chosen)
    except (RuntimeError, AssertionError):
        raise KwsError(f"device={name}: not here; allowed is auto, cpu, or a device that torch finds") from None
    return chosen


def threads(count: int) -> None:
    """Use so many CPU threads; 0 leaves torch its own choice: OMP_NUM_THREADS, else the cores."""
    if count:
        torch.set_num_threads(count)


def store(data: DataConfig, console: Console, found: Sequence[Recording]) -> AudioCache:
    """Their sound, decoded once; says what does not decode."""
    with console.progress("Reading recordings", len(found)) as tick:
        packed = pack(found, Path(data.cache), data.sample_rate, data.max_undecodable, lambda done, _: tick(done))
        tick(len(found))
    for name, reason in packed.bad.items():
        console.warn(f"{name}: not read: {reason}")
    if packed.bad:
        console.warn(f"{len(packed.bad)} of {len(found)} recordings do not decode and are left out")
    if packed.duplicates:
        console.warn(
            f"{len(packed.duplicates)} train recordings are left out, the same sound is in validation or test: "
            f"{', '.join(packed.duplicates[:3])}"
        )
    return packed


def recipe(s: c.TrainConfig, labels: list[str], others: list[str] | None = None) -> ModelSpec:
    """The net and its front end; `others` as in `ModelSpec`."""
    row_s = s.features.hop_s * s.model.stride
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
        clip_n=samples(s.batch.clip_s, row_s, s.data.sample_rate),
        smooth_k=s.model.smooth_k,
        others=others,
        input=layer,
        input_shape=layer_shape,
    )
    if others is not None:  # a clip is judged at its end, by as much of it as the model hears
        if abs(s.batch.clip_s / row_s - round(s.batch.clip_s / row_s)) > 1e-6:
            raise KwsError(
                f"batch.clip_s={s.batch.clip_s:g}: must be a whole number of score rows with task=classification, of "
                f"features.hop_s times model.stride={s.model.stride} or {row_s:g} s"
            )
        return built
    reach_s = built.net().receptive_field * s.features.hop_s + s.features.window_s + s.model.smooth_s
    if reach_s > s.batch.clip_s - s.mining.post_s:
        raise KwsError(
            f"batch.clip_s={s.batch.clip_s}: must be at least {reach_s + s.mining.post_s:.2f}, what the model hears "
            f"({reach_s:.2f} s) and mining.post_s, so that a mined clip holds all its score depends on"
        )
    return built


def samples(seconds: float, row_s: float, sample_rate: int) -> int:
    """The nearest number of samples that is a whole number of rows."""
    return round(seconds / row_s) * round(row_s * sample_rate)


def smoothing(smooth_s: float, smooth_k: int, row_s: float, group: str = "") -> int:
    """Rows that scores are smoothed over; raises KwsError, naming the key in its group, where k of them cannot be."""
    smooth_n = max(1, round(smooth_s / row_s))
    if smooth_k > smooth_n:
        raise KwsError(
            f"{group}smooth_k={smooth_k}: allowed is 0 to {smooth_n}, the rows of {1000 * row_s:g} ms in "
            f"{group}smooth_s={smooth_s:g}"
        )
    return smooth_n


def resmoothed(model: Checkpoint, smooth_s: float | None, smooth_k: int | None) -> Detector:
    """The detector of a checkpoint with another smoothing of its scores; null leaves it as it was trained."""
    r = model.spec
    row_s = model.detector.frame_s
    k = r.smooth_k if smooth_k is None else smooth_k
    n = smoothing(r.smooth_n * row_s if smooth_s is None else smooth_s, k, row_s)
    made = model.detector
    return Detector(made.features, made.model, r.labels, made.thresholds, n, k, made.exclusive)


def wake_word(s: c.TrainConfig) -> WakeWordConfig:
    """Settings of the wake-word task."""
    row_s, o, r, m = s.features.hop_s * s.model.stride, s.optim, s.replay, s.mining
    at = [m.first_at + (m.last_at - m.first_at) * i / max(1, m.rounds - 1) for i in range(m.rounds)]
    return WakeWordConfig(
        seed=s.seed,
        steps=o.steps,
        batch_size=s.batch.size,
        positive_share=s.batch.positive_share,
        focal_gamma=o.focal_gamma,
        label_smoothing=o.label_smoothing,
        negative_weight=o.negative_weight,
        best_n=o.best_n if o.average is Average.best else 0,
        early_n=round(o.peak_early_s / row_s),
        late_n=round(o.peak_late_s / row_s),
        schedule=r,
        importance_exponent=r.importance_exponent,
        mining_steps=tuple(min(o.steps - 1, round(a * o.steps)) for a in at),
        replay_from=round(m.first_at * o.steps),
        validate_every=s.validate_every,
        batch_mining_every=r.batch_mining_every if r.batch_mining else 0,
        batch_mining_clips=r.batch_mining_clips,
        quarantine_above=r.quarantine_above,
        at_fa_per_hour=target(s.threshold),
    )


def drawer(
    s: c.TrainConfig,
    packed: AudioCache,
    chosen: Selection,
    clip_n: int,
    where: torch.device,
    synthetic: Path | None = None,
) -> tuple[BatchSampler, list[int]]:
    """The batches: train recordings only, without the pool; and which entry of the store each clip of its bank is."""
    positives = [(i, k) for k, indexes in enumerate(chosen.positives[Split.TRAIN]) for i in indexes]
    used = [i for i, _ in positives] + chosen.speech[Split.TRAIN] + chosen.noise[Split.TRAIN]
    for i in used:
        recording = packed.entries[i].recording
        if recording.split is not Split.TRAIN:
            raise LeakError(f"{recording.name}: a {recording.split} recording among those of training")
    synthetic = None if synthetic is None else synthetic.resolve()  # the paths of recordings are resolved too
    place = {entry: n for n, entry in enumerate(used)}
    bank = ClipBank.of([packed.audio(i) for i in used], 2 * clip_n, where)
    longest_s = s.batch.max_keyword_s
    bounds = [keyword_bounds(to_float(packed.audio(i)), packed.sample_rate, longest_s) for i, _ in positives]
    keywords = Keywords(
        index=torch.tensor([place[i] for i, _ in positives]),
        column=torch.tensor([k for _, k in positives]),
        start=torch.tensor([a for a, _ in bounds]),
        end=torch.tensor([b for _, b in bounds]),
        real=torch.tensor(
            [synthetic is None or not packed.entries[i].recording.path.is_relative_to(synthetic) for i, _ in positives]
        ),
    )
    made = BatchSampler(
        bank,
        keywords,
        [place[i] for i in chosen.speech[Split.TRAIN]],
        [place[i] for i in chosen.noise[Split.TRAIN]],
        len(chosen.keywords),
        clip_n,
        s.batch,
        s.augment,
        packed.sample_rate,
        s.features.hop_s,
    )
    return made, used


def policy(s: c.TrainConfig) -> Policy:
    """What comes into the buffer, what leaves it, and how it is sampled."""
    return Policy(s.mining, s.seed, s.stream.negative_gap_s, s.replay)


def target(threshold: ThresholdConfig) -> float:
    """The false alarms an hour that thresholds are placed for; of a run there is one."""
    assert threshold.at_fa_per_hour is not None
    return threshold.at_fa_per_hour


def pair(values: Sequence[float]) -> tuple[float, float]:
    """[low, high], checked by the schema."""
    low, high = values
    return low, high
