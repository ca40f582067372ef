"""Which clips of the buffer come back, how often, and what training learns about them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.audio import content_hash
from kws.errors import KwsError
from kws.manifest import Part
from kws.replay.buffer import Buffer, Found, Kind, Source
from kws.replay.draw import draw
from kws.replay.share import share_at, stochastic_round
from kws.replay.snapshot import Snapshot

CPU = torch.device("cpu")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(n=st.integers(0, 12), clips=st.integers(0, 8), alpha=st.sampled_from([0.0, 0.6, 1.0]))
@settings(deadline=None)
def test_no_clip_is_drawn_twice(n: int, clips: int, alpha: float) -> None:
    drawn = draw(torch.rand(clips, generator=rng()), n, alpha, rng(n)).tolist()
    assert len(set(drawn)) == len(drawn) == min(n, clips)
    assert set(drawn) <= set(range(clips))


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_draws_follow_the_priorities(alpha: float) -> None:
    priority, n = torch.tensor([0.0, 0.5, 1.0, 4.0]), 4000
    source = rng(3)
    count = torch.bincount(torch.cat([draw(priority, 1, alpha, source) for _ in range(n)]), minlength=4)
    want = (priority + 1e-3) ** alpha
    want = want / want.sum()
    spread = (want * (1 - want) / n).sqrt()
    assert ((count / n - want).abs() < 4 * spread + 1e-9).all(), (count / n, want)
    assert count[0] > 0 or alpha == 1, "a solved clip keeps a chance"


def test_rounding_is_right_on_average() -> None:
    source = rng()
    rounded = torch.tensor([stochastic_round(8.3, source) for _ in range(4000)], dtype=torch.double)
    assert set(rounded.tolist()) == {8.0, 9.0}
    assert float(rounded.mean()) == pytest.approx(8.3, abs=0.03)
    assert {stochastic_round(8.0, source) for _ in range(200)} == {8}
    assert {stochastic_round(0.0, source) for _ in range(200)} == {0}


def test_the_share_comes_up_as_scheduled() -> None:
    def shares(schedule: str, ramp_steps: int = 100) -> list[float]:
        return [share_at(step, 50, 0.2, schedule, ramp_steps) for step in (0, 49, 50, 75, 100, 150, 900)]

    assert shares("constant") == [0, 0, 0.2, 0.2, 0.2, 0.2, 0.2]
    assert shares("linear") == pytest.approx([0, 0, 0, 0.05, 0.1, 0.2, 0.2])
    assert shares("cosine") == pytest.approx([0, 0, 0, 0.2 * (1 - 0.5**0.5) / 2, 0.1, 0.2, 0.2])
    assert shares("linear", 0) == shares("cosine", 0) == shares("constant")


def clip(number: int) -> Found:
    pcm = np.full(400 + number, 100 * number, np.int16)
    source = Source("a1", "rooms/kitchen.wav", Part.TRAIN)
    return Found(pcm, Kind.FALSE_TRIGGER, "computer", source, 1.5, 0.5, "weights", "run", 1)


@pytest.fixture
def buffer(tmp_path: Path) -> Iterator[Buffer]:
    with Buffer(tmp_path / "buffer", capacity=10) as it:
        it.add([clip(1), clip(2), clip(3)])
        yield it


def test_a_snapshot_holds_the_sound_in_order(buffer: Buffer) -> None:
    snapshot = Snapshot(buffer, 400, CPU)
    assert snapshot.hashes == [content_hash(clip(n).pcm) for n in (1, 2, 3)]
    heard = snapshot.bank.window(torch.arange(3), torch.zeros(3, dtype=torch.long), 403) * 32768
    for n in (1, 2, 3):
        np.testing.assert_array_equal(heard[n - 1, : 400 + n], clip(n).pcm)
        assert not heard[n - 1, 400 + n :].any()
    assert len(Snapshot(Buffer(buffer.folder.with_name("empty")), 400, CPU)) == 0


def test_what_was_learned_is_written_back_and_steers_the_draws(buffer: Buffer) -> None:
    snapshot = Snapshot(buffer, 400, CPU)
    snapshot.learn(torch.tensor([2, 0]), torch.tensor([0.0, 3.0], requires_grad=True))
    snapshot.learn(torch.tensor([2]), torch.tensor([0.25]))
    snapshot.write_back(buffer)
    rows = buffer.rows()
    assert [row.priority for row in rows] == [3.0, rows[1].priority, 0.25]
    assert [row.times_drawn for row in rows] == [1, 0, 2]
    assert [row.last_loss for row in rows][::2] == [3.0, 0.25]
    again = Snapshot(buffer, 400, CPU)
    assert torch.equal(again.priority, snapshot.priority)
    assert torch.equal(again.draw(3, 1.0, rng(5)), snapshot.draw(3, 1.0, rng(5)))


def test_clips_of_what_is_a_keyword_here_are_left_out(buffer: Buffer) -> None:
    rows = buffer.rows()
    spoken = {rows[1].source.hash}
    left = Snapshot(buffer, 400, CPU, spoken=spoken).hashes
    assert left == [r.hash for r in rows if r.source.hash not in spoken]
    assert len(left) < len(rows)


def test_a_clip_that_was_not_drawn_has_no_last_loss(buffer: Buffer) -> None:
    Snapshot(buffer, 400, CPU).write_back(buffer)
    assert [row.last_loss for row in buffer.rows()] == [None, None, None]


def test_a_checkpoint_brings_its_own_clips_and_priorities(buffer: Buffer) -> None:
    before = Snapshot(buffer, 400, CPU)
    before.learn(torch.tensor([1]), torch.tensor([7.0]))
    state = before.state()
    before.learn(torch.tensor([1]), torch.tensor([9.0]))  # the state is a copy
    buffer.add([clip(4)])
    assert len(Snapshot(buffer, 400, CPU)) == 4
    resumed = Snapshot(buffer, 400, CPU, state)
    assert resumed.hashes == before.hashes
    assert float(resumed.priority[1]) == 7.0
    assert resumed.drawn.tolist() == [0, 1, 0]
    with pytest.raises(KwsError, match="clip gone of the checkpoint is no longer active"):
        Snapshot(buffer, 400, CPU, state | {"hashes": ["gone"]})
