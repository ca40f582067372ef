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
from kws.data import augment
from kws.data.augment import AugmentConfig
from kws.data.batch import Batch
from kws.data.rooms import read_rooms, reverberate, simulated, trimmed
from kws.detector.checkpoint import read_model
from kws.training.trainer import Trainer
from tests.conftest import Cli
from tests.data.test_batch import CLIP_N, PLAIN, replayed, rng, sampler, sound
from tests.kill import death

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


def test_the_direct_sound_may_be_lower_than_an_echo() -> None:
    response = np.zeros(4000, np.float32)
    response[500], response[900] = 0.4, -1.0
    made = trimmed(response, RATE)
    assert np.flatnonzero(made).tolist() == [16, 416]


@pytest.mark.parametrize("wanted_s", [0.2, 0.4, 0.6, 1.0])
def test_simulated_rooms_decay_as_asked(wanted_s: float) -> None:
    pytest.importorskip("pyroomacoustics", reason="the extra kws[rooms] is not installed")
    for seed in range(3):
        made = simulated(seed, RATE, (wanted_s, wanted_s), (0.5, 5.0))
        assert abs(decay_s(made) / wanted_s - 0.9) < 0.17
        assert (np.abs(made) >= 0.25 * np.abs(made).max()).argmax() == 16


def test_a_seed_gives_a_room_and_another_seed_another() -> None:
    pytest.importorskip("pyroomacoustics", reason="the extra kws[rooms] is not installed")
    made = [simulated(seed, RATE, (0.2, 0.3), (1.0, 3.0)) for seed in (0, 1, 0)]
    assert np.array_equal(made[0], made[2])
    assert not np.array_equal(made[0][:1000], made[1][:1000])


def test_impossible_rooms_are_refused() -> None:
    pytest.importorskip("pyroomacoustics", reason="the extra kws[rooms] is not installed")
    with pytest.raises(KwsError, match=r"^decay_s=\[0\.1, 0\.1\] distance_m=\[6\.0, 6\.0\]: no living room"):
        simulated(0, RATE, (0.1, 0.1), (6.0, 6.0))


def test_every_clip_of_a_batch_is_in_a_room_and_its_noise_is_not() -> None:
    echo = torch.zeros(1, 2001)
    echo[0, 0], echo[0, 2000] = 1.0, 0.5
    plain = replace(PLAIN, own_context_p=1.0, room_p=1.0)
    noisy = replace(plain, noise_p=1.0, snr_db=[10.0, 10.0])
    bank, index = replayed(), torch.tensor([2, 0])

    def batch(augmentation: AugmentConfig, rooms: torch.Tensor | None) -> Batch:
        made = sampler(augmentation, noise_share=0.25)
        made.rooms = rooms
        return sound(made, 6, 8, bank, index, rng())

    dry, wet = batch(plain, None), batch(plain, echo)
    assert torch.equal(batch(replace(plain, room_p=0.0), echo).pcm, dry.pcm)
    for name in ("target", "start", "end", "index", "offset", "speed", "noise"):
        assert torch.equal(getattr(dry, name), getattr(wet, name)), "rooms change no other random number"
    want = dry.pcm + 0.5 * torch.nn.functional.pad(dry.pcm, (2000, 0))[:, :CLIP_N]
    torch.testing.assert_close(wet.pcm, augment.set_level(want, torch.full((16,), -20.0)), rtol=0, atol=1e-5)
    plan = sampler(noisy, noise_share=0.25).sample(6, 8, bank, index, rng())
    assert plan.noise is not None
    bed = sampler(noisy).bank.window(plan.noise.index, plan.noise.offset, CLIP_N)
    under = augment.set_level(augment.mix(want, bed, plan.snr_db), torch.full((16,), -20.0))
    torch.testing.assert_close(batch(noisy, echo).pcm, under, rtol=0, atol=1e-5)


def test_the_share_of_clips_in_rooms() -> None:
    made = sampler(replace(PLAIN, room_p=0.3))
    made.rooms = torch.eye(5)
    rooms = torch.cat([made.sample(20, 80, None, torch.arange(0), rng(seed)).rooms for seed in range(20)])
    assert rooms.unique().tolist() == [-1, 0, 1, 2, 3, 4]
    assert 0.26 < (rooms >= 0).float().mean() < 0.34


def test_rooms_are_simulated_once_and_train(cli: Cli, tiny: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics", reason="the extra kws[rooms] is not installed")
    rooms = tmp_path / "rooms"
    quick = [f"out={rooms}", "decay_s=[0.2,0.25]"]
    assert cli("rooms", *quick, "n=1").code == 0
    first = (rooms / "room-00000.flac").read_bytes()
    said = cli("rooms", *quick, "n=2")
    assert said.code == 0
    assert f"augment.rooms={rooms}" in said.out
    assert (rooms / "room-00000.flac").read_bytes() == first
    assert f"rooms simulated: 1; in {rooms}: 2" in said.out
    assert len(list(rooms.glob("*.flac"))) == 2
    said = cli("rooms", f"out={rooms}", "decay_s=[0.2,0.4]")
    assert said.code == 2
    assert said.err == f"kws: decay_s=[0.2, 0.4]: must be [0.2, 0.25] as in out={rooms}; or give another out\n"
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


def test_a_run_resumes_with_the_same_rooms_alone(cli: Cli, tiny: tuple[str, ...], tmp_path: Path) -> None:
    rooms, out = tmp_path / "rooms", tmp_path / "run"
    rooms.mkdir()
    for i in range(2):
        soundfile.write(rooms / f"{i}.wav", decaying(2000, 0.1, seed=i), RATE)
    train = ["train", *tiny, f"augment.rooms={rooms}", f"out={out}"]
    with death(Trainer, "train_step", 12, True):
        assert cli(*train).code != 0
    assert (out / "state.pt").is_file()
    before = (rooms / "1.wav").read_bytes()
    soundfile.write(rooms / "1.wav", decaying(2000, 0.1, seed=7), RATE)
    said = cli(*train)
    assert said.code == 2
    assert said.err.splitlines()[-1].startswith("kws: augment.rooms: the rooms changed since this run began")
    (rooms / "1.wav").write_bytes(before)
    assert cli(*train).code == 0
    whole = tmp_path / "whole"
    assert cli(*train[:-1], f"out={whole}").code == 0
    assert read_model(out / "model.pt").hash == read_model(whole / "model.pt").hash
