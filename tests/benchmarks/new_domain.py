"""Hardening a detector on a domain that its training lacked: the commands of a user, on folds of real recordings.

python -m tests.benchmarks.new_domain train DATA OUT WORD FOLD     trains and scores what is missing
python -m tests.benchmarks.new_domain figures OUT                  the paired table as Markdown

A detector is trained on LibriSpeech and noise. The field is speechocean762 (children, accents) and Common Voice without
English: its recordings of the train folds are mined with the detector, and it is hardened with the clips. No field
recording contains the keyword, so that nothing is quarantined. Every detector is scored on the held-out fold, of the
field and of LibriSpeech. Endpoint: see `folds`.
"""

import csv
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import soundfile
import torch

import kws
from kws.commands import builders
from kws.common.console import Console
from kws.config.app import composed
from kws.config.compose import settings
from kws.config.schema import TrainConfig
from kws.data.dataset import recordings, select
from kws.data.manifest import Recording, Split
from kws.data.positives import with_locations
from kws.detector.checkpoint import read_model
from kws.replay.buffer import Buffer
from tests.benchmarks.folds import FOLDS, WORDS, Scores, Streams, effect, in_fold

STEPS = os.environ.get("KWS_STEPS", "600")
SHARES = ("0.02", "0.05", "0.1", "0.25")
OLD, FIELD = "old domain", "field"


def domain(one: Recording) -> str:
    """The domain of a negative; "" for one that no part of the experiment uses."""
    if "librispeech" in one.source:
        return OLD
    if one.source == "speechocean762" or (one.source.startswith("common_voice") and not one.source.endswith(" en")):
        return FIELD
    return ""


class Group:
    """One word and fold."""

    def __init__(self, data: Path, out: Path, word: str, fold: int) -> None:
        self.data, self.out, self.word, self.fold = data, out / f"{word}-{fold}", word, fold
        self.out.mkdir(parents=True, exist_ok=True)
        words = ["recipe=replay_curve", f"keyword={word}", f"data.root={data}"]
        self.s = settings(composed("train", words), TrainConfig)
        self.all = [kept for one in recordings(self.s.data) if (kept := in_fold(one, fold))]
        self.streams: dict[str, Streams] = {}

    def roles(self, one: Recording) -> str:
        """Keyword, noise or a domain of negatives."""
        return one.label if one.label in (self.word, self.s.data.noise_label) else domain(one)

    def manifest(self, name: str, *domains: str) -> Path:
        """Write a manifest of the keywords, the noise and the negatives of some domains."""
        file = self.out / f"{name}.csv"
        with file.open("w", newline="", encoding="utf-8") as target:
            writer = csv.writer(target)
            writer.writerow(["path", "label", "speaker", "text", "source", "part"])
            for one in self.all:
                if self.roles(one) in (self.word, self.s.data.noise_label, *domains):
                    path = one.path.relative_to(self.data.resolve())
                    writer.writerow([path, one.label, one.speaker, one.text, one.source, one.split])
        return file

    def train(self, name: str, manifest: Path, recipe: str, clips: Path | None = None, **more: object) -> Path:
        """Train, unless that is done, with a copy of a buffer of clips; returns model.pt."""
        folder = self.out / name
        if not (folder / "results.json").is_file():
            begun = time.monotonic()
            if clips is not None and not folder.is_dir():
                shutil.copytree(clips, self.out / f"{name} buffer", dirs_exist_ok=True)
            if clips is not None:
                more["replay.buffer"] = self.out / f"{name} buffer"
            common = {"keyword": self.word, "data.root": self.data, "data.manifest": manifest, "out": folder}
            fast = {"threads": 1, "tensorboard": False, "validate_every": None, "threshold.passes": 1}
            kws.train(recipe, **common, **fast, **more)  # type: ignore[arg-type]
            print(f"{self.word}-{self.fold}: {name}: {time.monotonic() - begun:.0f} s", flush=True)
        return folder / "model.pt"

    def mine(self, model: Path, name: str, **more: object) -> Path:
        """Mine the field recordings of the train folds, unless that is done; returns the buffer."""
        buffer = self.out / name
        if not (self.out / f"{name}.done").is_file():
            files = [one.path for one in self.all if self.roles(one) == FIELD and one.split is Split.TRAIN]
            kws.mine(
                model, files, buffer, **{"data.root": self.data, "data.manifest": self.manifest("all", FIELD)}, **more
            )
            (self.out / f"{name}.done").touch()
        return buffer

    def field_hours(self) -> float:
        """Hours of the field recordings that are mined."""
        mined = [one for one in self.all if self.roles(one) == FIELD and one.split is Split.TRAIN]
        return sum(soundfile.info(one.path).duration for one in mined) / 3600

    def score(self, name: str, model: Path) -> None:
        """Score a model on the held-out fold of both domains, unless that is done."""
        detector = read_model(model).detector
        for side in (FIELD, OLD):
            file = self.out / f"{name}-{side}.npz"
            if file.is_file():
                continue
            if side not in self.streams:
                kept = [one for one in self.all if self.roles(one) in (self.word, self.s.data.noise_label, side)]
                store = builders.store(self.s.data, Console(quiet=True), kept, [self.word])
                chosen = select(store.entries, [self.word], self.s.data.noise_label, 0.0)
                chosen = with_locations(store, chosen, dict.fromkeys(Split, 1.2))
                self.streams[side] = Streams(store, chosen, self.s.stream)
            self.streams[side].score(detector).write(file)


def train(data: Path, out: Path, word: str, fold: int) -> None:
    """All detectors of a word and fold."""
    torch.set_num_threads(1)
    group = Group(data, out, word, fold)
    base, both = group.manifest("base", OLD), group.manifest("both", OLD, FIELD)
    model = group.train("base", base, "wake_word", **{"optim.steps": int(STEPS)})
    group.score("before", model)
    mined = group.mine(model, "mined", keep_above=0.2)
    with Buffer(mined) as buffer:
        n_clips = len(buffer)
    alone = group.out / "model" / "model.pt"  # without the buffer of its run, which would be replayed in every arm
    alone.parent.mkdir(exist_ok=True)
    shutil.copyfile(model, alone)
    hardened = {"init": alone}
    for share in SHARES:
        name = f"hardened, {share}"
        more = {"replay.share": float(share)}
        group.score(name, group.train(name, base, "harden", mined, **hardened, **more))
    lot = group.mine(
        model, "lot", random_share=1.0, clips_per_hour=max(1.0, n_clips / group.field_hours()), max_per_recording=1
    )
    more = {"replay.share": 0.1}
    group.score("by lot, 0.1", group.train("by lot, 0.1", base, "harden", lot, **hardened, **more))
    more = {"replay.share": 0.0}  # the control: as many steps, and no field
    group.score("no field", group.train("no field", base, "harden", **hardened, **more))
    group.score("all field fresh", group.train("all field fresh", both, "harden", **hardened, **more))


def lines(out: Path) -> Iterator[str]:
    """The table as Markdown."""
    names = ["before", "no field", "by lot, 0.1", *(f"hardened, {share}" for share in SHARES), "all field fresh"]
    yield (
        "| detector | runs | "
        + " | ".join(f"{side}: FA/h at 90, 95, 98 % recall | {side}: effect [95 %] | p" for side in (FIELD, OLD))
        + " |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name in names:
        cells = []
        for side in (FIELD, OLD):
            runs = {}
            for label in ("before", name):
                files = {(w, f): out / f"{w}-{f}" / f"{label}-{side}.npz" for w, f in product(WORDS, range(FOLDS))}
                runs[label] = {key: Scores.read(file) for key, file in files.items() if file.is_file()}
            mine = runs[name]
            if not mine:
                break
            hours = sum(one.hours for one in mine.values())
            totals = [sum(counts) for counts in zip(*(one.counts() for one in mine.values()), strict=True)]
            mean, low, high, p = effect(mine, runs["before"])
            compared = " | " if name == "before" else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] | {p:.3f}"
            cells.append(f"{', '.join(f'{n / hours:.2f}' for n in totals)} | {compared}")
        if len(cells) == 2:
            yield f"| {name} | {len(mine)} | {' | '.join(cells)} |"


def main(args: Sequence[str]) -> None:
    """See the top of this module."""
    action, *rest = args
    if action == "train":
        data, out, word, fold = rest
        train(Path(data), Path(out), word, int(fold))
    else:
        print("\n".join(lines(Path(rest[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
