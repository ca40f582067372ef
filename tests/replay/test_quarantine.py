"""Quarantine: clips that score like the keyword or contain it are not sampled until they are released."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kws.data.audio import content_hash
from kws.data.manifest import Source, Split
from kws.data.transcripts import Match
from kws.replay.buffer import Added, Buffer, Decision, Kind, NewClip, State
from kws.replay.quarantine import suspicion
from kws.replay.refresh import verdicts
from tests.replay.clips import evicting

ROOM = Source("a1", "rooms/kitchen.wav", Split.TRAIN)
FROM = {"computer": 0.8, "alexa": 0.9}


def found(
    number: int, score: float | None, kind: Kind = Kind.false_trigger, text: str = "", round_: int = 1
) -> NewClip:
    pcm = np.full(40, number, np.int16)
    return NewClip(pcm, kind, "computer", ROOM, float(number), score, "weights", "run", round_, text=text)


def name(number: int) -> str:
    return content_hash(np.full(40, number, np.int16))


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    with Buffer(tmp_path / "buffer") as it:
        yield it


@pytest.mark.parametrize(
    ("kind", "keyword", "text", "score", "why"),
    [
        (Kind.false_trigger, "computer", "", 0.8, "scores 0.800, suspect from 0.800"),
        (Kind.false_trigger, "computer", "", 0.799, ""),
        (Kind.false_trigger, "computer", "", None, ""),
        (Kind.batch_hard, "alexa", "", 0.89, ""),
        (Kind.neighbour, "alexa", "", 0.9, "scores 0.900, suspect from 0.900"),
        (Kind.neighbour, "unknown", "", 0.89, ""),  # the highest limit holds
        (Kind.neighbour, "unknown", "", 0.9, "scores 0.900, suspect from 0.900"),
        (Kind.user, "computer", "", 1.0, ""),
        (Kind.confusable, "computer", "", 1.0, ""),
        (Kind.false_trigger, "computer", "my Computer, please", 0.1, "its text says computer"),
        (Kind.false_trigger, "computer", "two computers", None, "its text says computer"),
        (Kind.user, "computer", "computer", 0.1, "its text says computer"),
        (Kind.confusable, "computer", "computer says no", 1.0, ""),
        (Kind.false_trigger, "computer", "commuter", 0.1, ""),
    ],
)
def test_suspicion_by_text_and_score(kind: Kind, keyword: str, text: str, score: float | None, why: str) -> None:
    assert suspicion(kind, keyword, text, score, FROM) == why


def test_text_with_any_keyword_of_the_run_is_suspect() -> None:
    text = "alexa, is the computer on?"
    assert suspicion(Kind.user, "jarvis", text, None, {}) == ""
    assert suspicion(Kind.user, "jarvis", text, None, {}, ["alexa", "computer"]) == "its text says alexa"
    assert suspicion(Kind.confusable, "jarvis", text, None, {}, ["alexa"]) == ""


def test_without_limits_only_the_text_counts() -> None:
    assert suspicion(Kind.false_trigger, "computer", "", 1.0, {}) == ""
    assert suspicion(Kind.false_trigger, "computer", "computer", 0.0, {}) == "its text says computer"


def test_suspect_clips_are_stored_but_not_sampled(buffer: Buffer) -> None:
    batch = [
        found(1, 0.85),
        found(2, 0.75),
        found(3, 0.2, text="computer"),
        found(4, 1.0, Kind.user),
        found(5, 1.0, Kind.confusable, "computer"),
        found(6, 0.2, Kind.user, "computer"),
    ]
    suspect = [name(1), name(3), name(6)]
    assert buffer.add(batch, FROM) == Added([name(i) for i in range(1, 7)], 0, [], quarantined=suspect)
    assert [row.hash for row in buffer.rows(State.quarantined)] == suspect
    assert buffer.rows(State.quarantined)[0].reason == "scores 0.850, suspect from 0.800"
    assert buffer.samplable().hash == [name(2), name(4), name(5)]
    np.testing.assert_array_equal(buffer.audio(name(1)), found(1, 0).pcm)  # a user can listen
    assert len(buffer) == len(buffer.rows(State.quarantined)) == 3
    assert buffer.check() == []


def test_a_buffer_searches_texts_for_the_forms_that_the_user_asks_for(tmp_path: Path) -> None:
    batch = [found(1, 0.1, text="ein Computerspiel"), found(2, 0.1, text="ein Spiel")]
    with Buffer(tmp_path / "word") as buffer:
        assert buffer.add(batch).quarantined == []
    with Buffer(tmp_path / "word", match=Match.prefix) as buffer:
        assert buffer.samplable(saying=["computer"]).hash == [name(2)], "a buffer of an earlier run"
        rows = buffer.rows()
        assert verdicts(rows, [0.1, 0.1], 0.0, 1.0, {}, ["computer"], buffer.match) == {
            name(1): (State.quarantined, "its text says computer")
        }
    with Buffer(tmp_path / "prefix", match=Match.prefix) as buffer:
        assert buffer.add(batch).quarantined == [name(1)]


def test_a_quarantined_clip_that_is_found_again_stays_there(buffer: Buffer) -> None:
    buffer.add([found(1, 0.85)], FROM)
    assert buffer.add([found(1, 0.1, round_=2)], FROM) == Added([], 1, [])
    assert [row.hash for row in buffer.rows(State.quarantined)] == [name(1)]


def test_a_released_clip_is_never_quarantined_again(tmp_path: Path) -> None:
    with Buffer(tmp_path / "b", evicting(capacity=1)) as buffer:
        buffer.add([found(1, 0.85, text="computer")], FROM)
        buffer.decide([name(1)], Decision.released)
        buffer.rescored("run", 2, "weights", {name(1): 0.99}, {}, {name(1): (State.quarantined, "suspect")})
        assert [row.hash for row in buffer.rows()] == [name(1)]
        buffer.rescored("run", 3, "weights", {name(1): 0.1}, {}, {name(1): (State.retired, "solved")})
        assert buffer.add([found(1, 0.95, text="computer", round_=4)], FROM).quarantined == []
        assert [row.hash for row in buffer.rows()] == [name(1)]
        buffer.rescored("run", 5, "weights", {name(1): 0.1}, {}, {})
        assert buffer.add([found(2, 0.5, round_=5)]).evicted == [name(1)]
        assert buffer.add([found(1, 0.99, text="computer", round_=6)], FROM).quarantined == []
        assert [row.hash for row in buffer.rows()] == [name(1)]


def test_a_rejected_clip_counts_as_known_when_found_again(buffer: Buffer) -> None:
    buffer.add([found(1, 0.85)], FROM)
    buffer.decide([name(1)], Decision.rejected)
    assert buffer.add([found(1, 0.3, round_=2), replace(found(2, 0.3, round_=2))]) == Added([name(2)], 1, [])
    (row,) = buffer.rows(State.retired)
    assert (row.hash, row.decision, row.reason) == (name(1), Decision.rejected, "rejected by a user")
