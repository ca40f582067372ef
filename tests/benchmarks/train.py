"""Training speed: the trainer's own step against a plain loop as people write it, in turns, on the same recordings.

The plain loop decodes each clip and its noise with soundfile, augments and takes features clip by clip in a Dataset
behind a DataLoader of two workers. Model, batch, optimizer, loss and augmentation are the same.
"""

import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from kws.commands import builders
from kws.common.console import Console
from kws.config.compose import folder, register, settings
from kws.config.schema import TrainConfig
from kws.data import augment
from kws.data.audio_cache import AudioCache
from kws.data.batch import BatchSampler
from kws.data.dataset import Selection, recordings, select
from kws.data.manifest import Split
from kws.data.positives import with_locations
from kws.models.base import to_train
from kws.replay.buffer import Buffer
from kws.replay.snapshot import Snapshot
from kws.training.distributed import together
from kws.training.loss import max_pooling_loss
from kws.training.optim import OptimConfig
from kws.training.trainer import Trainer
from kws.training.validation import Validator
from kws.training.wake_word import WakeWordConfig, WakeWordTask

ROUNDS = 3  # each loop in turn, so often
STEPS = 12  # timed steps a turn


class Clips(Dataset[tuple[Tensor, Tensor, float, float]]):
    """Clips as a plain data set makes them: files are decoded when they are asked for."""

    def __init__(self, s: TrainConfig, store: AudioCache, chosen: Selection, drawer: BatchSampler, length: int) -> None:
        self.s, self.drawer, self.length = s, drawer, length
        self.clip_n, self.rate = drawer.clip_n, store.sample_rate
        k = drawer.keywords
        entries = [i for indexes in chosen.positives[Split.TRAIN] for i in indexes]
        self.keywords = [
            (store.entries[i].recording.path, int(start), int(end))
            for i, start, end in zip(entries, k.start, k.end, strict=True)
        ]
        self.speech = [store.entries[i].recording.path for i in chosen.speech[Split.TRAIN]]
        self.noise = [store.entries[i].recording.path for i in chosen.noise[Split.TRAIN]]
        self.front_end = builders.model_spec(s, chosen.keywords).front_end()

    def __len__(self) -> int:
        return self.length

    def read(self, path: Path, start: int, n: int) -> Tensor:
        """`n` samples from `start`, silence beyond the ends; at the rate of the file, as loops of this kind have it."""
        with soundfile.SoundFile(path) as file:
            first, last = max(0, start), min(file.frames, start + n)
            file.seek(min(first, file.frames))
            pcm = file.read(max(0, last - first), dtype="float32", always_2d=True).mean(1)
        out = np.zeros(n, np.float32)
        out[first - start : first - start + len(pcm)] = pcm
        return torch.from_numpy(out)

    def somewhere(self, path: Path, n: int) -> Tensor:
        frames = soundfile.info(path).frames
        return self.read(path, random.randint(min(0, frames - n), max(0, frames - n)), n)

    def at_speed(self, path: Path, start: int, speed: float) -> Tensor:
        raw = self.read(path, start, math.ceil(self.clip_n * speed) + 2)[None]
        return augment.change_speed(raw, torch.tensor([speed]), self.clip_n)[0]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, float, float]:
        a, n = self.s.augment, self.clip_n
        speed = 1 + a.speed * random.uniform(-1, 1) if random.random() < a.speed_p else 1.0
        start = end = 0.0
        positive = random.random() < self.s.batch.positive_share
        if positive:
            path, first, last = random.choice(self.keywords)
            end = n - self.rate * random.uniform(*self.s.batch.keyword_end_s)
            start = end - (last - first) / speed
            clip = self.at_speed(path, int(last - end * speed), speed)
            kind = random.random()
            around = torch.zeros(n) if kind >= a.context_p else self.somewhere(random.choice(self.speech), n)
            if a.context_p <= kind < a.context_p + a.own_context_p:
                around = clip
            clip = augment.crossfade(clip[None], around[None], torch.tensor([start]), torch.tensor([end]), 800)[0]
        elif random.random() < self.s.batch.noise_share:
            clip = self.somewhere(random.choice(self.noise), n)
        else:
            path = random.choice(self.speech)
            clip = self.at_speed(path, random.randint(-n // 2, max(1, soundfile.info(path).frames - n // 2)), speed)
        clip = clip[None]
        if random.random() < a.noise_p:
            beneath = self.somewhere(random.choice(self.noise), n)[None]
            clip = augment.mix(clip, beneath, torch.tensor([random.uniform(*a.snr_db)]))
        clip = augment.set_level(clip, torch.tensor([random.uniform(*a.level_db)]))
        x = self.front_end.clips(clip, self.front_end.hop_n * self.s.model.stride)
        only, rng = torch.zeros(1).long(), torch.Generator().manual_seed(random.getrandbits(40))
        x = self.drawer.augment_features(x, only, 1, rng)[0]
        return x, torch.tensor([float(positive)]), start, end


def plain_steps(clips: Clips, net: Any, task: WakeWordTask, optim: OptimConfig) -> Iterator[None]:
    """A training loop around a DataLoader; yields after each step."""
    row_n = clips.front_end.hop_n * net.stride
    batch_size, spec = task.config.batch.size, task.spec
    row_s = spec.hop_s * net.stride
    early_n, late_n = (round(peak_s / row_s) for peak_s in (optim.peak_early_s, optim.peak_late_s))
    optimizer = torch.optim.AdamW(net.parameters(), lr=optim.lr, weight_decay=optim.weight_decay)
    loader = DataLoader(clips, batch_size, num_workers=2, shuffle=True, drop_last=True)
    for x, target, start, end in loader:
        logits, _ = net.train()(x, net.initial_cache(len(x)))
        rows = (start / row_n).floor().long(), (end / row_n).floor().long()
        loss, *_ = max_pooling_loss(logits, target, *rows, early_n, late_n, spec.smooth_n, spec.smooth_k)
        optimizer.zero_grad()
        loss.mean().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
        yield


class Watch:
    """Seconds that a trainer's net spends forward and backward."""

    def __init__(self, net: torch.nn.Module) -> None:
        self.spent, self.begun = 0.0, 0.0
        net.register_forward_pre_hook(lambda *_: self.start())
        net.register_forward_hook(lambda *_: self.stop())
        self.backward = torch.Tensor.backward

    def start(self) -> None:
        self.begun = time.perf_counter()

    def stop(self) -> None:
        self.spent += time.perf_counter() - self.begun

    def __enter__(self) -> "Watch":
        def timed(*args: Any, **kwargs: Any) -> None:
            self.start()
            self.backward(*args, **kwargs)
            self.stop()

        torch.Tensor.backward = timed  # type: ignore[method-assign, assignment]
        return self

    def __exit__(self, *_: object) -> None:
        torch.Tensor.backward = self.backward  # type: ignore[method-assign]


def main(threads: float = 2) -> None:
    """Clips a second of both, their ratio, and the share of our step that is neither forward nor backward."""
    data = os.environ.get("KWS_DATA")
    if not data:
        print("skipped: KWS_DATA names no folder of recordings")
        return
    torch.set_num_threads(int(threads))
    register("train")
    for model, *setting in (
        ("ds_tcn_10k",),
        ("ds_tcn",),
        ("ds_tcn", "compile=true"),
        ("ds_tcn_2d",),
        ("ds_tcn_2d", "precision=bf16-mixed"),
        ("bc_resnet_causal_1",),
    ):
        against(data, model, setting)


def settings_of(data: str, model: str, setting: Sequence[str]) -> TrainConfig:
    """Settings of the wake word with one network, and others that make it faster."""
    words = ["recipe=wake_word", "features=log_mel", "keyword=computer", f"data.root={data}"]
    words += [f"model={model}", *setting]
    words += ["batch.size=64"] if model.startswith("bc") else []
    with initialize_config_dir(str(folder("conf")), version_base="1.3"):
        return settings(compose("train", words), TrainConfig)


def against(data: str, model: str, setting: Sequence[str]) -> None:
    """One model: the plain loop and ours in turns, ours with other settings."""
    s = settings_of(data, model, setting)
    console = Console(quiet=True)
    store = builders.store(s.data, console, recordings(s.data), ["computer"])
    chosen = select(store.entries, ["computer"], s.data.noise_label, s.mining.pool_share)
    chosen = with_locations(store, chosen, dict.fromkeys(Split, 1.2))
    recipe = builders.model_spec(s, ["computer"])
    s.mining.rounds, s.replay.share = 0, 0.0
    config = WakeWordConfig(s.seed, s.optim, s.batch, s.replay, s.mining, s.validate_every, 0.5)
    drawer, _ = builders.batch_sampler(s, store, chosen, recipe.clip_n, torch.device("cpu"))
    with (
        TemporaryDirectory() as place,
        together(torch.device("cpu"), s.precision) as ranks,
        Buffer(Path(place) / "buffer") as empty,
    ):
        net = to_train(recipe.net(), torch.device("cpu"))
        replay = Snapshot.of(empty, recipe.clip_n, torch.device("cpu"), s.replay)
        none: Any = None
        validator = Validator(recipe, none)
        task = WakeWordTask(
            config, recipe, recipe.front_end(), drawer, validator, None, none, Path(place), []
        )  # fmt: skip
        task.start = lambda _: setattr(task, "replay", replay)  # type: ignore[method-assign]
        ours = Trainer(net, task, s.optim, s.seed, ranks, Path(place) / "state.pt", s.compile)
        plain_net = recipe.net()
        clips = Clips(s, store, chosen, drawer, s.batch.size * (ROUNDS * (STEPS + 3) + 8))
        plain = plain_steps(clips, plain_net, task, s.optim)
        print(
            f"{', '.join([model, *setting])}: {sum(p.numel() for p in net.parameters())} weights, "
            f"batch {s.batch.size} x {s.batch.clip_s:g} s, {torch.get_num_threads()} threads"
        )
        ratios, shares = [], []
        with Watch(ours.model) as watch:
            begun = time.perf_counter()
            ours.train_step()
            print(f"first step {time.perf_counter() - begun:.1f} s")
            for turn in range(ROUNDS):
                for _ in range(3):  # the loader's workers fill their queues while this waits: let them be drawn empty
                    next(plain)
                begun = time.perf_counter()
                for _ in range(STEPS):
                    next(plain)
                theirs = time.perf_counter() - begun
                time.sleep(3)  # until their workers' queues are full again: none runs beside the next turn
                ours.train_step()
                watch.spent, begun = 0.0, time.perf_counter()
                for _ in range(STEPS):
                    ours.train_step()
                    ours.step += 1
                mine = time.perf_counter() - begun
                ratios.append(theirs / mine)
                shares.append(1 - watch.spent / mine)
                n = STEPS * s.batch.size
                print(
                    f"turn {turn}: plain {n / theirs:.0f} clips/s, ours {n / mine:.0f} clips/s: {ratios[-1]:.2f}x; "
                    f"outside forward and backward {shares[-1]:.1%}",
                    flush=True,
                )
        print(f"median: {sorted(ratios)[ROUNDS // 2]:.2f}x, outside {sorted(shares)[ROUNDS // 2]:.1%}")


if __name__ == "__main__":
    main()
