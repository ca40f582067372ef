"""Clips that a run adds to its buffer, their records, and the validations of a run."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from kws.data.audio import content_hash
from kws.detector import checkpoint
from kws.detector.clip_scores import score_clips
from kws.evaluation.validation import ValidationStreams
from kws.replay.buffer import Buffer, BufferClip, State
from tests.kill import all_steps

RATE = 16000


def buffer_of(cli, tiny, out: Path, *words: str) -> list[BufferClip]:
    """All clips of a run, evicted ones too."""
    with all_steps():
        cli("train", *tiny, *words, f"out={out}")
    with Buffer(out / "buffer") as buffer:
        assert buffer.check() == []
        return buffer.rows(None)


def parts(tones: Path) -> dict[str, tuple[str, str]]:
    """Name and split of each recording, by the hash of its audio."""
    with (tones / "manifest.csv").open() as file:
        lines = list(csv.DictReader(file))
    sound = {line["path"]: soundfile.read(tones / line["path"], dtype="int16")[0] for line in lines}
    return {content_hash(sound[line["path"]]): (line["path"], line["part"]) for line in lines}


def test_the_hardest_negatives_of_the_batches_are_added_with_their_scores(cli, tiny, tones, tmp_path):
    words = ("replay.batch_mining=true", "replay.batch_mining_every=4", "replay.batch_mining_clips=6")
    words = (*words, "mining.rounds=0")
    words = (*words, "mining.pool_share=0", "mining.min_score=0", "replay.retire_below=0", "replay.capacity=100")
    found, known = buffer_of(cli, tiny, tmp_path / "run", *words), parts(tones)
    assert {row.kind for row in found} == {"batch_hard"}
    assert len(found) > 6
    scores = []
    for row in found:
        assert known[row.source.hash] == (row.source.name, "train")
        assert row.source.name.startswith(("speech", "noise"))
        for beneath in row.mixed_with:
            assert known[beneath.hash] == (beneath.name, "train")
            assert beneath.name.startswith("noise")
        assert 0.85 <= row.mix["speed"] <= 1.15
        model = checkpoint.read_model(tmp_path / f"run/checkpoints/round-{row.round}.pt")
        assert row.checkpoint == model.hash
        if row.state is State.active:
            with Buffer(tmp_path / "run/buffer") as buffer:
                again, _ = score_clips(model.detector, [buffer.audio(row.hash)])
            assert float(again[0, 0]) == pytest.approx(row.score, abs=1e-5)
        scores.append(row.score)
    for number in {row.round for row in found}:
        mine = [row.source.hash for row in found if row.round == number]
        assert len(mine) == len(set(mine)) <= 6, "one of each recording, at most 6 a round"
    assert len({row.round for row in found}) > 1


def test_a_clip_of_a_batch_is_at_its_offset_in_its_recording(cli, tiny, tones, tmp_path):
    words = ("replay.batch_mining=true", "replay.batch_mining_every=4", "mining.rounds=0", "mining.pool_share=0")
    words = (*words, "mining.min_score=0", "replay.retire_below=0", "augment=none")
    seen = 0
    for row in buffer_of(cli, tiny, tmp_path / "run", *words, "batch.noise_share=0", "replay.capacity=100"):
        assert row.mix == {"speed": 1.0}
        assert row.mixed_with == ()
        with Buffer(tmp_path / "run/buffer") as buffer:
            clip = buffer.audio(row.hash).astype(float)
        pcm = soundfile.read(tones / row.source.name, dtype="int16")[0].astype(float)
        whole = np.concatenate([np.zeros(len(clip)), pcm, np.zeros(len(clip))])
        at = len(clip) + round(row.offset_s * RATE)
        piece = whole[at : at + len(clip)]
        gain = float(clip @ piece / (piece @ piece))
        assert np.abs(clip - gain * piece).max() <= 0.51 + 0.5 * gain, "the same audio at another level"
        seen += 1
    assert seen > 5


def test_neighbours_come_from_the_pool_and_are_replayed_by_their_mix(cli, tiny, tones, tmp_path):
    words = ("mining.neighbours_per_hour=3000", "replay.mix={neighbour: 1.0}", "replay.capacity=100")
    found = buffer_of(cli, tiny, tmp_path / "run", *words)
    kinds = {row.kind for row in found}
    assert kinds == {"neighbour", "false_trigger"}
    assert {parts(tones)[row.source.hash][1] for row in found} == {"train"}
    assert sum(row.times_drawn for row in found if row.kind == "neighbour") > 0
    assert sum(row.times_drawn for row in found if row.kind == "false_trigger") == 0


def test_clips_that_score_like_validation_keywords_are_not_replayed(cli, tiny, tmp_path):
    found = buffer_of(cli, tiny, tmp_path / "run", "replay.quarantine_above=0.0001", "replay.capacity=100")
    assert {row.state for row in found} == {State.quarantined}
    assert {row.times_drawn for row in found} == {0}
    with (tmp_path / "run/metrics.csv").open() as file:
        assert {line["replayed"] for line in csv.DictReader(file)} == {"0"}


def test_positives_are_scored_once_for_a_validation_and_a_round_at_one_step(cli, tiny, tmp_path, monkeypatch):
    scored, real = [], ValidationStreams._tracks

    def counted(self, detector, stream):
        scored.append(stream is not self.negative)
        return real(self, detector, stream)

    monkeypatch.setattr(ValidationStreams, "_tracks", counted)
    buffer_of(cli, tiny, tmp_path / "run", "replay.quarantine_above=1.2", "validate_every=10", "mining.rounds=1")
    assert sum(scored) == scored.count(False) == 3, "after 10, 20 and 24 steps; the round comes after 10 too"


def test_each_decision_on_an_adaptive_share_is_recorded_with_its_reason(cli, tiny, tmp_path):
    words = ("replay.schedule=adaptive", "replay.steer_every=3", "replay.steer_at_score=0")
    words = (*words, "replay.target_fa_per_hour=0")
    buffer_of(cli, tiny, tmp_path / "run", *words)
    with (tmp_path / "run/share.csv").open() as file:
        decisions = list(csv.DictReader(file))
    assert len(decisions) == 4
    for decision in decisions:
        assert "false alarms in" in decision["reason"] or "held-out positives missed" in decision["reason"]
        assert int(decision["events"]) == 6, "the validation split has six keywords"
        assert int(decision["false_alarms"]) > 0
    assert float(decisions[0]["after"]) > float(decisions[0]["before"])
    assert [a["after"] for a in decisions[:-1]] == [b["before"] for b in decisions[1:]]
