"""Export and import of a buffer: exact, and every value of the folder is checked."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from kws.common.errors import KwsError, LeakError
from kws.data.audio import content_hash
from kws.data.manifest import Source, Split
from kws.replay import exchange
from kws.replay.buffer import Buffer, Decision, Kind, NewClip, State
from tests.replay.clips import evicting

RATE = 16000
KITCHEN, TEST = Source("k" * 64, "rooms/kitchen.wav", Split.TRAIN), Source("t" * 64, "rooms/test.wav", Split.TEST)


def found(number: int, **given: Any) -> NewClip:
    pcm = np.full(400 + number, 100 * number, np.int16)
    values = {
        "pcm": pcm,
        "kind": Kind.false_trigger,
        "keyword": "computer",
        "source": KITCHEN,
        "offset_s": 0.5 * number,
        "score": 0.1 * number,
        "checkpoint": "weights",
        "run": "run",
        "round": 1,
        "text": "a <b>ö</b> \N{SNOWMAN}",
        "mixed_with": (Source("n" * 64, "noise/rain.ogg", Split.TRAIN),),
        "mix": {"snr_db": 7.5},
        "embedding": np.array([1.0, number], np.float32),
    }
    return NewClip(**values | given)


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    """Clips of every state, one of them without its sound."""
    with Buffer(tmp_path / "buffer", evicting(capacity=100), RATE) as it:
        added = it.add([found(n) for n in range(1, 7)]).new
        it.hold_out([TEST])
        it.update(added, [float(i) for i in range(6)], range(6))
        it.rescored("run", 2, "later", {added[0]: 0.25}, {added[0]: np.array([3.0, 4.0], np.float32)}, {
            added[1]: (State.quarantined, "scores 0.990"), added[2]: (State.retired, "solved: scores 0.001"),
        })  # fmt: skip
        it.decide([added[3]], Decision.rejected)
        it.decide([added[4]], Decision.rejected)
        it.path(added[4]).unlink()
        yield it


@pytest.fixture
def folder(buffer: Buffer, tmp_path: Path) -> Path:
    """The same as an export."""
    assert exchange.export(buffer, tmp_path / "out") == 6
    return tmp_path / "out"


def restored(folder: Path, into: Path) -> tuple[int, int]:
    return exchange.restore(lambda rate: Buffer(into, evicting(capacity=100), rate), folder)


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / exchange.CLIPS).read_text().splitlines()]


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], object], file: str = exchange.CLIPS) -> None:
    """Change the lines of an export."""
    content = [json.loads(line) for line in (folder / file).read_text().splitlines()]
    change(content)
    (folder / file).write_text("".join(json.dumps(line) + "\n" for line in content))


def test_an_exported_buffer_is_restored_unchanged(buffer: Buffer, folder: Path, tmp_path: Path) -> None:
    assert restored(folder, tmp_path / "there") == (6, 0)
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        assert there.rows(None) == buffer.rows(None)
        assert there.held_out() == buffer.held_out()
        assert there.score_history() == buffer.score_history()
        for (row, mine), (_, theirs) in zip(list(buffer.records()), list(there.records()), strict=True):
            assert mine == theirs
            if buffer.path(row.hash).exists():
                np.testing.assert_array_equal(there.audio(row.hash), buffer.audio(row.hash))
        assert there.check() == []
        with pytest.raises(LeakError):
            there.admit([Source("t" * 64, "another name", Split.TRAIN)])
        again = there.add([found(4, run="other"), found(5, run="other")])
        assert (again.new, again.known) == ([], 2), (
            "a rejected clip stays out of the other buffer, also without its file"
        )


def test_a_known_clip_gains_the_decision_of_a_user_unless_it_has_one(folder: Path, tmp_path: Path) -> None:
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        names = there.add([found(n) for n in (1, 4, 5)]).new
        there.decide([names[2]], Decision.released)
    restored(folder, tmp_path / "there")
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        standing = {row.hash: (row.state, row.decision) for row in there.rows(None)}
    assert standing[names[0]] == (State.active, Decision.none)
    assert standing[names[1]] == (State.retired, Decision.rejected)
    assert standing[names[2]] == (State.active, Decision.released), "the user of this buffer decided otherwise"


def test_a_release_brings_the_sound_of_a_known_clip_whose_file_is_gone(buffer: Buffer, tmp_path: Path) -> None:
    released = buffer.rows(State.quarantined)[0].hash
    buffer.decide([released], Decision.released)
    exchange.export(buffer, tmp_path / "out")
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        there.add([found(2)])
        there.path(released).unlink()
    restored(tmp_path / "out", tmp_path / "there")
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        assert {row.hash: row.decision for row in there.rows()}[released] is Decision.released
        np.testing.assert_array_equal(there.audio(released), found(2).pcm)


def test_a_known_clip_stays_unchanged_and_gains_origins(folder: Path, tmp_path: Path) -> None:
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        there.add([found(1, score=0.9, run="mine", source=Source("b" * 64, "bath.wav", Split.TRAIN))])
        before = there.rows()
    assert restored(folder, tmp_path / "there") == (5, 1)
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        assert there.rows(None)[:1] == before
        with pytest.raises(LeakError, match=r"kitchen\.wav"):
            there.hold_out([Source(KITCHEN.hash, "kitchen.wav", Split.TEST)])


def test_an_export_of_one_state(buffer: Buffer, tmp_path: Path) -> None:
    assert exchange.export(buffer, tmp_path / "some", State.quarantined) == 1
    assert [line["state"] for line in lines(tmp_path / "some")[1:]] == ["quarantined"]


def test_a_failed_export_leaves_nothing(buffer: Buffer, tmp_path: Path) -> None:
    path = buffer.path(buffer.rows()[-1].hash)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(KwsError, match=path.name):
        exchange.export(buffer, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(KwsError, match="must be a new or an empty folder"):
        exchange.export(buffer, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "years of work"


def test_an_unfinished_export_is_refused(folder: Path) -> None:
    assert exchange.is_export(folder)
    (folder / exchange.CLIPS).unlink()
    with pytest.raises(KwsError, match="not finished"):
        exchange.is_export(folder)


def test_a_recording_held_out_by_the_buffer_is_refused(folder: Path, tmp_path: Path) -> None:
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        there.hold_out([Source(KITCHEN.hash, "kitchen.wav", Split.VALIDATION)])
    with pytest.raises(LeakError, match=r"kitchen\.wav"):
        restored(folder, tmp_path / "there")
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        assert there.rows(None) == []
        assert there.check() == []
        assert there.leftovers() == []


def test_a_recording_held_out_by_the_export_is_refused(folder: Path, tmp_path: Path) -> None:
    line = {"recording": "n" * 64, "name": "rain.ogg", "part": "test"}
    rewrite(folder, lambda held: held.append(line), exchange.HELD_OUT)
    with pytest.raises(LeakError, match=r"comes from the test recording 'rain\.ogg'"):
        restored(folder, tmp_path / "there")


def test_a_clip_without_its_origins_is_refused(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, lambda content: content[1].update(origins=[]))
    with pytest.raises(KwsError, match="origins: must name recording"):
        restored(folder, tmp_path / "there")


WRONG: list[tuple[str, object, str]] = [
    ("hash", "../../../../etc/passwd", "hash=.*must be 64 hexadecimal digits"),
    ("hash", "A" * 64, "hash=.*must be 64 hexadecimal digits"),
    ("n_samples", 0, "must be greater than or equal to 1"),
    ("n_samples", 10**9, "must be at most 60 s"),
    ("n_samples", True, "must be a valid integer"),
    ("kind", "noise", "must be 'false_trigger'"),
    ("state", "gone", "must be 'active'"),
    ("decision", "maybe", "must be ''"),
    ("decision", "rejected", "must be retired, since the clip is rejected"),
    ("score", float("nan"), "must be a finite number"),
    ("score", 7e9, "must be less than or equal to 1"),
    ("priority", -1, "must be greater than or equal to 0"),
    ("priority", 1e300, "must be less than or equal to 1"),
    ("history", [], "must begin with a state"),
    ("state", "retired", "must begin with a state and end with retired"),
    ("score_now", 0.5, "must be the last of the scores, 0.25"),
    ("times_drawn", 2**70, "must be less than or equal to"),
    ("mix", {"snr_db": "loud"}, 'mix.snr_db="loud": must be a valid number'),
    ("mixed_with", [{"hash": "x"}], "mixed_with.0.name: Field required"),
    ("history", {}, "must be a valid array"),
    ("embedding", {"checkpoint": "c", "vector": "////"}, "must be finite float32 in base64"),
    ("sound", False, "must be true for a clip that is active"),
    ("recording", "", "must have at least 1 character"),
    ("text", "\ud800", "malformed JSON"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=[f"{n}-{m}" for n, _, m in WRONG])
def test_a_wrong_value_names_its_line_and_imports_nothing(
    folder: Path, tmp_path: Path, name: str, value: object, message: str
) -> None:
    rewrite(folder, lambda content: content[1].update({name: value}))
    with pytest.raises(KwsError, match=message) as error:
        restored(folder, tmp_path / "there")
    assert f"{exchange.CLIPS}:2: " in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content[1].pop("text"), "text: Field required"),
        (lambda content: content[1].update(evil=1), "evil: Extra inputs are not permitted"),
        (lambda content: content.append(content[1]), "must not be there twice"),
        (lambda content: content[0].update(format=99), "format=99: must be 1"),
        (lambda content: content.pop(0), "format: Field required"),
        (lambda content: content.clear(), "format: Field required"),
        (lambda content: content[0].update(sample_rate=7), "sample_rate=7"),
    ],
)
def test_a_wrong_file_is_refused(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    rewrite(folder, change)
    with pytest.raises(KwsError, match=message):
        restored(folder, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1', "\xff", "[" * 100000])
def test_malformed_json_is_refused(folder: Path, tmp_path: Path, content: str) -> None:
    (folder / exchange.CLIPS).write_text(content, encoding="latin-1")
    with pytest.raises(KwsError, match=rf"{exchange.CLIPS}:1: "):
        restored(folder, tmp_path / "there")


def test_audio_must_have_the_hash_that_names_it(folder: Path, tmp_path: Path) -> None:
    file = folder / "clips" / f"{content_hash(found(1).pcm)}.flac"
    soundfile.write(file, found(1).pcm + 1, RATE)
    with pytest.raises(KwsError, match="do not have the hash that names it"):
        restored(folder, tmp_path / "there")
    soundfile.write(file, np.zeros(100 * RATE, np.int16), RATE)
    with pytest.raises(KwsError, match="and 401 samples"):
        restored(folder, tmp_path / "there")
    file.unlink()
    with pytest.raises(KwsError, match="no such file"):
        restored(folder, tmp_path / "there")
    assert not (tmp_path / "there").exists()


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links on this system")
def test_links_out_of_the_folder_are_refused(folder: Path, tmp_path: Path) -> None:
    name = f"{content_hash(found(1).pcm)}.flac"
    (folder / "clips" / name).rename(tmp_path / name)
    (folder / "clips" / name).symlink_to(tmp_path / name)
    with pytest.raises(KwsError, match="must not lead out of"):
        restored(folder, tmp_path / "there")
    (folder / exchange.HELD_OUT).unlink()
    (folder / exchange.HELD_OUT).symlink_to("/dev/zero")
    with pytest.raises(KwsError, match="must not lead out of"):
        restored(folder, tmp_path / "there")


def test_clips_after_a_rollback_are_restored(tmp_path: Path) -> None:
    with Buffer(tmp_path / "buffer", evicting(capacity=100), RATE) as buffer:
        (clip,) = buffer.add([found(1, run="a", round=3)]).new
        buffer.decide([clip], Decision.released)
        buffer.rollback("a", 2)
        assert buffer.check() == []
        exchange.export(buffer, tmp_path / "out")
        assert restored(tmp_path / "out", tmp_path / "there") == (1, 0)
        with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
            assert there.rows(None) == buffer.rows(None)


def test_a_full_disk_leaves_the_buffer_as_it_was(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        there.add([found(9)])
        before = there.rows(None)
    from kws.replay import storage

    real, calls = storage.save_flac, 0

    def full(*given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        real(*given)

    monkeypatch.setattr(storage, "save_flac", full)
    with pytest.raises(OSError, match="No space left"):
        restored(folder, tmp_path / "there")
    with Buffer(tmp_path / "there", evicting(capacity=100), RATE) as there:
        assert there.rows(None) == before
        assert there.check() == []
        assert there.leftovers() == []
