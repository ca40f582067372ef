"""Rooms: responses are read and simulated as documented, and clips of a batch are convolved with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kws.common.errors import KwsError
from kws.data.rooms import read_rooms, reverberate, simulated, trimmed
from tests.conftest import Cli
from tests.data.test_batch import CLIP_N, PLAIN, WORDS, frequencies, rng, sampler, sound

RATE = 16000


def decaying(n: int, decay_s: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Noise that decays by 60 dB in `decay_s`, after a direct sound at its start."""
    x = np.random.default_rng(seed).normal(size=n) * 0.1 * 10 ** (-3 * np.arange(n) / rate / decay_s)
    x[0] = 1.0
    return x.astype(np.float32)


def decay_s(response: np.ndarray) -> float:
    """The time of a decay by 60 dB, from the slope between -5 and -25 dB of the energy that is left."""
    left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    level = 10 * np.log10(left / left[0])
    first, last = (int(np.argmax(level < db)) for db in (-5, -25))
    return 3 * (last - first) / RATE


@given(n=st.integers(1, 300), longest=st.integers(1, 400), seed=st.integers(0, 9))
@settings(deadline=None)
def test_a_clip_is_convolved_and_keeps_its_length(n: int, longest: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    x, responses = draw.normal(size=(2, n)).astype(np.float32), draw.normal(size=(2, longest)).astype(np.float32)
    want = [np.convolve(a, b)[:n] for a, b in zip(x, responses, strict=True)]
    made = reverberate(torch.from_numpy(x), torch.from_numpy(responses))
    np.testing.assert_allclose(made, np.stack(want), atol=1e-3)


def test_a_response_begins_with_its_direct_sound_and_ends_with_its_decay() -> None:
    response = decaying(2 * RATE, 0.2)
    before = np.full(700, 1e-4, np.float32)
    made = trimmed(np.concatenate([before, 0.3 * response]), RATE)
    assert np.abs(made).argmax() == 16, "a millisecond is kept before the direct sound"
    assert abs((made.astype(np.float64) ** 2).sum() - 1) < 1e-5
    assert 0.08 < len(made) / RATE < 0.14
    np.testing.assert_allclose(made[16:] / made[16], response[: len(made) - 16], atol=1e-6)


def test_responses_of_any_rate_are_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", decaying(48000, 0.3, 48000), 48000)
    both = np.stack([decaying(8000, 0.1), np.zeros(8000, np.float32)], 1)
    soundfile.write(tmp_path / "b.flac", both, RATE)
    (tmp_path / "notes.txt").write_text("hall")
    made = read_rooms(tmp_path, RATE)
    assert made.shape[0] == 2
    torch.testing.assert_close(made.square().sum(1), torch.ones(2))
    long, short = (int(row.nonzero().max()) for row in made)
    assert 0.05 * RATE < short < long < 0.25 * RATE
    assert abs(decay_s(made[0].numpy()) - 0.3) < 0.05


@pytest.mark.parametrize("content", [{}, {"a.wav": b"no sound"}])
def test_a_folder_without_responses_is_refused(tmp_path: Path, content: dict[str, bytes]) -> None:
    for name, raw in content.items():
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(KwsError, match=r"a\.wav|augment\.rooms"):
        read_rooms(tmp_path, RATE)


def test_simulated_rooms_decay_as_asked_and_differ() -> None:
    pytest.importorskip("pyroomacoustics", reason="the extra kws[rooms] is not installed")
    made = [simulated(np.random.default_rng(seed), RATE, (0.2, 0.25), (1.0, 3.0)) for seed in (0, 0, 1)]
    assert np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0][:2000], made[2][:2000])
    for one in made:
        assert np.abs(one[:17]).argmax() in range(10, 17)
        assert 0.1 < decay_s(one) < 0.35


def test_impossible_rooms_are_refused() -> None:
    pytest.importorskip("pyroomacoustics", reason="the extra kws[rooms] is not installed")
    with pytest.raises(KwsError, match=r"^decay_s=\[0\.1, 0\.1\] distance_m=\[6\.0, 6\.0\]: no living room"):
        simulated(np.random.default_rng(0), RATE, (0.1, 0.1), (6.0, 6.0))


def test_a_clip_of_a_batch_is_in_one_room_before_noise_is_added() -> None:
    echo = torch.zeros(1, 2001)
    echo[0, 0], echo[0, 2000] = 1.0, 0.5
    every = replace(PLAIN, own_context_p=1.0, room_p=1.0)
    dry, wet, none = sampler(every), sampler(every), sampler(replace(every, room_p=0.0))
    wet.rooms = none.rooms = echo
    batches = [sound(one, 6, 4, None, torch.arange(0), rng()) for one in (dry, wet, none)]
    assert torch.equal(batches[0].pcm, batches[2].pcm), "rooms do not change other random numbers"
    assert torch.equal(batches[0].start, batches[1].start)
    assert set(frequencies(batches[1].pcm)[:6]) == set(WORDS)
    for dry_one, wet_one in zip(batches[0].pcm, batches[1].pcm, strict=True):
        want = dry_one + 0.5 * torch.nn.functional.pad(dry_one, (2000, 0))[:CLIP_N]
        scale = wet_one[dry_one.abs().argmax()] / want[dry_one.abs().argmax()]  # the level is set afterwards
        torch.testing.assert_close(wet_one, scale * want, rtol=0, atol=1e-4)


def test_the_share_of_clips_in_rooms() -> None:
    made = sampler(replace(PLAIN, room_p=0.3))
    made.rooms = torch.eye(5)
    rooms = torch.cat([made.sample(20, 80, None, torch.arange(0), rng(seed)).rooms for seed in range(20)])
    assert rooms.unique().tolist() == [-1, 0, 1, 2, 3, 4]
    assert 0.26 < (rooms >= 0).float().mean() < 0.34


def test_rooms_are_simulated_once_and_train(cli: Cli, tiny: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics", reason="the extra kws[rooms] is not installed")
    rooms = tmp_path / "rooms"
    quick = [f"out={rooms}", "decay_s=[0.15,0.2]"]
    assert cli("rooms", *quick, "n=1").code == 0
    first = (rooms / "room-00000.flac").read_bytes()
    said = cli("rooms", *quick, "n=2")
    assert said.code == 0
    assert f"augment.rooms={rooms}" in said.out
    assert (rooms / "room-00000.flac").read_bytes() == first
    assert len(list(rooms.iterdir())) == 2
    train = ["train", *tiny, f"augment.rooms={rooms}", "augment.room_p=1", "optim.steps=2", f"out={tmp_path / 'run'}"]
    said = cli(*train)
    assert said.code == 0
    assert f"rooms: 2 of {rooms}, for 100% of the clips" in said.out
    (tmp_path / "empty").mkdir()
    said = cli("train", *tiny, f"augment.rooms={tmp_path / 'empty'}", f"out={tmp_path / 'run2'}")
    assert said.code == 2
    assert said.err.strip().count("\n") == 0
    assert f"augment.rooms={tmp_path / 'empty'}" in said.err
    assert not (tmp_path / "run2").exists(), "it is refused before anything is written"
