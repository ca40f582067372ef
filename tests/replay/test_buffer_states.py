"""States of the clips of a buffer: near-duplicates, limits, decisions of a user, rollback."""

import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data.audio import content_hash
from kws.data.manifest import Source, Split
from kws.replay.buffer import Added, Buffer, Decision, Kind, NewClip, State
from kws.replay.dedup import DuplicatesConfig
from kws.replay.eviction import RULES, EvictionConfig
from kws.replay.records import SPAN_S
from tests.replay.clips import evicting

RATE = 1000
ROOM, HALL = Source("a1", "rooms/kitchen.wav", Split.TRAIN), Source("b2", "rooms/hall.wav", Split.TRAIN)


def sound(number: int, n_samples: int = 40) -> np.ndarray:
    """A clip of its own for each number."""
    return np.full(n_samples, number, np.int16)


def name(number: int, n_samples: int = 40) -> str:
    return content_hash(sound(number, n_samples))


def found(number: int, score: float | None = 0.5, run: str = "run", round_: int = 1, source: Source = ROOM) -> NewClip:
    """Clip `number` starts at second `number`, so that no two overlap."""
    pcm = sound(number)
    return NewClip(pcm, Kind.false_trigger, "computer", source, float(number), score, "weights", run, round_)


def like(number: int, *embedding: float, checkpoint: str = "weights", score: float = 0.5) -> NewClip:
    return replace(found(number, score), embedding=np.array(embedding, np.float32), checkpoint=checkpoint)


def at(number: int, start_s: float, score: float = 0.5, source: Source = ROOM) -> NewClip:
    """40 ms of a recording from `start_s`."""
    return replace(found(number, score, source=source), offset_s=start_s)


def states(buffer: Buffer) -> dict[str, State]:
    return {row.hash: row.state for row in buffer.rows(None)}


def move(buffer: Buffer, number: int, state: State, run: str = "run", round_: int = 1) -> None:
    buffer.rescored(run, round_, "weights", {}, {}, {name(number): (state, "for the test")})


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Buffer]]:
    opened: list[Buffer] = []

    def open_(limits: EvictionConfig | None = None, overlap: float = 2.0, cosine: float = 2.0) -> Buffer:
        opened.append(Buffer(tmp_path / "buffer", limits, RATE, DuplicatesConfig(overlap, cosine)))
        return opened[-1]

    yield open_
    for buffer in opened:
        buffer.close()


# Near-duplicates


def test_overlapping_clips_are_refused_and_counted(make: Callable[..., Buffer]) -> None:
    buffer = make(overlap=0.5)
    buffer.add([at(1, 10.0)])
    beside = [at(2, 10.020), at(3, 9.979), at(4, 10.020, source=HALL)]  # half of it, a ms less, elsewhere
    assert buffer.add(beside) == Added([name(3), name(4)], 0, [], near=1)
    assert name(2) not in states(buffer)
    assert not buffer.path(name(2)).exists()
    assert buffer.check() == []


def test_without_duplicate_thresholds_only_equal_audio_is_refused(make: Callable[..., Buffer]) -> None:
    buffer = make()
    buffer.add([replace(like(1, 1, 0), offset_s=0.0)])
    assert len(buffer.add([replace(like(2, 1, 0), offset_s=0.001)]).new) == 1


def test_of_two_near_duplicates_the_harder_is_added(make: Callable[..., Buffer]) -> None:
    buffer = make(overlap=0.5)
    assert buffer.add([at(1, 10.0, 0.3), at(2, 10.01, 0.8)]) == Added([name(2)], 0, [], near=1)
    never_scored = replace(at(4, 20.01), score=None)
    assert buffer.add([at(3, 20.0, 0.99), never_scored]).new == [name(4)]
    assert buffer.add([at(5, 10.0, 0.9)]).near == 1  # but what is in stays


def test_a_chain_of_overlaps_is_thinned_from_the_hardest_clip(make: Callable[..., Buffer]) -> None:
    buffer = make(overlap=0.5)
    chain = [at(i, 10 + 0.02 * i, score) for i, score in enumerate([0.1, 0.9, 0.2, 0.5, 0.4])]
    assert sorted(buffer.add(chain).new) == sorted([name(1), name(3)])


def test_equal_embeddings_of_one_checkpoint_are_refused(make: Callable[..., Buffer]) -> None:
    buffer = make(cosine=0.99)
    buffer.add([like(1, 3, 4)])
    assert buffer.add([like(2, 6, 8), like(3, 4, 3)]) == Added([name(3)], 0, [], near=1)
    assert buffer.add([like(4, 3, 4, checkpoint="later")]).new == [name(4)]
    assert buffer.add([found(5)]).new == [name(5)]  # nobody asked what it sounds like


def test_embeddings_of_several_checkpoints_in_a_batch_are_not_compared(make: Callable[..., Buffer]) -> None:
    buffer = make(cosine=0.99)
    user = replace(found(9, None), checkpoint="", kind=Kind.user)  # preferred, and without an embedding
    batch = [user, like(1, 1, 0, score=0.9), like(2, 1, 0, checkpoint="later", score=0.8), like(3, 1, 0)]
    assert set(buffer.add(batch).new) == {name(1), name(2), name(9)}


def test_the_latest_checkpoint_replaces_the_embedding_of_a_clip(make: Callable[..., Buffer]) -> None:
    buffer = make(cosine=0.99)
    buffer.add([like(1, 1, 0)])
    buffer.rescored("run", 2, "later", {name(1): 0.5}, {name(1): np.array([0, 1], np.float32)}, {})
    assert buffer.add([like(2, 1, 0), like(3, 0, 1)]).near == 0
    assert buffer.add([like(4, 0, 2, checkpoint="later")]).near == 1


@pytest.mark.parametrize("by", ["overlap", "embedding"])
@pytest.mark.parametrize(
    ("state", "comes_in"),
    [(State.quarantined, False), (State.evicted, True), (State.retired, True), ("rejected", False)],
)
def test_the_state_of_a_clip_decides_whether_its_near_duplicates_are_refused(
    make: Callable[..., Buffer], by: str, state: State | str, comes_in: bool
) -> None:
    buffer = make(evicting(capacity=1), overlap=0.5, cosine=0.99)
    buffer.add([replace(like(1, 1, 0), offset_s=10.0)])
    if state == State.evicted:
        buffer.add([found(7, 0.9)])
    elif state == "rejected":
        buffer.decide([name(1)], Decision.rejected)
    else:
        move(buffer, 1, State(state))
    assert states(buffer)[name(1)] == (State.retired if state == "rejected" else state)
    repetition = at(2, 10.001, 0.95) if by == "overlap" else like(2, 2, 0, score=0.95)
    added = buffer.add([repetition])
    assert (added.new == [name(2)], added.near == 1) == (comes_in, not comes_in)
    assert buffer.check() == []


# Limits and eviction


@pytest.mark.parametrize("state", [State.active, State.quarantined])
@pytest.mark.parametrize(
    ("limits", "stay"),
    [
        (evicting(capacity=2), {2, 5}),
        (evicting(capacity=9, hours=0.08 / 3600), {2, 5}),
        (evicting(capacity=9, max_per_recording=1), {2, 5}),
        (evicting(capacity=4, quota={"false_trigger": 0.25}), {2, 4, 5}),
    ],
)
def test_each_limit_holds_for_active_and_for_quarantined_clips(
    make: Callable[..., Buffer], state: State, limits: EvictionConfig, stay: set[int]
) -> None:
    buffer = make(limits)
    suspect = {"computer": 0.0} if state is State.quarantined else {}
    kinds = [Kind.false_trigger, Kind.false_trigger, Kind.batch_hard, Kind.batch_hard]
    scores = [0.2, 0.8, 0.1, 0.6]
    batch = [
        replace(found(i, score, source=ROOM if i < 5 else HALL), kind=kind)
        for i, (kind, score) in zip((1, 2, 4, 5), zip(kinds, scores, strict=True), strict=True)
    ]
    added = buffer.add(batch[:2], suspect), buffer.add(batch[2:], suspect)
    assert {row.hash for row in buffer.rows(state)} == {name(i) for i in stay}
    assert {clip for one in added for clip in one.evicted} == {name(i) for i in {1, 2, 4, 5} - stay}
    assert {row.state for row in buffer.rows(None)} == {state, State.evicted}


def test_quarantined_clips_do_not_count_against_the_capacity_of_active_ones(make: Callable[..., Buffer]) -> None:
    buffer = make(evicting(capacity=2))
    buffer.add([found(i, i / 10) for i in range(1, 10)], {"computer": 0.55})
    assert [row.hash for row in buffer.rows()] == [name(4), name(5)]
    assert [row.hash for row in buffer.rows(State.quarantined)] == [name(8), name(9)]


def test_reactivated_clips_count_against_the_limits(make: Callable[..., Buffer]) -> None:
    buffer = make(evicting(capacity=2))
    buffer.add([found(1), found(2)])
    move(buffer, 1, State.retired)
    buffer.add([found(3, 0.7)])
    scores = {name(1): 0.9, name(2): 0.4, name(3): 0.6}
    buffer.rescored("run", 2, "later", scores, {}, {name(1): (State.active, "forgotten")})
    assert states(buffer) == {name(1): State.active, name(2): State.evicted, name(3): State.active}


def test_balanced_eviction_keeps_equally_many_clips_of_each_cluster(make: Callable[..., Buffer]) -> None:
    buffer = make(evicting(capacity=10, eviction="balanced"))
    common = [like(i, 0, i / 100, score=0.9) for i in range(30)]
    rare = [like(i, 100, i / 100, score=0.1) for i in range(30, 35)]
    buffer.add(common[:20] + rare)
    buffer.add(common[20:])
    assert Counter(row.score for row in buffer.rows()) == {0.9: 5, 0.1: 5}


def test_balanced_eviction_uses_the_checkpoint_of_most_embeddings(make: Callable[..., Buffer]) -> None:
    buffer = make(evicting(capacity=10, eviction="balanced"))
    old = [like(i, i, 1, checkpoint="old", score=0.0) for i in range(100, 160)]
    assert len(buffer.add(old).evicted) == 50
    common = [like(i, 0, i / 100, checkpoint="new", score=0.9) for i in range(30)]
    rare = [like(i, 100, i / 100, checkpoint="new", score=0.1) for i in range(30, 35)]
    for clips in (common, rare):
        buffer.add(clips)
    buffer.add(rare)
    kept = Counter(row.score for row in buffer.rows())
    assert kept.total() == 10
    assert min(kept[0.9], kept[0.1]) >= 3, "clips without an embedding by that checkpoint form another cluster"


@settings(max_examples=20, deadline=None)
@given(
    limits=st.builds(
        evicting,
        capacity=st.integers(1, 6),
        hours=st.none() | st.floats(0.05, 0.3).map(lambda s: s / 3600),
        quota=st.dictionaries(st.sampled_from(Kind), st.floats(0, 1)),
        max_per_recording=st.none() | st.integers(1, 3),
        eviction=st.sampled_from([*RULES]),
    ),
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10), st.sampled_from(Kind)), max_size=6), max_size=4
    ),
)
def test_all_limits_hold_after_every_batch(limits: EvictionConfig, batches: list[list[tuple[int, int, Kind]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, Buffer(Path(folder), limits, RATE) as buffer:
        for round_, batch in enumerate(batches):
            buffer.add(
                [
                    replace(found(i, s / 10, round_=round_, source=(ROOM, HALL)[i % 2]), kind=kind)
                    for i, s, kind in batch
                ],
                {"computer": 0.6},
            )
            for state in (State.active, State.quarantined):
                rows = buffer.rows(state)
                assert len(rows) <= limits.capacity
                assert sum(row.n_samples for row in rows) / RATE / 3600 <= (limits.hours or math.inf)
                spans = Counter((row.source, row.offset_s // SPAN_S) for row in rows)
                assert all(n <= (limits.max_per_recording or math.inf) for n in spans.values())
                kinds = Counter(row.kind for row in rows)
                assert all(kinds[Kind(k)] <= share * limits.capacity + 1e-6 for k, share in limits.quotas().items())
            assert buffer.check() == []


# Decisions of a user


def test_a_released_clip_is_active_and_a_rejected_one_retired(make: Callable[..., Buffer]) -> None:
    buffer = make()
    buffer.add([found(i) for i in (1, 2, 3)])
    move(buffer, 1, State.quarantined)
    assert buffer.decide([name(1), name(2)], Decision.released) == 1
    assert buffer.decide([name(3)], Decision.rejected) == 1
    rows = {row.hash: (row.state, row.decision, row.reason) for row in buffer.rows(None)}
    released = (State.active, Decision.released, "released by a user")
    assert rows == {
        name(1): released,
        name(2): released,
        name(3): (State.retired, Decision.rejected, "rejected by a user"),
    }
    assert buffer.decide([name(3)], Decision.released) == 1  # the latest decision counts
    assert states(buffer)[name(3)] is State.active


def test_a_decision_that_is_not_possible_changes_nothing(make: Callable[..., Buffer]) -> None:
    buffer = make(evicting(capacity=1))
    buffer.add([found(1, 0.4)])
    buffer.add([found(2)])
    buffer.purge()
    with pytest.raises(KwsError, match=f"no clip {name(9)}"):
        buffer.decide([name(2), name(9)], Decision.rejected)
    with pytest.raises(KwsError, match="its file was deleted"):
        buffer.decide([name(1)], Decision.released)
    assert [(row.state, row.decision) for row in buffer.rows(None)] == [
        (State.evicted, Decision.none),
        (State.active, Decision.none),
    ]
    assert buffer.decide([name(1)], Decision.rejected) == 1
    assert buffer.check() == []


def test_a_rejected_clip_never_comes_back(make: Callable[..., Buffer]) -> None:
    buffer = make()
    buffer.add([found(1)])
    buffer.decide([name(1)], Decision.rejected)
    assert buffer.add([found(1, 0.9, round_=2)]) == Added([], 1, [])
    assert buffer.add([found(1, 0.9, "other")]) == Added([], 1, [])
    for state in State:
        move(buffer, 1, state)
        assert states(buffer) == {name(1): State.retired}
    assert buffer.check() == []


def test_changes_by_others_during_a_refresh_stand(make: Callable[..., Buffer]) -> None:
    buffer = make(evicting(capacity=4))
    buffer.add([found(i, 0.1 * i) for i in (1, 2, 3, 4)])
    buffer.add([found(9, 0.01, "other", 1)])
    listened = {row.hash: 0.5 for row in buffer.rows(None)} | {name(8): 0.5}
    # Meanwhile one is evicted, one rejected, one released, one retired and its file deleted, one rolled back.
    buffer.decide([name(2)], Decision.rejected)
    buffer.decide([name(3)], Decision.released)
    move(buffer, 4, State.retired)
    buffer.purge(retired=True)
    buffer.add([found(i, 0.9, round_=2) for i in (5, 6, 7)])
    buffer.rollback("other", 0)
    before = states(buffer)
    assert before == {
        name(1): State.evicted,
        name(2): State.retired,
        name(3): State.active,
        name(4): State.retired,
        **{name(i): State.active for i in (5, 6, 7)},
    }
    moves = {
        name(1): (State.active, ""),
        name(2): (State.active, ""),
        name(3): (State.quarantined, "suspect"),
        name(4): (State.active, "forgotten"),
        name(9): (State.retired, "solved"),
    }
    vectors = dict.fromkeys(listened, np.ones(2, np.float32))
    buffer.rescored("run", 2, "later", listened, vectors, moves)
    assert states(buffer) == before
    assert buffer.check() == []


# Rollback


def test_a_rollback_leaves_decisions_alone(make: Callable[..., Buffer]) -> None:
    buffer = make()
    buffer.add([found(i, round_=1) for i in (1, 2, 3)])
    for i, state in ((1, State.retired), (2, State.quarantined), (3, State.retired)):
        move(buffer, i, state, round_=2)
    buffer.add([found(i, round_=2) for i in (4, 5, 6)])
    buffer.decide([name(1), name(4)], Decision.rejected)  # 1 was out already
    buffer.decide([name(2), name(5)], Decision.released)  # 5 was active already
    move(buffer, 2, State.retired, round_=3)
    decided = {row.hash: row.decision for row in buffer.rows(None) if row.decision}
    buffer.rollback("run", 1)
    assert {row.hash: row.decision for row in buffer.rows(None) if row.decision} == decided
    assert states(buffer) == {
        name(1): State.retired,
        name(2): State.active,
        name(3): State.active,
        name(4): State.retired,  # found in round 2 only, but rejected by a user
        name(5): State.active,
    }
    assert buffer.check() == []
    buffer.rollback("run", 0)
    assert states(buffer)[name(4)] is State.retired
    assert buffer.add([found(4), found(1)]) == Added([], 2, [])
    assert buffer.check() == []


def test_a_rollback_keeps_a_clip_that_another_run_found_in_its_state(make: Callable[..., Buffer]) -> None:
    buffer = make()
    buffer.add([found(1, 0.9, "killed", 1), found(2, 0.5, "killed", 1)], {"computer": 0.8})
    buffer.add([found(1, 0.9, "other", 1), found(2, 0.5, "other", 1)])
    buffer.rollback("killed", 0)
    assert states(buffer) == {name(1): State.quarantined, name(2): State.active}
    assert buffer.check() == []
    buffer.rollback("other", 0)
    assert states(buffer) == {}


@pytest.mark.parametrize("out", [State.evicted, State.retired])
def test_a_rollback_keeps_a_reactivated_clip_that_another_run_found(make: Callable[..., Buffer], out: State) -> None:
    buffer = make(evicting(capacity=1))
    buffer.add([found(1, 0.1, "old")])
    if out is State.retired:
        move(buffer, 1, out, "old")
    buffer.add([found(2, 0.3, "old")])  # evicts 1 where it is still there
    buffer = make(evicting(capacity=2))
    assert states(buffer) == {name(1): out, name(2): State.active}
    buffer.add([found(1, 0.5, "killed", 1)])
    buffer.add([found(1, 0.5, "other", 1)])
    buffer.rollback("killed", 0)
    assert states(buffer) == {name(1): State.active, name(2): State.active}
    assert buffer.check() == []
    buffer.rollback("other", 0)
    assert states(buffer) == {name(1): out, name(2): State.active}


def test_a_rollback_restores_scores_and_keeps_those_of_other_runs(make: Callable[..., Buffer]) -> None:
    buffer = make()
    buffer.add([found(1, 0.5), found(2, 0.5)])

    def rescore(run: str, round_: int, scores: Mapping[int, float]) -> None:
        buffer.rescored(run, round_, "weights", {name(i): s for i, s in scores.items()}, {}, {})

    rescore("run", 2, {1: 0.4, 2: 0.4})
    rescore("other", 1, {1: 0.3})
    rescore("run", 3, {1: 0.2, 2: 0.2})
    buffer.rollback("run", 2)
    assert [row.score_now for row in buffer.rows()] == [0.3, 0.4]
    buffer.rollback("run", 1)
    assert [row.score_now for row in buffer.rows()] == [0.3, None]
    assert buffer.score_history() == [(name(1), "other", 1, 0.3)]
    assert buffer.check() == []


OPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "rescore", "release", "reject"]),
        st.sampled_from(["killed", "other"]),
        st.sets(st.integers(0, 6), min_size=1, max_size=3),
        st.sampled_from([State.active, State.quarantined, State.retired]),
        st.integers(0, 10),
    ),
    max_size=12,
)


NEAR = DuplicatesConfig(0.5, 2.0)


@settings(max_examples=30, deadline=None)
@given(ops=OPS, clips=st.integers(1, 4), to=st.integers(-1, 12))
def test_a_rollback_keeps_changes_by_other_runs_and_users(
    ops: list[tuple[str, str, set[int], State, int]], clips: int, to: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, Buffer(Path(folder), evicting(clips), RATE, NEAR) as buffer:
        others_found = set()
        for round_, (what, run, numbers, state, tenths) in enumerate(ops):
            score = tenths / 10
            here = [name(i) for i in numbers if name(i) in states(buffer)]
            if what == "add":
                added = buffer.add([found(i, score, run, round_) for i in numbers], {"computer": 0.8})
                if run == "other":
                    others_found |= set(added.new)
            elif what == "rescore":
                moves = dict.fromkeys(here, (state, "scored"))
                buffer.rescored(run, round_, "weights", dict.fromkeys(here, score), {}, moves)
            else:
                buffer.decide(here, Decision.released if what == "release" else Decision.rejected)
        before = {row.hash: row.decision for row in buffer.rows(None)}
        others_scores = [line for line in buffer.score_history() if line[1] == "other"]
        buffer.rollback("killed", to)
        after = {row.hash: row for row in buffer.rows(None)}
        assert others_found <= after.keys()
        assert {clip for clip, decision in before.items() if decision} <= after.keys()
        for clip, row in after.items():
            assert row.decision is before[clip]
            assert row.decision is not Decision.rejected or row.state is State.retired
            assert row.decision is not Decision.released or row.state is not State.quarantined
        history = buffer.score_history()
        assert [line for line in history if line[1] == "other"] == [line for line in others_scores if line[0] in after]
        assert not [line for line in history if line[1] == "killed" and line[2] > to]
        assert len(buffer) <= clips
        assert buffer.check() == []
        again = buffer.rows(None)
        assert buffer.rollback("killed", to) == 0
        assert buffer.rows(None) == again


# The check


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("UPDATE clips SET state = 'retired'", "state=retired: must be active by its history"),
        ("DELETE FROM history", "state=active: must be None by its history"),
        ("UPDATE clips SET score_now = 0.1", "score_now=0.1: must be 0.4 by its history"),
        ("UPDATE origins SET hash = 'x'", "origins: row 1 belongs to no clip"),
        ("DROP INDEX state_of; CREATE INDEX state_of ON clips (reason)", ""),
    ],
)
def test_the_check_finds_an_index_that_contradicts_itself(
    make: Callable[..., Buffer], damage: str, complaint: str
) -> None:
    buffer = make()
    buffer.add([found(1)])
    buffer.rescored("run", 2, "later", {name(1): 0.4}, {}, {})
    buffer._index._db.execute("PRAGMA foreign_keys = OFF")
    buffer._index._db.executescript(damage)
    problems = buffer.check()
    assert len(problems) == bool(complaint)
    assert all(complaint in line and "index.sqlite" in line for line in problems)


def test_the_check_finds_a_damaged_database(tmp_path: Path) -> None:
    with Buffer(tmp_path / "b") as buffer:
        buffer.add([found(i) for i in range(40)])
        db = buffer._index._db
        (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'origins_in'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with (tmp_path / "b" / "index.sqlite").open("r+b") as file:
        file.seek((page - 1) * size + size // 2)
        file.write(bytes(size // 2))
    with Buffer(tmp_path / "b") as buffer:
        assert any("origins_in" in line for line in buffer.check())
