"""`kws buffer`: counts, figures, checks, decisions, export and import."""

import csv
import filecmp
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data.audio import content_hash
from kws.replay.buffer import Buffer, BufferClip, Decision, Kind, State
from kws.runs.lock import locked

RATE = 16000


@pytest.fixture
def folder(run: Path, tmp_path: Path) -> Path:
    """A copy of a run's buffer."""
    return Path(shutil.copytree(run / "buffer", tmp_path / "buffer"))


def rows(folder: Path, state: State | None = None) -> list[BufferClip]:
    with Buffer(folder) as buffer:
        return buffer.rows(state)


def only(folder: Path, state: State) -> str:
    """The first clip in this state."""
    return rows(folder, state)[0].hash


def suspect(folder: Path, n: int) -> list[str]:
    """Quarantine `n` active clips, and return their hashes."""
    with Buffer(folder) as buffer:
        clips = [row.hash for row in buffer.rows()[:n]]
        moves = dict.fromkeys(clips, (State.quarantined, "scores 0.990"))
        buffer.rescored("run", 9, "weights", {}, {}, moves)
    return clips


def recordings(folder: Path, n: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Write a folder of new recordings."""
    rng = np.random.default_rng(seed)
    sounds = [(3000 * rng.standard_normal(RATE // 2)).astype(np.int16) for _ in range(n)]
    for i, pcm in enumerate(sounds):
        place = folder / f"room {i % 2}"
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"{i}.wav", pcm, RATE, subtype="PCM_16")
    return sounds


def test_stats_count_the_clips(cli, folder):
    suspect(folder, 2)
    said = cli("buffer", "stats", f"buffer={folder}")
    assert said.code == 0, said.err
    every, words = rows(folder), [line.split() for line in said.out.splitlines()]
    for state in State:
        mine = [row for row in every if row.state is state]
        minutes = sum(row.n_samples for row in mine) / RATE / 60
        if mine:
            assert [str(state), str(len(mine)), str(len(mine)), f"{minutes:.1f}"] in words
    active = [row.source.name for row in every if row.state is State.active]
    assert [active[0], str(active.count(active[0]))] in words
    drawn = [row.times_drawn for row in every if row.state is State.active]
    assert f"{sum(drawn) / len(drawn):.1f} times per active clip, {drawn.count(0)} of them never" in said.out


def test_pictures_show_scores_kinds_sources_and_the_share(cli, run, tmp_path):
    said = cli("buffer", "stats", f"buffer={run}/buffer", f"plots={tmp_path}/plots")
    assert said.code == 0, said.err
    for name in ("scores", "kinds", "sources", "share"):
        assert (tmp_path / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    said = cli("buffer", "stats", f"buffer={run}/buffer", f"plots={tmp_path}", f"curves={tmp_path}/other.csv")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert "no column step" in said.err


def test_a_list_is_filtered_and_sorted(cli, folder):
    listed = cli("buffer", "list", f"buffer={folder}", "limit=null")
    assert listed.code == 0, listed.err
    every = [row for row in rows(folder) if row.state is not State.evicted]
    assert all(row.hash[:8] in listed.out and row.source.name in listed.out for row in every)
    by_score = sorted(every, key=lambda row: -row.hardness)
    places = [listed.out.index(row.hash[:8]) for row in by_score]
    assert places == sorted(places)
    name = every[0].source.name
    mine = cli("buffer", "list", f"buffer={folder}", f"source={name}", "limit=null", "sort=age").out
    assert {row.hash[:8] for row in every if row.hash[:8] in mine} == {
        row.hash[:8] for row in every if row.source.name == name
    }
    few = cli("buffer", "list", f"buffer={folder}", "limit=1", "sort=drawn").out
    assert f"{len(every) - 1} more are not shown" in few
    assert max(every, key=lambda row: row.times_drawn).hash[:8] in few
    assert "0 clips" in cli("buffer", "list", f"buffer={folder}", "kind=user").out


def test_check_passes_a_good_buffer_and_names_faults(cli, folder):
    said = cli("buffer", "check", f"buffer={folder}")
    assert said.code == 0, said.err
    assert f"good; {len(rows(folder))} clips" in said.out
    (folder / "clips" / "ab").mkdir(exist_ok=True)
    left = folder / "clips" / "ab" / f"{'ab' * 32}.flac.123.tmp"
    left.write_bytes(b"half")
    said = cli("buffer", "check", f"buffer={folder}")
    assert (said.code, str(left) in said.out) == (0, True)
    with Buffer(folder) as buffer:
        path = buffer.path(only(folder, State.active))
    path.unlink()
    said = cli("buffer", "check", f"buffer={folder}")
    assert said.code == 2
    assert str(path) in said.err
    assert "1 problem, named above" in said.err
    assert "good" not in said.out


def test_export_and_import_restore_the_buffer(cli, folder, tmp_path):
    suspect(folder, 1)
    released = only(folder, State.quarantined)
    assert cli("buffer", "release", f"buffer={folder}", f"clips=[{released[:10]}]").code == 0
    out, again, there = tmp_path / "out", tmp_path / "again", tmp_path / "there"
    said = cli("buffer", "export", f"buffer={folder}", f"out={out}")
    assert said.code == 0, said.err
    said = cli("buffer", "import", f"buffer={there}", f"folder={out}")
    assert said.code == 0, said.err
    assert cli("buffer", "check", f"buffer={there}").code == 0
    with_sound = [row for row in rows(folder) if row.state is not State.evicted]
    assert rows(there) == with_sound
    with Buffer(folder) as mine, Buffer(there) as theirs:
        assert theirs.held_out() == mine.held_out()
        for row in with_sound:
            np.testing.assert_array_equal(theirs.audio(row.hash), mine.audio(row.hash))
    assert cli("buffer", "export", f"buffer={there}", f"out={again}").code == 0
    same = filecmp.dircmp(out, again)
    assert same.diff_files + same.left_only + same.right_only == []
    twice = cli("buffer", "import", f"buffer={there}", f"folder={out}")
    assert f"0 new clips in {there}, {len(with_sound)} known before" in twice.out
    refused = cli("buffer", "export", f"buffer={folder}", f"out={out}")
    assert (refused.code, "must be a new or an empty folder" in refused.err) == (2, True)
    assert cli("buffer", "export", f"buffer={folder}", f"out={tmp_path}/some", "state=active").code == 0
    lines = (tmp_path / "some/clips.jsonl").read_text().splitlines()
    assert {json.loads(line).get("state") for line in lines} == {None, "active"}


def test_recordings_are_imported_as_clips(cli, folder, tmp_path):
    sounds = recordings(tmp_path / "mine")
    words = ("buffer", "import", f"buffer={folder}", f"folder={tmp_path}/mine", "keyword=beep")
    said = cli(*words, "kind=confusable")
    assert said.code == 0, said.err
    imported = [row for row in rows(folder) if row.kind is Kind.confusable]
    assert {row.hash for row in imported} == {content_hash(pcm) for pcm in sounds}
    assert {(row.source.name, row.keyword, row.state) for row in imported} == {
        (f"room {i % 2}/{i}.wav", "beep", State.active) for i in range(3)
    }
    assert "0 new clips" in cli(*words).out
    assert cli("buffer", "check", f"buffer={folder}").code == 0


def test_a_text_with_the_keyword_is_quarantined_unless_it_is_a_confusable(cli, tmp_path):
    recordings(tmp_path / "mine")
    words = ("buffer", "import", f"folder={tmp_path}/mine", "keyword=beep")
    for name, *more in (
        ("user", "text=it went beep"),
        ("confusable", "text=it went beep", "kind=confusable"),
        ("word", "text=a beeper"),
        ("prefix", "text=a beeper", "transcript_match=prefix"),
    ):
        assert cli(*words, f"buffer={tmp_path}/{name}", *more).code == 0
    states = {"user": State.quarantined, "confusable": State.active, "word": State.active, "prefix": State.quarantined}
    assert {name: row.state for name in states for row in rows(tmp_path / name)} == states


@pytest.mark.parametrize("part", ["validation", "test"])
def test_a_held_out_recording_is_not_imported_under_any_name(cli, folder, tones, tmp_path, part):
    before = rows(folder)
    recordings(tmp_path / "mine")
    shutil.copy(tones / f"speech-{part}-1.flac", tmp_path / "mine" / "harmless.flac")
    said = cli("buffer", "import", f"buffer={folder}", f"folder={tmp_path}/mine", "keyword=beep")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert f"speech-{part}-1.flac" in said.err
    assert rows(folder) == before, "all or nothing"


def test_undecodable_recordings_are_counted(cli, tmp_path):
    recordings(tmp_path / "mine", 3)
    (tmp_path / "mine" / "broken.flac").write_bytes(b"fLaC and no more")
    words = ("buffer", "import", f"buffer={tmp_path}/new", f"folder={tmp_path}/mine", "keyword=beep")
    said = cli(*words)
    assert (said.code, (tmp_path / "new").exists()) == (2, False)
    assert "1 of 4 recordings have no usable sound" in said.err
    said = cli(*words, "max_undecodable=0.5")
    assert said.code == 0
    assert "left out, no usable sound: 1 recording" in said.err
    assert len(rows(tmp_path / "new")) == 3


def test_a_link_out_of_the_folder_is_not_followed(cli, tmp_path):
    recordings(tmp_path / "mine")
    recordings(tmp_path / "other", 1, seed=1)
    (tmp_path / "mine" / "link.wav").symlink_to(tmp_path / "other" / "room 0" / "0.wav")
    said = cli("buffer", "import", f"buffer={tmp_path}/new", f"folder={tmp_path}/mine", "keyword=beep")
    assert (said.code, "link.wav: must not lead out of" in said.err) == (2, True)
    assert not (tmp_path / "new").exists()


def test_a_name_does_not_drive_the_terminal(cli, tmp_path):
    recordings(tmp_path / "mine")
    (tmp_path / "mine" / "room 0" / "0.wav").rename(tmp_path / "mine" / "\x1b]0;owned\x07\n[red]x.wav")
    words = (f"buffer={tmp_path}/new", f"folder={tmp_path}/mine", "keyword=beep")
    assert cli("buffer", "import", *words).code == 0
    listed = cli("buffer", "list", f"buffer={tmp_path}/new")
    assert listed.code == 0, listed.err
    assert "\x1b" not in listed.out
    assert "\x07" not in listed.out
    assert "]0;owned" in listed.out
    assert "[red]x.wav" in listed.out, "in one line"


def test_long_recordings_are_not_imported(cli, tmp_path):
    (tmp_path / "mine").mkdir()
    soundfile.write(tmp_path / "mine" / "radio.flac", np.arange(61 * RATE).astype(np.int16), RATE)
    said = cli("buffer", "import", f"buffer={tmp_path}/new", f"folder={tmp_path}/mine", "keyword=beep")
    assert said.code == 2
    assert "radio.flac: 61 s long" in said.err
    assert "kws mine" in said.err


def test_review_and_decisions(cli, folder, tmp_path):
    first, second, third = suspect(folder, 3)
    said = cli("buffer", "review", f"buffer={folder}")
    assert said.code == 0, said.err
    page = (folder / "review.html").read_text()
    assert all(page.count(f'data-hash="{clip}"') == 1 for clip in (first, second, third))
    assert page.count("<audio") == 3
    decisions = tmp_path / "decisions.json"
    decisions.write_text(json.dumps({"release": [first], "reject": [second]}))
    said = cli("buffer", "review", f"buffer={folder}", f"decisions={decisions}")
    assert said.code == 0, said.err
    found = {row.hash: (row.state, row.decision) for row in rows(folder)}
    assert found[first] == (State.active, Decision.released)
    assert found[second] == (State.retired, Decision.rejected)
    assert found[third] == (State.quarantined, Decision.none)


def test_a_file_without_a_decision_is_refused(cli, folder, tmp_path):
    (tmp_path / "decisions.json").write_text('{"release": [], "reject": []}')
    said = cli("buffer", "review", f"buffer={folder}", f"decisions={tmp_path}/decisions.json")
    assert (said.code, "holds no decision" in said.err) == (2, True)


def test_decisions_about_unknown_clips_change_nothing(cli, folder, tmp_path):
    (first,) = suspect(folder, 1)
    before = rows(folder)
    decisions = tmp_path / "decisions.json"
    decisions.write_text(json.dumps({"release": [first], "reject": ["0" * 64]}))
    said = cli("buffer", "review", f"buffer={folder}", f"decisions={decisions}")
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert rows(folder) == before


def test_clips_are_chosen_by_hash_or_by_filters(cli, folder):
    clips = suspect(folder, 2)
    said = cli("buffer", "release", f"buffer={folder}", f"clips=['{clips[0][:12]}']")
    assert said.code == 0, said.err
    assert {row.hash for row in rows(folder, State.quarantined)} == {clips[1]}
    name = rows(folder, State.active)[0].source.name
    said = cli("buffer", "retire", f"buffer={folder}", f"source={name}")
    assert said.code == 0, said.err
    assert name not in {row.source.name for row in rows(folder, State.active)}
    assert all(row.decision is Decision.rejected for row in rows(folder) if row.source.name == name and
               row.state is State.retired)  # fmt: skip


def test_prune_is_refused_while_the_run_beside_the_buffer_is_at_work(cli, run, tmp_path):
    place = Path(shutil.copytree(run, tmp_path / "run"))
    with locked(place):
        said = cli("buffer", "prune", f"buffer={place / 'buffer'}")
    assert (said.code, "the run beside it is at work (process" in said.err) == (2, True), said.err
    assert cli("buffer", "prune", f"buffer={place / 'buffer'}").code == 0


def test_prune_deletes_files_of_retired_clips(cli, folder):
    clip = only(folder, State.active)
    assert cli("buffer", "retire", f"buffer={folder}", f"clips=['{clip}']").code == 0
    with Buffer(folder) as buffer:
        path = buffer.path(clip)
    assert "0 files deleted" in cli("buffer", "prune", f"buffer={folder}").out
    assert path.is_file()
    said = cli("buffer", "prune", f"buffer={folder}", "retired=true")
    assert said.code == 0, said.err
    assert not path.exists()
    assert clip in {row.hash for row in rows(folder, State.retired)}, "where it came from is still known"
    assert cli("buffer", "check", f"buffer={folder}").code == 0
    said = cli("buffer", "release", f"buffer={folder}", f"clips=['{clip}']")
    assert (said.code, "its file was deleted" in said.err) == (2, True)


BAD = [
    (("nonsense",), "must be one of stats, list, check, export, import, review, release, retire, prune"),
    (("action=nonsense",), "action=nonsense: must be one of stats"),
    ((), "action=... must be given"),
    (("stats", "buffer=no/where"), "buffer=no/where: no such file or folder; expected: the folder of a replay buffer"),
    (("list", "kind=odd"), "kind=odd: must be one of false_trigger"),
    (("list", "state=odd"), "state=odd: must be one of active"),
    (("list", "sort=odd"), "must be one of score, drawn, loss, age"),
    (("list", "limit=0"), "limit=0: must be between 1 and"),
    (("export",), "out=... must be given"),
    (("export", "out=x", "kind=user"), "must be null for export, which selects by state"),
    (("import",), "folder=... must be given"),
    (
        ("import", "folder=no/where"),
        "no/where: no such file or folder; expected: exported folder",
    ),
    (("import", "folder=."), "keyword=... must be given"),
    (("import", "folder=.", "keyword=beep", "kind=batch_hard"), "kind=batch_hard: must be user or confusable"),
    (("release",), "clips=[...] must be given, or state"),
    (("release", "clips=[]"), "clips=[]: must name at least one clip"),
    (("retire", "clips=[zz]"), "clips=zz: must be the beginning of one hash"),
    (("retire", "clips=zz"), "clips=zz: must be the beginning of one hash"),
    (("retire", "clips=1.5"), "clips=1.5: must be the beginning of one hash"),
    (("retire", "clips={a: 1}"), "must be beginnings of hashes"),
    (("retire", "source=nope"), "no such clip"),
    (("list", "clips=[ab]", "kind=user"), "kind=user: must be null with clips=[...]"),
    (("retire", 'clips=[""]'), "clips=: must be the beginning of one hash"),
    (("review", "decisions=no/where.json"), "no/where.json: no such file or folder"),
    (("stats", "buffr=x"), "buffr: no such setting (did you mean buffer?)"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_a_wrong_setting_is_refused_in_one_line(cli, run, words, message):
    given = words if any(w.startswith("buffer=") for w in words) else (*words, f"buffer={run}/buffer")
    before = sorted(p for p in (run / "buffer").rglob("*") if p.suffix == ".flac")
    said = cli("buffer", *given)
    assert said.code == 2, said.out
    assert said.err.count("\n") == 1, said.err
    assert message in said.err
    assert "Traceback" not in said.err
    assert sorted(p for p in (run / "buffer").rglob("*") if p.suffix == ".flac") == before


def test_metrics_hold_the_replayed_clips_of_each_batch(run):
    with (run / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert {line["batch"] for line in lines} == {"16"}
    assert all(int(line["replayed"]) <= int(line["batch"]) for line in lines)
