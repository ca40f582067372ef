"""Synthetic confusables as clips of a buffer."""

import csv
import shutil

import numpy as np
import pytest
import soundfile

from kws.common.errors import KwsError, LeakError
from kws.confusables.synthesis.base import Espeak
from kws.confusables.synthesis.plan import Prompt, Role, plan_splits
from kws.confusables.synthesis.render import render
from kws.data.audio import content_hash, load, save_flac, to_int16
from kws.data.manifest import CONFUSABLE, Source, Split
from kws.replay.buffer import Buffer, Kind, NewClip, State
from kws.replay.dedup import DuplicatesConfig
from kws.replay.importing import into_buffer

pytest.importorskip("espeakng_loader", reason="speech synthesis needs the extra kws[speech]")
NEAR = [
    Prompt("commuter", keyword="computer"),
    Prompt("computer games", keyword="computer"),
    Prompt("lexer", "", "alexa"),
]
ROLES = [Role("computer", [Prompt("computer", keyword="computer")], 10), Role(CONFUSABLE, NEAR, 20)]


@pytest.fixture(scope="module")
def planned():
    return plan_splits(Espeak(), ROLES, 0)


@pytest.fixture(scope="module")
def synthetic(planned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    render(folder, Espeak(), planned, workers=1)
    return folder


def hash_of(folder, one):
    return content_hash(to_int16(load(folder / one.file, 16000)))


def test_train_confusables_are_added_with_text_keyword_and_voice(synthetic, planned, tmp_path):
    wanted = [one for one in planned if one.split is Split.TRAIN and one.label == CONFUSABLE]
    steps = []
    with Buffer(tmp_path / "buffer", duplicates=DuplicatesConfig()) as buffer:
        added = into_buffer(buffer, synthetic, lambda *step: steps.append(step))
        rows = buffer.rows()
        assert added.new == [row.hash for row in rows] == [hash_of(synthetic, one) for one in wanted]
        assert (added.known, added.near, added.evicted) == (0, 0, [])
        for row, one in zip(rows, wanted, strict=True):
            assert (row.kind, row.keyword, row.text) == (Kind.confusable, one.keyword, one.text)
            assert one.file in row.source.name
            assert one.voice in row.source.name
            pcm, _ = soundfile.read(synthetic / one.file, dtype="int16")
            assert np.array_equal(buffer.audio(row.hash), pcm)
        assert {row.keyword for row in rows} == {"computer", "alexa"}
        assert buffer.check() == []
    assert steps == [(n, 30) for n in range(1, 31)]


def test_synthetic_confusables_are_never_quarantined(synthetic, tmp_path):
    with Buffer(tmp_path) as buffer:
        assert into_buffer(buffer, synthetic).quarantined == []
        assert any(row.text == "computer games" for row in buffer.rows())
        assert len(buffer.samplable(saying=["computer", "alexa"])) == len(buffer) == 12


def test_validation_and_test_clips_are_held_out(synthetic, planned, tmp_path):
    with Buffer(tmp_path) as buffer:
        into_buffer(buffer, synthetic)
        held = {one.hash for one in buffer.held_out()}
        assert held == {hash_of(synthetic, one) for one in planned if one.split is not Split.TRAIN}
        assert not held & {row.hash for row in buffer.rows(None)}
        (one, *_) = (one for one in planned if one.split is Split.TEST)
        pcm = to_int16(load(synthetic / one.file, 16000))
        renamed = Source(content_hash(pcm), "renamed.flac", Split.TRAIN)
        with pytest.raises(LeakError, match="held out as the test recording"):
            buffer.add([NewClip(pcm, Kind.confusable, "computer", renamed, 0.0, None, "", "mine", 0)])


def test_a_clip_that_the_buffer_holds_out_is_refused(synthetic, planned, tmp_path):
    (one, *_) = (one for one in planned if one.split is Split.TRAIN and one.label == CONFUSABLE)
    with Buffer(tmp_path) as buffer:
        buffer.hold_out([Source(hash_of(synthetic, one), "elsewhere.flac", Split.TEST)])
        with pytest.raises(LeakError, match=r"elsewhere\.flac"):
            into_buffer(buffer, synthetic)
        assert len(buffer.rows(None)) == 0


def test_a_buffer_with_a_test_clip_is_refused(synthetic, planned, tmp_path):
    (one, *_) = (one for one in planned if one.split is Split.TEST)
    pcm = to_int16(load(synthetic / one.file, 16000))
    with Buffer(tmp_path) as buffer:
        source = Source(content_hash(pcm), "x.flac", Split.TRAIN)
        buffer.add([NewClip(pcm, Kind.user, "computer", source, 0.0, None, "", "mine", 0)])
        with pytest.raises(LeakError, match="clip"):
            into_buffer(buffer, synthetic)
        assert [row.state for row in buffer.rows(None)] == [State.active]


def test_a_second_import_finds_all_clips_known(synthetic, tmp_path):
    with Buffer(tmp_path) as buffer:
        new = into_buffer(buffer, synthetic).new
        again = into_buffer(buffer, synthetic)
        assert (again.new, again.known) == ([], len(new))


def test_an_unfinished_folder_and_a_faulty_manifest_are_refused(tmp_path):
    with Buffer(tmp_path / "buffer") as buffer:
        with pytest.raises(KwsError, match=r"no manifest\.csv; the clips are not all made"):
            into_buffer(buffer, tmp_path)
        save_flac(tmp_path / "a.flac", np.ones(100, np.int16), 16000)
        (tmp_path / "manifest.csv").write_text("path,label,part\na.flac,confusable,train\n")
        with pytest.raises(KwsError, match=r"path='a.flac': must have the keyword"):
            into_buffer(buffer, tmp_path)
        save_flac(tmp_path / "long.flac", np.arange(61 * 16000).astype(np.int16), 16000)
        (tmp_path / "manifest.csv").write_text("path,label,part,keyword\nlong.flac,confusable,train,computer\n")
        with pytest.raises(KwsError, match=r"long\.flac: 61 s long, a clip must be at most 60 s"):
            into_buffer(buffer, tmp_path)
        (tmp_path / "manifest.csv").write_text("path,label,keyword\na.flac,confusable,computer\n")
        with pytest.raises(KwsError, match="'part' is missing"):
            into_buffer(buffer, tmp_path)
        (tmp_path / "manifest.csv").write_text("path,label,part,keyword\n../a.flac,confusable,train,computer\n")
        with pytest.raises(KwsError, match=r"must be below data\.root"):
            into_buffer(buffer, tmp_path)
        assert len(buffer.rows(None)) == 0


def test_a_damaged_clip_is_named(synthetic, tmp_path):
    shutil.copytree(synthetic, tmp_path / "synthetic")
    with (synthetic / "manifest.csv").open(newline="", encoding="utf-8") as file:
        (row, *_) = (row for row in csv.DictReader(file) if row["part"] == "test")
    (tmp_path / "synthetic" / row["path"]).write_bytes(b"fLaC")
    with Buffer(tmp_path / "buffer") as buffer, pytest.raises(KwsError, match=row["path"]):
        into_buffer(buffer, tmp_path / "synthetic")
