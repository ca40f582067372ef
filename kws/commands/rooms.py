"""kws rooms: simulate impulse responses of rooms, with which training sets clips into rooms."""

from pathlib import Path
from shlex import quote

import numpy as np

from kws.common.console import Console
from kws.common.seeding import numpy_generator
from kws.config.app import verb
from kws.config.simulation import RoomsConfig
from kws.data.audio import save_flac, to_int16
from kws.data.rooms import simulated


def run(s: RoomsConfig) -> None:
    """Write each response that is missing; response i depends on the settings and i alone."""
    console, out = Console(), Path(s.out)
    out.mkdir(parents=True, exist_ok=True)
    low, high = s.decay_s
    near, far = s.distance_m
    with console.progress("Simulating rooms", s.n) as tick:
        for i in range(s.n):
            file = out / f"room-{i:05}.flac"
            if not file.exists():
                response = simulated(numpy_generator(s.seed, "room", i), s.sample_rate, (low, high), (near, far))
                save_flac(file, to_int16(response * (0.5 / np.abs(response).max())), s.sample_rate)
            tick(i + 1)
    console.say(f"{s.n} rooms in {out}")
    console.say(f"train with them: kws train recipe=wake_word keyword=WORD data.root=DIR augment.rooms={quote(s.out)}")


main = verb("rooms", run)
