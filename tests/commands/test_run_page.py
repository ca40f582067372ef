"""The page of a run: whether replay helped, and the hardest clips of the buffer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from kws.commands.run_page import hardest_clips, replay_note
from kws.data.audio import to_int16
from kws.data.manifest import Source, Split
from kws.replay.buffer import Buffer, Kind, NewClip
from tests.nets import random_detector, sound

ROOM = Source("a1", "<rooms>/kitchen.wav", Split.TRAIN)


def settings(root: str | None) -> Any:
    return SimpleNamespace(data=SimpleNamespace(root=root))


def test_one_run_names_the_commands_that_compare() -> None:
    given = ["recipe=wake_word", "keyword=okay garden", "out=runs/a", "replay.share=0.05"]
    note = replay_note(settings("my data"), given, Path("runs/a"), "keywords 55%, replayed 14% (10% of the rows)", "")
    assert "replayed 14%" in note.text
    assert "cannot show what replay changes" in note.text
    assert note.commands == [
        "kws train recipe=wake_word 'keyword=okay garden' replay.share=0 out=runs/a-without-replay",
        "kws evaluate 'compare=[runs/a/model.pt,runs/a-without-replay/model.pt]' "
        "'data.root=my data' report=replay.html",
    ]
    assert "negative=RADIO/" in replay_note(settings(None), given, Path("runs/a"), "replayed 14%", "").commands[1]


def test_a_run_without_replay_claims_nothing() -> None:
    note = replay_note(settings("d"), [], Path("a"), "", "Ship it: fewer misses.")
    assert "replayed no clip" in note.text
    assert "Ship it: fewer misses." in note.text
    assert not note.commands


def test_the_hardest_clips_are_those_with_the_highest_latest_scores(tmp_path: Path) -> None:
    detector = random_detector()
    clips = [to_int16(sound(16000, seed).numpy()) for seed in range(4)]
    scores = [0.3, 0.9, None, 0.6]
    with Buffer(tmp_path / "buffer") as buffer:
        found = [
            NewClip(pcm, Kind.false_trigger, "computer", ROOM, 1.5, score, "weights", "run", 1)
            for pcm, score in zip(clips, scores, strict=True)
        ]
        short = NewClip(np.ones(40, np.int16), Kind.user, "computer", ROOM, 9.0, 0.99, "weights", "run", 1)
        buffer.add([*found, short])
        (gallery,) = hardest_clips(buffer, detector, 6)
    assert gallery.title == "computer: hardest clips of the replay buffer"
    (column,) = gallery.columns
    assert column.total == 5
    assert [np.array_equal(one.pcm, clips[i]) for one, i in zip(column.examples, (1, 3), strict=True)] == [True, True]
    times, track = column.examples[0].tracks["detector"]
    assert column.examples[0].score == pytest.approx(track.max())
    assert len(times) == 50, "a row each 20 ms"
    assert "0:00:01.5, <rooms>/kitchen.wav, false trigger, scored 0.900" in column.examples[0].description
