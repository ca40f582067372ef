"""Refresh: learned clips retire, forgotten ones become active, decisions of a user stand."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kws.data.audio import content_hash, to_int16
from kws.data.manifest import Source, Split
from kws.detector.clip_scores import score_clips
from kws.detector.detector import Detector
from kws.replay.buffer import Buffer, BufferClip, Decision, Kind, NewClip, State
from kws.replay.refresh import RefreshConfig, Refreshed, refresh, verdicts
from tests.nets import random_detector, sound
from tests.replay.clips import evicting

ROOM = Source("a1", "rooms/kitchen.wav", Split.TRAIN)
DETECTOR = random_detector(1)
CLIPS = [to_int16(sound(n, seed).numpy()) for seed, n in enumerate([4000, 4010, 6400, 4000, 3333, 8000])]
NAMES = [content_hash(pcm) for pcm in CLIPS]
SCORES, VECTORS = score_clips(DETECTOR, CLIPS)
COLUMN = DETECTOR.labels.index("computer")


def age(
    buffer: Buffer, detector: Detector, checkpoint: str, when: tuple[float, float, int, int], *others: Any
) -> Refreshed:
    """Refresh with `retire_below`, `return_above`, `recheck_retired` and the seed."""
    retire_below, return_above, recheck_retired, seed = when
    return refresh(
        buffer, detector, checkpoint, RefreshConfig(retire_below, recheck_retired), return_above, seed, *others
    )


NEVER = (0.0, 2.0, 0, 0)


def clips(keyword: str = "computer", score: float = 0.5, **others: object) -> list[NewClip]:
    return [
        replace(
            NewClip(
                pcm, Kind.false_trigger, keyword, ROOM, float(i), score, "old", "run", 1, embedding=np.ones(3, "f4")
            ),
            **others,
        )
        for i, pcm in enumerate(CLIPS)
    ]


def states(buffer: Buffer) -> dict[str, State]:
    return {row.hash: row.state for row in buffer.rows(None)}


def retire(buffer: Buffer, names: list[str]) -> None:
    buffer.rescored("run", 1, "old", {}, {}, dict.fromkeys(names, (State.retired, "solved")))


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    with Buffer(tmp_path / "buffer") as it:
        yield it


def test_every_clip_gets_a_new_score_and_embedding(buffer: Buffer) -> None:
    buffer.add(clips()[:4])
    buffer.add(clips("alexa")[4:5], {"alexa": 0.0})  # in quarantine, and scored there
    buffer.add(clips("gone")[5:])  # whatever it triggers now
    aged = age(buffer, DETECTOR, "new", NEVER, {"alexa": 0.0, "computer": 2.0, "gone": 2.0}, "run", 2)
    assert aged == Refreshed(scored=6, retired=0, returned=0, quarantined=0, released=0)
    now = [row.score_now for row in buffer.rows(None)]
    expected = [*SCORES[:4, COLUMN], SCORES[4, 1 - COLUMN], SCORES[5].max()]
    np.testing.assert_allclose(now, expected, atol=1e-6)
    assert [row.score for row in buffer.rows(None)] == [0.5] * 6
    kept = {
        line["hash"]: (line["checkpoint"], np.frombuffer(line["vector"], "<f4"))
        for line in buffer._index.read("SELECT * FROM embeddings")
    }
    for name, vector in zip(NAMES, VECTORS, strict=True):
        assert kept[name][0] == "new"
        np.testing.assert_allclose(kept[name][1], vector, atol=1e-5)
    assert [round_ for _, _, round_, _ in buffer.score_history()] == [2] * 6


def test_learned_clips_retire(buffer: Buffer) -> None:
    buffer.add(clips())
    scores = SCORES[:, COLUMN]
    bound = float(np.sort(scores)[2])  # which is not below itself
    assert age(buffer, DETECTOR, "new", (bound, 2.0, 0, 0), {}, "run", 1).retired == 0, "none was drawn yet"
    buffer.update(NAMES, [1.0] * 6, [1] * 6)
    aged = age(buffer, DETECTOR, "new", (bound, 2.0, 0, 0), {}, "run", 2)
    assert (aged.scored, aged.retired) == (6, 2)
    assert {n for n, state in states(buffer).items() if state is State.retired} == {
        NAMES[i] for i in scores.argsort()[:2]
    }
    assert all(row.reason.startswith("solved: scores 0.") for row in buffer.rows(State.retired))
    assert buffer.check() == []


def test_forgotten_clips_become_active(buffer: Buffer) -> None:
    buffer.add(clips())
    retire(buffer, NAMES)
    bound = float(np.sort(SCORES[:, COLUMN])[2])
    aged = age(buffer, DETECTOR, "new", (0.0, bound, 100, 0), {}, "run", 2)
    assert aged == Refreshed(scored=6, retired=0, returned=4, quarantined=0, released=0)
    back = {NAMES[i] for i in SCORES[:, COLUMN].argsort()[2:]}
    assert {n for n, state in states(buffer).items() if state is State.active} == back
    assert all(row.reason.startswith("forgotten: scores 0.") for row in buffer.rows())


def test_the_sample_of_retired_clips_depends_on_seed_and_round(tmp_path: Path) -> None:
    def scored(seed: int, round_: int, folder: str) -> set[str]:
        with Buffer(tmp_path / folder) as buffer:
            buffer.add(clips())
            retire(buffer, NAMES)
            assert age(buffer, DETECTOR, "new", (0.0, 2.0, 3, seed), {}, "run", round_).scored == 3
            return {clip for clip, *_ in buffer.score_history()}

    assert scored(0, 2, "a") == scored(0, 2, "b")
    drawn = {frozenset(scored(seed, round_, f"{seed}-{round_}")) for seed in (0, 1) for round_ in (2, 3, 4)}
    assert len(drawn) > 2
    assert all(len(one) == 3 for one in drawn)


def test_purged_and_rejected_clips_are_not_reactivated(buffer: Buffer) -> None:
    buffer.add(clips())
    retire(buffer, NAMES)
    buffer.decide([NAMES[0]], Decision.rejected)
    buffer.decide([NAMES[1]], Decision.released)
    retire(buffer, [NAMES[1]])  # released, and solved since
    buffer.path(NAMES[2]).unlink()  # its file was purged
    aged = age(buffer, DETECTOR, "new", (0.0, 0.0, 100, 0), {}, "run", 2)
    assert (aged.scored, aged.returned) == (5, 4), "the rejected clip is scored, and stays"
    assert {n for n, state in states(buffer).items() if state is State.retired} == {NAMES[0], NAMES[2]}


def test_suspect_clips_enter_and_leave_the_quarantine(buffer: Buffer) -> None:
    buffer.add(clips())
    retire(buffer, NAMES[:1])
    bound = float(np.sort(SCORES[:, COLUMN])[3])
    everything = (0.0, 0.0, 100, 0)
    aged = age(buffer, DETECTOR, "new", everything, {"computer": bound}, "run", 2)
    suspects = {NAMES[i] for i in SCORES[:, COLUMN].argsort()[3:]}
    assert {n for n, state in states(buffer).items() if state is State.quarantined} == suspects
    assert aged.quarantined == 3
    assert aged.returned == (NAMES[0] not in suspects)
    again = age(buffer, DETECTOR, "newer", everything, {"computer": bound}, "run", 3)
    assert (again.quarantined, again.released) == (0, 0)  # suspicion stands as long as the score does
    assert age(buffer, DETECTOR, "newest", everything, {"computer": 2.0}, "run", 4).released == 3
    assert set(states(buffer).values()) == {State.active}


def test_decisions_of_a_user_stand(buffer: Buffer) -> None:
    buffer.add(clips(text="computer"))
    buffer.decide(NAMES[:2], Decision.released)
    buffer.decide(NAMES[2:4], Decision.rejected)
    age(buffer, DETECTOR, "new", (0.0, 0.0, 100, 0), {"computer": 0.0}, "run", 2)
    assert [state.value for state in states(buffer).values()] == ["active"] * 2 + ["retired"] * 2 + ["quarantined"] * 2


def test_a_rollback_undoes_a_refresh(buffer: Buffer) -> None:
    buffer.add(clips())
    age(buffer, DETECTOR, "new", (0.0, 2.0, 0, 0), {}, "run", 2)
    before = buffer.rows(None)
    age(buffer, random_detector(2), "newer", (0.5, 2.0, 0, 0), {"computer": 0.6}, "run", 3)
    assert buffer.rows(None) != before
    buffer.rollback("run", 2)
    assert buffer.rows(None) == before
    assert buffer.check() == []


def test_an_empty_buffer_is_refreshed_without_effect(buffer: Buffer) -> None:
    assert age(buffer, DETECTOR, "new", (0.1, 0.5, 10, 0), {}, "run", 2) == Refreshed(0, 0, 0, 0, 0)


def test_reactivated_clips_beyond_the_capacity_are_evicted(tmp_path: Path) -> None:
    with Buffer(tmp_path / "b", evicting(capacity=2)) as buffer:
        for one in clips():
            buffer.add([one])
            retire(buffer, [content_hash(one.pcm)])
        aged = age(buffer, DETECTOR, "new", (0.0, 0.0, 100, 0), {}, "run", 2)
        assert aged.returned == 6
        assert {row.hash for row in buffer.rows()} == {NAMES[i] for i in SCORES[:, COLUMN].argsort()[-2:]}


@pytest.fixture
def row(buffer: Buffer) -> BufferClip:
    buffer.add(clips()[:1])
    buffer.update(NAMES[:1], [1.0], [1])
    return buffer.rows()[0]


ACTIVE, QUARANTINED, RETIRED = State.active, State.quarantined, State.retired
NONE, RELEASED, REJECTED = Decision.none, Decision.released, Decision.rejected


@pytest.mark.parametrize(
    ("state", "decision", "score", "to"),
    [
        (ACTIVE, NONE, 0.05, RETIRED),
        (ACTIVE, NONE, 0.1, None),
        (ACTIVE, NONE, 0.8, QUARANTINED),
        (ACTIVE, RELEASED, 0.8, None),
        (ACTIVE, RELEASED, 0.05, RETIRED),
        (RETIRED, NONE, 0.29, None),
        (RETIRED, NONE, 0.3, ACTIVE),
        (RETIRED, NONE, 0.8, QUARANTINED),
        (RETIRED, RELEASED, 0.8, ACTIVE),
        (RETIRED, REJECTED, 0.5, None),
        (RETIRED, REJECTED, 0.8, None),
        (QUARANTINED, NONE, 0.8, None),
        (QUARANTINED, NONE, 0.79, ACTIVE),
        (QUARANTINED, NONE, 0.0, ACTIVE),
    ],
)
def test_new_states_by_score(row: BufferClip, state: State, decision: Decision, score: float, to: State | None) -> None:
    moves = verdicts([replace(row, state=state, decision=decision)], [score], 0.1, 0.3, {"computer": 0.8})
    assert [state for state, _ in moves.values()] == ([] if to is None else [to])


def test_a_clip_that_was_never_sampled_does_not_retire(row: BufferClip) -> None:
    assert verdicts([replace(row, times_drawn=0)], [0.0], 0.1, 0.3, {}) == {}
