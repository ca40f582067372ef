"""A folder in the layout of Speech Commands, of recordings: python -m tests.benchmarks.three_words RECORDINGS DIR.

RECORDINGS has a manifest.csv (see README.md). bed, cat and happy are there as Speech Commands has them. The other words
are alexa, computer and jarvis, cut to the second around each, and a second of each read sentence that holds none of
these six. Background noise is joined to files of a minute or so, in the order in which they will be divided.
Parts are those of `kws.data.manifest.hash_part`.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from kws.data.audio import BadAudio, keyword_bounds, load, to_int16
from kws.data.manifest import Recording, Split, read
from kws.data.transcripts import contains_phrase

WORDS, OTHERS, RATE = ("bed", "cat", "happy"), ("alexa", "computer", "jarvis"), 16000
LISTS = {Split.VALIDATION: "validation_list.txt", Split.TEST: "testing_list.txt"}


def make(recordings: Path, out: Path, most: int = 0) -> None:
    """Write the folder `out`; of each label at most so many recordings, 0 for all."""
    listed: dict[Split, list[str]] = {split: [] for split in Split}
    times: dict[tuple[str, str], int] = defaultdict(int)
    count: dict[str, int] = defaultdict(int)
    noise: dict[tuple[str, Split], list[Recording]] = defaultdict(list)
    for one in read(recordings):
        if one.label == "noise":
            noise[one.text, one.split].append(one)
            continue
        label = one.label if one.label in (*WORDS, *OTHERS) else "sentence"
        spoken = label == "sentence" and (
            not one.text or any(contains_phrase(one.text, word) for word in (*WORDS, *OTHERS))
        )
        if spoken or (most and count[label] == most):
            continue
        try:
            pcm = to_int16(load(one.path, RATE))
        except BadAudio:
            continue
        count[label] += 1
        speaker = re.sub(r"\W|_", "", one.speaker or Path(one.name).stem)
        name = f"{label}/{speaker}_nohash_{times[label, speaker]}.wav"
        times[label, speaker] += 1
        write(out / name, pcm if label in WORDS else second(pcm, label))
        listed[one.split].append(name)
    for split, file in LISTS.items():
        (out / file).write_text("".join(f"{name}\n" for name in sorted(listed[split])))
    for kind in sorted({kind for kind, _ in noise}):
        of = [noise[kind, split] for split in Split]
        n = min(len(of[0]) // 8, len(of[1]), len(of[2]), most or 99)  # 80 % to train with, 10 % each to measure by
        chosen = [*of[0][: 8 * n], *of[1][:n], *of[2][:n]]
        if chosen:
            pieces = [np.resize(to_int16(load(one.path, RATE)), 5 * RATE) for one in chosen]
            write(out / "_background_noise_" / f"{kind}.wav", np.concatenate(pieces))


def second(pcm: NDArray[np.int16], label: str) -> NDArray[np.int16]:
    """A second around the word, or the middle one of a sentence."""
    start, end = keyword_bounds(pcm / np.float32(32768), RATE, 1.0) if label in OTHERS else (0, len(pcm))
    begin = max(0, (start + end - RATE) // 2)
    return pcm[begin : begin + RATE]


def write(path: Path, pcm: NDArray[np.int16]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, pcm, RATE, subtype="PCM_16")


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
