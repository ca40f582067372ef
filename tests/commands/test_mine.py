"""kws mine: no held-out recording enters a buffer; clips can be traced and scored again."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data import audio
from kws.data.audio import content_hash
from kws.detector import checkpoint, streaming
from kws.replay import mining_streams
from kws.replay.buffer import Buffer, BufferClip


@pytest.fixture
def mined(run, tmp_path) -> Path:
    """A copy of the run's buffer."""
    return Path(shutil.copytree(run / "buffer", tmp_path / "buffer"))


def mine(cli, run: Path, buffer: Path, streams: object, *words: str):
    return cli("mine", f"checkpoint={run}/model.pt", f"buffer={buffer}", f"streams={streams}", "min_score=0", *words)


def rows(folder: Path) -> list[BufferClip]:
    with Buffer(folder) as buffer:
        return buffer.rows(None)


def score_again(model: checkpoint.Checkpoint, folder: Path, row: BufferClip, post_s: float = 0.2) -> float:
    """Score of a clip from silence, at the row where it was found."""
    detector, rate = model.detector, model.spec.sample_rate
    with Buffer(folder) as buffer:
        pcm = buffer.audio(row.hash)
    post_n = min(round(post_s * rate), len(pcm) - detector.reach_n) // detector.block_n
    at = len(pcm) // detector.block_n - post_n - 1
    return float(streaming.score_pcm(detector, pcm, rate)[at, detector.labels.index(row.keyword)])


def test_clips_mined_in_training_score_again_as_recorded(run):
    found = [row for row in rows(run / "buffer") if row.state == "active"]  # the others' files are purged
    assert {row.round for row in found} == {1, 2}
    for row in found:
        model = checkpoint.read_model(run / f"checkpoints/round-{row.round}.pt")
        assert row.checkpoint == model.hash
        assert score_again(model, run / "buffer", row) == pytest.approx(row.score, abs=1e-3)


def test_a_clip_of_a_train_recording_has_its_origin(cli, run, tones, tmp_path):
    file, model = tones / "speech-train-0.flac", checkpoint.read_model(run / "model.pt")
    said = mine(cli, run, tmp_path / "new", file, f"data.root={tones}")
    assert said.code == 0, said.err
    (row, *_) = found = rows(tmp_path / "new")
    assert (row.kind, row.keyword, row.run, row.checkpoint) == ("false_trigger", "beep", "kws mine", model.hash)
    assert (row.source.name, row.source.split) == ("speech-train-0.flac", "train")
    pcm = soundfile.read(file, dtype="int16")[0]
    assert row.source.hash == content_hash(pcm)
    with Buffer(tmp_path / "new") as buffer:
        assert buffer.check() == []
        clip, start = buffer.audio(row.hash), round(row.offset_s * 16000)
    sound = np.concatenate([np.zeros(len(clip), np.int16), pcm, np.zeros(len(clip), np.int16)])
    assert np.array_equal(clip, sound[len(clip) + start :][: len(clip)])
    for one in found:
        assert score_again(model, tmp_path / "new", one) == pytest.approx(one.score, abs=1e-3)


def test_a_recording_mined_twice_adds_its_clips_once(cli, run, tones, tmp_path):
    for _ in range(2):
        assert mine(cli, run, tmp_path / "new", tones / "speech-train-0.flac").code == 0
    hashes = [row.hash for row in rows(tmp_path / "new")]
    assert hashes
    assert len(hashes) == len(set(hashes))


@pytest.mark.parametrize("part", ["validation", "test"])
def test_held_out_recordings_are_refused_under_any_name_and_format(cli, run, tones, mined, tmp_path, part):
    name, before = f"speech-{part}-3.flac", rows(mined)
    pcm, rate = soundfile.read(tones / name, dtype="int16")
    for copy in ("harmless.flac", "harmless.wav", "harmless.aiff", "harmless.w64"):
        soundfile.write(tmp_path / copy, pcm, rate, subtype="PCM_16")
        # A recording of the train split comes first: its clips are not added either.
        said = mine(cli, run, mined, f"[{tones}/speech-train-0.flac,{tmp_path / copy}]")
        assert said.code == 2
        assert said.err.startswith("kws: ")
        assert said.err.count("\n") == 1
        assert name in said.err
        assert rows(mined) == before


def test_a_test_recording_of_the_manifest_is_refused_for_a_new_buffer(cli, run, tones, tmp_path):
    said = mine(cli, run, tmp_path / "new", tones / "speech-test-3.flac", f"data.root={tones}")
    assert said.code == 2
    assert "speech-test-3.flac" in said.err
    assert not (tmp_path / "new").exists() or rows(tmp_path / "new") == []


def test_a_held_out_recording_of_the_checkpoint_is_refused_for_a_new_buffer(cli, run, tones, tmp_path):
    shutil.copy(tones / "speech-validation-3.flac", tmp_path / "harmless.flac")
    said = mine(cli, run, tmp_path / "new", tmp_path / "harmless.flac")
    assert said.code == 2
    assert "speech-validation-3.flac" in said.err
    assert not (tmp_path / "new").exists()


def test_a_broken_file_among_others_is_named_and_counted(cli, run, tones, tmp_path):
    (tmp_path / "radio").mkdir()
    for i in range(3):
        shutil.copy(tones / f"speech-train-{i}.flac", tmp_path / "radio")
    (tmp_path / "radio/broken.flac").write_bytes(b"fLaC, but not really")
    said = mine(cli, run, tmp_path / "new", tmp_path / "radio", "keep_above=0", "data.max_undecodable=0.25")
    assert said.code == 0, said.err
    assert "broken.flac: not read" in said.err
    assert "left out, no usable sound: 1 of 4 recordings" in said.err
    assert mine(cli, run, tmp_path / "other", tmp_path / "radio", "data.max_undecodable=0.2").code == 2


def test_a_transcript_with_the_keyword_is_refused(cli, run, tones, mined):
    before = rows(mined)
    said = mine(cli, run, mined, tones / "says.flac", f"data.root={tones}")
    assert said.code == 2
    assert "says.flac: its transcript or label" in said.err
    assert rows(mined) == before


def test_a_recording_of_the_keyword_is_no_false_trigger(cli, run, tones, tmp_path):
    word = next(iter(sorted(tones.glob("*beep*train*.flac"))))
    said = mine(
        cli, run, tmp_path / "new", f"[{word},{tones}/speech-train-0.flac]", f"data.root={tones}", "keep_above=0"
    )
    assert said.code == 0, said.err
    assert "1 recording " in said.err
    assert {row.source.name for row in rows(tmp_path / "new")} == {"speech-train-0.flac"}


def test_folders_are_searched_for_recordings(cli, run, tones, tmp_path):
    (tmp_path / "radio/deep").mkdir(parents=True)
    for i in range(3):
        shutil.copy(tones / f"speech-train-{i}.flac", tmp_path / "radio/deep")
    said = mine(
        cli, run, tmp_path / "new", tmp_path / "radio", "keep_above=0", "duplicate_cosine=2"
    )  # a net this small scores few clips alike
    assert said.code == 0, said.err
    found = {Path(row.source.name).name for row in rows(tmp_path / "new")}
    assert found == {f"speech-train-{i}.flac" for i in range(3)}


def test_neighbours_of_the_keyword_are_added_at_any_score(cli, run, tones, tmp_path):
    words = (f"data.root={tones}", "keep_above=1", "neighbours_per_hour=5000", f"data.cache={tmp_path}/cache")
    said = mine(cli, run, tmp_path / "new", tones / "speech-train-0.flac", *words)
    assert said.code == 0, said.err
    found, model = rows(tmp_path / "new"), checkpoint.read_model(run / "model.pt")
    assert {row.kind for row in found} == {"neighbour"}
    for row in found:
        assert score_again(model, tmp_path / "new", row) == pytest.approx(row.score, abs=1e-5)
    said = mine(cli, run, tmp_path / "other", tones / "speech-train-0.flac", "neighbours_per_hour=5000")
    assert (said.code, "data.root=DIR" in said.err) == (2, True)


def test_each_file_is_decoded_once(cli, run, tones, tmp_path, monkeypatch):
    decoded, read = Counter(), audio._read
    monkeypatch.setattr(audio, "_read", lambda path, *given: decoded.update([path.name]) or read(path, *given))
    files = [f"{tones}/speech-train-{i}.flac" for i in range(3)]
    said = mine(cli, run, tmp_path / "new", f"[{','.join(files)}]", "keep_above=0", "duplicate_cosine=2")
    assert said.code == 0, said.err
    assert len({row.source.name for row in rows(tmp_path / "new")}) == 3
    assert decoded == {Path(file).name: 1 for file in files}


def test_a_long_recording_is_mined_in_portions_like_one_stream(cli, run, tones, tmp_path, monkeypatch):
    """The clips score again, come from all of the recording, and none is added twice."""
    pcm = np.concatenate([soundfile.read(tones / f"speech-train-{i}.flac", dtype="int16")[0] for i in range(16)])
    soundfile.write(tmp_path / "radio.flac", pcm, 16000)
    words = ("keep_above=0", "duplicate_cosine=2", "duplicate_overlap=0.9", "max_per_recording=1000")
    assert mine(cli, run, tmp_path / "whole", tmp_path / "radio.flac", *words).code == 0
    monkeypatch.setattr(streaming, "CHUNK_S", 1.0)
    monkeypatch.setattr(mining_streams, "STREAM_S", 3.0)
    assert mine(cli, run, tmp_path / "parts", tmp_path / "radio.flac", *words).code == 0
    whole, parts = rows(tmp_path / "whole"), rows(tmp_path / "parts")
    assert len(parts) == pytest.approx(len(whole), rel=0.15)
    model = checkpoint.read_model(run / "model.pt")
    silence = np.zeros(32000, np.int16)
    for row in parts:
        assert score_again(model, tmp_path / "parts", row) == pytest.approx(row.score, abs=1e-3)
        with Buffer(tmp_path / "parts") as buffer:
            clip = buffer.audio(row.hash)
        start = len(silence) + round(row.offset_s * 16000)
        assert np.array_equal(clip, np.concatenate([silence, pcm, silence])[start : start + len(clip)])
    begun = np.histogram([row.offset_s for row in parts], 8, (0, 15))[0]
    assert begun.min() > 0, "all of the recording is mined"


def test_the_random_share_comes_from_anywhere(cli, run, tones, tmp_path):
    def found(name: str, *words: str) -> list[BufferClip]:
        streams = "[" + ",".join(f"{tones}/speech-train-{i}.flac" for i in range(6)) + "]"
        said = cli("mine", f"checkpoint={run}/model.pt", f"buffer={tmp_path}/{name}", f"streams={streams}", *words)
        assert said.code == 0, said.err
        return rows(tmp_path / name)

    assert found("none", "min_score=1") == []
    spare = found("some", "min_score=1", "clips_per_hour=3600", "random_share=0.5")
    assert 1 <= len(spare) <= 3
    assert all(row.score < 1 for row in spare)
