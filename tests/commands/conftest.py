"""Streams for commands that score, and the figures that they write."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data.manifest import Split, read
from kws.data.streams import compose
from tests.tracks import save_stream


@pytest.fixture(scope="module")
def streams(tones, tmp_path_factory) -> list[str]:
    """The test split as a positive stream with its events and two negative ones, as settings."""
    folder, rng = tmp_path_factory.mktemp("streams"), np.random.default_rng(1)

    def sounds(label: str) -> list[np.ndarray]:
        listed = [r for r in read(tones) if (r.label, r.split) == (label, Split.TEST)]
        return [soundfile.read(r.path, dtype="int16")[0] for r in listed]

    noise, speech = sounds("noise"), sounds("speech")
    save_stream(compose(sounds("beep") * 2, noise, rng, 1.0), folder / "p.flac", folder / "p.json")
    save_stream(compose(speech * 4, noise, rng, 0.3), folder / "n1.flac")
    save_stream(compose(speech * 3, noise, rng, 0.7), folder / "n2.flac")
    negative = f"[{folder}/n1.flac,{folder}/n2.flac]"
    return [f"positive={folder}/p.flac", f"events={folder}/p.json", f"negative={negative}"]


def figures(cli, detector: Path, out: Path, *words: str) -> dict[str, dict]:
    done = cli("evaluate", f"detector={detector}", f"out={out}", "threads=1", *words)
    assert done.code == 0, done.err
    return {outcome["keyword"]: outcome for outcome in json.loads(out.read_text())["outcomes"]}
