"""What confusables do for a detector: the runs of docs/measurements.md.

python -m tests.benchmarks.confusables prepare DATA OUT   said confusables of each word, from OUT/lists/WORD.csv
python -m tests.benchmarks.confusables train DATA OUT     every run, two at a time; finished ones are passed over
python -m tests.benchmarks.confusables figures DATA OUT   what each makes of the test part and of unheard confusables

OUT/lists/WORD.csv is what `kws confuse list keyword=WORD confuse.n=3600 out=...` wrote. A sixth of its texts, by lot,
is never heard in training, by nobody; test voices are heard in no training either.
"""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kws.common.seeding import numpy_generator
from kws.confusables.synthesis.base import Espeak
from kws.confusables.synthesis.espeak import is_phonemes
from kws.confusables.synthesis.plan import Prompt, Role, plan
from kws.confusables.synthesis.render import render
from kws.data.audio import load, to_int16
from kws.data.manifest import CONFUSABLE, Split
from kws.data.positives import with_locations

WORDS, SEEDS, SHARES = ("computer", "bed", "cat"), (0, 1), (0.05, 0.1)
SETS = ("nearest", "diverse")
NEAREST, CLIPS, TEST_CLIPS = 100, 3000, 1200
STEPS = 400


@dataclass(frozen=True)
class Arm:
    """Runs that are told apart by what is in the buffer and how much of a batch it gives."""

    word: str
    texts: str  # "none", "nearest" or "diverse"
    share: float

    def folder(self, out: Path, seed: int) -> Path:
        return out / f"{self.word}-{self.texts}-{self.share:g}-{seed}"


def arms() -> list[Arm]:
    found = []
    for word in WORDS:
        found.append(Arm(word, "none", max(SHARES)))
        found += [Arm(word, texts, share) for share in SHARES for texts in SETS]
    return found


def prompts(file: Path, word: str) -> list[tuple[float, Prompt]]:
    """The candidates of a list with their distances, in a drawn order."""
    with file.open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    order = numpy_generator(0, "confusables", word).permutation(len(rows))
    made = []
    for row in (rows[i] for i in order):
        text = row["text"]
        one = Prompt(phonemes=text, keyword=word) if is_phonemes(text) else Prompt(text, keyword=word)
        made.append((float(row["distance"]), one))
    return made


def prepare(_: Path, out: Path) -> None:
    """Say the confusables: `CLIPS` of each set by training voices, and texts that no run hears by test voices."""
    for word in WORDS:
        every = prompts(out / "lists" / f"{word}.csv", word)
        held_n = len(every) // 6
        unheard, heard = every[:held_n], every[held_n:]
        near = sorted(heard, key=lambda pair: pair[0])[:NEAREST]
        sets = {"nearest": [one for _, one in near], "diverse": [one for _, one in heard][:CLIPS]}
        for name, texts in sets.items():
            utterances = plan(Espeak(), [Role(CONFUSABLE, texts, CLIPS)], 0, Split.TRAIN)
            render(out / "said" / f"{word}-{name}", Espeak(), utterances)
        utterances = plan(Espeak(), [Role(CONFUSABLE, [one for _, one in unheard], TEST_CLIPS)], 0, Split.TEST)
        render(out / "said" / f"{word}-test", Espeak(), utterances)
        print(f"{word}: {len(heard)} texts to train, {len(unheard)} to test", flush=True)


def train_one(arm: Arm, seed: int, data: Path, out: Path) -> None:
    """Train a run, or go on with it, unless it is finished."""
    from kws.replay.buffer import Buffer
    from kws.replay.importing import into_buffer

    folder = arm.folder(out, seed)
    if (folder / "results.json").is_file():
        return
    words = ["recipe=replay_curve", f"keyword={arm.word}", f"seed={seed}", f"data.root={data}", f"out={folder}"]
    words += [f"optim.steps={STEPS}", f"replay.share={arm.share}", "replay.capacity=8000", "validate_every=null"]
    if arm.texts != "none":
        own = out / "buffers" / folder.name
        if not own.is_dir():
            draft = out / "buffers" / f"{folder.name}.draft"
            shutil.rmtree(draft, ignore_errors=True)
            with Buffer(draft) as buffer:
                into_buffer(buffer, out / "said" / f"{arm.word}-{arm.texts}")
            os.replace(draft, own)
        words += [f"replay.buffer={own}", "replay.mix={confusable: 0.5, false_trigger: 0.5}"]
    with (out / f"{folder.name}.log").open("w") as log:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "kws", "train", *words]
        done = subprocess.run(command, stdout=log, stderr=log, env=environment, check=False)
    print(f"{folder.name}: {'done' if done.returncode == 0 else f'FAILED, see {log.name}'}", flush=True)


def train(data: Path, out: Path, workers: int = 2) -> None:
    """Every run that is missing, word by word."""
    (out / "buffers").mkdir(parents=True, exist_ok=True)
    todo = [(arm, seed) for arm in arms() for seed in SEEDS]
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda one: train_one(*one, data, out), todo))


def figures(data: Path, out: Path) -> None:
    """Alarms of each finished run on unheard confusables and on real speech, at thresholds with so many misses."""
    import torch

    from kws.commands import builders
    from kws.common.console import Console
    from kws.config.compose import folder as place
    from kws.config.compose import register, settings
    from kws.config.schema import TrainConfig
    from kws.data.dataset import recordings, select
    from kws.data.streams import StreamConfig, compose, spans
    from kws.detector import checkpoint, streaming
    from kws.evaluation.splits import negative_stream, positive_stream
    from kws.evaluation.threshold_sweep import sweep

    torch.set_num_threads(1)
    register("train")
    from hydra import compose as composed
    from hydra import initialize_config_dir

    with initialize_config_dir(str(place("conf")), version_base="1.3"):
        s = settings(composed("train", ["recipe=replay_curve", "keyword=computer", f"data.root={data}"]), TrainConfig)
    store = builders.store(s.data, Console(), recordings(s.data), WORDS)
    levels = StreamConfig([10.0, 10.0], [-45.0, -20.0], s.stream.gap_s, s.stream.negative_gap_s)
    table = defaultdict(list)
    for word in WORDS:
        runs = [(a, n) for a in arms() if a.word == word for n in SEEDS]
        runs = [(a, n) for a, n in runs if (a.folder(out, n) / "results.json").is_file()]
        if not runs:
            continue
        chosen = with_locations(
            store, select(store.entries, [word], s.data.noise_label, s.mining.pool_share), dict.fromkeys(Split, 1.2)
        )
        positives = [positive_stream(store, chosen, Split.TEST, 0, levels, n) for n in range(4)]
        negatives = [negative_stream(store, chosen, Split.TEST, levels, n) for n in range(4)]
        files = sorted((out / "said" / f"{word}-test").rglob("*.flac"))
        clips = [to_int16(load(file)) for file in files]
        noise = [store.audio(i) for i in chosen.noise[Split.TEST]]
        rng = numpy_generator(0, "confusables", word, "test")
        said = compose(clips, noise, rng, 1.0, levels.snr_db, levels.noise_db)
        for arm, seed in runs:
            detector = checkpoint.read_model(arm.folder(out, seed) / "model.pt").detector

            def track(made, detector=detector, word=word):
                return streaming.score_tracks(detector, made.pcm, store.sample_rate, s.stream.chunk_s)[word]

            ups = [sweep(track(one), 1.0, spans(one)) for one in positives]
            downs = [sweep(track(one), 1.0) for one in negatives]
            confused = sweep(track(said), 1.0, spans(said))
            row = {"word": word, "texts": arm.texts, "share": arm.share, "seed": seed}
            events = sum(up.spans_n for up in ups)
            grid = np.unique(np.concatenate([up.scores for up in ups]))
            missed = sum(up.counts(grid)[1] for up in ups)
            for most in (0.02, 0.05, 0.1):
                at = float(grid[np.flatnonzero(missed <= most * events)[-1]])
                alarms = sum(down.at(at)[0] for down in downs)
                hours = sum(down.hours for down in downs)
                fired = confused.spans_n - confused.at(at)[1]
                row[f"{most:g}"] = {
                    "threshold": at, "misses": int(sum(up.at(at)[1] for up in ups)), "events": events,
                    "false_alarms": alarms, "hours": hours, "confused": fired, "confusables": confused.spans_n,
                }  # fmt: skip
            table[word].append(row)
            print(json.dumps(row), flush=True)
    (out / "figures.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    {"prepare": prepare, "train": train, "figures": figures}[sys.argv[1]](*map(Path, sys.argv[2:]))
