"""Training in rooms: detectors on held-out folds as recorded, and on the same recordings in rooms of their own.

kws rooms out=OUT/train n=200 and kws rooms out=OUT/held_out n=80 seed=1   simulate the rooms
python -m tests.benchmarks.rooms train DATA OUT WORD FOLD [ARM]            trains and scores what is missing
python -m tests.benchmarks.rooms figures OUT                               both tables as Markdown

Folds and endpoint: see `folds`. KWS_SEEDS and KWS_STEPS as there.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kws.data.audio import to_float, to_int16
from kws.data.audio_cache import AudioCache
from kws.data.dataset import select
from kws.data.manifest import Split
from kws.data.positives import with_locations
from kws.data.rooms import read_rooms, reverberate
from kws.detector import checkpoint
from tests.benchmarks.folds import SEEDS, Group, Streams, hashed, read_runs, slug
from tests.benchmarks.what_helps import table

FRONT_END = "features=log_mel"
SHARES = {"as recorded": 0.0, "rooms, 0.25": 0.25, "rooms, 0.5": 0.5}  # of the clips


class InRooms:
    """The recordings of a cache, each in a room of its own by its hash; noise stays as it is."""

    def __init__(self, store: AudioCache, rooms: torch.Tensor, noise_label: str) -> None:
        self.store, self.rooms, self.noise_label = store, rooms, noise_label

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def audio(self, i: int) -> NDArray[np.int16]:
        """Audio of an entry, as loud as it was."""
        entry, dry = self.store.entries[i], self.store.audio(i)
        if entry.recording.label == self.noise_label:
            return dry
        room = hashed("room", entry.hash, len(self.rooms))
        x = torch.from_numpy(to_float(dry))[None]
        wet = reverberate(x, self.rooms[room : room + 1])
        return to_int16((wet * (x.abs().max() / wet.abs().max()))[0].numpy())


def train(data: Path, out: Path, word: str, fold: int, only: str = "") -> None:
    """Train and score the arms of a word and fold, or one of them."""
    torch.set_num_threads(1)
    (out / "in_rooms").mkdir(parents=True, exist_ok=True)
    group, streams = Group(data, out, word, fold, "cpu", "wake_word"), None
    for label, share in SHARES.items():
        if only not in ("", label):
            continue
        rooms = (f"augment.rooms={out / 'train'}", f"augment.room_p={share}") if share else ()
        for seed in SEEDS:
            group.train((FRONT_END, *rooms), label, seed)
            name = f"{slug(label)}-{word}-{fold}-{seed}"
            file = out / "in_rooms" / f"{name}.npz"
            if not file.is_file():
                streams = streams or streams_in_rooms(group, out / "held_out")
                streams.score(checkpoint.read_model(out / f"{name}.pt").detector).write(file)


def streams_in_rooms(group: Group, rooms: Path) -> Streams:
    """The streams of a fold, with each recording in a room."""
    s = group.configured((), 0)
    store: Any = InRooms(group.store, read_rooms(rooms, group.store.sample_rate), s.data.noise_label)
    chosen = select(group.store.entries, [group.word], s.data.noise_label, 0.0)
    return Streams(store, with_locations(group.store, chosen, dict.fromkeys(Split, 1.2)), s.stream)


def main(args: Sequence[str]) -> None:
    """See the top of this module."""
    match args:
        case ["train", data, out, word, fold, *only]:
            train(Path(data), Path(out), word, int(fold), *only)
        case ["figures", out]:
            for place, where in ((out, "as recorded"), (Path(out) / "in_rooms", "in rooms")):
                print(f"\n{where}\n")
                print("\n".join(table(read_runs(Path(place), SHARES), "as recorded")))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
