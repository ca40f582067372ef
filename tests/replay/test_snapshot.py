"""Snapshot of the buffer in training: sampled clips, priorities, resuming."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kws.common.errors import KwsError
from kws.data.audio import content_hash
from kws.data.manifest import Source, Split
from kws.replay.buffer import Buffer, Decision, Kind, NewClip
from kws.replay.sampler import MixConfig, Sampling, SamplingConfig
from kws.replay.snapshot import Snapshot
from tests.replay.clips import evicting

CPU = torch.device("cpu")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def snapshot_of(
    buffer: Buffer, clip_n: int, device: torch.device, config: SamplingConfig | None = None, *given: Any, **others: Any
) -> Snapshot:
    return Snapshot.of(buffer, clip_n, device, config or SamplingConfig(), *given, **others)


def clip(number: int, kind: Kind = Kind.false_trigger) -> NewClip:
    pcm = np.full(400 + number, 100 * number, np.int16)
    source = Source("a1", "rooms/kitchen.wav", Split.TRAIN)
    return NewClip(pcm, kind, "computer", source, 1.5, 0.5, "weights", "run", 1)


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    with Buffer(tmp_path / "buffer", evicting(capacity=10)) as it:
        it.add([clip(1), clip(2), clip(3)])
        yield it


def test_a_snapshot_holds_the_audio_in_order(buffer: Buffer) -> None:
    snapshot = snapshot_of(buffer, 400, CPU)
    assert snapshot.hashes == [content_hash(clip(n).pcm) for n in (1, 2, 3)]
    pcm = snapshot.bank.window(torch.arange(3), torch.zeros(3, dtype=torch.long), 403) * 32768
    for n in (1, 2, 3):
        np.testing.assert_array_equal(pcm[n - 1, : 400 + n], clip(n).pcm)
        assert not pcm[n - 1, 400 + n :].any()
    assert len(snapshot_of(Buffer(buffer.folder.with_name("empty")), 400, CPU)) == 0


def test_another_process_samples_the_same_clips_from_its_contents(buffer: Buffer) -> None:
    drawing, reads = SamplingConfig(mix=MixConfig(false_trigger=1.0)), []
    first = snapshot_of(buffer, 400, CPU, drawing)
    first.set_priorities(torch.tensor([2, 0]), torch.tensor([0.5, 3.0]))

    def read(hash_: str) -> np.ndarray:
        reads.append(hash_)
        return buffer.audio(hash_)

    other = Snapshot(first.contents(), read, 400, CPU, drawing)
    for seed in range(20):
        for mine, theirs in zip(first.sample(2, 0.7, rng(seed)), other.sample(2, 0.7, rng(seed)), strict=True):
            assert torch.equal(mine, theirs)
    state, theirs = first.state(), other.state()
    assert state["hashes"] == theirs["hashes"]
    assert all(torch.equal(state[name], theirs[name]) for name in ("priority", "drawn", "given"))
    assert state["drawn"].tolist() == [1, 0, 1]
    sound = other.bank.window(torch.tensor([1]), torch.tensor([0]), 400) * 32768
    assert sound.unique().tolist() == [200.0]
    assert reads == [first.hashes[1]], "what it never replays it never reads"


def test_priorities_are_written_back_and_steer_the_sampling(buffer: Buffer) -> None:
    snapshot = snapshot_of(buffer, 400, CPU)
    snapshot.set_priorities(torch.tensor([2, 0]), torch.tensor([0.0, 3.0], requires_grad=True))
    snapshot.set_priorities(torch.tensor([2]), torch.tensor([0.25]))
    snapshot.write_back(buffer)
    rows = buffer.rows()
    assert [row.priority for row in rows] == [3.0, rows[1].priority, 0.25]
    assert [row.times_drawn for row in rows] == [1, 0, 2]
    assert [row.last_loss for row in rows][::2] == [3.0, 0.25]
    again = snapshot_of(buffer, 400, CPU)
    np.testing.assert_array_equal(again.priority, snapshot.priority)
    for mine, theirs in zip(again.sample(3, 1.0, rng(5)), snapshot.sample(3, 1.0, rng(5)), strict=True):
        assert torch.equal(mine, theirs)


def test_clips_of_keyword_recordings_of_the_run_are_left_out(buffer: Buffer) -> None:
    rows = buffer.rows()
    spoken = {rows[1].source.hash}
    left = snapshot_of(buffer, 400, CPU, spoken=dict.fromkeys(spoken, ())).hashes
    assert left == [r.hash for r in rows if r.source.hash not in spoken]
    assert len(left) < len(rows)


def test_a_clip_that_was_not_sampled_has_no_last_loss(buffer: Buffer) -> None:
    snapshot_of(buffer, 400, CPU).write_back(buffer)
    assert [row.last_loss for row in buffer.rows()] == [None, None, None]


def test_a_checkpoint_restores_its_clips_and_priorities(buffer: Buffer) -> None:
    before = snapshot_of(buffer, 400, CPU)
    before.set_priorities(torch.tensor([1]), torch.tensor([7.0]))
    state = before.state()
    before.set_priorities(torch.tensor([1]), torch.tensor([9.0]))  # the state is a copy
    buffer.add([clip(4)])
    assert len(snapshot_of(buffer, 400, CPU)) == 4
    resumed = snapshot_of(buffer, 400, CPU, None, state)
    assert resumed.hashes == before.hashes
    assert float(resumed.priority[1]) == 7.0
    assert resumed.drawn.tolist() == [0, 1, 0]
    assert resumed.gone == 0


def test_clips_that_are_no_longer_active_are_counted_and_left_out(buffer: Buffer) -> None:
    before = snapshot_of(buffer, 400, CPU)
    before.set_priorities(torch.tensor([1, 2]), torch.tensor([7.0, 5.0]))
    buffer.decide([before.hashes[1]], Decision.rejected)
    resumed = snapshot_of(buffer, 400, CPU, None, before.state())
    assert resumed.gone == 1
    assert resumed.hashes == [before.hashes[0], before.hashes[2]]
    assert resumed.priority.tolist() == [before.priority[0], 5.0]
    assert resumed.drawn.tolist() == [0, 1]
    index, _ = resumed.sample(3, 1.0, rng())
    assert sorted(index.tolist()) == [0, 1]


def test_two_runs_write_back_the_clips_that_each_sampled(buffer: Buffer) -> None:
    first, second = snapshot_of(buffer, 400, CPU), snapshot_of(buffer, 400, CPU)
    first.set_priorities(torch.tensor([0]), torch.tensor([3.0]))
    second.set_priorities(torch.tensor([1]), torch.tensor([2.0]))
    first.write_back(buffer)
    snapshot_of(buffer, 400, CPU, None, second.state()).write_back(buffer)
    assert [(row.priority, row.times_drawn, row.last_loss) for row in buffer.rows()[:2]] == [
        (3.0, 1, 3.0),
        (2.0, 1, 2.0),
    ]


def test_clips_whose_text_contains_a_keyword_of_the_run_are_left_out(tmp_path: Path) -> None:
    with Buffer(tmp_path / "buffer", evicting(capacity=10)) as buffer:
        texts = ["turn the computer off", "a computer", "nothing", "the computers hum"]
        kinds = [Kind.false_trigger, Kind.confusable, Kind.user, Kind.user]
        hashes = []
        for n, (text, kind) in enumerate(zip(texts, kinds, strict=True)):
            hashes += buffer.add([replace(clip(n, kind), text=text, keyword="alexa")]).new
        assert snapshot_of(buffer, 400, CPU).hashes == hashes
        assert snapshot_of(buffer, 400, CPU, keywords=["alexa", "computer"]).hashes == [hashes[1], hashes[2]]
        buffer.decide([hashes[0]], Decision.released)
        assert hashes[0] in snapshot_of(buffer, 400, CPU, keywords=["computer"]).hashes, "released by a user"


def test_audio_is_read_when_a_batch_needs_it(buffer: Buffer) -> None:
    snapshot = snapshot_of(buffer, 400, CPU)
    buffer.path(snapshot.hashes[1]).unlink()
    snapshot.bank.window(torch.tensor([0, 2]), torch.zeros(2, dtype=torch.long), 400)
    with pytest.raises(KwsError, match="no such file"):
        snapshot.bank.window(torch.tensor([1]), torch.zeros(1, dtype=torch.long), 400)


def test_every_batch_has_the_mix(tmp_path: Path) -> None:
    kinds = [Kind.false_trigger, Kind.confusable, Kind.user]
    with Buffer(tmp_path / "buffer", evicting(capacity=100)) as buffer:
        for kind in kinds:
            some = [clip(100 * kinds.index(kind) + n, kind) for n in range(1, 21)]
            buffer.add(some)
        mix = MixConfig(confusable=0.5, false_trigger=0.5)
        snapshot = snapshot_of(buffer, 400, CPU, SamplingConfig(mix=mix))
        kind_of = {row.hash: row.kind for row in buffer.rows()}
        for seed in range(20):
            drawn, weight = snapshot.sample(8, 1.0, rng(seed))
            count = Counter(kind_of[snapshot.hashes[i]] for i in drawn.tolist())
            assert count == {Kind.confusable: 4, Kind.false_trigger: 4}
            assert len(set(drawn.tolist())) == 8
            assert weight.shape == (8,)
            snapshot.set_priorities(drawn, torch.rand(8, generator=rng(100 + seed)))
        assert snapshot.drawn.sum() == 160, "what a pool learned is seen from outside"
        state = snapshot.state()
        resumed = snapshot_of(buffer, 400, CPU, SamplingConfig(mix=mix), state)
        for mine, theirs in zip(resumed.sample(7, 0.5, rng(7)), snapshot.sample(7, 0.5, rng(7)), strict=True):
            assert torch.equal(mine, theirs)


def test_new_clips_are_sampled_by_the_loss_of_their_score(buffer: Buffer) -> None:
    buffer.add([replace(clip(4), score=0.99, round=2)])
    (unscored,) = buffer.add([replace(clip(5, Kind.user), score=None, round=3)]).new
    snapshot = snapshot_of(buffer, 400, CPU)
    priority = dict(zip(snapshot.hashes, snapshot.priority.tolist(), strict=True))
    assert priority[content_hash(clip(1).pcm)] == pytest.approx(np.log(2), rel=1e-5)
    assert priority[content_hash(clip(4).pcm)] == pytest.approx(np.log(100), rel=1e-5)
    assert priority[unscored] == 1, "the top priority of the buffer, since its loss is unknown"


def test_clips_have_their_importance_weight(buffer: Buffer) -> None:
    snapshot = snapshot_of(buffer, 400, CPU, SamplingConfig(Sampling.proportional, 1.0))
    snapshot.set_priorities(torch.arange(3), torch.tensor([1.0, 2.0, 4.0]))
    index, weight = snapshot.sample(3, 1.0, rng())
    by_clip = dict(zip(index.tolist(), weight.tolist(), strict=True))
    assert by_clip == pytest.approx({0: 1.0, 1: 1.001 / 2.001, 2: 1.001 / 4.001})
    assert snapshot.sample(3, None, rng())[1].tolist() == [1, 1, 1]


@pytest.mark.parametrize("bad", [-0.1, np.inf, np.nan])
def test_a_loss_that_is_no_priority_is_refused_and_changes_nothing(buffer: Buffer, bad: float) -> None:
    snapshot = snapshot_of(buffer, 400, CPU)
    before = snapshot.priority.copy()
    with pytest.raises(KwsError, match="priority"):
        snapshot.set_priorities(torch.tensor([0, 1]), torch.tensor([5.0, bad]))
    np.testing.assert_array_equal(snapshot.priority, before)
    assert not snapshot.drawn.any()
