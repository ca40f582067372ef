"""kws rooms: simulate impulse responses of rooms, with which training sets clips into rooms."""

import json
from dataclasses import asdict
from pathlib import Path
from shlex import quote

import numpy as np

from kws.common.console import Console
from kws.common.errors import KwsError
from kws.common.files import replacing
from kws.common.seeding import seed_of
from kws.config.app import verb
from kws.config.simulation import RoomsConfig
from kws.data.audio import save_flac, to_int16
from kws.data.rooms import simulated

SETTINGS = "rooms.json"  # how the responses beside it were simulated


def run(s: RoomsConfig) -> None:
    """Write each response that is missing. Response i is the same whatever the number of responses."""
    console, out = Console(), Path(s.out)
    refuse_other_settings(s, out)
    (low, high), (near, far), made = s.decay_s, s.distance_m, 0
    with console.progress("Simulating rooms", s.n) as tick:
        for i in range(s.n):
            file = out / f"room-{i:05}.flac"
            if not file.exists():
                response = simulated(seed_of(s.seed, "room", i) % 2**31, s.sample_rate, (low, high), (near, far))
                if not (out / SETTINGS).exists():  # nothing is written where nothing can be simulated
                    out.mkdir(parents=True, exist_ok=True)
                    with replacing(out / SETTINGS) as target:
                        target.write(json.dumps(own(s)).encode())
                save_flac(file, to_int16(response * (0.5 / np.abs(response).max())), s.sample_rate)
                made += 1
            tick(i + 1)
    there = len(list(out.glob("room-*.flac")))
    console.say(f"rooms simulated: {made}; in {out}: {there}")
    console.say(f"train with them: kws train recipe=wake_word keyword=WORD data.root=DIR augment.rooms={quote(s.out)}")


def own(s: RoomsConfig) -> dict[str, object]:
    """The settings on which a response depends."""
    return {key: value for key, value in asdict(s).items() if key not in ("out", "n")}


def refuse_other_settings(s: RoomsConfig, out: Path) -> None:
    """Raise KwsError if the folder holds responses of other settings, or other sound."""
    file = out / SETTINGS
    if not file.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise KwsError(f"out={out}: must be a new folder, or one of kws rooms")
        return
    try:
        theirs = dict(json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        raise KwsError(f"{file}: unreadable; give another out") from None
    for key, value in own(s).items():
        if theirs.get(key) != value:
            raise KwsError(f"{key}={value}: must be {theirs.get(key)} as in out={out}; or give another out")


main = verb("rooms", run)
