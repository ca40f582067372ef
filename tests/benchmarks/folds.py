"""Folds of the recordings for measurements, runs on them, and how two kinds of run are compared.

The recordings of the test split are left out. The others fall into four folds by a hash; a run trains on three and is
scored on the fourth, under two levels of noise. Endpoint: the mean over recall 90, 95 and 98 % of
log((false alarms + 0.5) / hours), compared in pairs of equal fold, word and seed. Each run keeps its scores and
weights, so that a cut-off loses one run.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import wilcoxon

from kws.commands import builders, speech
from kws.commands.training_run import Run
from kws.commands.wake_word import prepare, read_with_spliced
from kws.commands.wake_word_run import WakeWord, fit
from kws.common.console import Console
from kws.common.seeding import numpy_generator
from kws.config.app import composed
from kws.config.compose import settings
from kws.config.schema import TrainConfig
from kws.data.audio_cache import AudioCache
from kws.data.dataset import Selection, recordings, select
from kws.data.manifest import Recording, Split
from kws.data.positives import with_locations
from kws.data.streams import StreamConfig, hit_spans
from kws.detector import checkpoint, streaming
from kws.detector.detector import Detector
from kws.detector.streaming import score_pcm
from kws.evaluation.splits import negative_stream, positive_stream
from kws.replay.buffer import Buffer
from kws.replay.mining import peaks
from kws.runs.folder import SessionRecorder
from kws.training.distributed import together
from kws.training.hard_negatives import held_out_sources
from kws.training.metrics import MetricsLog
from kws.training.trainer import Trainer

WORDS, FOLDS, SEEDS = ("computer", "alexa", "jarvis"), 4, tuple(map(int, os.environ.get("KWS_SEEDS", "0,1").split(",")))
SNR_DB = (0.0, 10.0)  # of the two passes on which a run is scored
RECALLS = (0.90, 0.95, 0.98)
KEPT = 0.005  # lower peaks are not kept: no threshold lies there
STEPS = int(os.environ.get("KWS_STEPS", "600"))

Runs = dict[str, dict[tuple[str, int, int], "Scores"]]  # by arm, then by word, fold and seed
Arm = tuple[str, ...]  # overrides; runs of one arm differ in word, fold and seed alone


def limits(arm: Arm) -> dict[str, str]:
    """Words of an arm that are no overrides: number of `keywords`, `hours` of train speech, file of a `base` net."""
    return dict(word[1:].split("=") for word in arm if word.startswith("+"))


def hashed(purpose: str, name: str, n: int) -> int:
    """A number below `n` from a name."""
    return int(hashlib.sha256(f"{purpose}:{name}".encode()).hexdigest(), 16) % n


def in_fold(one: Recording, fold: int) -> Recording | None:
    """A recording with its split for a fold; None for one of the test split."""
    if one.split is Split.TEST:
        return None
    held = hashed("fold", one.speaker or one.name, FOLDS) == fold
    return replace(one, split=Split.VALIDATION if held else Split.TRAIN, given=True)


def at_most(chosen: Selection, store: AudioCache, hours: float) -> None:
    """Keep so many hours of train speech, fresh and mined in proportion, the first by a hash."""
    lists = chosen.speech[Split.TRAIN], chosen.pool
    every = sorted((hashed("hours", store.entries[i].hash, 2**32), i) for some in lists for i in some)
    total, kept = 0.0, set()
    for _, i in every:
        if total < hours * 3600:
            total += store.entries[i].n_samples / store.sample_rate
            kept.add(i)
    for some in lists:
        some[:] = [i for i in some if i in kept]


def keep_few(chosen: Selection, store: AudioCache, n: int, synthetic: Sequence[Path]) -> None:
    """Keep so many train recordings of the keyword, the first by a hash, and its clips in synthetic folders."""
    (keywords,) = chosen.positives[Split.TRAIN]
    ranked = sorted(keywords, key=lambda i: hashed("few", store.entries[i].hash, 2**32))
    paths = {i: store.entries[i].recording.path for i in ranked}
    real = [i for i in ranked if not any(map(paths[i].is_relative_to, synthetic))]
    keywords[:] = sorted({*keywords} - {*real[n:]})


class Group:
    """One word and fold: recordings, streams and runs of a recipe. Its synthetic clips train, and are not scored."""

    def __init__(self, data: Path, out: Path, word: str, fold: int, device: str, recipe: str = "replay_curve") -> None:
        self.data, self.out, self.word, self.fold, self.device = data, out, word, fold, device
        self.recipe = recipe
        s = self.configured((), 0)
        found = [kept for one in recordings(s.data) if (kept := in_fold(one, fold))]
        self.console = Console(quiet=True)
        made = speech.synthesise(s, [word], self.console, found)
        spoken = [one for one in made.recordings() if one.split is Split.TRAIN]
        self.made, self.store = read_with_spliced(s, [word], self.console, [*found, *spoken], [], made)
        self.streams: Streams | None = None

    def configured(self, arm: Arm, seed: int) -> TrainConfig:
        """The settings of a run."""
        words = [f"recipe={self.recipe}", f"keyword={self.word}", f"data.root={self.data}", f"seed={seed}"]
        words += ["validate_every=null", "tensorboard=false", f"device={self.device}", f"optim.steps={STEPS}"]
        return settings(composed("train", [*words, *(w for w in arm if not w.startswith("+"))]), TrainConfig)

    def selection(self, s: TrainConfig, arm: Arm) -> Selection:
        """Roles of the recordings."""
        given = limits(arm)
        chosen = select(self.store.entries, [self.word], s.data.noise_label, s.mining.pool_share)
        if "keywords" in given:
            keep_few(chosen, self.store, int(given["keywords"]), self.made.folders())
        chosen = with_locations(self.store, chosen, dict.fromkeys(Split, 1.2))
        if "hours" in given:
            at_most(chosen, self.store, float(given["hours"]))
        return chosen

    def train(self, arm: Arm, name: str, seed: int) -> None:
        """Train and score a run, unless its scores are there."""
        folder = self.out / f"{slug(name)}-{self.word}-{self.fold}-{seed}"
        file = folder.parent / f"{folder.name}.npz"
        if file.is_file():
            return
        begun = time.monotonic()
        shutil.rmtree(folder, ignore_errors=True)
        s = self.configured(arm, seed)
        if s.mining.rounds:
            shared = "-".join(word for word in arm if not word.startswith("replay."))  # nothing is replayed before
            key = hashlib.sha256(shared.encode()).hexdigest()[:8]
            prefix = self.out / f"prefix-{self.word}-{self.fold}-{seed}-{key}"
            if not prefix.is_dir():
                self.run(s, arm, folder, StoppedRun)
                folder.rename(prefix)
            shutil.copytree(prefix, folder)
            state = checkpoint.read(folder / "state.pt")
            state["task"]["share"] = s.replay.share  # the prefix holds that of the arm that trained it
            checkpoint.write(folder / "state.pt", state)
        detector = self.run(s, arm, folder)
        shutil.copyfile(folder / "metrics.csv", folder.parent / f"{folder.name}.csv")
        self.score(detector, file, s)
        shutil.rmtree(folder)
        print(f"{folder.name}: {time.monotonic() - begun:.0f} s", flush=True)

    def run(self, s: TrainConfig, arm: Arm, folder: Path, kind: type[Run] = Run) -> Detector:
        """Train to the end, or up to the first mining round."""
        folder.mkdir(parents=True, exist_ok=True)
        spec = builders.model_spec(s, [self.word])
        with together(builders.device(s.device), s.precision) as dist:
            init = checkpoint.read_model(Path(limits(arm)["base"]), base=True) if "base" in limits(arm) else None
            r = kind(s, "", folder, spec, self.console, dist, SessionRecorder([], None), init)
            with Buffer(folder / "buffer", s.replay, self.store.sample_rate, s.replay) as buffer:
                buffer.hold_out(held_out_sources(self.store))
                w = WakeWord(r, self.store, self.selection(s, arm), self.made, folder / "buffer", builders.rooms(s))
                prepare(w, buffer, not (folder / "state.pt").exists())
                weights, _ = fit(w, buffer, "run")
            state = {k: v.cpu() for k, v in weights.items()}
            if kind is Run:
                checkpoint.write_model(folder.with_name(f"{folder.name}.pt"), spec, state, [0.5], {}, [])
            return spec.detector(state)

    def score(self, detector: Detector, file: Path, s: TrainConfig) -> None:
        """Score a run on the fold."""
        if self.streams is None:
            chosen = with_locations(
                self.store, select(self.store.entries, [self.word], s.data.noise_label, 0.0), dict.fromkeys(Split, 1.2)
            )
            self.streams = Streams(self.store, chosen, s.stream)
        self.streams.score(detector.to(builders.device(s.device))).write(file)


class StoppedRun(Run):
    """A run that ends right after its first mining round, in a state that others go on from."""

    def fit(self, net: Any, task: Any, optim: Any, kinds: Any) -> Any:
        """See `Run`."""
        trainer = Trainer(net, task, optim, self.s.seed, self.dist, self.out / "state.pt", self.s.compile)
        with MetricsLog(self.out, 0, kinds, False, self.console, lambda *_: None) as log:
            while not task.mining_due(trainer.step):
                metrics = trainer.train_step()
                trainer.step += 1
                log.step(metrics)
            trainer.save()
            task.mine(trainer.average, trainer.step)
            trainer.save()
        return trainer.average


def slug(name: str) -> str:
    """A file name for an arm."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name)


def train_arms(
    data: Path, out: Path, arms: Mapping[str, Arm], word: str | None = None, fold: int | None = None
) -> None:
    """Train all arms on all words and folds, or on one; results are kept as they come."""
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32 = False
    if torch.cuda.is_available():
        streaming.CHUNK_S = 200.0  # the calls, not the convolutions, cost the time of a GPU
        score_pcm.__defaults__ = (200.0,)
    out.mkdir(parents=True, exist_ok=True)
    for w, f in product([word] if word else WORDS, [fold] if fold is not None else range(FOLDS)):
        group = Group(data, out, w, f, os.environ.get("KWS_DEVICE", "auto"))
        for seed, (label, arm) in product(SEEDS, arms.items()):
            group.train(arm, label, seed)
        for prefix in out.glob(f"prefix-{w}-{f}-*"):
            shutil.rmtree(prefix)


class Streams:
    """Streams of the validation split, a positive and a negative one under each level of noise."""

    def __init__(self, store: AudioCache, chosen: Selection, config: StreamConfig) -> None:
        self.streams, self.rate, at = [], store.sample_rate, (store, chosen, Split.VALIDATION)
        for number, snr in enumerate(SNR_DB):
            levels = StreamConfig([snr, snr], [-45.0, -20.0], config.gap_s, config.negative_gap_s)
            self.streams.append((positive_stream(*at, 0, levels, number), negative_stream(*at, levels, number)))

    def score(self, detector: Detector) -> "Scores":
        """Peak scores of a detector: one an event, and those of the negatives that lie more than a second apart."""
        events, alarms, event_of, alarm_of, hours_of = [], [], [], [], []
        for positive, negative in self.streams:
            rows = score_pcm(detector, positive.pcm, self.rate)[:, 0]
            for piece, (a, b) in zip(positive.pieces, hit_spans(positive.pieces, self.rate), strict=True):
                inside = rows[round(a / detector.frame_s) : round(b / detector.frame_s) + 1]
                events.append(float(inside.max(initial=0.0)))
                event_of.append(piece.index)
            rows = np.ascontiguousarray(score_pcm(detector, negative.pcm, self.rate)[:, 0])
            at = peaks(rows, KEPT, round(1.0 / detector.frame_s))
            alarms += rows[at].tolist()
            order = np.array([piece.index for piece in negative.pieces])  # in each stream the same recordings
            starts = np.array([piece.start for piece in negative.pieces])
            ends = np.append(starts[1:], len(negative.pcm))
            piece_of = np.searchsorted(starts, np.asarray(at) * detector.frame_s * self.rate, "right") - 1
            alarm_of += np.argsort(np.argsort(order))[np.maximum(piece_of, 0)].tolist()
            hours_of.append(((ends - starts) / self.rate / 3600)[np.argsort(order)])
        of = np.unique(event_of, return_inverse=True)[1]
        return Scores(np.array(events), np.array(alarms), of, np.array(alarm_of), np.sum(hours_of, axis=0))


@dataclass(frozen=True, eq=False)
class Scores:
    """A detector on held-out recordings: the peak score of each event and those of the negatives, by recording.

    `event_of` and `alarm_of` number the recordings of the peaks, `hours_of` has the hours of each negative one.
    """

    events: NDArray[np.float64]
    alarms: NDArray[np.float64]
    event_of: NDArray[np.int64]
    alarm_of: NDArray[np.int64]
    hours_of: NDArray[np.float64]

    @property
    def hours(self) -> float:
        """Hours of the negatives."""
        return float(self.hours_of.sum())

    @classmethod
    def read(cls, file: Path) -> "Scores":
        """Read what `write` wrote. In files of before 2026-11-26 each stream is one recording."""
        with np.load(file) as kept:
            if "hours" not in kept:
                return cls(*(kept[name] for name in cls.__dataclass_fields__))
            events, alarms = kept["events"], kept["alarms"]
            one = np.zeros(len(events), np.int64), np.zeros(len(alarms), np.int64)
            return cls(events, alarms, *one, np.array([float(kept["hours"])]))

    def write(self, file: Path) -> None:
        """Write to a file, whole or not at all."""
        draft = file.with_name(f"{file.name}.draft")
        with draft.open("wb") as target:
            np.savez(target, **{name: getattr(self, name) for name in self.__dataclass_fields__})
        os.replace(draft, file)

    def counts(self) -> list[int]:
        """False alarms at each recall: at the highest threshold that misses at most 1 - recall of the events."""
        ranked = np.sort(self.events)
        thresholds = [ranked[int((1 - recall) * len(ranked) + 1e-9)] for recall in RECALLS]
        return [int((self.alarms >= threshold).sum()) for threshold in thresholds]

    def misses(self, rate_per_hour: float) -> int:
        """Events missed at the lowest threshold with at most so many false alarms an hour."""
        allowed = int(rate_per_hour * self.hours)
        ranked = np.sort(self.alarms)[::-1]
        limit = ranked[allowed] if allowed < len(ranked) else 0.0
        return int((self.events <= limit).sum())

    def endpoint(self) -> float:
        """The mean over the recalls of log((alarms + 0.5) / hours)."""
        return float(np.mean([np.log((n + 0.5) / self.hours) for n in self.counts()]))

    def resampled(self, rng: np.random.Generator) -> "Scores":
        """The same detector on as many recordings, drawn with replacement. Equal generators draw equal recordings."""
        made: list[NDArray[Any]] = []
        for scores, of, n in (
            (self.events, self.event_of, int(self.event_of.max(initial=0)) + 1),
            (self.alarms, self.alarm_of, len(self.hours_of)),
        ):
            times = np.bincount(rng.integers(0, n, n), minlength=n)
            made += [np.repeat(scores, times[of]), np.repeat(of, times[of]), times]
        return Scores(made[0], made[3], made[1], made[4], self.hours_of * made[5])


def read_runs(out: Path, arms: Iterable[str]) -> Runs:
    """The scores of all finished runs in a folder."""
    runs: Runs = {}
    for arm in arms:
        for word, fold, seed in product(WORDS, range(FOLDS), SEEDS):
            if (file := out / f"{slug(arm)}-{word}-{fold}-{seed}.npz").is_file():
                runs.setdefault(arm, {})[word, fold, seed] = Scores.read(file)
    return runs


def effect(
    a: dict[Any, Scores], b: dict[Any, Scores], value: Callable[[Scores], float] = Scores.endpoint, draws: int = 1000
) -> tuple[float, float, float, float]:
    """Mean paired difference of a value, the endpoint, of `a` to that of `b`, its 95 % interval, and the p-value.

    The bootstrap (Efron, 1979) resamples pairs of word, fold and seed, and the recordings within each pair. The p-value
    is that of the signed-rank test (Wilcoxon, 1945).
    """
    pairs = sorted(a.keys() & b.keys())
    differences = np.array([value(a[pair]) - value(b[pair]) for pair in pairs])
    rng, samples = numpy_generator(0, "bootstrap"), []
    for draw in range(draws):
        drawn = []
        for number in rng.integers(0, len(pairs), len(pairs)):
            mine, other = a[pairs[number]], b[pairs[number]]
            if len(mine.hours_of) == len(other.hours_of) > 1:  # in files of before the recordings are not known
                one, same = (numpy_generator(0, "recordings", draw, len(drawn)) for _ in range(2))
                mine, other = mine.resampled(one), other.resampled(same)
            drawn.append(value(mine) - value(other))
        samples.append(np.mean(drawn))
    low, high = np.percentile(samples, [2.5, 97.5])
    p = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return float(differences.mean()), float(low), float(high), p
