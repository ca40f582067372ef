"""A small folder in the layout of Speech Commands; no test of its own.

up, down, left and right are melodies of two notes, each said by some speakers.
"""

from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from kws.data.manifest import Split, hash_split

RATE = 16000
MELODIES = {"up": (500, 1000), "down": (1000, 500), "left": (300, 1500), "right": (1500, 700)}
LISTS = {Split.VALIDATION: "validation_list.txt", Split.TEST: "testing_list.txt"}


def say(rng: np.random.Generator, notes: tuple[int, int]) -> NDArray[np.float64]:
    """A melody somewhere in a second of faint noise."""
    x = 0.003 * rng.standard_normal(RATE)
    hz = np.repeat(notes, RATE // 5)
    start = int(rng.integers(0, RATE - len(hz)))
    x[start : start + len(hz)] += rng.uniform(0.1, 0.5) * np.sin(2 * np.pi * np.cumsum(hz) / RATE)
    return x


def write_commands(folder: Path, speakers: int) -> None:
    """Every speaker says each word once; the parts are those of a hash of the speakers, told by the two lists."""
    rng, listed = np.random.default_rng(0), {split: [""][:0] for split in Split}
    for i in range(speakers):
        for word, notes in MELODIES.items():
            name = f"{word}/{i:08x}_nohash_0.wav"
            (folder / word).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / name, say(rng, notes), RATE, subtype="PCM_16")
            listed[hash_split(f"{i:08x}")].append(name)
    for split, file in LISTS.items():
        (folder / file).write_text("".join(f"{name}\n" for name in listed[split]))
    noise = folder / "_background_noise_"
    noise.mkdir()
    for kind, level in (("hiss", 0.1), ("hum", 0.3)):
        x = level * rng.standard_normal(20 * RATE)
        soundfile.write(noise / f"{kind}.wav", np.clip(x, -1, 1), RATE, subtype="PCM_16")
    (noise / "README.md").write_text("no sound")
