"""The loop from live detection to training: kws listen keeps clips, kws review sorts them, recipe=harden takes both."""

import csv
import io
import json
import re
import shlex
import shutil
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data.audio import content_hash, save_flac
from kws.data.manifest import Source, Split, read
from kws.detector import checkpoint
from kws.detector.checkpoint import TRAINED_N
from kws.replay.buffer import Buffer, Decision, State
from kws.replay.review import write_cards
from kws.runtime.kept import read_kept
from kws.runtime.reviewed import CHOICES, fill_buffer, keyword_rows, write_keywords
from tests.conftest import RATE, tone

SHORT = ("optim.steps=3", "mining.rounds=0", "mining.pool_share=0", "validate_every=null", "recipe=harden")


def wav(pcm: np.ndarray) -> io.TextIOWrapper:
    """A WAV on standard input."""
    content = io.BytesIO()
    with wave.open(content, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(pcm.tobytes())
    return io.TextIOWrapper(io.BytesIO(content.getvalue()))


def sound(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int16")[0]


def listen(cli, run: Path, pcm: np.ndarray, save: Path) -> str:
    """What kws listen prints of a stream on standard input, at a threshold that the tiny net reaches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", wav(pcm))
        done = cli("listen", f"detector={run}/model.pt", "input=-", f"save={save}", "near=0.02")
    assert done.code == 0, done.err
    return done.err


@pytest.fixture(scope="module")
def kept(cli, run, tmp_path_factory) -> Path:
    """What the detector of `run` keeps of a stream of keywords and other melodies."""
    rng, folder = np.random.default_rng(5), tmp_path_factory.mktemp("kept") / "KEPT"
    gap = np.int16(100 * rng.standard_normal(RATE))
    parts = [x for i in range(8) for x in (tone(rng, [500, 1000] if i % 2 else [300, 700, 1500]), gap)]
    said = listen(cli, run, np.concatenate(parts), folder)
    n = len(list(folder.glob("*.json")))
    assert n >= 4
    assert f"{n} clips in {folder}: kws review {folder}" in said
    return folder


@pytest.fixture(scope="module")
def decided(kept) -> tuple[Path, dict[str, list[str]]]:
    """Decisions about the first four clips, as the page saves them: two keywords, a false alarm, an unsure one."""
    ids = [one.id for one in read_kept(kept)]
    lists = {"keyword": ids[:2], "false_alarm": ids[2:3], "unsure": ids[3:4]}
    file = kept.parent / "decisions.json"
    file.write_text(json.dumps(lists))
    return file, lists


@pytest.fixture(scope="module")
def reviewed(cli, kept, decided, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("reviewed") / "REVIEWED"
    done = cli("review", kept, f"decisions={decided[0]}", f"out={out}")
    assert done.code == 0, done.err
    assert "keywords: 2; 2 in" in done.out
    assert "false alarms: 1, new: 1; 1 in" in done.out
    assert f"data.extra={out} replay.buffer={out}/buffer" in done.out
    return out


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_page_has_three_choices_for_each_clip_and_plays_it(cli, kept):
    done = cli("review", kept)
    assert done.code == 0, done.err
    page = (kept / "review.html").read_text()
    clips = read_kept(kept)
    assert re.findall(r'data-hash="(\w+)"', page) == [one.id for one in clips]
    assert [one.known.score for one in clips] == sorted((one.known.score for one in clips), reverse=True)
    assert page.count("<audio") == len(clips)
    for choice in ("keyword", "false_alarm", "unsure"):
        assert page.count(f'value="{choice}"') == len(clips)
    assert cli("review", kept, "limit=1").out.startswith("1 of ")


def test_confirmed_keywords_are_recordings_of_the_train_split(kept, decided, reviewed):
    clips = {one.id: one for one in read_kept(kept)}
    assert [(one["label"], one["part"]) for one in rows(reviewed)] == [("beep", "train")] * 2
    found = read(reviewed)
    assert [one.split for one in found] == [Split.TRAIN] * 2
    assert {one.path.stem.rpartition("-")[2] for one in found} == {one[:16] for one in decided[1]["keyword"]}
    assert {one["source"] for one in rows(reviewed)} == {
        f"{clips[one].file.name} ({clips[one].known.detector})" for one in decided[1]["keyword"]
    }


def test_confirmed_false_alarms_are_clips_of_the_buffer(kept, decided, reviewed):
    (alarm,) = (one for one in read_kept(kept) if one.id in decided[1]["false_alarm"])
    with Buffer(reviewed / "buffer") as buffer:
        (row,) = buffer.rows(None)
        pcm = buffer.audio(row.hash)
    assert (row.state, row.decision, row.keyword, row.kind) == (State.active, Decision.released, "beep", "user")
    assert row.source.name == alarm.file.name
    first = round(row.offset_s * RATE)
    np.testing.assert_array_equal(pcm, alarm.pcm[first : first + len(pcm)])
    assert row.offset_s <= alarm.trigger_s <= row.offset_s + len(pcm) / RATE
    assert len(pcm) <= 2 * RATE


def test_a_second_review_moves_clips_whose_decision_has_changed(cli, kept, decided, reviewed, tmp_path):
    out = tmp_path / "REVIEWED"
    shutil.copytree(reviewed, out)
    lists = decided[1]
    changed = {"keyword": lists["false_alarm"], "false_alarm": lists["keyword"][:1], "unsure": lists["keyword"][1:]}
    (tmp_path / "decisions.json").write_text(json.dumps(changed))
    done = cli("review", kept, f"decisions={tmp_path}/decisions.json", f"out={out}")
    assert done.code == 0, done.err
    assert [one["path"].rpartition("-")[2][:16] for one in rows(out)] == [one[:16] for one in changed["keyword"]]
    with Buffer(out / "buffer") as buffer:
        by_name = {row.source.name: row.state for row in buffer.rows(None)}
    names = {one.id: one.file.name for one in read_kept(kept)}
    assert by_name == {
        names[lists["keyword"][0]]: State.active,
        names[lists["false_alarm"][0]]: State.retired,
    }


def test_a_second_review_keeps_columns_that_a_user_added(kept, decided, reviewed, tmp_path):
    clips = {one.id: one for one in read_kept(kept)}
    first, second, third = (clips[one] for one in [*decided[1]["keyword"], *decided[1]["false_alarm"]])
    lines = (reviewed / "manifest.csv").read_text().splitlines()
    table = [f"{line},{more}" for line, more in zip(lines, ("start,end", "0.2,0.9", ","), strict=True)]
    (tmp_path / "manifest.csv").write_text("\n".join(table))
    before = rows(write(tmp_path, [], []))
    after = rows(write(tmp_path, [first, third], [second]))
    assert [one["start"] for one in before] == ["0.2", ""]
    assert after[0] == before[0]
    assert (len(after), after[1]["part"], after[1]["start"]) == (2, "train", "")
    assert {one.name: (one.start_s, one.end_s) for one in read(tmp_path)}[after[0]["path"]] == (0.2, 0.9)


def write(folder: Path, keywords: list, others: list) -> Path:
    write_keywords(folder, keywords, keyword_rows(folder, keywords, others))
    return folder


@pytest.mark.parametrize("split", ["part", "subset", None])
def test_a_folder_of_own_recordings_keeps_speakers_texts_and_splits(kept, tmp_path, split):
    given = [("path", "label", "speaker", "text"), *((f"{x}.flac", "speech", x, "a, b") for x in ("ann", "bob"))]
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        csv.writer(file).writerows((*row, *([split and (split if i == 0 else "test")] * bool(split)))
                                   for i, row in enumerate(given))  # fmt: skip
    for name in ("ann", "bob"):
        save_flac(tmp_path / f"{name}.flac", np.ones(9, np.int16), RATE)
    before = read(tmp_path)
    write(tmp_path, read_kept(kept)[:1], [])
    *own, new = read(tmp_path)
    assert [(one.speaker, one.text, one.split) for one in own] == [(x.speaker, x.text, x.split) for x in before]
    assert (new.label, new.split) == ("beep", Split.TRAIN)


def test_a_false_alarm_that_was_rejected_and_purged_is_a_clip_again(kept, tmp_path):
    clip = read_kept(kept)[0]
    with Buffer(tmp_path, None, RATE) as buffer:
        for alarms, others in (([clip], []), ([], [clip])):
            fill_buffer(buffer, alarms, others)
        assert buffer.purge(retired=True) == 1
        fill_buffer(buffer, [clip], [])
        (row,) = buffer.rows(None)
        assert (row.state, len(buffer.audio(row.hash))) == (State.active, row.n_samples)


def test_a_clip_that_the_buffer_refuses_leaves_the_manifest_as_it_was(cli, kept, decided, reviewed, tmp_path):
    out = tmp_path / "REVIEWED"
    shutil.copytree(reviewed, out)
    one = read_kept(kept)[3]
    with Buffer(out / "buffer") as buffer:
        buffer.hold_out([Source(content_hash(one.pcm), "held out", Split.TEST)])
    (tmp_path / "d.json").write_text(
        json.dumps({"keyword": decided[1]["false_alarm"], "false_alarm": [one.id], "unsure": []})
    )
    before = (out / "manifest.csv").read_bytes()
    assert cli("review", kept, f"decisions={tmp_path}/d.json", f"out={out}").code == 2
    assert (out / "manifest.csv").read_bytes() == before


def test_both_kinds_train_and_nothing_else_changes(cli, tiny, run, reviewed, tmp_path):
    words = [one for one in tiny if not one.startswith(("model.", "batch.clip_s", "optim.steps"))]
    field = tmp_path / "buffer"
    shutil.copytree(reviewed / "buffer", field)
    done = cli(
        "train", *words, *SHORT, f"init={run}/model.pt", f"data.extra={reviewed}", f"replay.buffer={field}",
        f"out={tmp_path}/RUN2",
    )  # fmt: skip
    assert done.code == 0, done.err
    before, after = (json.loads((one / "recordings.json").read_text()) for one in (run, tmp_path / "RUN2"))
    new = after.keys() - before.keys()
    assert new == {f"REVIEWED/{one['path']}" for one in rows(reviewed)}
    assert {after[name][0] for name in new} == {"train"}
    assert {name: one[0] for name, one in after.items() if name not in new} == {
        name: one[0] for name, one in before.items()
    }
    trained = checkpoint.read_model(tmp_path / "RUN2/model.pt").trained_on
    assert {content_hash(sound(one.path))[:TRAINED_N] for one in read(reviewed)} <= trained
    with Buffer(field) as buffer:
        assert any(row.kind == "user" and row.times_drawn for row in buffer.rows())


def test_a_clip_in_which_a_held_out_recording_is_audible_does_not_train(cli, tiny, tones, run, tmp_path):
    """The test keywords themselves are played into the detector."""
    spoken = [one for one in read(tones) if (one.label, one.split) == ("beep", Split.TEST)]
    pcm = np.concatenate([x for one in spoken for x in (np.zeros(RATE, np.int16), sound(one.path))])
    listen(cli, run, pcm, tmp_path / "KEPT")
    ids = [one.id for one in read_kept(tmp_path / "KEPT")]
    (tmp_path / "d.json").write_text(json.dumps({"keyword": ids[:1], "false_alarm": ids[1:2], "unsure": []}))
    assert cli("review", tmp_path / "KEPT", f"decisions={tmp_path}/d.json", f"out={tmp_path}/REVIEWED").code == 0
    words = [one for one in tiny if not one.startswith(("model.", "batch.clip_s", "optim.steps"))]
    train = ("train", *words, *SHORT, f"init={run}/model.pt", f"out={tmp_path}/RUN2")
    done = cli(*train, f"data.extra={tmp_path}/REVIEWED", f"replay.buffer={tmp_path}/REVIEWED/buffer")
    assert done.code == 2
    assert "left out, the same sound is in validation or test: 1 recording, REVIEWED/keywords/beep-" in done.err
    refused = done.err.splitlines()[-1]
    assert "the test recording beep-test-" in refused
    retire = shlex.split(refused.partition("kws buffer ")[2])
    assert cli("buffer", *retire).code == 0
    with Buffer(tmp_path / "REVIEWED/buffer") as buffer:
        assert not len(buffer)


@pytest.mark.parametrize(
    ("change", "words", "named"),
    [
        (None, (), "out=... must be given"),
        ({"keyword": ["0" * 64], "false_alarm": [], "unsure": []}, ("out=R",), "is not in"),
        ({"keyword": [], "false_alarm": [], "unsure": []}, ("out=R",), "holds no decision"),
        ({"release": [], "reject": []}, ("out=R",), "keyword: Field required"),
    ],
)
def test_decisions_that_do_not_fit_are_one_line_and_change_nothing(
    cli, kept, decided, tmp_path, monkeypatch, change, words, named
):
    monkeypatch.chdir(tmp_path)
    file = decided[0]
    if change is not None:
        file = tmp_path / "other.json"
        file.write_text(json.dumps(change))
    done = cli("review", kept, f"decisions={file}", *words)
    assert (done.code, done.err.count("\n")) == (2, 1), done.err
    assert named in done.err
    assert not (tmp_path / "R").exists()


def test_folders_that_kws_listen_did_not_write_are_one_line(cli, kept, tmp_path):
    done = cli("review", tmp_path)
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "must hold clips of kws listen" in done.err
    first = next(kept.glob("*.json"))
    (tmp_path / "a.json").write_text(first.read_text().replace('"score": 0', '"score": 7'))
    shutil.copy(first.with_suffix(".flac"), tmp_path / "a.flac")
    assert "score=7" in cli("review", tmp_path).err
    shutil.copy(first, tmp_path / "a.json")
    (tmp_path / "a.flac").write_bytes(b"no sound")
    assert "damaged" in cli("review", tmp_path).err
    (tmp_path / "a.flac").unlink()
    save_flac(tmp_path / "outside.flac", np.ones(9, np.int16), RATE)
    (tmp_path / "in").mkdir()
    shutil.copy(first, tmp_path / "in/a.json")
    (tmp_path / "in/a.flac").symlink_to(tmp_path / "outside.flac")
    assert "must not lead out of" in cli("review", tmp_path / "in").err


def test_keys_of_the_page_mark_a_clip_and_save_writes_the_decisions(cli, kept, browser):
    assert cli("review", kept, "limit=3").code == 0
    ids = [one.id for one in read_kept(kept)][:3]
    browser.get(f"file://{kept}/review.html")
    saved = browser.execute_script(
        """
        let saved = null;
        URL.createObjectURL = (blob) => { saved = blob; return "#"; };
        const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
        for (const key of ["j", "y", "j", "n", "j", "s"]) press(key);
        document.getElementById("save").click();
        return saved.text();
        """
    )
    assert json.loads(saved) == {"keyword": ids[:1], "false_alarm": ids[1:2], "unsure": ids[2:]}
    assert browser.find_element("id", "count").text == "3 of 3 decided: 1 keyword, 1 false alarm, 1 unsure"
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_choices_are_not_keys_of_the_page_itself(tmp_path):
    assert not {choice.key for choice in CHOICES} & {"j", "k", "p", "u"}
    write_cards(tmp_path / "page.html", "Title", "about", [], CHOICES)
    assert "There is nothing to review." in (tmp_path / "page.html").read_text()
