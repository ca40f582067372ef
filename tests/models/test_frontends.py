"""PCEN and MFCC against librosa, torchaudio and the properties stated in their papers."""

import math
from typing import Any

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from kws.common.errors import KwsError
from kws.common.torchaudio_compat import torchaudio
from kws.data.features import FLOOR, SCALE, SHIFT, LogMel
from kws.models.frontends import PCEN, recent_mean
from kws.models.registry import FrontEndNet, input_layer
from tests.nets import random_net, sound

LOG_MEL = LogMel()


def pcen(**other: Any) -> PCEN:
    """Layer with the published settings and a mean over 0.3 s."""
    shape = {"memory_n": 30, "keep": 0.975, "alpha": 0.98, "delta": 2.0, "r": 0.5, "trainable": False}
    layer = input_layer("pcen", 40, shape | other)
    assert isinstance(layer, PCEN)
    return layer


def from_silence(layer: PCEN, x: Tensor) -> Tensor:
    """Output for log-mel frames at the beginning of a stream."""
    y: Tensor = layer(x, torch.zeros(len(x), 40, layer.past_n))[0]
    return y


def energies(x: Tensor) -> np.ndarray:
    return (torch.exp(x.double() * SCALE - SHIFT) - FLOOR).clamp_min(0).numpy()


@given(memory_n=st.integers(1, 70), frames_n=st.integers(0, 50), keep=st.floats(0.3, 0.999))
@settings(max_examples=60, deadline=None)
def test_the_recent_mean_is_the_weighted_mean(memory_n: int, frames_n: int, keep: float) -> None:
    x = 10 ** (6 * torch.rand(2, 3, memory_n - 1 + frames_n, generator=torch.Generator().manual_seed(memory_n)) - 3)
    weight = keep ** np.arange(memory_n)  # the newest first
    got = recent_mean(x, memory_n, keep)
    assert got.shape == (2, 3, frames_n)
    for i in range(frames_n):
        newest_first = x[:, :, i : i + memory_n].double().numpy()[:, :, ::-1]
        np.testing.assert_allclose(got[:, :, i], newest_first @ weight / weight.sum(), rtol=1e-5)


def test_a_long_memory_equals_the_published_recursion() -> None:
    x = LOG_MEL(sound(64000)[None])
    assert x.shape[2] < 600
    ours = from_silence(pcen(memory_n=600), x)[0].numpy()
    theirs = librosa.pcen(
        energies(x)[0], gain=0.98, bias=2.0, power=0.5, b=0.025, eps=FLOOR, zi=np.zeros((40, 1)), axis=-1
    )
    assert theirs.std() > 0.3
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_the_default_memory_is_close_to_the_published_recursion() -> None:
    """With a mean over 0.3 s a steady level gives the same values, and the effect of a jump ends earlier."""
    rng = torch.Generator().manual_seed(0)
    level = torch.cat([torch.full((48000,), 0.01), torch.full((32000,), 0.1)])
    x = LOG_MEL((level * torch.randn(80000, generator=rng))[None])
    ours = from_silence(pcen(), x)[0].numpy()
    theirs = librosa.pcen(energies(x)[0], gain=0.98, bias=2.0, power=0.5, b=0.025, eps=FLOOR, zi=np.zeros((40, 1)))
    assert np.abs(ours - theirs)[:, 200:298].mean() < 0.1 * theirs[:, 200:298].mean()
    after = slice(310, 320)  # 0.1 to 0.2 s after the jump
    assert theirs[:, 302:304].mean() > 3 * theirs[:, 200:298].mean()
    assert ours[:, after].mean() < theirs[:, after].mean()


def test_a_steady_energy_gives_the_formula() -> None:
    energy = 3.0
    x = torch.full((1, 40, 100), (math.log(energy + FLOOR) + SHIFT) / SCALE)
    got = from_silence(pcen(), x)[0]
    want = (energy / (FLOOR + energy) ** 0.98 + 2) ** 0.5 - 2**0.5
    torch.testing.assert_close(got[:, 29:], torch.full((40, 71), want), rtol=0, atol=1e-5)
    assert (got[:, :29] > want + 1e-3).all(), "after silence any level is high"


def test_silence_is_zero_and_equals_the_start_of_a_stream() -> None:
    layer, x = pcen(), LOG_MEL(torch.cat([torch.zeros(16000), sound(16000)])[None])
    whole = from_silence(layer, x)
    torch.testing.assert_close(whole[:, :, :98], torch.zeros(1, 40, 98), rtol=0, atol=1e-4)
    torch.testing.assert_close(from_silence(layer, x[:, :, 60:]), whole[:, :, 60:], rtol=0, atol=1e-4)


@pytest.mark.parametrize("trainable", [False, True])
def test_a_gain_of_20_db_changes_pcen_far_less_than_log_mel(trainable: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    pcm = 0.05 * torch.randn(1, 32000, generator=rng) * (1 + torch.sin(torch.arange(32000) / 500))
    soft, loud = LOG_MEL(pcm / 10), LOG_MEL(pcm)
    layer = pcen(trainable=trainable)
    with torch.no_grad():
        made_soft, made_loud = from_silence(layer, soft), from_silence(layer, loud)
    moved = [float((a - b).abs().mean() / b.std()) for a, b in ((soft, loud), (made_soft, made_loud))]
    assert moved[0] > 1
    assert moved[1] < 0.1 * moved[0]


def test_the_state_does_not_drift() -> None:
    """Frames after long and loud audio have the same values as at the start of a stream."""
    layer, x = pcen(), LOG_MEL(sound(16000)[None])
    fresh = from_silence(layer, x)
    past = torch.zeros(1, 40, layer.past_n)
    for loud in (1e4, 1e-3, 1e4, 0.0):
        for _ in range(3):
            frames = torch.full((1, 40, 2000), (math.log(loud + FLOOR) + SHIFT) / SCALE)
            past = layer(frames, past)[1]
    torch.testing.assert_close(layer(x, past)[0], fresh, rtol=0, atol=1e-4)


def test_trainable_values_have_gradients_and_fixed_ones_are_not_stored() -> None:
    fixed, layer = pcen(), pcen(trainable=True)
    assert not list(fixed.parameters())
    assert not fixed.state_dict()
    x = LOG_MEL(sound(16000)[None])
    torch.testing.assert_close(from_silence(fixed, x), from_silence(layer, x))
    net = FrontEndNet(layer, random_net())
    net(x[:, :, :96], net.initial_cache(1))[0].sum().backward()
    for name in ("log_alpha", "log_delta", "log_r"):
        weight = net.get_parameter(f"layer.{name}")
        assert weight.grad is not None
        assert (weight.grad.abs() > 0).all()
        assert weight.ndim == 1, "matrices have weight decay"


def test_mfcc_are_those_of_librosa() -> None:
    x = LOG_MEL(sound(16000)[None])
    ours, _ = input_layer("mfcc", 40, {"n_mfcc": 13})(x, torch.zeros(1, 40, 0))
    np.testing.assert_allclose(ours[0], librosa.feature.mfcc(S=x[0].numpy(), n_mfcc=13), atol=1e-5)


def test_mfcc_from_sound_are_those_of_torchaudio() -> None:
    pcm = sound(16000)
    side = (512 - 400) // 2  # torchaudio centres the window of 400 in its FFT of 512; ours begins with the frame
    theirs = torchaudio.transforms.MFCC(
        16000, 20, log_mels=True,
        melkwargs={"n_fft": 512, "win_length": 400, "hop_length": 160, "center": False, "n_mels": 40, "f_min": 60.0,
                   "f_max": 7600.0},
    )(torch.nn.functional.pad(pcm, (side, side)))  # fmt: skip
    ours, _ = input_layer("mfcc", 40, {"n_mfcc": 20})(LOG_MEL(pcm[None]), torch.zeros(1, 40, 0))
    theirs[0] += SHIFT * 40**0.5  # ours are of log-mel frames that are shifted and scaled
    torch.testing.assert_close(ours[0], theirs / SCALE, rtol=0, atol=1e-4)


def test_an_unknown_layer_is_refused() -> None:
    with pytest.raises(KwsError, match=r"^features/input=rasta: must be one of pcen, mfcc, log_mel_pcen$"):
        input_layer("rasta", 40, {})


def test_the_net_gets_the_output_of_the_layer() -> None:
    body = random_net()
    alone, state = body.folded(), {f"body.{k}" for k in body.state_dict() if not k.startswith("head.")}
    net = FrontEndNet(pcen(), body)
    assert set(net.state_dict()) == state | {"head.weight", "head.bias"}, "each weight is stored once"
    x = LOG_MEL(sound(16000)[None])[:, :, :96]
    net.eval()
    want, _ = alone(from_silence(pcen(), x), alone.initial_cache(1))
    for one in (net, net.folded()):
        torch.testing.assert_close(one(x, one.initial_cache(1))[0], want, rtol=0, atol=1e-5)
