"""The replay buffer: adding, eviction, rollback, purge, kills and a full disk."""

import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError, LeakError
from kws.data.audio import content_hash, save_flac
from kws.data.manifest import Source, Split
from kws.replay import storage
from kws.replay.buffer import Added, Buffer, BufferClip, Decision, Kind, NewClip, State
from kws.replay.dedup import DuplicatesConfig
from kws.replay.eviction import RULES, EvictionConfig
from tests import ROOT
from tests.replay.clips import evicting

ROOM = Source("a1", "rooms/kitchen.wav", Split.TRAIN)
FAN = Source("b2", "noise/fan.wav", Split.TRAIN)


def sound(number: int) -> np.ndarray:
    """A clip of its own for each number."""
    return np.full(40, number, np.int16)


def name(number: int) -> str:
    return content_hash(sound(number))


def found(number: int, run: str = "run", round_: int = 1, source: Source = ROOM, score: float = 0.5) -> NewClip:
    return NewClip(sound(number), Kind.false_trigger, "computer", source, 1.5, score, "weights", run, round_)


def everything(buffer: Buffer) -> tuple[list[BufferClip], list[str]]:
    return buffer.rows(None), sorted(path.name for path in buffer.folder.glob("clips/*/*"))


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    with Buffer(tmp_path / "buffer", evicting(capacity=3)) as it:
        yield it


def test_a_clip_is_stored_and_read_unchanged(tmp_path: Path) -> None:
    pcm = np.random.default_rng(0).integers(-32768, 32768, 1600).astype(np.int16)
    clip = NewClip(
        pcm, Kind.confusable, "jarvis", ROOM, -0.25, 0.75, "weights", "run", 2,
        text="jar of this", mixed_with=(FAN,), mix={"snr_db": 10.0},
    )  # fmt: skip
    with Buffer(tmp_path / "b") as buffer:
        assert buffer.add([clip]) == Added([content_hash(pcm)], 0, [])
    with Buffer(tmp_path / "b") as buffer:
        (row,) = buffer.rows()
        np.testing.assert_array_equal(buffer.audio(row.hash), pcm)
        assert (tmp_path / "b" / "clips" / row.hash[:2] / f"{row.hash}.flac").is_file()
        assert row == BufferClip(
            hash=content_hash(pcm), n_samples=1600, kind=Kind.confusable, keyword="jarvis", source=ROOM,
            offset_s=-0.25, text="jar of this", mixed_with=(FAN,), mix={"snr_db": 10.0}, run="run", round=2,
            checkpoint="weights", score=0.75, score_now=None, priority=1.0, last_loss=None, times_drawn=0,
            added_at=row.added_at, state=State.active, reason="", decision=Decision.none,
        )  # fmt: skip
        assert row.added_at.endswith("+00:00")
        assert buffer.check() == []


@pytest.mark.parametrize("hostile", ["../../x", "<script>alert(1)</script>", "'; DROP TABLE clips; --", "bad\udcff"])
def test_hostile_names_are_stored_as_text(buffer: Buffer, hostile: str) -> None:
    source = Source("c3", hostile, Split.TRAIN)
    buffer.add([replace(found(1, source=source), mixed_with=(replace(FAN, name=hostile),), text=hostile)])
    (row,) = buffer.rows()
    # A name that is not UTF-8 is read as cp1252; in a text, what UTF-8 cannot hold is spelt out.
    named, text = hostile.replace("\udcff", "ÿ"), hostile.replace("\udcff", "\\udcff")
    assert (row.source.name, row.mixed_with[0].name, row.text) == (named, named, text)
    assert everything(buffer)[1] == [f"{name(1)}.flac"]
    assert [p.name for p in buffer.folder.parent.iterdir()] == ["buffer"]
    with pytest.raises(KwsError, match="hexadecimal"):
        buffer.audio("../../index")


@pytest.mark.parametrize("split", [Split.VALIDATION, Split.TEST])
@pytest.mark.parametrize("as_mixed", [False, True])
def test_validation_and_test_recordings_are_refused(buffer: Buffer, split: Split, as_mixed: bool) -> None:
    held = Source("d4", "talks/lecture.wav", split)
    leak = replace(found(2), mixed_with=(held,)) if as_mixed else found(2, source=held)
    with pytest.raises(LeakError, match=rf"talks/lecture\.wav.*{split}"):
        buffer.add([found(1), leak])
    assert everything(buffer) == ([], [])


@pytest.mark.parametrize("as_mixed", [False, True])
def test_a_held_out_recording_stays_out_under_any_name(buffer: Buffer, as_mixed: bool) -> None:
    buffer.hold_out([Source("d4", "talks/lecture.wav", Split.TEST)])
    buffer.hold_out([])  # by a run that knows nothing of it
    renamed = Source("d4", "music/harmless.wav", Split.TRAIN)
    leak = replace(found(2), mixed_with=(renamed,)) if as_mixed else found(2, source=renamed)
    with Buffer(buffer.folder) as other, pytest.raises(LeakError, match=r"harmless\.wav.*talks/lecture\.wav"):
        other.add([found(1), leak])
    assert everything(buffer) == ([], [])


def test_a_recording_with_clips_in_the_buffer_cannot_be_held_out(buffer: Buffer) -> None:
    buffer.add([replace(found(1), mixed_with=(FAN,))])
    buffer.add([found(1, source=Source("e5", "copy.wav", Split.TRAIN))])  # the same sound, found elsewhere
    buffer.add([found(i, round_=2) for i in (2, 3, 4)])
    assert [row.hash for row in buffer.rows("evicted")] == [name(1)]
    for recording, shown in (("a1", "kitchen-2"), ("b2", "fan-2"), ("e5", "copy-2")):
        with pytest.raises(LeakError, match=shown):
            buffer.hold_out([Source("f6", "new.wav", Split.TEST), Source(recording, shown, Split.VALIDATION)])
    assert buffer.check() == []
    buffer.add([found(5, source=Source("f6", "new.wav", Split.TRAIN))])  # nothing of those calls was registered
    with pytest.raises(KwsError, match=r"kitchen.*train"):
        buffer.hold_out([ROOM])


def test_the_lowest_latest_scores_are_evicted_beyond_the_capacity(buffer: Buffer) -> None:
    buffer.add([found(1, score=0.9), found(2, score=0.2), found(3, score=0.4)])
    buffer.rescored("run", 2, "weights", {name(1): 0.4, name(2): 0.7}, {}, {})
    assert buffer.add([found(4, round_=2)]) == Added([name(4)], 0, [name(1)])  # the oldest among equals
    assert buffer.add([found(5, round_=3, score=0.1)]) == Added([name(5)], 0, [name(5)])  # too easy to stay
    assert [r.hash for r in buffer.rows()] == [name(2), name(3), name(4)]
    assert [r.hash for r in buffer.rows(State.evicted)] == [name(1), name(5)]
    assert buffer.add([replace(found(6, round_=4), score=None)]).evicted == [name(3)]  # without a score: the hardest
    assert buffer.check() == []


def test_equal_audio_is_stored_once(buffer: Buffer) -> None:
    buffer.add([found(1, score=0.3), found(2), found(3)])
    buffer.update([name(1)], [0.1], [7])
    assert buffer.add([found(2), found(4), found(4)]) == Added([name(4)], 2, [name(1)])
    assert buffer.purge() == 1  # evicted: its file goes, its row stays as provenance
    assert buffer.check() == []
    assert buffer.add([found(1, round_=2, score=0.6)]) == Added([name(1)], 0, [name(2)])
    again = buffer.rows()[0]
    assert (again.hash, again.priority, again.times_drawn) == (name(1), 1.0, 7)
    assert (again.state, again.reason, again.score, again.score_now) == (State.active, "", 0.3, 0.6)
    np.testing.assert_array_equal(buffer.audio(name(1)), sound(1))


def test_update_stores_priority_and_times_sampled(buffer: Buffer) -> None:
    buffer.add([found(1), found(2)])
    n = buffer.update([name(2), name(9)], np.array([0.25, 1], np.float32).tolist(), [5, 1])
    row = buffer.rows()[1]
    assert (n, row.priority, row.last_loss, row.times_drawn) == (1, 0.25, 0.25, 5)
    assert buffer.rows()[0].priority == 1.0
    for bad in (np.nan, np.inf, -1.0):
        with pytest.raises(KwsError, match="priority"):
            buffer.update([name(2)], [bad], [1])


def test_rollback_restores_the_state_of_the_checkpoint(buffer: Buffer) -> None:
    buffer.add([found(i, round_=1, score=0.4 - i / 10) for i in (1, 2, 3)])
    buffer.add([found(4, round_=2)])  # evicts 3
    at_checkpoint = buffer.rows(None)
    buffer.add([found(5, round_=3), found(4, round_=3)])  # evicts 2
    buffer.add([found(3, round_=4, score=0.9), found(5, round_=4)])  # 3 comes back, 1 goes
    buffer.add([found(i, round_=5, score=0.8) for i in (2, 6, 7)])
    assert {r.hash for r in buffer.rows()} == {name(3), name(6), name(7)}
    assert buffer.rollback("run", 2) > 0
    assert buffer.rows(None) == at_checkpoint
    assert buffer.rollback("run", 2) == 0
    assert buffer.check() == []
    buffer.add([found(5, round_=3)])  # and the run goes on as before
    assert [r.hash for r in buffer.rows()] == [name(1), name(4), name(5)]


def test_rollback_leaves_other_runs_alone(buffer: Buffer) -> None:
    buffer.add([found(1, "old", score=0.1)])
    buffer.add([found(2, "killed", 5), found(3, "killed", 5, score=0.6)])
    buffer.add([found(3, "other", 8)])  # knows it too
    buffer.add([found(4, "killed", 6)])  # evicts 1
    buffer.add([found(1, "other", 9, score=0.7)])  # which another run brings back, in the place of 2
    assert {r.hash for r in buffer.rows()} == {name(1), name(3), name(4)}
    buffer.rollback("killed", 0)
    assert {r.hash for r in buffer.rows(None)} == {r.hash for r in buffer.rows()} == {name(1), name(3)}
    assert buffer.check() == []
    buffer.rollback("other", 7)  # whose own history is still known
    assert {r.hash for r in buffer.rows(None)} == {name(1)}


def test_rollback_restores_the_priority_of_the_checkpoint(buffer: Buffer) -> None:
    buffer.add([found(i) for i in (1, 2, 3)])
    buffer.update([name(1), name(2), name(3)], [0.1, 0.5, 0.5], [0, 0, 0])
    buffer.add([found(4, round_=2)])  # evicts 1
    buffer.update([name(4)], [0.5], [0])
    at_checkpoint = buffer.rows(None)
    # 1 comes back, is the last of the old ones, goes, and comes back from another priority.
    for round_, (clips, score) in enumerate([((1,), 0.6), ((5, 6), 0.9), ((7,), 0.8), ((1,), 0.95)], 3):
        buffer.add([found(clip, round_=round_, score=score) for clip in clips])
        rows = buffer.rows()
        buffer.update([r.hash for r in rows], [0.2 if r.hash == name(1) else 0.7 for r in rows], [0] * len(rows))
    others = [r.hash for r in at_checkpoint if r.hash != name(1)]
    buffer.rollback("run", 2)
    buffer.update(others, [0.5] * len(others), [0] * len(others))  # a run writes its checkpoint's values
    assert [(r.hash, r.state, r.priority) for r in buffer.rows(None)] == [
        (r.hash, r.state, r.priority) for r in at_checkpoint
    ]


def test_rollback_keeps_to_the_capacity(buffer: Buffer) -> None:
    buffer.add([found(i, "killed", 1, score=i / 4) for i in (1, 2, 3)])
    buffer.add([found(4, "killed", 2, score=0.4)])  # evicts 1
    buffer.add([found(5, "other", 1)])  # evicts 4
    buffer.rollback("killed", 1)  # 1 would come back to 2, 3 and 5
    assert [r.hash for r in buffer.rows()] == [name(2), name(3), name(5)]
    assert [r.hash for r in buffer.rows(None)] == [name(1), name(2), name(3), name(5)]


def test_purge_makes_an_eviction_final(buffer: Buffer) -> None:
    buffer.add([found(i) for i in (1, 2, 3)])
    buffer.add([found(4, round_=2)])  # evicts 1
    assert buffer.purge() == 1
    for _ in range(2):
        buffer.rollback("run", 1)
        assert [r.hash for r in buffer.rows()] == [name(2), name(3)]
        assert [r.hash for r in buffer.rows("evicted")] == [name(1)]
        assert buffer.check() == []


def test_purge_deletes_only_unknown_and_unfinished_files(buffer: Buffer) -> None:
    buffer.add([found(i) for i in (1, 2, 3)])
    orphan, draft = buffer.path(name(8)), buffer.path(name(1)).with_name(f"{name(1)}.flac.0a1b.tmp")
    orphan.parent.mkdir(exist_ok=True)
    save_flac(orphan, sound(8), 16000)
    draft.write_bytes(b"half")
    note = buffer.path(name(1)).with_name("note.txt")
    note.write_text("mine")
    assert buffer.purge() == 0  # another process may be about to commit
    assert buffer.purge(min_age_s=0) == 2
    assert note.exists()
    assert not orphan.exists()
    assert not draft.exists()
    assert buffer.check() == []


def test_check_and_audio_name_damaged_files(buffer: Buffer) -> None:
    buffer.add([found(i) for i in (1, 2, 3)])
    buffer.path(name(1)).unlink()
    save_flac(buffer.path(name(2)), sound(9), 16000)
    buffer.path(name(3)).write_bytes(buffer.path(name(3)).read_bytes()[:50])
    problems = buffer.check()
    assert len(problems) == 3
    for i, problem in zip((1, 2, 3), problems, strict=True):
        assert name(i) in problem
        with pytest.raises(KwsError, match=name(i)):
            buffer.audio(name(i))


def test_a_full_disk_leaves_index_and_files_agreeing(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer.add([found(1), found(2)])
    before = everything(buffer)

    def full(path: Path, pcm: np.ndarray, sample_rate: int) -> None:
        if pcm[0] == 4:
            raise OSError(28, "No space left on device")
        save_flac(path, pcm, sample_rate)

    with monkeypatch.context() as patch:
        patch.setattr(storage, "save_flac", full)
        with pytest.raises(OSError, match="No space"):
            buffer.add([found(3), found(4), found(5)])
    assert everything(buffer) == before
    assert buffer.check() == []
    assert len(buffer.add([found(3), found(4)]).new) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pcm": np.zeros(5, np.float32)}, "float32"),
        ({"pcm": np.zeros((2, 5), np.int16)}, r"\[2, 5\]"),
        ({"pcm": np.zeros(0, np.int16)}, "T >= 1"),
        ({"score": float("nan")}, "score=nan"),
        ({"mix": {"snr_db": float("inf")}}, "snr_db=inf"),
        ({"round": -1}, "round=-1"),
        ({"round": 7}, "one run and round"),
    ],
)
def test_malformed_clips_are_refused(buffer: Buffer, change: dict[str, Any], message: str) -> None:
    with pytest.raises(KwsError, match=message):
        buffer.add([found(1), replace(found(2), **change)])
    assert everything(buffer) == ([], [])


def test_a_folder_with_another_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KwsError, match="content hash"):
        Source("", "x.wav", Split.TRAIN)
    Buffer(tmp_path / "b", sample_rate=16000).close()
    with pytest.raises(KwsError, match="sample_rate=8000: must be 16000 Hz"):
        Buffer(tmp_path / "b", sample_rate=8000)
    index = tmp_path / "b" / "index.sqlite"
    with sqlite3.connect(index) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(KwsError, match="version 99"):
        Buffer(tmp_path / "b")
    index.write_bytes(b"no database, but a text that is long enough to be looked at" * 20)
    with pytest.raises(KwsError, match=r"index\.sqlite.*not a database"):
        Buffer(tmp_path / "b")
    with pytest.raises(KwsError, match="cannot hold"):
        Buffer(index)


def test_a_reader_sees_whole_rounds(buffer: Buffer, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer.add([found(1)])
    seen = []

    def look(path: Path, pcm: np.ndarray, sample_rate: int) -> None:
        save_flac(path, pcm, sample_rate)
        with Buffer(buffer.folder) as reader:
            seen.append((len(reader), reader.check()))

    monkeypatch.setattr(storage, "save_flac", look)
    with Buffer(buffer.folder) as writer:
        writer.add([found(2), found(3)])
    assert seen == [(1, []), (1, [])]
    assert len(buffer) == 3


# Forked from one process that has imported everything: a child for each death, or for each writer.
CHILDREN = """
import os, random, signal, sys, time, traceback
from pathlib import Path
import numpy as np
from kws.data.manifest import Source, Split
from kws.replay import database, storage
from kws.replay.buffer import Buffer, Kind, NewClip, State
from kws.replay.eviction import EvictionConfig

def batch(first, n, round_):
    source = Source("a1", "kitchen.wav", Split.TRAIN)
    return [NewClip(np.full(40, i, np.int16), Kind.user, "k", source, 0.0, 0.5, "c", str(os.getpid()), round_)
            for i in range(first, first + n)]

def child(work):
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return pid

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def dying(moment):
    save = storage.save_flac
    def at_second(path, pcm, rate):
        if pcm[0] % 10 == 2:
            if moment == "draft":
                path.with_name(path.name + ".00.tmp").write_bytes(b"half")
            if moment == "file":
                save(path, pcm, rate)
            die()
        save(path, pcm, rate)
    def work():
        if moment in ("draft", "file", "between"):
            storage.save_flac = at_second
        if moment == "eviction":
            Buffer._hold = die
        if moment == "rows":
            database.Index.event = die
        with Buffer(folder, EvictionConfig(max_per_recording=None, capacity=8)) as buffer:
            if moment == "commit":
                buffer._index._db.set_trace_callback(lambda sql: die() if sql == "COMMIT" else None)
            buffer.add(batch(10, 4, 1))
    return work

def rescore(buffer, round_):
    clips = [row.hash for row in buffer.rows(None)]
    random.shuffle(clips)
    states = [State.retired, State.quarantined, State.active]
    moves = {clip: (state, "scored") for clip, state in zip(clips, states)}
    vectors = {clip: np.ones(4, np.float32) for clip in clips}
    buffer.rescored(str(os.getpid()), round_, "c", dict.fromkeys(clips, random.random()), vectors, moves)

def writer(first):
    def work():
        for i in range(12):
            with Buffer(folder, EvictionConfig(max_per_recording=None, capacity=1000)) as buffer:
                buffer.add(batch(first + 3 * i, 5, i))
                rescore(buffer, i)
                buffer.purge()
    return work

def endless():
    random.seed(os.getpid())
    with Buffer(folder, EvictionConfig(max_per_recording=None, capacity=8)) as buffer:
        for i in range(10**6):
            buffer.add(batch(1 + random.randrange(90), 4, i))
            rescore(buffer, i)
            buffer.purge(min_age_s=0)
            if i % 5 == 4:
                buffer.rollback(str(os.getpid()), i - 2)

folder = Path(sys.argv[1])
if sys.argv[2] == "write":
    assert [os.waitpid(pid, 0)[1] for pid in [child(writer(0)), child(writer(20))]] == [0, 0]
elif sys.argv[2] == "endless":
    random.seed(0)
    for kill in range(12):
        pid = child(endless)
        time.sleep(random.uniform(0, 0.4))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL
        with Buffer(folder, EvictionConfig(max_per_recording=None, capacity=8)) as buffer:
            assert buffer.check() == [], buffer.check()
            assert len(buffer) <= 8
            assert len(buffer.add(batch(100 + kill, 1, 0)).new) == 1
            assert buffer.check() == [], buffer.check()
else:
    for moment in sys.argv[2].split(","):
        folder = Path(sys.argv[1]) / moment
        assert os.waitpid(child(dying(moment)), 0)[1] == signal.SIGKILL
"""


def run_children(folder: Path, what: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", CHILDREN, str(folder), what]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr


def test_a_kill_while_adding_loses_only_that_batch(tmp_path: Path) -> None:
    moments = ["between", "draft", "file", "rows", "eviction", "commit"]
    before = {}
    for moment in moments:
        with Buffer(tmp_path / moment, evicting(capacity=8)) as buffer:
            buffer.add([found(i) for i in range(1, 8)])
            before[moment] = buffer.rows(None)
    run_children(tmp_path, ",".join(moments))
    for moment in moments:
        with Buffer(tmp_path / moment, evicting(capacity=8)) as buffer:
            assert buffer.rows(None) == before[moment]
            assert buffer.check() == []
            assert len(buffer.add([found(i, round_=2) for i in range(10, 14)]).new) == 4
            assert buffer.check() == []
            buffer.purge(min_age_s=0)
            assert len(everything(buffer)[1]) == len(buffer) == 8


def test_a_kill_at_any_time_leaves_index_and_files_agreeing(tmp_path: Path) -> None:
    run_children(tmp_path / "b", "endless")
    with Buffer(tmp_path / "b", evicting(capacity=8)) as buffer:
        assert buffer.score_history()  # the children did get to their work
        buffer.purge(min_age_s=0)
        drawn, out = ({f"{r.hash}.flac" for r in buffer.rows(state)} for state in (State.active, State.evicted))
        assert drawn <= set(everything(buffer)[1])
        assert out.isdisjoint(everything(buffer)[1])


def test_two_processes_add_at_once(tmp_path: Path) -> None:
    run_children(tmp_path / "b", "write")
    with Buffer(tmp_path / "b") as buffer:
        assert {r.hash for r in buffer.rows(None)} == {name(i) for i in range(58)}
        assert len(buffer.score_history()) > 2 * 58
        assert buffer.check() == []


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 9), max_size=5)),
        st.tuples(st.sampled_from(["update", "rescore", "release", "reject"]), st.lists(st.integers(0, 9), max_size=3)),
        st.tuples(st.sampled_from(["rollback", "purge"]), st.just([])),
    ),
    max_size=8,
)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, capacity=st.integers(1, 6), back=st.integers(0, 6), moved=st.sampled_from(State))
def test_any_history_keeps_capacity_and_agreement(
    steps: list[tuple[str, list[int]]], capacity: int, back: int, moved: State
) -> None:
    with tempfile.TemporaryDirectory() as folder, Buffer(Path(folder), evicting(capacity=capacity)) as buffer:
        for round_, (what, clips) in enumerate(steps):
            here = [name(i) for i in set(clips) if buffer.path(name(i)).exists()]
            if what == "add":
                added = buffer.add([found(i, round_=round_) for i in clips])
                assert len(added.new) + added.known == len(clips)
            elif what == "update":
                buffer.update([name(i) for i in clips], [i / 9 for i in clips], [1] * len(clips))
            elif what == "rescore":
                scores, moves = {name(i): i / 9 for i in clips}, {name(i): (moved, "scored") for i in clips}
                buffer.rescored("run", round_, "weights", scores, {}, moves)
            elif what in ("release", "reject"):
                known = {row.hash for row in buffer.rows(None)}
                buffer.decide(known & set(here), Decision.released if what == "release" else Decision.rejected)
                buffer.add([found(99, round_=round_)])  # a user may release more clips than the capacity
            elif what == "rollback":
                buffer.rollback("run", round_ - 1 - back)
            else:
                buffer.purge(min_age_s=0)
            assert len(buffer) <= capacity
            assert buffer.check() == []
            for row in buffer.rows(None):
                assert row.decision is not Decision.rejected or row.state is State.retired
                assert row.decision is not Decision.released or row.state is not State.quarantined


SCORE = st.integers(0, 10).map(lambda tenths: tenths / 10)
ADD = st.tuples(st.just("add"), st.dictionaries(st.integers(0, 9), SCORE, min_size=1, max_size=5))
MOVES = st.sampled_from([None, State.active, State.quarantined, State.retired])
NEAR = DuplicatesConfig(0.5, 0.999)
RESCORE = st.tuples(st.just("rescore"), st.dictionaries(st.integers(0, 9), st.tuples(SCORE, MOVES), max_size=5))


@settings(max_examples=30, deadline=None)
@given(
    rounds=st.lists(st.lists(ADD | RESCORE, max_size=3), min_size=1, max_size=6),
    limits=st.builds(
        evicting,
        capacity=st.integers(1, 4),
        max_per_recording=st.none() | st.just(1),
        eviction=st.sampled_from([*RULES]),
    ),
    data=st.data(),
)
def test_rollback_is_exact_for_any_rounds(
    rounds: list[list[tuple[str, dict[int, Any]]]], limits: EvictionConfig, data: st.DataObject
) -> None:
    def placed(i: int, score: float, round_: int) -> NewClip:
        """Clips 2k and 2k + 1 overlap."""
        source = Source(f"r{i // 5}", f"{i // 5}.wav", Split.TRAIN)
        start_s = (40 * i - 25 * (i % 2)) / 16000
        vector = np.array([i % 4, 1], np.float32)
        return replace(found(i, "run", round_, source, score), offset_s=start_s, embedding=vector)

    with tempfile.TemporaryDirectory() as folder, Buffer(Path(folder), limits, 16000, NEAR) as buffer:
        states = [buffer.rows(None)]
        for round_, steps in enumerate(rounds, 1):
            for what, clips in steps:
                if what == "add":
                    added = buffer.add([placed(i, score, round_) for i, score in clips.items()], {"computer": 0.9})
                    assert len(added.new) + added.known + added.near == len(clips)
                else:
                    scores = {name(i): score for i, (score, _) in clips.items()}
                    moves = {name(i): (state, "scored") for i, (_, state) in clips.items() if state}
                    buffer.rescored("run", round_, "weights", scores, {}, moves)
            states.append(buffer.rows(None))
        for to in sorted(data.draw(st.sets(st.integers(0, len(rounds)), min_size=1)), reverse=True):
            buffer.rollback("run", to)
            assert buffer.rows(None) == states[to]
            assert buffer.rollback("run", to) == 0
            assert buffer.check() == []
