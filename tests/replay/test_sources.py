"""The recordings that are audible in a clip."""

from pathlib import Path

import numpy as np
import pytest

from kws.common.errors import LeakError
from kws.data.audio_cache import Entry
from kws.data.manifest import Recording, Source, Split
from kws.replay.buffer import Buffer, Kind, NewClip
from kws.replay.sources import others_of, source_of, sources_of

PARTS = tuple(Source(name, f"{name}.flac", Split.TRAIN) for name in ("one", "two"))


def spliced() -> Entry:
    """A recording that is spliced from two others."""
    return Entry(Recording(Path("a"), "a", "speech", Split.TRAIN, made_of=PARTS), "own", 0, 100)


def test_the_recordings_that_a_clip_is_spliced_from_are_audible_in_it():
    entry = spliced()
    assert sources_of(entry) == [Source("own", "a", Split.TRAIN), *PARTS]
    assert others_of([entry], entry) == PARTS


def test_a_buffer_refuses_a_clip_spliced_from_a_recording_that_is_held_out(tmp_path: Path):
    entry, pcm = spliced(), np.arange(800, dtype=np.int16)
    mixed = others_of([entry], entry)
    mined = NewClip(pcm, Kind.false_trigger, "computer", source_of(entry), 0.0, 0.5, "", "run", 1, mixed_with=mixed)
    with Buffer(tmp_path / "buffer") as buffer:
        buffer.hold_out([Source("two", "two.flac", Split.VALIDATION)])
        with pytest.raises(LeakError, match=r"two\.flac"):
            buffer.admit(sources_of(entry))
        with pytest.raises(LeakError, match=r"two\.flac"):
            buffer.add([mined])
        assert len(buffer) == 0
