"""Hardening a detector on a domain that its training lacked: the commands of a user, on folds of real recordings.

python -m tests.benchmarks.new_domain train DATA OUT WORD FOLD [ARM]  trains and scores what is missing, or one arm
python -m tests.benchmarks.new_domain figures OUT                     the paired tables as Markdown

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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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

STEPS = int(os.environ.get("KWS_STEPS", "600"))
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


@dataclass(frozen=True)
class Arm:
    """A run with clips of the field, or a control without.

    Args:
        reference: the arm that it is compared with.
        clips: buffer that it replays, "mined" or "lot"; empty: none.
        share: replayed share of a batch.
        more: other settings.
        fresh: all field recordings are sampled fresh.
    """

    reference: str
    clips: str
    share: float
    more: Mapping[str, object] = field(default_factory=dict)
    fresh: bool = False


SMALL = {"batch.size": 64}
SCRATCH = {"optim.steps": STEPS, "mining.rounds": 0, "mining.pool_share": 0, "replay.schedule": "constant"}
ARMS = {
    "no field": Arm("before", "", 0.0),
    "by lot, 0.1": Arm("before", "lot", 0.1),
    "hardened, 0.1": Arm("before", "mined", 0.1),
    "hardened, 0.25": Arm("before", "mined", 0.25),
    "no field, 64 rows": Arm("before", "", 0.0, SMALL),
    "by lot, 0.1, 64 rows": Arm("before", "lot", 0.1, SMALL),
    "hardened, 0.02, 64 rows": Arm("before", "mined", 0.02, SMALL),
    "hardened, 0.05, 64 rows": Arm("before", "mined", 0.05, SMALL),
    "hardened, 0.1, 64 rows": Arm("before", "mined", 0.1, SMALL),
    "hardened, 0.25, 64 rows": Arm("before", "mined", 0.25, SMALL),
    "all field fresh, 64 rows": Arm("before", "", 0.0, SMALL, fresh=True),
    "retrained, no field": Arm("before", "", 0.0, SCRATCH),
    "retrained, by lot, 0.1": Arm("retrained, no field", "lot", 0.1, SCRATCH),
    "retrained, 0.1": Arm("retrained, no field", "mined", 0.1, SCRATCH),
    "retrained, all field fresh": Arm("retrained, no field", "", 0.0, SCRATCH, fresh=True),
}


def train(data: Path, out: Path, word: str, fold: int, only: str = "") -> None:
    """All detectors of a word and fold, or one."""
    torch.set_num_threads(1)
    group = Group(data, out, word, fold)
    base, both = group.manifest("base", OLD), group.manifest("both", OLD, FIELD)
    model = group.train("base", base, "wake_word", **{"optim.steps": STEPS})
    group.score("before", model)
    buffers = {"mined": group.mine(model, "mined", keep_above=0.2)}
    with Buffer(buffers["mined"]) as buffer:
        n_clips = len(buffer)
    alone = group.out / "model" / "model.pt"  # without the buffer of its run, which would be replayed in every arm
    alone.parent.mkdir(exist_ok=True)
    shutil.copyfile(model, alone)
    for name, arm in ARMS.items():
        if only not in ("", name):
            continue
        if arm.clips == "lot" and "lot" not in buffers:
            rate = max(1.0, n_clips / group.field_hours())
            buffers["lot"] = group.mine(model, "lot", random_share=1.0, clips_per_hour=rate, max_per_recording=1)
        scratch = arm.more is SCRATCH
        more = {"replay.share": arm.share, **arm.more, **({} if scratch else {"init": alone})}
        manifest, recipe = both if arm.fresh else base, "wake_word" if scratch else "harden"
        group.score(name, group.train(name, manifest, recipe, buffers.get(arm.clips), **more))


def lines(out: Path) -> Iterator[str]:
    """The table as Markdown."""
    yield (
        "| detector | runs | "
        + " | ".join(f"{side}: FA/h at 90, 95, 98 % recall | {side}: effect [95 %] | p" for side in (FIELD, OLD))
        + " | against |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name in ("before", *ARMS):
        reference = ARMS[name].reference if name in ARMS else name
        cells = []
        for side in (FIELD, OLD):
            runs = {}
            for label in (reference, name):
                files = {(w, f): out / f"{w}-{f}" / f"{label}-{side}.npz" for w, f in product(WORDS, range(FOLDS))}
                runs[label] = {key: Scores.read(file) for key, file in files.items() if file.is_file()}
            mine = runs[name]
            if not mine:
                break
            hours = sum(one.hours for one in mine.values())
            totals = [sum(counts) for counts in zip(*(one.counts() for one in mine.values()), strict=True)]
            mean, low, high, p = effect(mine, runs[reference])
            compared = " | " if name == reference else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] | {p:.3f}"
            cells.append(f"{', '.join(f'{n / hours:.2f}' for n in totals)} | {compared}")
        if len(cells) == 2:
            yield f"| {name} | {len(mine)} | {' | '.join(cells)} | {reference} |"


def main(args: Sequence[str]) -> None:
    """See the top of this module."""
    action, *rest = args
    if action == "train":
        data, out, word, fold, *only = rest
        train(Path(data), Path(out), word, int(fold), *only)
    else:
        print("\n".join(lines(Path(rest[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
