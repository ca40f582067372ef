"""A keyword with few recordings: recipes and front ends on folds, by the number of recordings.

python -m tests.benchmarks.base_net DATA OUT/base FEATURES FOLD              trains the base net of a fold
python -m tests.benchmarks.few_recordings train DATA OUT N WORD FOLD [ARM]   trains and scores what is missing
python -m tests.benchmarks.few_recordings figures OUT                        a table for each N as Markdown

Folds and endpoint: see `folds`. N recordings of the keyword train, the first by a hash; all others of the train split
of a fold are left out, and the held-out fold scores as ever. KWS_STEPS=1500 gives the steps of the recipes.
"""

import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from tests.benchmarks.base_net import base_file
from tests.benchmarks.folds import SEEDS, Group, read_runs
from tests.benchmarks.what_helps import table

NUMBERS = (5, 10, 30)  # of recordings, in the tables
RATES = (0.5, 1.0, 2.0, 5.0)  # false alarms an hour
FRONT_ENDS = {"log-mel": "log_mel", "log-mel and PCEN": "log_mel_pcen"}
ARMS = {
    f"{recipe}, {label}{', from a base net' * based}": (recipe, features, based)
    for recipe, (label, features), based in product(("wake_word", "few_shot"), FRONT_ENDS.items(), (False, True))
}


def train(data: Path, out: Path, n: int, word: str, fold: int, only: str = "") -> None:
    """All arms of a word and fold, or one."""
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    for arm, (recipe, features, based) in ARMS.items():
        if only in ("", arm):
            group = Group(data, out, word, fold, "cpu", recipe)
            words = [f"features={features}", f"+keywords={n}"]
            words += [f"+base={base_file(out / 'base', features, fold)}"] * based
            for seed in SEEDS:
                group.train(tuple(words), f"{n}, {arm}", seed)


def main(args: Sequence[str]) -> None:
    """See the top of this module."""
    match args:
        case ["train", data, out, n, word, fold, *only]:
            train(Path(data), Path(out), int(n), word, int(fold), *only)
        case ["figures", out]:
            for some in NUMBERS:
                if runs := read_runs(Path(out), [f"{some}, {arm}" for arm in ARMS]):
                    print("\n".join(table(runs, next(iter(runs)), RATES)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
