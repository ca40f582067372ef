"""The table of docs/measurements.md: what helps a detector of the same recordings. One change a run, on folds.

python -m tests.benchmarks.what_helps train DATA OUT [WORD FOLD]   trains and scores what is missing
python -m tests.benchmarks.what_helps figures OUT                  the table as Markdown

Folds and endpoint: see `folds`. KWS_SEEDS=0 trains one seed, KWS_STEPS=1500 as many steps as recipe=wake_word.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.folds import STEPS, Arm, Runs, effect, read_runs, train_arms

RATES = (0.1, 0.5, 1.0, 2.0)  # false alarms an hour
DEFAULT = "default"
ARMS: dict[str, Arm] = {
    DEFAULT: (),
    "PCEN": ("features=pcen",),
    "log-mel and PCEN": ("features=log_mel_pcen",),
    "twice the steps": ("optim.steps=3000",),
    "half the batch, twice the steps": ("batch.size=80", f"optim.steps={2 * STEPS}"),
    "no convolutions over bands": ("model=ds_tcn",),
    "100k weights": ("model=ds_tcn_100k", "batch.clip_s=2.12"),
    "keywords half of a batch": ("batch.positive_share=0.5",),
    "less noise": ("augment.snr_db=[0.0,25.0]",),
    "negatives weigh twice": ("optim.negative_weight=2",),
    "focal loss": ("optim.focal_gamma=1",),
}


def table(runs: Runs, reference: str, rates: Sequence[float] = RATES) -> Iterator[str]:
    """Misses at each rate and the endpoint of each arm as Markdown, with the mean difference from the reference."""
    yield f"| run | runs | {' | '.join(f'misses at {rate:g} FA/h' for rate in rates)} | endpoint [95 %] | p |"
    yield "| --- " * (len(rates) + 4) + "|"
    for arm, mine in runs.items():
        events = sum(len(one.events) for one in mine.values())
        missed = [sum(one.misses(rate) for one in mine.values()) for rate in rates]
        cells = [f"{n}/{events} = {100 * n / events:.1f} %" for n in missed]
        if arm != reference:  # the mean over runs of the difference in points
            for i, rate in enumerate(rates):
                found = effect(mine, runs[reference], lambda one, rate=rate: 100 * one.misses(rate) / len(one.events))
                cells[i] += " ({:+.1f} [{:+.1f}, {:+.1f}])".format(*found[:3])
        mean, low, high, p = effect(mine, runs[reference])
        compared = "| " if arm == reference else f"{mean:+.2f} [{low:+.2f}, {high:+.2f}] | {p:.3f}"
        yield f"| {arm} | {len(mine)} | {' | '.join(cells)} | {compared} |"


def main(args: Sequence[str]) -> None:
    """See the top of this module."""
    match args:
        case ["train", data, out, *some]:
            train_arms(Path(data), Path(out), ARMS, *some[:1], *map(int, some[1:2]))
        case ["figures", out]:
            print("\n".join(table(read_runs(Path(out), ARMS), DEFAULT)))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
