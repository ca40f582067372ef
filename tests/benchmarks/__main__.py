"""Run the benchmarks, one after another: python -m tests.benchmarks [NAME [a number]], see BENCHMARKS."""

import sys

from tests.benchmarks import buffer, confuse, draw, evaluate, say, stream, train

BENCHMARKS = {
    "stream": stream.main,
    "evaluate": evaluate.main,
    "draw": draw.main,
    "buffer": buffer.main,
    "confuse": confuse.main,
    "distance": confuse.agreement,
    "say": say.main,
    "train": train.main,
}


def main() -> None:
    """All of them, or the one that is named, with its number."""
    name, numbers = (sys.argv[1:2] or [""])[0], map(float, sys.argv[2:])
    if name and name not in BENCHMARKS:
        sys.exit(f"{name}: no such benchmark; there are {', '.join(BENCHMARKS)}")
    for one in [name] if name else BENCHMARKS:
        print(f"\n== {one}", flush=True)
        BENCHMARKS[one](*numbers)


if __name__ == "__main__":
    main()
